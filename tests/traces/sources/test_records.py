"""Traces out of the records that the reference implementation writes.

`support/records` has records that the released scripts wrote, with stand-ins for the models.
"""

import json
import shutil

import pytest
from support import SUPPORT
from support.commands import interleaver
from support.fakes import plain_picture
from support.scripted_runs import opened, read

from interleaver.traces.trace import SkippedRecord, Trace

RECORDS = SUPPORT / "records"
HEAD, ROUND = "a cat's head", "a cat's round head"


def write_record(folder, **changes):
    """A record as the reference implementation writes it, with two steps and a rejected attempt."""
    folder.mkdir(parents=True)
    for name, colour in (("s1_0.png", (9, 9, 9)), ("s1_1.png", (200, 0, 0)), ("s2_0.png", (0, 0, 200))):
        (folder / name).write_bytes(plain_picture(colour).data)
    steps = [
        {"step": 1, "prompt": "a hat", "refine_prompt": "a red hat", "source_img": None, "target_img": "s1_0.png",
         "success": False, "reasoning": "It is grey."},
        {"step": 1, "prompt": "a red hat", "refine_prompt": "a red hat", "source_img": None,
         "target_img": "/old/machine/run/s1_1.png", "success": True, "reasoning": "Good."},
        {"step": 2, "prompt": "a blue hat", "refine_prompt": "", "source_img": "s1_1.png", "target_img": "s2_0.png",
         "success": True, "reasoning": "Good."},
    ]  # fmt: skip
    plan = [
        {"step_number": n, "step_name": "hat", "instruction": "A hat.", "prompt": prompt, "auxiliary_text": None}
        for n, prompt in ((1, "a hat"), (2, "a blue hat"))
    ]
    plan.append({"step_number": 3, "step_name": "", "instruction": None, "prompt": None, "auxiliary_text": "The end."})
    record = {"user_input": "hats", "global_context": {"reasoning": "two", "execution_plan": plan}, "steps": steps}
    for path, value in changes.items():
        place, *keys = path.split("__")
        target = record[place]
        for key in keys[:-1]:
            target = target[int(key) if key.isdigit() else key]
        target[keys[-1]] = value
    (folder / "execution_record.json").write_text(json.dumps(record))


async def test_records_of_the_reference_implementation_are_read(tmp_path, images):
    write_record(tmp_path / "records" / "s1")
    (trace,) = await read(opened(str(tmp_path / "records"), images))
    assert (trace.request, trace.status, trace.source) == ("hats", "complete", "record")
    assert [(one.step, one.attempt, one.verdict.accepted) for one in trace.attempts] == [
        (0, 1, False), (0, 2, True), (1, 1, True),
    ]  # fmt: skip
    assert trace.attempts[0].verdict.refined_prompt == "a red hat"
    assert trace.attempts[2].sources == [trace.attempts[1].image]
    assert [str(result.outcome) for result in trace.results] == ["accepted", "accepted", "text"]
    assert (await images.get(trace.attempts[1].image)).data == plain_picture((200, 0, 0)).data


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps__0__target_img": "../../../etc/passwd"}, "path outside its folder"),
        ({"steps__0__target_img": "/etc/passwd"}, "path outside its folder"),
        ({"steps__0__target_img": "../other.png"}, "path outside its folder"),
        ({"steps__0__target_img": "gone.png"}, "missing picture"),
        ({"steps__0__target_img": "execution_record.json"}, "not a picture"),
        ({"steps__0__success": "yes"}, "invalid trace"),
        ({"steps__0__step": 9}, "invalid trace"),
        ({"steps__0__prompt": None}, "invalid trace"),
        ({"global_context__execution_plan": None}, "invalid trace"),
    ],
)
async def test_a_poisoned_record_is_left_out_and_told(tmp_path, images, changes, reason):
    (tmp_path / "other.png").write_bytes(plain_picture().data)
    write_record(tmp_path / "records" / "bad", **changes)
    write_record(tmp_path / "records" / "good")
    found = await read(opened(str(tmp_path / "records"), images))
    assert [one.reason for one in found if isinstance(one, SkippedRecord)] == [reason]
    assert [one.run_id for one in found if isinstance(one, Trace)] == ["good"]


async def test_a_link_out_of_the_folder_is_not_followed(tmp_path, images):
    (tmp_path / "secret.png").write_bytes(plain_picture().data)
    write_record(tmp_path / "records" / "bad", steps__0__target_img="link.png")
    (tmp_path / "records" / "bad" / "link.png").symlink_to(tmp_path / "secret.png")
    (found,) = await read(opened(str(tmp_path / "records"), images))
    assert found.reason == "path outside its folder"


async def test_records_with_like_names_stay_apart(tmp_path, images):
    for name in ("x/y", "x-y", "my record", "_u"):
        write_record(tmp_path / "records" / name)
    names = [trace.run_id for trace in await read(opened(str(tmp_path / "records"), images))]
    assert len(set(names)) == 4 and "x-y" in names


@pytest.mark.parametrize(
    ("name", "status", "prompts", "verdicts"),
    [
        ("klein_data/7normal", "complete", [HEAD, ROUND, "add a tail"], [False, True, True]),
        ("relative/7normal", "complete", [HEAD, ROUND, "add a tail"], [False, True, True]),
        ("klein_data/7never", "partial", [HEAD, *(f"try {n}" for n in range(14))], [False] * 15),
        ("klein_data/7stringbool", "complete", [HEAD, "add a tail"], [True, True]),
        ("klein_data/7unreadable", "complete", [HEAD, "add a tail", "add a long tail"], [True, False, True]),
    ],
)
async def test_records_of_the_released_scripts(images, name, status, prompts, verdicts):
    (trace,) = await read(opened(str(RECORDS / name), images))
    assert isinstance(trace, Trace), trace
    assert trace.status == status
    assert [attempt.prompt for attempt in trace.attempts] == prompts
    assert [attempt.verdict.accepted for attempt in trace.attempts] == verdicts
    accepted = None
    for attempt in trace.attempts:
        assert attempt.sources == ([accepted] if attempt.step else [])  # white.png is no source
        accepted = attempt.image if attempt.verdict.accepted else accepted


async def test_what_was_refined_and_never_drawn_is_no_attempt(images):
    (trace,) = await read(opened(str(RECORDS / "klein_data/7never"), images))
    assert trace.attempts[-1].verdict.refined_prompt == "try 14"
    assert [result and str(result.outcome) for result in trace.results] == ["exhausted", None]


async def test_records_are_found_below_folders(images):
    found = await read(opened(str(RECORDS), images))
    assert sum(isinstance(one, Trace) for one in found) == 5
    (skipped,) = [one for one in found if isinstance(one, SkippedRecord)]
    assert skipped.reason == "record of UEval's script" and "eval ueval" in skipped.detail


@pytest.mark.parametrize(("success", "accepted"), [("False", False), (" true ", True), (False, False)])
async def test_the_critics_word_counts_even_as_a_text(tmp_path, images, success, accepted):
    write_record(tmp_path / "r" / "s", steps__2__success=success)
    (trace,) = await read(opened(str(tmp_path / "r"), images))
    assert trace.attempts[-1].verdict.accepted is accepted


@pytest.mark.parametrize("path", ["YOUR_PATH\\klein\\s1_1.png", "C:\\data\\s1_1.png", "./s1_1.png", "a/b/s1_1.png"])
async def test_paths_of_other_machines_are_found(tmp_path, images, path):
    write_record(tmp_path / "r" / "s", steps__1__target_img=path)
    (trace,) = await read(opened(str(tmp_path / "r"), images))
    assert (await images.get(trace.attempts[1].image)).data == plain_picture((200, 0, 0)).data


def test_an_import_of_nothing_is_no_success(tmp_path):
    shutil.copytree(RECORDS / "ueval", tmp_path / "ueval")
    result = interleaver("traces", "import", "ueval", "--out", "runs", cwd=tmp_path, code=3)
    assert "1 skipped" in result.stdout and "record of UEval's script" in result.stderr
