"""The graph in synchronous programs."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from pydantic import ValidationError
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from typing_extensions import TypedDict

from interleaver import as_tool, build_graph, read_event
from interleaver.sandbox.assistant import SandboxAssistant

CONFIG = {"configurable": {"thread_id": "t"}}


def builder_of(images):
    return build_graph(
        planner=ScriptedPlanner(drawn_plan(3)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    )


def test_invoke_stream_and_batch(images):
    graph = builder_of(images).compile()
    assert graph.invoke({"request": "x"})["status"] == "complete"
    events = [read_event(chunk) for chunk in graph.stream({"request": "x"}, stream_mode="custom")]
    assert events[0].type == "plan_ready" and events[-1].type == "document_ready"
    assert [result["status"] for result in graph.batch([{"request": "x"}, {"request": "y"}])] == ["complete"] * 2


async def test_invoke_inside_a_running_loop(images):
    assert builder_of(images).compile().invoke({"request": "x"})["status"] == "complete"


def test_a_node_of_a_synchronous_parent(images):
    class Parent(TypedDict, total=False):
        request: str
        document: dict[str, Any]

    builder = StateGraph(Parent)
    builder.add_node("illustrate", builder_of(images).compile())
    builder.add_edge(START, "illustrate")
    assert builder.compile().invoke({"request": "x"})["document"]["status"] == "complete"


def test_twenty_threads_at_once(images):
    graph = builder_of(images).compile(checkpointer=InMemorySaver())

    def run(number):
        config = {"configurable": {"thread_id": str(number)}}
        return graph.invoke({"request": f"request {number}"}, config)["document"]["request"]

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(run, range(20))) == [f"request {number}" for number in range(20)]


def test_a_question_is_answered_from_another_thread(images, tmp_path):
    with SqliteSaver.from_conn_string(str(tmp_path / "x.sqlite")) as saver:
        graph = builder_of(images).compile(checkpointer=saver)
        asked = graph.invoke({"request": "x"}, CONFIG, context={"review": True})
        assert asked["__interrupt__"][0].value["kind"] == "plan_review"
        answers = []
        resume = threading.Thread(
            target=lambda: answers.append(graph.invoke(Command(resume={"action": "approve"}), CONFIG))
        )
        resume.start()
        resume.join()
        assert answers[0]["status"] == "complete"


@pytest.mark.parametrize("kind", ["none", "memory", "sqlite"])
def test_a_synchronous_agent_with_the_tool(images, tmp_path, kind):
    with SqliteSaver.from_conn_string(str(tmp_path / "x.sqlite")) as sqlite:
        saver = {"none": None, "memory": InMemorySaver(), "sqlite": sqlite}[kind]
        agent = create_agent(SandboxAssistant(), [as_tool(images=images)], checkpointer=saver)
        result = agent.invoke({"messages": [("user", "a boat")]}, CONFIG)
        assert result["messages"][-2].artifact["status"] == "complete"


def test_settings_that_do_not_fit_raise_before_anything_is_done(images):
    with pytest.raises(ValidationError, match="sed"):
        builder_of(images).compile().invoke({"request": "x"}, context={"sed": 1})


def test_a_backend_may_call_a_graph_synchronously(images):
    inner = builder_of(images).compile()

    class Nesting(ScriptedPlanner):
        async def plan(self, request, images):
            inner.invoke({"request": "inside"})
            return await super().plan(request, images)

    graph = build_graph(
        planner=Nesting(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()
    assert graph.invoke({"request": "x"})["status"] == "complete"
