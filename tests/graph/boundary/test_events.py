"""What a run tells while it is at work."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import Document, ImageStore, build_graph
from interleaver.errors import BackendError
from interleaver.graph.boundary.events import read_event
from interleaver.types import Plan, Step


async def events_of(plan, *verdicts, context=None, failures=None, request=None):
    graph = build_graph(
        planner=ScriptedPlanner(plan), critic=ScriptedCritic(*verdicts), generator=PlainGenerator(failures),
        images=ImageStore("memory://events"),
    ).compile()  # fmt: skip
    events, document = [], None
    async for mode, chunk in graph.astream(
        request or {"request": "x"}, context=context or {}, stream_mode=["custom", "values"]
    ):
        if mode == "custom":
            events.append(read_event(chunk))
        else:
            document = chunk.get("document") or document
    return events, Document.model_validate(document)


async def test_a_step_is_told_from_the_first_stroke_to_the_last():
    events, document = await events_of(drawn_plan(1), False)
    assert [event.type for event in events] == [
        "plan_ready", "attempt_started", "picture_ready", "verdict", "attempt_started", "picture_ready", "verdict",
        "step_ended", "block_ready", "block_ready", "document_ready",
    ]  # fmt: skip
    assert events[0].plan.steps[0].prompt == "p1"
    assert [events[n].prompt for n in (1, 4)] == ["p1", "p1!"]
    assert (events[3].verdict.accepted, events[6].verdict.accepted) == (False, True)
    assert events[5].link == f"sha256:{events[5].image.sha256}"
    assert events[-1].status == document.status == "complete"


async def test_failures_are_told():
    events, _ = await events_of(drawn_plan(2), True, RuntimeError("bug"), failures={0: BackendError("refused")})
    failed = [(event.number, event.error) for event in events if event.type == "attempt_failed"]
    assert failed == [(1, "refused")]
    events, _ = await events_of(drawn_plan(1), RuntimeError("bug"))
    assert [event.type for event in events][3] == "attempt_failed"
    assert next(event for event in events if event.type == "step_ended").outcome == "unverified"


async def test_what_is_drawn_ahead_says_so_and_its_blocks_keep_their_order():
    events, document = await events_of(drawn_plan(4), context={"lookahead": True})
    started = [(event.number, event.ahead) for event in events if event.type == "attempt_started"]
    assert started == [(1, False), (2, True), (3, True), (4, True)]
    assert [event.block for event in events if event.type == "block_ready"] == document.blocks


@pytest.mark.parametrize("data", [None, 1, {"type": "plan_ready"}, {"type": "progress", "share": 0.5}])
def test_the_events_of_other_graphs_are_none_of_ours(data):
    assert read_event(data) is None


steps = st.builds(
    Step,
    instruction=st.none() | st.text(max_size=5),
    prompt=st.none() | st.text(max_size=5),
    auxiliary_text=st.none() | st.text(max_size=5),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(steps, max_size=7).map(lambda steps: Plan(steps=steps)),
    script=st.lists(st.booleans(), max_size=20),
    failing=st.sets(st.integers(0, 12), max_size=3),
    context=st.fixed_dictionaries({
        "lookahead": st.booleans(),
        "max_attempts": st.integers(1, 3),
        "on_exhausted": st.sampled_from(["keep_last", "stop"]),
        "max_generator_calls": st.none() | st.integers(1, 8),
    }),
)  # fmt: skip
async def test_the_streamed_blocks_are_the_document(plan, script, failing, context):
    """Whatever happens, the blocks come once each, in the order of the document, with their places."""
    failures = {call: BackendError("no") for call in failing}
    events, document = await events_of(plan, *script, context=context, failures=failures)
    ready = [event for event in events if event.type == "block_ready"]
    assert [event.block for event in ready] == document.blocks
    assert [event.index for event in ready] == list(range(len(document.blocks)))
    assert events[-1].type == "document_ready" and events[-1].status == document.status
