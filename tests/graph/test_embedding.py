"""The graph inside other graphs, with their own state, checkpointer and store."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import aiosqlite
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from typing_extensions import TypedDict

from interleaver import build_graph
from interleaver.graph.boundary.events import read_event


class Report(TypedDict, total=False):
    topic: str
    request: str
    document: dict[str, Any]
    status: str
    log: Annotated[list[str], lambda old, new: old + new]


def parent(images, *verdicts, generator=None, **context):
    """A report whose second node is the graph."""
    inner = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(*verdicts),
        generator=generator or PlainGenerator(), images=images,
    )  # fmt: skip
    builder = StateGraph(Report)
    builder.add_node("ask", lambda state: {"request": f"Draw {state['topic']}", "log": ["asked"]})
    builder.add_node("illustrate", inner.compile())
    builder.add_node("file", lambda state: {"log": [state["status"]]})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "illustrate")
    builder.add_edge("illustrate", "file")
    return builder


CONFIG = {"configurable": {"thread_id": "t"}}


async def test_a_node_of_a_parent_with_its_own_state(images):
    graph = parent(images).compile(checkpointer=InMemorySaver(), store=InMemoryStore())
    result = await graph.ainvoke({"topic": "boats"}, CONFIG)
    assert result["document"]["request"] == "Draw boats"
    assert result["log"] == ["asked", "complete"]
    again = await graph.ainvoke({"topic": "cats"}, CONFIG)
    assert again["document"]["request"] == "Draw cats" and len(again["document"]["steps"]) == 2


async def test_the_stream_of_the_parent_shows_the_progress_inside(images):
    graph = parent(images).compile(checkpointer=InMemorySaver())
    nodes, events = [], []
    async for namespace, mode, chunk in graph.astream(
        {"topic": "boats"}, CONFIG, stream_mode=["updates", "custom"], subgraphs=True
    ):
        if mode == "custom":
            events.append(read_event(chunk).type)
        elif namespace:
            assert namespace[0].startswith("illustrate:")
            nodes += chunk
    assert nodes[:5] == ["begin", "planner", "generator", "critic", "accept"] and nodes[-1] == "compose"
    assert events.count("picture_ready") == 2 and events[-1] == "document_ready"


@pytest.mark.parametrize("saver", ["memory", "sqlite"])
async def test_a_question_inside_reaches_the_caller_and_the_answer_comes_back(images, tmp_path, saver):
    async with aiosqlite.connect(tmp_path / "parent.sqlite") as connection:
        checkpointer = InMemorySaver() if saver == "memory" else AsyncSqliteSaver(connection)
        generator = PlainGenerator()
        graph = parent(images, False, generator=generator).compile(checkpointer=checkpointer)
        context = {"review": True, "on_exhausted": "ask", "max_attempts": 1}

        async def go(value):
            return await graph.ainvoke(value, CONFIG, context=context)

        first = await go({"topic": "boats"})
        assert first["__interrupt__"][0].value["kind"] == "plan_review"
        second = await go(Command(resume={"action": "maybe"}))
        assert "cannot be used" in second["__interrupt__"][0].value["error"]
        third = await go(Command(resume={"action": "approve"}))
        assert third["__interrupt__"][0].value["kind"] == "step_review"
        done = await go(Command(resume={"action": "pick", "attempt": 1}))
        assert done["log"] == ["asked", "complete"]
        assert len(generator.calls) == 2  # nothing was drawn twice on the way


async def test_the_context_of_the_parent_may_have_fields_of_its_own(images):
    @dataclass
    class ParentContext:
        user: str = "somebody"
        max_attempts: int = 2

    builder = StateGraph(Report, context_schema=ParentContext)
    inner = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(*[False] * 9), generator=PlainGenerator(),
        images=images,
    )  # fmt: skip
    builder.add_node("illustrate", inner.compile())
    builder.add_edge(START, "illustrate")
    result = await builder.compile().ainvoke({"request": "x"}, context=ParentContext())
    assert "none of 2 attempt(s)" in result["document"]["steps"][0]["reason"]


async def test_a_thread_id_that_is_missing_is_told_by_langgraph(images):
    graph = parent(images).compile(checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="thread_id"):
        await graph.ainvoke({"topic": "boats"})


async def test_a_planner_that_asks_a_person_itself_is_not_taken_for_a_failure(images):
    """An interrupt is an exception on its way out; nothing in between may catch it."""

    class Asking(ScriptedPlanner):
        async def plan(self, request, images):
            return drawn_plan(int(interrupt("How many steps?")))

    graph = build_graph(
        planner=Asking(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    paused = await graph.ainvoke({"request": "x"}, CONFIG)
    assert paused["__interrupt__"][0].value == "How many steps?"
    result = await graph.ainvoke(Command(resume="3"), CONFIG)
    assert len(result["document"]["steps"]) == 3 and result["status"] == "complete"


async def test_two_at_once_in_one_parent_keep_to_themselves(images):
    class Pair(TypedDict, total=False):
        left: dict[str, Any]
        right: dict[str, Any]

    inner = build_graph(
        planner=ScriptedPlanner(drawn_plan(3)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()

    async def both(state):
        made = await asyncio.gather(*(inner.ainvoke({"request": name}) for name in ("left", "right")))
        return {name: result["document"] for name, result in zip(("left", "right"), made, strict=True)}

    builder = StateGraph(Pair)
    builder.add_node("both", both)
    builder.add_edge(START, "both")
    result = await builder.compile().ainvoke({})
    assert (result["left"]["request"], result["right"]["request"]) == ("left", "right")
    assert result["left"]["status"] == result["right"]["status"] == "complete"


async def test_settings_of_the_graph_are_those_of_a_run_that_says_nothing(images):
    from interleaver.graph.context import RunSettings

    def graph(settings):
        return build_graph(
            planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(*[False] * 9), generator=PlainGenerator(),
            images=images, settings=settings,
        ).compile(checkpointer=InMemorySaver())  # fmt: skip

    async def attempts(settings, context):
        compiled = graph(settings)
        await compiled.ainvoke({"request": "x"}, CONFIG, context=context)
        return len((await compiled.aget_state(CONFIG)).values["attempts"])

    two = RunSettings(max_attempts=2)
    assert await attempts(two, None) == 2
    assert await attempts(two, {"seed": 1}) == 2
    assert await attempts(two, {"max_attempts": 3}) == 3
    assert await attempts(None, {}) == 5
