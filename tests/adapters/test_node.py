"""The graph as a node under names of the caller's choice."""

import operator
from typing import Annotated, Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from typing_extensions import TypedDict

from interleaver import BadInput, RunSettings, as_node, build_graph

CONFIG = {"configurable": {"thread_id": "t"}}
NAMES = {"input": {"request": "topic"}, "output": {"document": "article"}}


class State(TypedDict, total=False):
    topic: str | None
    article: dict[str, Any]
    images: list[str]
    status: int


def node_of(images, steps=2, settings=None, **names):
    return as_node(
        planner=ScriptedPlanner(drawn_plan(steps)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images,
        settings=settings, **(names or NAMES),
    )  # fmt: skip


def parent_of(node, schema=State, **options):
    builder = StateGraph(schema)
    builder.add_node("illustrate", node)
    builder.add_edge(START, "illustrate")
    return builder.compile(**options)


async def test_names_of_the_parents_own_choice(images):
    graph = parent_of(node_of(images))
    given = {"topic": "boats", "images": ["not ours"], "status": 3}
    for result in (await graph.ainvoke(given), graph.invoke(given)):
        assert result["article"]["request"] == "boats" and result["article"]["status"] == "complete"
        assert result["images"] == ["not ours"] and result["status"] == 3


async def test_settings_of_the_node_win_over_the_parents_context(images):
    builder = StateGraph(State, context_schema=dict)
    builder.add_node("illustrate", node_of(images, settings=RunSettings(seed=5)))
    builder.add_edge(START, "illustrate")
    result = await builder.compile().ainvoke({"topic": "x"}, context={"seed": 7, "max_attempts": 2})
    assert result["article"]["seed"] == 5


async def test_a_long_document_in_a_parent_with_a_low_limit(images):
    result = await parent_of(node_of(images, 12)).ainvoke({"topic": "x"}, {"recursion_limit": 5})
    assert result["article"]["status"] == "complete"


async def test_fan_out_with_a_question_in_each(images):
    class Many(TypedDict, total=False):
        topics: list[str]
        article: Annotated[list[Any], operator.add]

    node = node_of(
        images, 1, RunSettings(review=True), input=lambda state: {"request": state["topic"]},
        output=lambda result: {"article": [result["document"]["request"]]},
    )  # fmt: skip
    builder = StateGraph(Many)
    builder.add_node("illustrate", node)
    builder.add_conditional_edges(START, lambda state: [Send("illustrate", {"topic": t}) for t in state["topics"]])
    graph = builder.compile(checkpointer=InMemorySaver())
    result = await graph.ainvoke({"topics": ["a", "b", "c"]}, CONFIG)
    assert len(result["__interrupt__"]) == 3
    answers = {question.id: {"action": "approve"} for question in result["__interrupt__"]}
    result = await graph.ainvoke(Command(resume=answers), CONFIG)
    assert result["article"] == ["a", "b", "c"]


async def test_without_a_checkpointer_nobody_is_asked(images):
    node = node_of(images, settings=RunSettings(review=True))
    with pytest.raises(BadInput, match="compile the agent with a checkpointer"):
        await parent_of(node).ainvoke({"topic": "x"})


@pytest.mark.parametrize(
    "names, message",
    [
        ({"input": {"topic": "request"}, "output": {"document": "a"}}, "the graph has no input 'topic'"),
        ({"input": {"request": "a"}, "output": {"documents": "a"}}, "did you mean 'document'"),
    ],
)
def test_a_wrong_name_is_told_at_once(images, names, message):
    with pytest.raises(BadInput, match=message):
        node_of(images, **names)


class TestStateThatSharesOurNames:
    """The compiled graph itself as a node, in parents of many kinds."""

    async def test_a_chat_message_after_a_request_that_the_parent_keeps(self, images):
        class Parent(TypedDict, total=False):
            request: str
            document: dict[str, Any]
            messages: Annotated[list[Any], add_messages]

        planner = ScriptedPlanner(drawn_plan(1))
        inner = build_graph(planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images)
        graph = parent_of(inner.compile(), Parent, checkpointer=InMemorySaver())
        await graph.ainvoke({"request": "a boat"}, CONFIG)
        await graph.ainvoke({"messages": [HumanMessage("a cat")]}, CONFIG)
        await graph.ainvoke({"request": "a house"}, CONFIG)
        assert planner.requests == ["a boat", "a cat", "a house"]

    @pytest.mark.parametrize("missing", ["images", "messages", "request"])
    async def test_none_is_no_input(self, images, missing):
        class Parent(TypedDict, total=False):
            request: str | None
            images: list[str] | None
            messages: list[Any] | None
            document: dict[str, Any]

        inner = build_graph(
            planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        )
        state = {"request": "x", "images": None, "messages": None}
        if missing == "request":
            state = {"request": None, "messages": [HumanMessage("x")]}
        result = await parent_of(inner.compile(), Parent).ainvoke(state)
        assert result["document"]["status"] == "complete"
