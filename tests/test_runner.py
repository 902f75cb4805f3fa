"""Runs that were interrupted at an awkward moment."""

import asyncio
from contextlib import aclosing

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
