"""LangGraph's recursion limit: what LangChain sets by itself does not count, what a person sets ends a run in words."""

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from typing_extensions import TypedDict

from interleaver import build_graph

REQUEST = {"request": "x"}
CONFIG = {"configurable": {"thread_id": "t"}}


def graph_of(images, steps=12, *verdicts, saver=None, **options):
    return build_graph(
        planner=ScriptedPlanner(drawn_plan(steps)), critic=ScriptedCritic(*verdicts), generator=PlainGenerator(),
        images=images, **options,
    ).compile(checkpointer=saver)  # fmt: skip


async def invoke_plainly(graph):
    return await graph.ainvoke(REQUEST)


async def invoke_with_25(graph):
    return await graph.ainvoke(REQUEST, {"recursion_limit": 25})


async def batch(graph):
    return (await graph.abatch([REQUEST]))[0]


async def chain(graph):
    return await (RunnableLambda(lambda request: request) | graph).ainvoke(REQUEST)


async def retry(graph):
    return await graph.with_retry().ainvoke(REQUEST)


async def configured(graph):
    return await graph.with_config(tags=["x"]).ainvoke(REQUEST)


async def own_tool(graph):
    @tool
    async def draw(request: str) -> dict:
        """Draw."""
        return await graph.ainvoke({"request": request})

    return await draw.ainvoke(REQUEST)


async def parent(graph):
    class Parent(TypedDict, total=False):
        request: str
        document: dict[str, Any]
        status: str

    builder = StateGraph(Parent)
    builder.add_node("illustrate", graph)
    builder.add_edge(START, "illustrate")
    return await builder.compile().ainvoke(REQUEST, {"recursion_limit": 25})


async def synchronously(graph):
    return (await asyncio.to_thread(graph.batch, [REQUEST]))[0]


@pytest.mark.parametrize(
    "call",
    [invoke_plainly, invoke_with_25, batch, chain, retry, configured, own_tool, parent, synchronously],
)
async def test_the_limit_that_langchain_sets_does_not_count(images, call):
    assert (await call(graph_of(images)))["status"] == "complete"


@pytest.mark.parametrize("limit", [limit for limit in range(3, 41) if limit != 25])
async def test_any_other_limit_ends_in_a_document(images, limit):
    """Three steps of two attempts each; below three supersteps there is no room for a document."""
    graph = graph_of(images, 3, False, True, False, True, False, True, saver=InMemorySaver())
    result = await graph.ainvoke(REQUEST, CONFIG | {"recursion_limit": limit})
    steps = result["document"]["steps"]
    if result["status"] != "complete":
        assert "recursion_limit" in result["document"]["reason"]
        assert all(step["outcome"] in (None, "accepted") for step in steps)  # cut off is not exhausted
    rounds = 0
    while result["status"] != "complete":
        rounds += 1
        assert rounds < 30
        result = await graph.ainvoke(REQUEST, CONFIG | {"recursion_limit": max(limit, 6)})
    state = (await graph.aget_state(CONFIG)).values
    assert list(state["attempts"]) == ["0/1", "0/2", "1/1", "1/2", "2/1", "2/2"]  # nothing was drawn twice


async def test_the_limit_of_a_parent_that_a_person_set_reaches_the_node(images):
    class Parent(TypedDict, total=False):
        request: str
        document: dict[str, Any]

    builder = StateGraph(Parent)
    builder.add_node("illustrate", graph_of(images))
    builder.add_edge(START, "illustrate")
    result = await builder.compile().ainvoke(REQUEST, {"recursion_limit": 20})
    assert result["document"]["status"] == "partial" and "recursion_limit" in result["document"]["reason"]
