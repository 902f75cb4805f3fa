"""The reviews of `interleaver run --review`, answered on standard input."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

from click.testing import CliRunner
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import build_graph
from interleaver.cli import main
from interleaver.errors import BackendError
from interleaver.graph.context import RunSettings
from interleaver.profile import Profile
from interleaver.runner import Runner

COMMAND = [sys.executable, "-m", "interleaver.cli", "run"]
TWO_THINGS = "a boat and a tree"


def review(folder, *arguments, say):
    with contextlib.chdir(folder):
        return CliRunner().invoke(main, ["run", *arguments], input="".join(f"{line}\n" for line in say))


def document_of(result):
    assert result.stdout.startswith("{"), result.stderr
    return json.loads(result.stdout)


def test_approve(tmp_path):
    result = review(tmp_path, "--review", TWO_THINGS, say=["a"])
    assert result.exit_code == 0, result.stderr
    assert "Draw a large green tree on the right." in result.stderr  # the plan, as the reviewer sees it
    assert "Complete: 2 steps" in result.stdout


def test_edit_a_step_that_is_there(tmp_path):
    say = ["e", "9", "e", "two", "e", "2", "Draw a large red house on the right.", "a"]
    result = review(tmp_path, "--review", "--json", TWO_THINGS, say=say)
    assert 'There is no step "9"; the plan has 1, 2' in result.stderr
    document = document_of(result)
    assert document["steps"][1]["attempts"][0]["prompt"] == "Draw a large red house on the right."
    assert document["blocks"][-1]["alt"] == "Draw a large red house on the right."


def test_reject_plans_again(tmp_path):
    result = review(tmp_path, "--review", TWO_THINGS, say=["r", "a moon too", "a"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("Plan of") == 2


def test_a_step_that_was_never_accepted(tmp_path):
    arguments = ["--review", "--max-attempts", "1", "--json", TWO_THINGS]
    kept = review(tmp_path, *arguments, say=["a", "7", "1", "1"])
    assert "attempt 7 has no picture; pick one of 1" in kept.stderr
    assert (pictures := re.findall(r"1\. (\S+\.png)", kept.stderr)) and (tmp_path / pictures[0]).exists()
    assert [step["outcome"] for step in document_of(kept)["steps"]] == ["accepted", "accepted"]

    written = review(tmp_path, *arguments, say=["a", "w", "Draw nothing.", "s", "s"])
    first, second = document_of(written)["steps"]
    assert [attempt["prompt"] for attempt in first["attempts"]][1] == "Draw nothing."
    assert (first["outcome"], second["outcome"]) == ("failed", "failed") and written.exit_code == 3

    stopped = review(tmp_path, *arguments, say=["a", "p"])
    assert document_of(stopped)["reason"] == "stopped by the reviewer at step 1"


def test_who_leaves_is_asked_again_later(tmp_path):
    for say in ([], ["q"], ["e", "q"]):
        left = review(tmp_path, "--review", "--max-attempts", "1", TWO_THINGS, say=say)
        assert left.exit_code == 3 and "The run is waiting for your answer" in left.stderr
        assert not list(tmp_path.glob("out/*/document.json"))
    command = re.search(r"resume it with: interleaver run (.*)", left.stderr)[1]
    done = review(tmp_path, *command.split(), say=["a", "1", "1"])
    assert done.exit_code == 0 and "Complete: 2 steps, 2 drawings." in done.stdout, done.stderr


def test_a_step_that_is_shown_and_left_as_it_is_keeps_its_prompt(tmp_path):
    plain = document_of(review(tmp_path, "--review", "--json", TWO_THINGS, say=["a"]))
    looked = document_of(review(tmp_path, "--review", "--json", TWO_THINGS, say=["e", "1", "", "a"]))
    prompts = [[step["attempts"][0]["prompt"] for step in document["steps"]] for document in (plain, looked)]
    assert prompts[0] == prompts[1]


def test_one_interrupt_leaves_a_question(tmp_path):
    """On a terminal, since only there does the prompt wait in the line editor."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--review", TWO_THINGS], cwd=tmp_path, stdin=secondary, stdout=secondary, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    os.close(secondary)
    with process:
        said = ""
        while "[q]uit for now" not in said:
            said += process.stderr.read(1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 3
        assert "The run is waiting for your answer" in process.stderr.read()
    os.close(primary)


def test_a_run_that_was_begun_keeps_its_reviews(tmp_path):
    result = review(tmp_path, "--resume", "x", "--review", say=[])
    assert result.exit_code == 2 and "--resume continues a run with its own request and settings" in result.stderr


async def test_carrying_on_keeps_what_a_person_picked_after_a_failure(tmp_path):
    """The failed attempt lies behind the person's choice; there is nothing left to try again."""
    profile = Profile(run=RunSettings(on_exhausted="ask", max_attempts=2))
    runner = Runner(profile, tmp_path)
    generator = PlainGenerator({1: BackendError("refused")})
    runner.builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(False), generator=generator,
        images=runner.runs.images, settings=profile.run,
    )  # fmt: skip

    async def pick(question):
        return {"action": "pick", "attempt": 1}

    record = await runner.begin("x", [], {})
    for _ in range(2):
        async for _ in runner.work(record, pick):
            pass
        assert runner.runs.document(record.run_id).status == "complete"
        assert len(generator.calls) == 2
