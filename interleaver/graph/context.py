"""The settings that a caller may choose for one run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RunSettings(BaseModel):
    """The settings of a run that do not depend on its models."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Seed from which the seed of every attempt derives.",
    )
    max_steps: int = Field(50, ge=1, le=1000, description="Maximum number of pictures in a plan.")
    max_attempts: int = Field(5, ge=1, le=20, description="Maximum number of attempts at each step.")
    width: int = Field(512, ge=64, le=4096, description="Width in pixels of pictures drawn from scratch.")
    height: int = Field(512, ge=64, le=4096, description="Height in pixels of pictures drawn from scratch.")
    references: Literal["last", "all"] = Field(
        "last", description="Which pictures the generator edits: only the last one kept, or all kept so far."
    )
    on_exhausted: Literal["keep_last", "keep_best", "stop", "ask"] = Field(
        "keep_last",
        description="What to do when all attempts at a step were rejected: keep the last picture, keep the one that "
        "the critic scored highest, stop the run, or pause and ask a person.",
    )
    review: bool = Field(False, description="Pause after planning, so that a person can approve or edit the plan.")
    chat_pictures: Literal["auto", "previews", "links"] = Field(
        "auto",
        description="How chat answers show pictures: as small image blocks, or as Markdown images with links. By "
        "default as Markdown if the pictures are served over HTTP, else as small image blocks.",
    )
    lookahead: bool = Field(
        False,
        description="Draft the next step while the critic is still reviewing a picture. Saves time if generator and "
        "critic do not share hardware; the draft is discarded if the picture is rejected.",
    )
    max_generator_calls: int | None = Field(
        None,
        ge=1,
        description="Stop the run after this many generator calls; by default half as many again as all attempts.",
    )
    max_seconds: float | None = Field(
        None, gt=0, description="Stop the run once its model calls have taken this many seconds in total."
    )


class Context(RunSettings):
    """The settings of one run: LangGraph's `context_schema`, which Studio shows as a form.

    The planner node copies them into the state, so a resumed run keeps its settings.
    """

    planner: str | None = Field(
        None, description="Name of a registered planner; leave empty for the one the graph was built with."
    )
    critic: str | None = Field(
        None, description="Name of a registered critic; leave empty for the one the graph was built with."
    )
    generator: str | None = Field(
        None, description="Name of a registered generator; leave empty for the one the graph was built with."
    )
