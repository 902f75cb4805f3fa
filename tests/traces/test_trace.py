"""A trace and the bytes it is read from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import PlainGenerator, plain_picture
from support.scripted_runs import traced

from interleaver.errors import BackendError
from interleaver.traces.trace import SkippedRecord, Trace, read_trace
from interleaver.types import Exchange, Outcome, Plan, Step


async def test_a_trace_holds_everything_that_happened(images):
    trace = await traced(images, False, True, generator=PlainGenerator({2: BackendError("refused")}))
    assert (trace.status, trace.request, len(trace.plan.steps)) == ("partial", "Draw it", 2)
    assert [(one.step, one.attempt, one.prompt) for one in trace.attempts] == [
        (0, 1, "p1"),
        (0, 2, "p1!"),
        (1, 1, "p2"),
    ]
    assert trace.outcome(0) is Outcome.ACCEPTED and trace.outcome(1) is Outcome.FAILED
    assert trace.attempts[2].error == "refused" and trace.attempts_at(0)[1].verdict.accepted
    refs = {ref.sha256 for attempt in trace.attempts for ref in [*attempt.sources, attempt.image] if ref}
    assert set(trace.images_by_hash()) == refs
    assert read_trace(trace.model_dump_json(exclude_none=True).encode(), "x") == trace


async def test_exchanges_of_plan_attempts_and_drafts_are_found(images):
    trace = await traced(images)
    said = Exchange(role="critic", model="m", messages=[], images=[plain_picture().ref])
    trace.attempts[0].exchanges = [said]
    trace.plan_exchanges = [said.model_copy(update={"role": "planner"})]
    assert [one.role for one in trace.exchanges()] == ["planner", "critic"]
    assert plain_picture().ref.sha256 in trace.images_by_hash()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "truncated or damaged record"),
        (lambda text: b"", "truncated or damaged record"),
        (lambda text: b"[1, 2]", "not a trace"),
        (lambda text: b'{"status": "complete"}', "not a trace"),
        (lambda text: text.replace(b'"format":2', b'"format":0'), "trace of another format"),
        (lambda text: text.replace(b'"format":2,', b""), "trace of another format"),
        (lambda text: text.replace(b'"status":"complete"', b'"status":"fine"'), "invalid trace"),
        (lambda text: text.replace(b'"sha256":"', b'"sha256":"../../'), "invalid trace"),
    ],
)
async def test_what_is_no_trace_is_told_and_not_raised(images, change, reason):
    text = (await traced(images)).model_dump_json(exclude_none=True).encode()
    found = read_trace(change(text), "here")
    assert isinstance(found, SkippedRecord) and found.reason == reason and found.name == "here"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told(data):
    assert isinstance(read_trace(data, "x"), SkippedRecord)


@given(cut=st.integers(0, 10_000))
def test_a_trace_that_is_cut_anywhere_is_told(cut):
    plan = Plan(steps=[Step(prompt="p")])
    data = Trace(run_id="r", request="é" * 40, status="complete", plan=plan, results=[None]).model_dump_json().encode()
    found = read_trace(data[:cut], "x")
    assert isinstance(found, SkippedRecord) == (cut < len(data))
