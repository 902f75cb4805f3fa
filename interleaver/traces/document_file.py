"""`document.json`: a finished document with its attempts, as stored in the folder of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from interleaver import migrations
from interleaver.types import Outcome, Status

DOCUMENT_FILE = "document.json"
PICTURE_FOLDERS = ("pictures/", "attempts/")
"""Folders beside a document with its pictures, and with those of the attempts that were not kept."""


class TextEntry(BaseModel):
    """A paragraph.

    Attributes:
        step: position of the step in the plan, from 0.
    """

    type: Literal["text"] = "text"
    text: str
    step: int | None = None


class ImageEntry(BaseModel):
    """A picture.

    Attributes:
        path: path of the picture file, relative to the run's folder; None if the picture has been lost.
        step: position of the step in the plan, from 0.
    """

    type: Literal["image"] = "image"
    path: str | None
    sha256: str
    alt: str
    step: int


class AttemptEntry(BaseModel):
    """An attempt at a step.

    Attributes:
        attempt: number of the attempt at this step, from 1.
        sha256: SHA-256 of the picture; None if none was drawn.
        path: path of the picture file, relative to the run's folder; None if none was drawn, or it has been lost.
        accepted: whether the critic accepted the picture; None if it gave no verdict.
        reasoning: the critic's reasoning; None if it gave no verdict.
        refined_prompt: the critic's refined prompt; None if it gave no verdict.
        error: why there is no picture, or no verdict.
    """

    attempt: int
    prompt: str
    seed: int
    sha256: str | None = None
    path: str | None = None
    accepted: bool | None = None
    reasoning: str | None = None
    refined_prompt: str | None = None
    error: str | None = None

    @property
    def verdict_label(self) -> str:
        """The verdict in one or two words: accepted, rejected or no verdict."""
        return {True: "accepted", False: "rejected", None: "no verdict"}[self.accepted]


class StepEntry(BaseModel):
    """A step of the plan and every attempt at it. `outcome` is None for a step that the run never reached."""

    number: int
    name: str
    outcome: Outcome | None = None
    reason: str | None = None
    attempts: list[AttemptEntry] = Field(default_factory=list)


class DocumentFile(BaseModel):
    """The content of `document.json`."""

    format: int = migrations.FORMAT
    run_id: str
    request: str
    status: Status
    reason: str | None = None
    seed: int = 0
    blocks: list[Annotated[TextEntry | ImageEntry, Field(discriminator="type")]] = Field(default_factory=list)
    steps: list[StepEntry] = Field(default_factory=list)
