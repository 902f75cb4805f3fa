"""Progress events of a run: typed events on LangGraph's `custom` stream.

Each event is sent as plain JSON, so it passes through servers and parent graphs; `read_event` turns it back into a
model. The blocks of the `block_ready` events, in order of arrival, are the blocks of the finished document: a step's
blocks are sent when the step has ended, and steps end in the order of the plan even if drafts are drawn ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langgraph.config import get_stream_writer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from interleaver.store.images import ImageStore
from interleaver.types import Block, ImageBlock, ImageRef, Outcome, Plan, Status, Verdict


class _Event(BaseModel):
    # The schema is built on first use, so that importing the package stays cheap.
    model_config = ConfigDict(defer_build=True)


class PlanReady(_Event):
    """The planner has written the plan."""

    type: Literal["plan_ready"] = "plan_ready"
    plan: Plan
    kept_steps: int = Field(0, description="Number of leading steps that a change of the plan has kept.")


class _OfAttempt(_Event):
    step: int = Field(description="Position in the plan, from 0.")
    number: int = Field(description="Number of the step, as shown to readers.")
    attempt: int = Field(description="Number of the attempt at this step, from 1.")


class AttemptStarted(_OfAttempt):
    """The generator has started to draw."""

    type: Literal["attempt_started"] = "attempt_started"
    prompt: str
    ahead: bool = Field(False, description="Whether this is a draft, drawn while the critic reviews the previous step.")


class PictureReady(_OfAttempt):
    """The generator has drawn a picture."""

    type: Literal["picture_ready"] = "picture_ready"
    image: ImageRef
    link: str = Field(description="Link to the picture, see `ImageStore.link`.")


class AttemptFailed(_OfAttempt):
    """An attempt ended without a picture, or without a verdict on it."""

    type: Literal["attempt_failed"] = "attempt_failed"
    error: str


class VerdictGiven(_OfAttempt):
    """The critic has given its verdict."""

    type: Literal["verdict"] = "verdict"
    verdict: Verdict


class StepEnded(_Event):
    """A step has ended with an outcome."""

    type: Literal["step_ended"] = "step_ended"
    step: int = Field(description="Position in the plan, from 0.")
    number: int
    outcome: Outcome
    reason: str | None = None


class BlockReady(_Event):
    """A text or image block of the document is final."""

    type: Literal["block_ready"] = "block_ready"
    index: int = Field(description="Position of the block in the document, from 0.")
    block: Block
    link: str | None = Field(None, description="Link to the picture; None for text.")


class DocumentReady(_Event):
    """The run has ended and its document is composed."""

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
    """Return an item of a `custom` stream as an event; None if it is not an event of this graph."""
    try:
        return _EVENTS.validate_python(data)
    except ValidationError:
        return None


def emit(event: Event) -> None:
    """Send an event on the run's `custom` stream."""
    get_stream_writer()(event.model_dump(mode="json"))


def emit_blocks(blocks: Sequence[Block], first: int, images: ImageStore) -> None:
    """Send a `BlockReady` for each block.

    Args:
        blocks: consecutive blocks of the document.
        first: position of the first of these blocks in the document, from 0.
        images: the image store that has the pictures of the blocks.
    """
    for index, block in enumerate(blocks, start=first):
        link = images.link(block.image) if isinstance(block, ImageBlock) else None
        emit(BlockReady(index=index, block=block, link=link))
