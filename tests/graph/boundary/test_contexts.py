"""Settings in contexts: what is ours, what is a parent's, and what is a misspelt name."""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from ag_ui.core import RunAgentInput, UserMessage
from ag_ui_langgraph import LangGraphAgent
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, ValidationError
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from typing_extensions import TypedDict

from interleaver import Context, build_graph
from interleaver.errors import edit_distance
from interleaver.graph.boundary.contexts import given_settings, read_context


class Slots:
    __slots__ = ("seed", "user")

    def __init__(self):
        self.seed, self.user = 7, "somebody"


@dataclass(slots=True)
class SlotsDataclass:
    seed: int = 7
    width: int | None = None


class Tuple(NamedTuple):
    seed: int = 7


class Properties:
    @property
    def seed(self):
        return 7


class Model(BaseModel):
    seed: int = 7
    tenant: str = "x"


class Nested(BaseModel):
    interleaver: dict[str, Any] = {"seed": 7}


PARENTS = [
    Slots(), SlotsDataclass(), Tuple(), Properties(), Model(), Nested(), {"seed": 7, "user": "x", "width": None},
    {"interleaver": {"seed": 7}}, {"interleaver": Context(seed=7)}, {"seed": 1, "interleaver": {"seed": 7}},
]  # fmt: skip


@pytest.mark.parametrize("parent", PARENTS, ids=lambda parent: type(parent).__name__)
def test_a_parents_context_of_any_kind_is_read_field_by_field(parent):
    assert given_settings(parent) == {"seed": 7}


def test_nothing_is_given_without_a_context():
    assert given_settings(None) == {}
    assert read_context({}).model_fields_set == set()


@pytest.mark.parametrize(
    "name, value", [("planner", "openai:gpt-5"), ("generator", object()), ("review", "spelling"), ("width", "wide")]
)
def test_a_parents_own_meaning_of_our_names_is_not_a_setting(name, value, caplog):
    with caplog.at_level(logging.WARNING):
        assert given_settings({name: value, "seed": 7}) == {"seed": 7}
    assert all("interleaver" in record.message for record in caplog.records)


def test_a_parent_may_name_registered_backends():
    assert given_settings({"critic": "accept"}) == {"critic": "accept"}


@pytest.mark.parametrize("name", ["sed", "sead", "max_attempt", "widht", "critics", "lookahed"])
def test_a_misspelt_setting_is_an_error_that_names_it(name):
    with pytest.raises(ValidationError, match=name):
        read_context({name: 1})


@pytest.mark.parametrize("context", [{"interleaver": {"colour": 1}}, {"interleaver": {"thread_id": "x"}}])
def test_under_our_own_key_everything_must_be_a_setting(context):
    for read in (read_context, given_settings):
        with pytest.raises(ValidationError, match="interleaver"):
            read(context)


def test_names_of_other_programs_are_ignored_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert read_context({"checkpoint_ns_of_mine": "x", "seed": 3}).seed == 3
    assert len(caplog.records) == 1 and "checkpoint_ns_of_mine" in caplog.text


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_the_edit_distance_is_a_metric(first, second, third):
    assert (edit_distance(first, second) == 0) == (first == second)
    assert edit_distance(first, second) == edit_distance(second, first) <= max(len(first), len(second))
    assert edit_distance(first, third) <= edit_distance(first, second) + edit_distance(second, third)


class Report(TypedDict, total=False):
    request: str
    document: dict[str, Any]


@pytest.mark.parametrize("parent", PARENTS[:-2], ids=lambda parent: type(parent).__name__)
async def test_the_settings_reach_a_subgraph(images, parent):
    inner = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()
    builder = StateGraph(Report, context_schema=type(parent))
    builder.add_node("illustrate", inner)
    builder.add_edge(START, "illustrate")
    result = await builder.compile().ainvoke({"request": "x"}, context=parent)
    assert result["document"]["seed"] == 7


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ag_ui_langgraph", "ignore:.*deprecated.*")
async def test_an_ag_ui_client_runs_the_graph(images):
    """It puts the thread's id and more into the context."""
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    agent = LangGraphAgent(name="interleaver", graph=graph)
    request = RunAgentInput(
        thread_id="t", run_id="r", state={}, messages=[UserMessage(id="1", role="user", content="a boat")], tools=[],
        context=[], forwarded_props={},
    )  # fmt: skip
    events = [event async for event in agent.run(request)]
    assert events[-1].type == "RUN_FINISHED"
    state = (await graph.aget_state({"configurable": {"thread_id": "t"}})).values
    assert state["status"] == "complete"
