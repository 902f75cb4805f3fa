"""`interleaver traces`."""

import asyncio
import json
import os
import shutil

import pytest
from click.testing import CliRunner
from support.fakes import plain_picture

from interleaver.cli import main
from interleaver.errors import redact_password
from interleaver.profile import Profile
from interleaver.runner import Runner
from interleaver.traces.runs import RunStore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run store with two runs of the sandbox, made without documents."""
    folder = tmp_path_factory.mktemp("made") / "runs"

    async def make():
        runner = Runner(Profile(), folder, documents=False)
        for request in ("a cat beside a tree", "How to draw a boat in 2 steps?"):
            record = await runner.begin(request, [], {"seed": 3}, tags={"category": "x"})
            async for _ in runner.work(record):
                pass

    asyncio.run(make())
    return folder


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_run_store_is_listed_shown_and_counted(made):
    rows = [json.loads(line) for line in invoke("traces", "list", made, "--json").splitlines()]
    assert [row["request"] for row in rows] == ["a cat beside a tree", "How to draw a boat in 2 steps?"]
    shown = invoke("traces", "show", made, rows[0]["run_id"])
    assert "a cat beside a tree" in shown and "accepted" in shown and "planner: sandbox" in shown
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    invoke("traces", "show", made, rows[0]["run_id"], "--out", made.parent / "page")
    assert "a cat beside a tree" in (made.parent / "page" / "document.html").read_text()
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    told = json.loads(invoke("traces", "stats", made, "--json"))
    assert told["runs"] == 2 and told["tags"] == {"category": {"x": 2}}
    assert told["drawings"] == sum(at["reviewed"] for at in told["accepted_at_attempt"].values())
    assert sum(told["failure_kinds"].values()) == told["drawings"] - told["outcomes"]["accepted"]
    assert "attempt 1" in invoke("traces", "stats", made)


def test_what_is_exported_can_be_imported_with_its_pictures(made, tmp_path):
    file, copy = tmp_path / "x.jsonl.gz", tmp_path / "copy"
    invoke("traces", "export", made, "--out", file, "--pictures", tmp_path / "pictures")
    assert "2 imported" in invoke("traces", "import", file, "--images", tmp_path / "pictures", "--out", copy)
    assert "2 already present" in invoke("traces", "import", file, "--images", tmp_path / "pictures", "--out", copy)
    first, second = (RunStore(folder) for folder in (made, copy))
    assert list(first.run_ids()) == list(second.run_ids())
    for run_id in first.run_ids():
        assert first.trace(run_id) == second.trace(run_id)
        for ref in second.trace(run_id).images_by_hash().values():
            assert second.images.read(ref) == first.images.read(ref)


def test_what_cannot_be_read_is_counted_and_strictly_fatal(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    first, _ = RunStore(store).run_ids()
    (store / first / "trace.json").write_text('{"format": 0, "plan"')
    told = json.loads(invoke("traces", "stats", store, "--json"))
    assert told["runs"] == 1 and told["skipped"] == {"truncated or damaged record": 1}
    assert "truncated or damaged record" in CliRunner().invoke(main, ["traces", "stats", str(store), "--strict"]).stderr
    (store / first / "trace.json").unlink()
    (store / first / "document.json").write_text("{}")
    assert json.loads(invoke("traces", "stats", store, "--json"))["skipped"] == {"trace of another format": 1}
    assert invoke("runs", "list", "--out", store).count("unreadable") == 1


def test_gc_finds_what_no_run_needs_and_nothing_else(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    runs = RunStore(store)
    stray = plain_picture((1, 2, 3), (9, 9))
    runs.images.folder.write(f"{stray.ref.sha256[:2]}/{stray.ref.sha256}.png", stray.data)
    (store / ".store" / "images" / "ab").mkdir(exist_ok=True)
    (store / ".store" / "images" / "ab" / f".draft.png.{32 * '0'}").write_bytes(b"half")
    needed = {sha for run_id in runs.run_ids() for sha in runs.trace(run_id).images_by_hash()}
    said = invoke("traces", "gc", store)
    assert "0 pictures" in said and "0 checkpoint files" in said  # they are young
    for file in (store / ".store").rglob("*"):
        os.utime(file, (0, 0))
    said = invoke("traces", "gc", store, "--delete")
    assert "2 checkpoint files of complete runs, 1 partial files" in said
    assert {file.path.rpartition("/")[2].partition(".")[0] for file in runs.images.folder.files()} == needed
    assert json.loads(invoke("traces", "stats", store, "--json"))["runs"] == 2


async def test_gc_keeps_the_pictures_of_a_run_that_is_not_finished(tmp_path):
    runner = Runner(Profile(), tmp_path / "runs")
    record = await runner.begin("How to draw a cat step by step?", [], {})
    verdicts = 0
    async for event in runner.work(record):
        verdicts += event.type == "verdict_given"
        if verdicts == 3:
            break
    before = {file.path for file in runner.runs.images.folder.files()}
    for file in (tmp_path / "runs" / ".store").rglob("*"):
        os.utime(file, (0, 0))
    await asyncio.to_thread(invoke, "traces", "gc", tmp_path / "runs", "--delete")
    gone = before - {file.path for file in runner.runs.images.folder.files()}
    assert len(gone) <= 1  # the white page, which is made anew when it is needed
    async for event in runner.work(record):
        pass
    assert runner.runs.trace(record.run_id).status == "complete"


def told_error(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_name_that_leads_out_of_the_store_is_refused(made, tmp_path):
    invoke("traces", "export", made, "--out", tmp_path / "x.jsonl")
    trace = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    (tmp_path / "x.jsonl").write_text(json.dumps(trace | {"run_id": "../../escaped"}))
    result = CliRunner().invoke(
        main, ["traces", "import", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "a" / "b" / "c")]
    )
    assert "1 skipped" in result.stdout and "run_id" in result.stderr
    assert not list(tmp_path.rglob("escaped*"))


def test_a_page_is_not_written_over_what_is_there(made, tmp_path):
    (tmp_path / "home" / "pictures").mkdir(parents=True)
    (tmp_path / "home" / "pictures" / "wedding.jpg").write_bytes(b"precious")
    run_id = next(iter(RunStore(made).run_ids()))
    assert "already exists" in told_error("traces", "show", made, run_id, "--out", tmp_path / "home")
    assert (tmp_path / "home" / "pictures" / "wedding.jpg").exists()


def test_gc_deletes_nothing_when_it_does_not_know_what_is_needed(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    first, _ = RunStore(store).run_ids()
    (store / first / "trace.json").write_text("{half")
    said = told_error("traces", "gc", store, "--delete", "--older-than", 0)
    assert f"run {first} cannot be read" in said and "its pictures are not known" in said
    assert "there are no runs" in told_error("traces", "gc", tmp_path / "typo", "--delete", "--older-than", 0)
    (tmp_path / "p.toml").write_text(f'[store]\nimages = "{tmp_path / "shared"}"\n')
    said = told_error("traces", "gc", made, "--profile", tmp_path / "p.toml", "--delete")
    assert "may have other users; name them with --keep" in said


def test_gc_of_a_tenant_leaves_all_others_alone(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    images = RunStore(store).images
    pictures = {name: plain_picture((n, 2, 3), (9, 9)) for n, name in enumerate(("alice", "bob"))}
    for name, picture in pictures.items():
        asyncio.run(images.of_tenant(name).put(picture))
    for file in (store / ".store" / "images").rglob("*"):
        os.utime(file, (0, 0))
    (store / "none.jsonl").touch()
    assert "name them with --keep" in told_error("traces", "gc", store, "--tenant", "alice", "--delete")
    said = invoke("traces", "gc", store)
    assert "1 pictures" in said  # the white page
    assert "Deleted 1 pictures" in invoke("traces", "gc", store, "--delete")
    said = invoke("traces", "gc", store, "--tenant", "alice", "--keep", store / "none.jsonl", "--delete")
    assert "Deleted 1 pictures" in said
    assert not list(images.of_tenant("alice").files()) and len(list(images.of_tenant("bob").files())) == 1
    assert "0 pictures" in invoke("traces", "gc", store)


async def test_an_import_leaves_a_run_that_is_being_made_alone(made, tmp_path):
    file = tmp_path / "x.jsonl"
    await asyncio.to_thread(invoke, "traces", "export", made, "--out", file)
    trace = json.loads(file.read_text().splitlines()[0])
    runner = Runner(Profile(), tmp_path / "runs", documents=False)
    record = await runner.begin(trace["request"], [], {}, run_id=trace["run_id"])
    said = await asyncio.to_thread(invoke, "traces", "import", file, "--images", made / ".store/images",
                              "--out", tmp_path / "runs")  # fmt: skip
    assert "1 already present" in said and "1 imported" in said
    assert runner.runs.record(record.run_id) == record and runner.runs.trace(record.run_id) is None


def test_a_second_import_brings_pictures_that_were_missing(made, tmp_path):
    file, copy = tmp_path / "x.jsonl", tmp_path / "copy"
    invoke("traces", "export", made, "--out", file)
    said = invoke("traces", "import", file, "--images", tmp_path / "nothing", "--out", copy)
    assert "2 imported" in said and "pictures missing" in said
    said = invoke("traces", "import", file, "--images", made / ".store" / "images", "--out", copy)
    assert "2 already present" in said and "missing" not in said
    runs = RunStore(copy)
    assert all(
        runs.images.read(ref) for run_id in runs.run_ids() for ref in runs.trace(run_id).images_by_hash().values()
    )


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("postgresql://u:hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:hun@ter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?password=hunter2&x=1", "postgresql://h/d?password=***&x=1"),
        ("http://u:hunter2@h:1", "http://u:***@h:1"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("http://h:2024/a:b", "http://h:2024/a:b"),
    ],
)
def test_a_password_in_an_address_is_not_told(tmp_path, address, safe):
    assert redact_password(address) == safe
    if address.startswith("http://u"):
        assert "hunter2" not in CliRunner().invoke(main, ["traces", "list", address]).output
