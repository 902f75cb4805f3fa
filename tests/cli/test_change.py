"""`interleaver change`: a document that was made earlier."""

import json

import pytest
from support.commands import files_of, interleaver, only_run


@pytest.fixture
def boats(tmp_path):
    interleaver("run", "a boat and a tree and a star", cwd=tmp_path)
    run = only_run(tmp_path / "out")

    def change(*arguments, code=0):
        return interleaver("change", run.name, *arguments, cwd=tmp_path, code=code)

    def document():
        return json.loads((run / "document.json").read_text())

    return change, document, run


def pictures(document):
    return [block["sha256"] for block in document["blocks"] if block["type"] == "image"]


def test_in_words_drawn_again_and_another_attempt(boats):
    change, document, _ = boats
    first = document()
    assert "Complete: 3 steps" in change("make the third picture a night scene").stdout
    second = document()
    assert pictures(second)[:2] == pictures(first)[:2] and pictures(second)[2] != pictures(first)[2]
    change("--redraw", "3")
    third = document()
    assert pictures(third)[:2] == pictures(second)[:2] and pictures(third)[2] != pictures(second)[2]
    assert len(third["steps"][2]["attempts"]) > len(second["steps"][2]["attempts"])
    change("--choose", "3", "1")
    assert third["steps"][2]["attempts"][0]["sha256"] == pictures(document())[2]
    assert document()["status"] == "complete"


def test_what_cannot_be_changed_is_told_and_changes_nothing(boats, tmp_path):
    change, _, run = boats
    before = files_of(run)
    (tmp_path / "plan.json").write_text('{"steps": 3}')
    for arguments, said in [
        ((), "say what to change"),
        (("x", "--redraw", "1"), "say what to change"),
        (("--redraw", "9"), "there is no step 9; the document has 1, 2, 3"),
        (("--choose", "1", "9"), "step 1 has no attempt 9"),
        (("--prompt", "x", "make it red"), "--prompt belongs to --redraw"),
        (("--plan", "plan.json"), "is not valid: steps"),
        (("--plan", "none.json"), "cannot be read"),
        (("make the ninth picture a night scene",), "there is no"),
    ]:
        assert said in change(*arguments, code=2).stderr, arguments
        assert files_of(run) == before


def test_another_plan(boats, tmp_path):
    change, document, run = boats
    plan = json.loads((run / "trace.json").read_text())["plan"]
    plan["steps"][2]["instruction"] = plan["steps"][2]["prompt"] = "Draw a large red house on the right."
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    first = document()
    change("--plan", "plan.json")
    assert pictures(document())[:2] == pictures(first)[:2] and pictures(document())[2] != pictures(first)[2]


def test_a_run_without_checkpoints_is_changed_by_its_trace(boats, tmp_path):
    change, document, _ = boats
    (checkpoints,) = (tmp_path / "out" / ".store" / "checkpoints").glob("*.sqlite")
    checkpoints.unlink()
    first = document()
    change("--redraw", "3")
    assert pictures(document())[:2] == pictures(first)[:2] and pictures(document())[2] != pictures(first)[2]
