"""The state of a run: its complete trace, in plain JSON and by reference.

Values are the `model_dump(mode="json")` of the models in `interleaver.types`, so that every checkpointer and server
carries them as they are. What grows with the length of a run sits in `DeltaChannel`s: a checkpoint then stores the
change and not the whole, and a run's database grows in proportion to its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel, EphemeralValue
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict  # typing's own gives no JSON schema before Python 3.12

from interleaver.graph.context import Context
from interleaver.types import Attempt, Failure, ImageRef, Plan, Step, StepResult

Json = dict[str, Any]


def newest(_: Any, writes: Sequence[Any]) -> Any:
    """Reduce a channel that is written as a whole to its last write."""
    return writes[-1]


def chat(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """Reduce a channel of messages: a message replaces the one with its id, others are added."""
    for write in writes:
        messages = cast(list[AnyMessage], add_messages(cast(Any, messages), write))
    return messages


def merge(records: dict[str, Json], writes: Sequence[dict[str, Json | None] | None]) -> dict[str, Json]:
    """Reduce a channel of records by key.

    A write adds fields to the records it names and drops those it gives as None; None itself clears them all.
    """
    merged = dict(records)
    for write in writes:
        if write is None:
            merged = {}
            continue
        for key, fields in write.items():
            if fields is None:
                merged.pop(key, None)
            else:
                merged[key] = {**merged.get(key, {}), **fields}
    return merged


class RunInput(TypedDict, total=False):
    """What a caller sends: a request with its images, or chat messages."""

    request: Annotated[str, DeltaChannel(newest)]
    """What to make; an `<image>` tag stands where each picture belongs."""
    images: Annotated[list[Any], EphemeralValue]
    """The request's pictures: `ImageRef`s (as JSON) or links of the graph's image store, `data:` URLs, or addresses."""
    messages: Annotated[list[AnyMessage], DeltaChannel(chat)]
    """A chat whose last human message is the request, with its pictures as image content blocks. When the chat has come
    to a document already, the message may ask to change it."""


class RunOutput(TypedDict, total=False):
    """What a caller gets."""

    document: Annotated[Json, DeltaChannel(newest)]
    """The `Document`, as JSON."""
    status: str
    """complete, partial or failed; running before the end."""
    messages: Annotated[list[AnyMessage], DeltaChannel(chat)]
    """The chat, ending in one AI message that tells the document."""


class RunState(RunInput, RunOutput, total=False):
    """Everything a run knows."""

    given: list[Json]
    """The pictures that the document starts from, as `ImageRef`s, checked and in the store."""
    inserted: list[Json]
    """Pictures that came with a change; the first step that is drawn again gets them beside its own."""
    settings: Json
    """The run's `Context`, fixed when planning began."""
    plan: Annotated[Json, DeltaChannel(newest)]
    """The `Plan`, numbered in the order of its steps."""
    plan_seconds: float
    """How long the planner worked on this request, over all its plans."""
    plan_exchanges: Annotated[list[Json], DeltaChannel(newest)]
    """Every `Exchange` with the planner about this request, over all its plans."""
    heard: Annotated[str, DeltaChannel(newest)]
    """The `request` as the planner left it; another one there is new."""
    feedback: Annotated[str, EphemeralValue]
    """What a reviewer asked to be changed when the plan was rejected; there for the planner's next turn alone."""
    attempts: Annotated[dict[str, Json], DeltaChannel(merge)]
    """Every `Attempt` at the plan, under `position/attempt`; the critic adds its verdict, and none is removed."""
    drafts: Annotated[dict[str, Json], DeltaChannel(merge)]
    """Drawings made ahead of their turn (`Attempt`s), under the `position/attempt` whose picture they build on."""
    results: Annotated[dict[str, Json], DeltaChannel(merge)]
    """The `StepResult` of every step that has ended, under its position."""
    kept: int
    """How many first steps this run took over from the document before."""
    position: int
    """The step at work: its place in the plan, from 0."""
    prompt: str
    """The prompt of the next attempt, where it is not the plan's; "" otherwise."""
    granted: int
    """Attempts that a person allowed at the step at work, beyond `max_attempts`."""
    failure: Json | None
    """The `Failure` that ends the run early."""


def settings_of(state: RunState) -> Context:
    """The settings the run began with."""
    return Context.model_validate(state["settings"])


def plan_of(state: RunState) -> Plan:
    """The plan; without steps as long as there is none."""
    return Plan.model_validate(state.get("plan") or {"steps": []})


def current_step(state: RunState) -> Step | None:
    """The step at work; None when all have ended."""
    steps = (state.get("plan") or {"steps": []})["steps"]
    position = state["position"]
    return Step.model_validate(steps[position]) if position < len(steps) else None


def attempts_of(state: RunState, position: int | None = None) -> list[Attempt]:
    """The attempts in the order they were made, of one step or of all."""
    attempts = [Attempt.model_validate(record) for record in state.get("attempts", {}).values()]
    return [attempt for attempt in attempts if position is None or attempt.step == position]


def draft_after(state: RunState, attempt: Attempt) -> Attempt | None:
    """The drawing of the next step that was made ahead on an attempt's picture, if it is to be used."""
    record = state.get("drafts", {}).get(key_of(attempt))
    draft = Attempt.model_validate(record) if record else None
    return draft if draft and not draft.discarded else None


def key_of(attempt: Attempt) -> str:
    """The key of an attempt in the channels that record attempts."""
    return f"{attempt.step}/{attempt.attempt}"


def result_of(state: RunState, position: int) -> StepResult | None:
    """What became of a step; None as long as it has not ended."""
    record = state.get("results", {}).get(str(position))
    return StepResult.model_validate(record) if record else None


def failure_of(state: RunState) -> Failure | None:
    """Why the run ends early, if it does."""
    record = state.get("failure")
    return Failure.model_validate(record) if record else None


def pictures_of(state: RunState) -> list[ImageRef]:
    """The pictures an edit may build on: those of the request, then the kept one of each step."""
    given = [ImageRef.model_validate(image) for image in state.get("given", [])]
    results = [result_of(state, position) for position in range(state["position"])]
    return given + [result.image for result in results if result and result.image]


def spent_budget(state: RunState) -> str | None:
    """Which budget of the run is spent, as one line; None while there is some left."""
    settings = settings_of(state)
    attempts = [attempt for attempt in attempts_of(state) if attempt.step >= state.get("kept", 0)]
    unused = [draft for draft in state.get("drafts", {}).values() if draft.get("discarded")]
    if settings.max_generator_calls is not None and len(attempts) + len(unused) >= settings.max_generator_calls:
        return f"the budget of {settings.max_generator_calls} generator calls is spent"
    seconds = state.get("plan_seconds", 0.0) + sum(
        (attempt.draw_seconds or 0) + (attempt.judge_seconds or 0) for attempt in attempts
    )
    if settings.max_seconds is not None and seconds >= settings.max_seconds:
        return f"the budget of {settings.max_seconds:g} seconds is spent"
    return None
