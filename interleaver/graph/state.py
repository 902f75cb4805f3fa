"""The state of a run: its complete trace, as plain JSON with pictures by reference.

Values are the `model_dump(mode="json")` of the models in `interleaver.types`, so every checkpointer and server can
carry them. Values that grow with the length of a run are in delta channels: a checkpoint stores only the change, so
the database of a run grows linearly with its steps.
"""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue
from langgraph.managed import RemainingSteps
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from interleaver.errors import BadInput
from interleaver.graph.channels import (
    END,
    ChatChannel,
    DocumentChannel,
    RunChannel,
    keep_newest,
    merge_messages,
    merge_records,
)
from interleaver.graph.context import Context
from interleaver.types import Attempt, Failure, ImageRef, Json, Plan, Step, StepResult

NO_LIMIT = 100_000
"""Supersteps that a run may take where nobody sets a limit; runs have budgets of their own (`max_attempts` ...)."""
FORMAT = 2
"""Format number of the state's channels; raised when the nodes would misread an older state."""


class RunInput(TypedDict, total=False):
    """The input of the graph: a request with its pictures, or chat messages."""

    request: Annotated[str, RunChannel(keep_newest)]
    """What to make, with an `<image>` tag in the place of each picture."""
    images: Annotated[list[Any], EphemeralValue]
    """The request's pictures: `ImageRef`s as JSON, links of the graph's image store, `data:` URLs or http(s) URLs."""
    messages: Annotated[list[AnyMessage], ChatChannel(merge_messages)]
    """A chat whose last human message is the request, with its pictures as image content blocks. Once the chat has
    produced a document, a message may ask to change it."""
    change: Annotated[Json, EphemeralValue]
    """A `Change` of the thread's document, as JSON; it takes precedence over a request."""


class RunOutput(TypedDict, total=False):
    """The output of the graph."""

    document: Annotated[Json, DocumentChannel(keep_newest)]
    """The `Document`, as JSON."""
    status: str
    """complete, partial or failed; running until the run ends."""
    messages: Annotated[list[AnyMessage], ChatChannel(merge_messages)]
    """The chat, ending with one AI message that contains the document."""


class FormerState(TypedDict, total=False):
    """Channels of format 1, read so that finished threads can still be changed, but never written."""

    given: list[Json]
    """The former name of `request_images`."""
    heard: Annotated[str, RunChannel(keep_newest)]
    """The former name of `handled_request`."""


class LoopState(FormerState, total=False):
    """What the nodes after the first one read: everything but the chat, which may hold pictures."""

    request: Annotated[str, RunChannel(keep_newest)]
    """The request, as in `RunInput`."""
    document: Annotated[Json, DocumentChannel(keep_newest)]
    """The `Document`, as in `RunOutput`."""
    status: str
    """The status, as in `RunOutput`."""
    format: int
    """Format number of these channels, see `FORMAT`; absent in threads of format 1."""
    request_images: list[Json]
    """`ImageRef`s of the pictures that the document starts from, which are validated and stored."""
    added_images: list[Json]
    """`ImageRef`s of pictures that came with a change request; the first step that is redrawn may edit them as well."""
    previous_document: Annotated[Json, RunChannel(keep_newest)]
    """The `DocumentMemory` of the document that is being changed; {} for a new document."""
    revision: Annotated[str, RunChannel(keep_newest)]
    """What the planner is asked to change; "" if it is not asked to change anything."""
    background: Annotated[str, RunChannel(keep_newest)]
    """What else was said in the chat, for the planner to read; "" if nothing was."""
    needs_plan: bool
    """Whether the planner has to write or revise the plan before anything is drawn."""
    unusable: list[str]
    """A phrase for each attachment of the request that cannot be used; the answer names them."""
    settings: Json
    """The run's `Context`, fixed before planning begins."""
    plan: Annotated[Json, RunChannel(keep_newest)]
    """The `Plan`, with its steps numbered consecutively."""
    plan_seconds: float
    """Seconds that the planner worked on this request, including rejected plans."""
    plan_exchanges: Annotated[list[Json], RunChannel(keep_newest)]
    """Every `Exchange` with the planner about this request, including rejected plans."""
    handled_request: Annotated[str, RunChannel(keep_newest)]
    """The `request` that was planned last; a `request` that differs from it is new."""
    feedback: Annotated[str, EphemeralValue]
    """A reviewer's feedback on a rejected plan, available only to the next planner call."""
    attempts: Annotated[dict[str, Json], RunChannel(merge_records)]
    """Every `Attempt` at a step of the plan, keyed by `position/attempt`; the critic adds its verdict."""
    drafts: Annotated[dict[str, Json], RunChannel(merge_records)]
    """Drafts (`Attempt`s drawn ahead of their turn), keyed by the `position/attempt` whose picture they build on."""
    results: Annotated[dict[str, Json], RunChannel(merge_records)]
    """The `StepResult` of every step that has ended, keyed by its position."""
    kept_steps: int
    """Number of leading steps that are not drawn again after the document was changed."""
    unchanged_steps: int
    """Number of leading steps that look as before; one less than `kept_steps` if a person chose another attempt."""
    kept_attempts: int
    """Number of the last attempt that the first step after the kept ones had before the document was changed."""
    handled_change: Annotated[Json, RunChannel(keep_newest)]
    """The `change` that this run makes; {} if it makes none."""
    position: int
    """Position of the current step in the plan, from 0."""
    prompt: str
    """Prompt of the next attempt if it differs from the plan's, else ""."""
    extra_attempts: int
    """Attempts at the current step that a person allowed beyond `max_attempts`."""
    failure: Json | None
    """The `Failure` that ends the run early; None if there is none."""
    remaining_steps: RemainingSteps
    """Supersteps that are left until LangGraph's `recursion_limit`, set by LangGraph for the node at work."""
    steps_left: int | None
    """The same after the last node, less one to compose the document, once it is small; None while it is not."""


class RunState(RunInput, RunOutput, LoopState, total=False):
    """The complete state of a run."""


ENDING = dict.fromkeys(
    (
        "request", "handled_request", "handled_change", "previous_document", "revision", "background",
        "plan", "plan_exchanges", "attempts", "drafts", "results",
    ),
    END,
)  # fmt: skip
"""The state update of the last node that has the delta channels stored whole; `document` and `messages` are anyway."""


def check_state(state: RunState) -> None:
    """Check that the state of an unfinished run has the current format and is whole.

    Raises:
        BadInput: it has another format, which the nodes would misread; or checkpoints that it is made of are missing.
    """
    state_format = state.get("format", 1)
    if state_format != FORMAT or "settings" not in state:
        raise BadInput(
            f"this run was begun by another version of interleaver (with state format {state_format}; this version has "
            f"{FORMAT}) and is not finished; finish it with that version, or start a new run"
        )
    if not state.get("failure") and not state.get("request" if state.get("needs_plan") else "plan"):
        raise BadInput(
            "this run is not finished, and checkpoints that it needs were deleted; send the request in a new thread, "
            "and keep the checkpoints of unfinished runs (docs/embedding.md, Retention)"
        )


def may_take(state: RunState, count: int) -> bool:
    """Return whether LangGraph's recursion limit leaves `count` supersteps, and one to compose the document."""
    left = state.get("steps_left")
    return left is None or left >= count


def settings_of(state: RunState) -> Context:
    """Return the run's settings."""
    return Context.model_validate(state["settings"])


def plan_of(state: RunState) -> Plan:
    """Return the plan; one without steps if there is none yet."""
    return Plan.model_validate(state.get("plan") or {"steps": []})


def step_records(state: RunState) -> list[Json]:
    """Return the steps of the plan as JSON, for what is asked at every superstep of a long plan."""
    steps: list[Json] = (state.get("plan") or {"steps": []})["steps"]
    return steps


def record_draws(step: Json) -> bool:
    """Return whether a step, as JSON, asks the generator for a picture; see `Step.draws`."""
    return bool((step.get("prompt") or "").strip())


def current_step(state: RunState) -> Step | None:
    """Return the current step; None if all steps have ended."""
    steps, position = step_records(state), state["position"]
    return Step.model_validate(steps[position]) if position < len(steps) else None


def attempts_of(state: RunState, position: int | None = None) -> list[Attempt]:
    """Return the attempts at the step `position`, or at all steps, in the order they were made."""
    records = state.get("attempts", {}).values()
    return [Attempt.model_validate(record) for record in records if position is None or record["step"] == position]


def last_attempt(state: RunState) -> Attempt | None:
    """Return the attempt that was made last; None if there is none."""
    records = state.get("attempts", {})
    return Attempt.model_validate(records[next(reversed(records))]) if records else None


def draft_after(state: RunState, attempt: Attempt) -> Attempt | None:
    """Return the draft that was drawn from an attempt's picture; None if there is none or it was discarded."""
    record = state.get("drafts", {}).get(attempt_key(attempt))
    draft = Attempt.model_validate(record) if record else None
    return draft if draft and not draft.discarded else None


def attempt_key(attempt: Attempt) -> str:
    """Return the key of an attempt in the channels that record attempts."""
    return f"{attempt.step}/{attempt.attempt}"


def result_of(state: RunState, position: int) -> StepResult | None:
    """Return the result of a step; None if it has not ended."""
    record = state.get("results", {}).get(str(position))
    return StepResult.model_validate(record) if record else None


def failure_of(state: RunState) -> Failure | None:
    """Return why the run ends early; None if it does not."""
    record = state.get("failure")
    return Failure.model_validate(record) if record else None


def images_of(state: RunState) -> list[ImageRef]:
    """Return the pictures that an edit may build on: those of the request, then the kept one of each earlier step."""
    results = [state.get("results", {}).get(str(position)) or {} for position in range(state["position"])]
    return request_images_of(state) + [ImageRef.model_validate(each["image"]) for each in results if each.get("image")]


def request_images_of(state: RunState) -> list[ImageRef]:
    """Return the pictures that the document starts from."""
    return [ImageRef.model_validate(image) for image in state.get("request_images", state.get("given", []))]
