"""What a run tells while it is at work: typed events on LangGraph's `custom` stream.

Each is sent as plain JSON, so it passes through servers and parent graphs; `read_event` turns it back into a model. The
blocks of the `block_ready` events, in the order they come, are the blocks of the finished document: a step's blocks are
sent when the step has ended, and steps end in the order of the plan, also when the next one is drawn ahead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langgraph.config import get_stream_writer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from interleaver.types import Block, ImageRef, Outcome, Plan, Status, Verdict


class _Event(BaseModel):
    # Built when first used: importing the package should cost little.
    model_config = ConfigDict(defer_build=True)


class PlanReady(_Event):
    """The planner has written the plan."""

    type: Literal["plan_ready"] = "plan_ready"
    plan: Plan
    kept: int = Field(0, description="How many of its first steps stay as the document before had them.")


class _OfAttempt(_Event):
    step: int = Field(description="Position in the plan, from 0.")
    number: int = Field(description="The step's number, as a reader sees it.")
    attempt: int = Field(description="Counts the drawings of this step, from 1.")


class AttemptStarted(_OfAttempt):
    """The generator begins to draw."""

    type: Literal["attempt_started"] = "attempt_started"
    prompt: str
    ahead: bool = Field(False, description="Drawn ahead of its turn, while the critic looks at the step before.")


class PictureReady(_OfAttempt):
    """The generator has drawn."""

    type: Literal["picture_ready"] = "picture_ready"
    image: ImageRef
    link: str = Field(description="Where the picture can be fetched, see `ImageStore.link`.")


class AttemptFailed(_OfAttempt):
    """There is no picture, or no verdict on it."""

    type: Literal["attempt_failed"] = "attempt_failed"
    error: str


class VerdictGiven(_OfAttempt):
    """The critic has judged."""

    type: Literal["verdict"] = "verdict"
    verdict: Verdict


class StepEnded(_Event):
    """A step is over: accepted, or whatever else its outcome says."""

    type: Literal["step_ended"] = "step_ended"
    step: int = Field(description="Position in the plan, from 0.")
    number: int
    outcome: Outcome
    reason: str | None = None


class BlockReady(_Event):
    """A paragraph or picture of the document is final."""

    type: Literal["block_ready"] = "block_ready"
    index: int = Field(description="Its place among the document's blocks, from 0.")
    block: Block
    link: str | None = Field(None, description="Where a picture can be fetched; None for text.")


class DocumentReady(_Event):
    """The run is over."""

    type: Literal["document_ready"] = "document_ready"
    status: Status
    reason: str | None = None


Event = (
    PlanReady | AttemptStarted | PictureReady | AttemptFailed | VerdictGiven | StepEnded | BlockReady | DocumentReady
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="type")], config=ConfigDict(defer_build=True)
)


def read_event(data: Any) -> Event | None:
    """An item of a `custom` stream as an event; None when it is not one of this graph's."""
    try:
        return _EVENTS.validate_python(data)
    except ValidationError:
        return None


def emit(event: Event) -> None:
    """Send an event to whoever streams the run in the `custom` mode."""
    get_stream_writer()(event.model_dump(mode="json"))
