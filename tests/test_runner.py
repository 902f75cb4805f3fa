"""Runs that were interrupted at an awkward moment."""

import asyncio
import hashlib
import shutil
from contextlib import aclosing
from pathlib import Path

import aiosqlite
import pytest
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import BackendError, BadInput, Profile, Runner, build_graph
from interleaver.graph.boundary.changes import RedrawChange, ReviseChange
from interleaver.traces.trace import Trace


@pytest.mark.parametrize("event", ["plan_ready", "attempt_started", "picture_ready", "verdict", "step_ended"])
async def test_a_run_whose_node_was_cancelled_at_its_end_is_finished_when_resumed(tmp_path, event):
    """LangGraph stores what the node wrote, but not where the run goes next."""
    runner = Runner(Profile(), tmp_path, documents=False)
    record = await runner.begin("a boat and a tree", [], {"seed": 1}, run_id="r")
    config = {"configurable": {"thread_id": record.thread}, "recursion_limit": 1000}
    inputs = {"request": record.request, "images": []}
    async with runner.runs.checkpointer("r") as saver:
        graph = runner.builder.compile(checkpointer=saver)
        stream = graph.astream(inputs, config, context=record.context, stream_mode="custom", durability="sync")
        async with aclosing(stream):
            async for chunk in stream:
                if chunk["type"] == event:
                    break
    async for _ in runner.work(record):
        pass
    trace = runner.runs.trace("r")
    assert isinstance(trace, Trace) and trace.status == "complete"


async def test_a_run_that_is_closed_early_can_be_resumed_in_the_same_process(tmp_path):
    runner = Runner(Profile(), tmp_path, documents=False)
    record = await runner.begin("a boat and a tree", [], {"seed": 1}, run_id="r")
    async with aclosing(runner.work(record)) as events:
        async for event in events:
            if event.type == "verdict":
                break
    assert runner.runs.trace("r") is None
    async for _ in runner.work(record):
        pass
    assert runner.runs.trace("r").status == "complete"


async def made(runner, request="a boat and a tree and a star"):
    record = await runner.begin(request, [], {"seed": 1}, run_id="r")
    async for _ in runner.work(record):
        pass
    return record


@pytest.mark.parametrize("event", ["plan_ready", "attempt_started", "picture_ready", "verdict", "step_ended"])
async def test_a_change_that_was_interrupted_is_resumed(tmp_path, event):
    runner = Runner(Profile(), tmp_path)
    record = await made(runner)
    before = runner.runs.trace("r")
    async with aclosing(runner.change(record, RedrawChange(step=2))) as events:
        async for heard in events:
            if heard.type == event:
                break
    async for _ in runner.work(record):
        pass
    trace = runner.runs.trace("r")
    assert trace.status == "complete" and trace.results[0] == before.results[0]
    assert trace.results[1].image != before.results[1].image


async def test_an_unfinished_run_is_not_changed(tmp_path):
    runner = Runner(Profile(), tmp_path)
    record = await runner.begin("a boat and a tree", [], {"seed": 1}, run_id="r")
    async with aclosing(runner.work(record)) as events:
        async for event in events:
            if event.type == "picture_ready":
                break
    with pytest.raises(BadInput, match="is not finished, so it cannot be changed"):
        async for _ in runner.change(record, RedrawChange(step=1)):
            pass


async def test_resuming_does_not_go_back_before_a_change(tmp_path):
    """A verdict that failed before the change is asked for by redrawing, not by undoing the change."""
    runner = Runner(Profile(), tmp_path)
    runner.builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(BackendError("no verdict")),
        generator=PlainGenerator(), images=runner.runs.images,
    )  # fmt: skip
    record = await made(runner, "x")
    async for _ in runner.change(record, RedrawChange(step=2)):
        pass
    before = runner.runs.trace("r")
    async for _ in runner.work(record):
        pass
    assert runner.runs.trace("r") == before


async def test_a_change_that_the_planner_cannot_make_leaves_the_trace(tmp_path):
    runner = Runner(Profile(), tmp_path)
    record = await made(runner)
    before = runner.runs.trace("r")
    with pytest.raises(BadInput, match="there is no"):
        async for _ in runner.change(record, ReviseChange(request="make the ninth picture a night scene")):
            pass
    assert runner.runs.trace("r") == before
    async for _ in runner.work(record):  # resuming tries nothing that failed for good
        pass
    assert runner.runs.trace("r").results == before.results


async def test_a_cancelled_run_is_resumed_at_once_in_the_same_process(tmp_path, monkeypatch):
    """Cancelled at many moments; a write that was at work must not leave its file locked."""
    connect = aiosqlite.connect
    monkeypatch.setattr(aiosqlite, "connect", lambda path, timeout: connect(path, timeout=5))
    tasks = []  # each holds its exception, and with it the frames in which it was raised
    for moment in range(10):
        runner = Runner(Profile(), tmp_path / str(moment), documents=False)
        record = await runner.begin("a boat and a tree", [], {"seed": 1}, run_id="r")

        async def work(runner=runner, record=record):
            async for _ in runner.work(record):
                pass

        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0.03 * moment)
        tasks[-1].cancel()
        await asyncio.wait(tasks)
        await work()
        assert runner.runs.trace("r").status == "complete"


DAMAGE = {
    "deleted": lambda file, other: file.unlink(),
    "cut": lambda file, other: file.write_bytes(file.read_bytes()[:100]),
    "empty": lambda file, other: file.write_bytes(b""),
    "another": lambda file, other: file.write_bytes(other.read_bytes()),
}


def picture_files(runner, trace):
    return [Path(runner.runs.images.path(result.image)) for result in trace.results]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("copies", [True, False])
async def test_a_lost_picture_of_a_finished_run_is_put_back_or_drawn_again(tmp_path, damage, copies):
    runner = Runner(Profile(), tmp_path, documents=copies)
    record = await made(runner)
    trace = runner.runs.trace("r")
    files = picture_files(runner, trace)
    data = files[1].read_bytes()
    DAMAGE[damage](files[1], files[0])
    events = [event async for event in runner.work(record)]
    assert files[1].read_bytes() == data  # the sandbox draws the same again
    assert runner.runs.trace("r").results == trace.results
    drawn_steps = {event.step for event in events if event.type == "picture_ready"}
    assert drawn_steps == (set() if copies else {1, 2})


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_lost_picture_of_an_unfinished_run_is_drawn_again(tmp_path, damage, lookahead):
    undisturbed_runner = Runner(Profile(), tmp_path / "undisturbed", documents=False)
    await made(undisturbed_runner)
    runner = Runner(Profile(), tmp_path / "disturbed", documents=False)
    settings = {"seed": 1, "lookahead": lookahead}
    record = await runner.begin("a boat and a tree and a star", [], settings, run_id="r")
    refs = []
    async with aclosing(runner.work(record)) as events:
        async for event in events:
            if event.type == "picture_ready":
                refs.append(event.image)
            if event.type == "step_ended" and event.step == 1:
                break
    for ref in refs[1:]:
        DAMAGE[damage](Path(runner.runs.images.path(ref)), Path(runner.runs.images.path(refs[0])))
    async for _ in runner.work(record):
        pass
    trace, undisturbed_trace = runner.runs.trace("r"), undisturbed_runner.runs.trace("r")
    assert (trace.status, trace.results) == ("complete", undisturbed_trace.results)
    for file in picture_files(runner, trace):
        assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()


async def test_a_document_says_which_picture_is_lost(tmp_path):
    """An imported run has no checkpoints to draw it again from."""
    runner = Runner(Profile(), tmp_path)
    record = await made(runner)
    trace = runner.runs.trace("r")
    shutil.rmtree(tmp_path / ".store/checkpoints")
    shutil.rmtree(tmp_path / "r/pictures")
    picture_files(runner, trace)[1].unlink()
    async for _ in runner.work(record):
        pass
    pages = [(tmp_path / "r" / name).read_text() for name in ("document.html", "document.md")]
    assert all(page.count("The picture of this step has been lost") == 1 for page in pages)
    lost = [block for block in runner.runs.document("r").blocks if block.type == "image" and block.path is None]
    assert [block.step for block in lost] == [1]
    assert sorted(file.name for file in (tmp_path / "r/pictures").iterdir()) == ["step-01.png", "step-03.png"]
