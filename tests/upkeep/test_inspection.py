"""What is damaged in a run store is found, and mended where it can be."""

import asyncio
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from interleaver import Profile, Runner
from interleaver.cli import main


@pytest.fixture(params=[True, False], ids=["documents", "no documents"])
async def runner(request, tmp_path):
    runner = Runner(Profile(), tmp_path / "out", documents=request.param)
    for name in ("cat", "house"):
        async for _ in runner.make(f"How to draw a {name} step by step?", [], {}, name, {}):
            pass
    return runner


async def doctor(runner, *arguments, code):
    command = ["doctor", "--store", *arguments, "--out", runner.runs.root.url, "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == code, result.output
    return {check["name"]: check for check in json.loads(result.stdout)}


def kept_file(runner, run_id, step):
    return Path(runner.runs.images.path(runner.runs.trace(run_id).results[step].image))


async def test_a_sound_store_is_said_to_be_sound(runner):
    checks = await doctor(runner, code=0)
    assert checks["runs"]["detail"].startswith("2 runs") and set(checks) == {"runs", "pictures"}


async def test_damage_is_found_and_mended(runner):
    missing, swapped, cut = (kept_file(runner, *place) for place in (("cat", 0), ("cat", 2), ("house", 1)))
    undamaged = {file.name: file.read_bytes() for file in (missing, swapped, cut)}
    missing.unlink()
    swapped.write_bytes(cut.read_bytes())
    cut.write_bytes(cut.read_bytes()[:-1])
    (missing.parent / f".{missing.name}.{32 * 'a'}").write_bytes(b"half")
    checks = await doctor(runner, code=3)
    assert all(file.name in checks["pictures"]["detail"] for file in (swapped, cut))
    assert "2 lost pictures" in checks["cat"]["detail"] and "1 lost picture;" in checks["house"]["detail"]
    assert checks["partial files"]["detail"].startswith("1;")
    assert not missing.exists()  # nothing is done unless asked for
    checks = await doctor(runner, "--mend", code=3)  # there was damage
    assert checks["cat"]["ok"] and checks["house"]["ok"]
    assert {file.name: file.read_bytes() for file in (missing, swapped, cut)} == undamaged
    assert set(await doctor(runner, code=0)) == {"runs", "pictures", "partial files"}


async def test_what_cannot_be_mended_is_said(runner):
    kept_file(runner, "cat", 0).unlink()
    shutil.rmtree(Path(runner.runs.root.url) / "cat/pictures", ignore_errors=True)
    shutil.rmtree(Path(runner.runs.root.url) / ".store/checkpoints")
    (Path(runner.runs.root.url) / "house/trace.json").write_text("{half")
    checks = await doctor(runner, "--mend", code=3)
    assert "1 still lost: they cannot be drawn again" in checks["cat"]["detail"]
    assert "run house cannot be read" in checks["house"]["detail"]


async def test_a_foreign_trace_does_not_make_us_draw_a_huge_canvas(runner):
    path = Path(runner.runs.root.url) / "cat/trace.json"
    trace = json.loads(path.read_text())
    claim = {"sha256": hashlib.sha256(b"x").hexdigest(), "media_type": "image/png", "width": 10**5, "height": 10**5}
    path.write_text(json.dumps(trace | {"images": [claim]}))
    assert "still lost" in (await doctor(runner, "--mend", code=3))["cat"]["detail"]


def test_options_that_do_not_go_together_are_refused():
    for arguments in (["--store", "--deep"], ["--mend"]):
        assert CliRunner().invoke(main, ["doctor", *arguments]).exit_code == 2
