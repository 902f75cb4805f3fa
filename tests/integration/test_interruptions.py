"""Runs that are interrupted, killed, or shared by several processes; each in a process of its own."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.evaluations import EVAL_COMMAND, wise_rows, write_json, write_picture
from support.scripted_server import Reply, chat_reply, serving

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(*arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*EVAL_COMMAND, "wise-verified", *map(str, arguments)], **pipes, **options)


def finished(process, code=0):
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    return stdout, stderr


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def slowly(request):
    """A judge that takes its time; the models it has, it tells at once."""
    return Reply({"object": "list", "data": []}) if request.method == "GET" else SLOW


SLOW = chat_reply("Score: 1")
SLOW.delay = 0.2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_judge_is_not_asked_again_what_it_has_answered(here, number):
    data = write_json(here / "rows.json", wise_rows(range(1, 61)))
    for item in range(1, 61):
        write_picture(here / f"mine/{item}.png", (item, 0, 0))
    with serving(slowly) as judge:
        (here / "judge.toml").write_text(
            f'[judge]\nbackend = "chat"\nmodel = "m"\nbase_url = "{judge.url}/v1"\nconcurrency = 2\n'
        )
        asked = ["--data", data, "--outputs", "mine=mine", "--judge", "judge.toml", "--json"]
        process = started(*asked)
        wait_until(lambda: len(judge.requests) > 12)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode != 0 and "Traceback" not in stderr
        assert not Path("out/eval/wise-verified/results.json").exists()
        before = len(judge.requests)
        assert before < 40
        found = json.loads(finished(started(*asked))[0])["systems"][0]
    assert found["groups"]["culture"]["score"]["value"] == 1 and found["judge_calls_now"] >= 60 - before
    # Answers that were on their way when the process ended are asked for again, no others.
    assert len(judge.requests) <= 60 + 2 * 2


def test_outputs_that_were_made_are_not_made_again(here):
    rows = [row | {"Prompt": "a red star"} for row in wise_rows(range(1, 21))]
    data = write_json(here / "rows.json", rows)
    with serving(chat_reply("Score: 1")) as judge:
        asked = ["--data", data, "--system", "graph", "--judge", f"m@{judge.url}/v1", "--workers", "2", "--json"]
        process = started(*asked)
        kept = here / "out/eval/wise-verified/systems/graph/outputs.jsonl"
        wait_until(lambda: kept.exists() and kept.read_text().count("\n\n") > 3)
        process.kill()
        process.communicate(timeout=60)
        before = {line for line in kept.read_text().split("\n") if line.endswith("}")}
        assert 3 < len(before) < 20
        found = json.loads(finished(started(*asked))[0])["systems"][0]
    after = [line for line in kept.read_text().split("\n") if line.endswith("}")]
    assert found["missing"] == {} and before <= set(after)
    assert sorted(json.loads(line)["id"] for line in after) == sorted(str(number) for number in range(1, 21))


def test_shards_side_by_side_on_one_folder(here):
    rows = [row | {"Prompt": "a red star"} for row in wise_rows(range(1, 13))]
    data = write_json(here / "rows.json", rows)
    with serving(chat_reply("Score: 1")) as judge:
        asked = ["--data", data, "--judge", f"m@{judge.url}/v1", "--json"]
        parts = [started(*asked, "--shard", f"{part}/3") for part in (1, 2, 3)]
        for part in parts:
            assert "This part is done" in finished(part)[1]
        before = len([one for one in judge.requests if one.method == "POST"])
        found = json.loads(finished(started(*asked))[0])["systems"]
        assert len([one for one in judge.requests if one.method == "POST"]) == before
    assert [one["groups"]["culture"]["score"]["items"] for one in found] == [12, 12]
    for system in ("graph", "generator"):
        lines = (here / f"out/eval/wise-verified/systems/{system}/outputs.jsonl").read_text().split("\n")
        assert sorted(int(json.loads(line)["id"]) for line in lines if line) == list(range(1, 13))
