"""Text files as Windows saves them, at every door that reads one."""

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleaver import load_profile
from interleaver.agents.prompts import load_prompts
from interleaver.batch.prompt_list import BatchItem, read_items
from interleaver.batch.prompts import load_taxonomy
from interleaver.cli.change import _read_plan
from interleaver.evals.prompts import JudgePrompts
from interleaver.text_files import decode_text
from interleaver.traces.sources.files import ExportSource
from interleaver.traces.trace import Trace
from interleaver.training.config import load_config

MARKS = {
    "utf-8": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16-le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16-be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "line ends": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
}
PLAN = json.dumps({"steps": [{"name": "one", "prompt": "a circle"}]})
REVIEW = "Compare.\n{original_instruction} {rewritten_prompt}"
TAXONOMY = '[[category]]\nname = "a"\ntemplates = ["{topic}"]\n[[category.sub]]\nname = "b"\ntopics = ["c"]\n'


def two_requests(path):
    return [row.request for row in read_items(path, 0) if isinstance(row, BatchItem)]


READERS = {
    "profile": ("p.toml", "[run]\nseed = 3\n", lambda path: load_profile(str(path)).run.seed, 3),
    "prompt list": ("p.jsonl", '{"request": "a"}\n{"request": "ü"}\n', two_requests, ["a", "ü"]),
    "array": ("p.json", '[{"request": "a"},\n{"request": "ü"}]', two_requests, ["a", "ü"]),
    "plan": ("plan.json", PLAN, lambda path: _read_plan(path).plan.steps[0].prompt, "a circle"),
    "taxonomy": ("t.toml", TAXONOMY, lambda path: load_taxonomy(str(path)).category[0].name, "a"),
    "prompts": ("review.md", REVIEW, lambda path: load_prompts(str(path.parent)).review, REVIEW),
    "training": (
        "c.toml",
        "learning_rate = 1e-4\n",
        lambda path: load_config(str(path), "sft-critic").learning_rate,
        1e-4,
    ),
    "judge prompts": (
        "wise-verified.md",
        "Is it right?",
        lambda path: JudgePrompts(path.parent).load("wise-verified").text,
        "Is it right?",
    ),
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_windows_wrote(tmp_path, name, mark):
    file, text, read, content = READERS[name]
    (tmp_path / file).write_bytes(MARKS[mark](text))
    assert read(tmp_path / file) == content


async def test_exported_traces_with_a_mark(tmp_path, images):
    run = Trace(run_id="one", source="run", request="a", status="failed", plan={"steps": []}, attempts=[], results=[])
    (tmp_path / "t.jsonl").write_bytes(codecs.BOM_UTF8 + run.model_dump_json().encode() + b"\n")
    assert [trace.run_id async for trace in ExportSource(str(tmp_path / "t.jsonl"), images).read()] == ["one"]


@given(st.text().filter(lambda text: "\r" not in text and not text.startswith("\ufeff")))
def test_any_text_is_read_as_it_was_written(text):
    assert decode_text(text.encode()) == text
    for mark in MARKS.values():
        assert decode_text(mark(text)) == text
