"""Settings are fixed before the first plan, and stay."""

import asyncio
import contextlib

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import build_graph

CONFIG = {"configurable": {"thread_id": "t"}}
SETTINGS = {"review": True, "seed": 7, "width": 256, "height": 128, "max_attempts": 2}


def graph_of(images, planner):
    return build_graph(
        planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())  # fmt: skip


async def test_a_rejected_plan_is_followed_by_one_with_the_same_settings(images):
    graph = graph_of(images, ScriptedPlanner(drawn_plan(1)))
    await graph.ainvoke({"request": "x"}, CONFIG, context=SETTINGS)
    result = await graph.ainvoke(Command(resume={"action": "reject", "feedback": "more"}), CONFIG)
    assert "__interrupt__" in result  # it is reviewed, too
    state = (await graph.aget_state(CONFIG)).values
    assert SETTINGS.items() <= state["settings"].items()


async def test_a_run_that_was_cut_off_while_planning_goes_on_with_its_settings(images):
    class Slow(ScriptedPlanner):
        async def plan(self, request, images):
            plan = await super().plan(request, images)
            if len(self.requests) == 1:
                started.set()
                await asyncio.sleep(60)
            return plan

    started = asyncio.Event()
    graph = graph_of(images, Slow(drawn_plan(1)))
    run = asyncio.create_task(graph.ainvoke({"request": "x"}, CONFIG, context=SETTINGS))
    await started.wait()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    result = await graph.ainvoke(None, CONFIG)
    assert "__interrupt__" in result
    assert SETTINGS.items() <= (await graph.aget_state(CONFIG)).values["settings"].items()


@pytest.mark.parametrize("later", [None, {"seed": 9}])
async def test_the_next_document_of_a_thread_has_settings_of_its_own(images, later):
    graph = graph_of(images, ScriptedPlanner(drawn_plan(1)))
    await graph.ainvoke({"request": "x"}, CONFIG, context={"seed": 7})
    result = await graph.ainvoke({"request": "y"}, CONFIG, context=later)
    assert result["document"]["seed"] == (later or {"seed": 0})["seed"]
