"""What the format before has left on disks: it is read, finished documents can be changed, open runs are refused."""

import json
import zipfile

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from support import SUPPORT
from support.commands import interleaver

from interleaver import Document, Profile, build_graph, load_profile
from interleaver.agents.prompts import load_prompts
from interleaver.errors import BadInput
from interleaver.runner import Runner
from interleaver.store.images import ImageStore
from interleaver.traces.labels import read_labels
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import SkippedRecord, Trace, read_trace
from interleaver.training.datasets import load_data


@pytest.fixture
def folder(tmp_path):
    """Runs, threads and a dataset, as the version with format 1 wrote them."""
    with zipfile.ZipFile(SUPPORT / "format1.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def opened_graph(folder, saver):
    images = ImageStore(str(folder / "runs" / ".store" / "images"))
    return build_graph(images=images).compile(checkpointer=saver)


def test_a_finished_run_is_shown_counted_and_not_drawn_again(folder):
    runs = RunStore(folder / "runs")
    before = json.loads((folder / "runs/finished/document.json").read_text())
    document = runs.document("finished")
    assert document.status == "complete"
    assert [step.outcome for step in document.steps] == [step["outcome"] for step in before["steps"]]
    assert "accepted" in interleaver("runs", "show", "finished", "--out", "runs", cwd=folder).stdout
    stats = json.loads(interleaver("traces", "stats", "runs", "--json", cwd=folder).stdout)
    assert stats["runs"] == 1 and stats["skipped"] == {} and stats["seconds"]["critic"] >= 0
    resumed = interleaver("run", "--resume", "finished", "--out", "runs", "--json", cwd=folder)
    assert json.loads(resumed.stdout)["blocks"] == before["blocks"]


def test_a_trace_keeps_the_seconds_of_its_reviews(folder):
    old = json.loads((folder / "runs/finished/trace.json").read_text())
    trace = read_trace(json.dumps(old).encode(), "x")
    assert isinstance(trace, Trace)
    assert [attempt.review_seconds for attempt in trace.attempts] == [a["judge_seconds"] for a in old["attempts"]]
    later = read_trace(json.dumps(old | {"version": 3}).encode(), "x")
    assert isinstance(later, SkippedRecord) and "it has format 3" in later.detail


def test_an_unfinished_run_is_refused_in_words(folder):
    error = interleaver("run", "--resume", "unfinished", "--out", "runs", cwd=folder, code=2).stderr
    assert "state format 1" in error


async def test_the_scores_and_verdicts_of_labels_are_read(folder):
    runs = RunStore(folder / "runs")
    judge, critic = (read_labels(runs, "finished", name) for name in ("judge", "critic"))
    assert judge.labels and all(label.scores for label in judge.labels)
    assert all(label.verdicts for label in critic.labels)


@pytest.mark.parametrize("thread", ["chat", "request"])
async def test_a_finished_thread_opens_and_can_be_changed(folder, thread):
    async with AsyncSqliteSaver.from_conn_string(str(folder / "threads.sqlite")) as saver:
        graph = opened_graph(folder, saver)
        config = {"configurable": {"thread_id": thread}}
        before = (await graph.aget_state(config)).values
        message = {"messages": [HumanMessage("Add a yellow sun on the right")]}
        context = {"width": 96, "height": 96}
        after = await graph.ainvoke(message, config, context=context)
        assert after["status"] == "complete", after["document"]
        steps = Document.model_validate(before["document"]).steps
        state = (await graph.aget_state(config)).values
        assert state["kept_steps"] == len(steps) and len(state["plan"]["steps"]) == len(steps) + 1


async def test_an_unfinished_thread_is_refused_in_words(folder):
    async with AsyncSqliteSaver.from_conn_string(str(folder / "threads.sqlite")) as saver:
        graph = opened_graph(folder, saver)
        with pytest.raises(BadInput, match="format 1"):
            await graph.ainvoke(None, {"configurable": {"thread_id": "unfinished"}})
        again = await graph.ainvoke({"request": "a boat"}, {"configurable": {"thread_id": "unfinished"}})
        assert again["status"] == "complete"


def test_a_dataset_is_trained_on(folder):
    pytest.importorskip("datasets")
    data = load_data(str(folder / "dataset"), "sft-critic")
    assert len(data.train) > 0 and data.card["dataset_format"] == "hf"


def test_a_profile_with_checkpoint_means_weights(tmp_path):
    (tmp_path / "old.toml").write_text('[critic]\nbackend = "local"\ncheckpoint = "interleaver:miniature-critic"\n')
    profile = load_profile(str(tmp_path / "old.toml"))
    assert (
        profile.critic
        == Profile.model_validate({"critic": {"backend": "local", "weights": "interleaver:miniature-critic"}}).critic
    )


def test_a_prompt_set_with_the_former_names_is_used(tmp_path):
    (tmp_path / "judging.md").write_text("Judge {instruction} {original_instruction} {rewritten_prompt}")
    assert load_prompts(str(tmp_path)).review == "Judge {instruction} {original_instruction} {rewritten_prompt}"
    (tmp_path / "review.md").write_text("Review {instruction} {original_instruction} {rewritten_prompt}")
    assert load_prompts(str(tmp_path)).review == "Review {instruction} {original_instruction} {rewritten_prompt}"


async def test_a_run_that_was_made_before_can_be_labelled_and_imported(folder, tmp_path):
    interleaver("traces", "import", "runs", "--out", "copy", cwd=folder)
    trace = RunStore(tmp_path / "copy").trace("finished")
    assert isinstance(trace, Trace) and trace.format == 2
    assert Runner(Profile(), tmp_path / "copy").runs.has_ended("finished")
