"""What a caller may set for one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class RunSettings(BaseModel):
    """How a run goes about its work, whatever models it uses."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Every attempt's seed derives from it: the same seed, the same document.",
    )
    max_attempts: int = Field(5, ge=1, le=20, description="How often a step is drawn before it counts as exhausted.")
    width: int = Field(512, ge=64, le=4096, description="Width in pixels of a picture that is drawn anew.")
    height: int = Field(512, ge=64, le=4096, description="Height in pixels of a picture that is drawn anew.")
    references: Literal["last", "all"] = Field(
        "last", description="Which pictures the generator edits: the last one that was kept, or all so far."
    )
    on_exhausted: Literal["keep_last", "keep_best", "stop", "ask"] = Field(
        "keep_last",
        description="When all attempts of a step were rejected: keep the last picture, keep the one the critic "
        "scored highest, stop the run there, or pause and ask a person.",
    )
    review: bool = Field(False, description="Pause after planning, so that a person can approve or edit the plan.")
    chat_pictures: Literal["previews", "links"] = Field(
        "previews",
        description="How the answer in the chat shows pictures: as small image blocks, or as Markdown links.",
    )
    lookahead: bool = Field(
        False,
        description="While the critic looks at a picture, draw the next step on it already. Saves time where generator "
        "and critic do not share hardware; a draft on a rejected picture is thrown away.",
    )
    max_generator_calls: int | None = Field(None, ge=1, description="Stop the run after this many drawings.")
    max_seconds: float | None = Field(
        None, gt=0, description="Stop the run once its models have worked this many seconds."
    )


def given_settings(context: object) -> dict[str, Any]:
    """The settings that a run's context gives.

    Within a parent graph the context is the parent's: a mapping or an object of its own kind, of which the fields that
    are named like ours are meant for us.
    """
    if isinstance(context, Context):
        return context.model_dump(exclude_unset=True)
    fields = context if isinstance(context, Mapping) else getattr(context, "__dict__", {})
    return {name: fields[name] for name in Context.model_fields if name in fields}


class Context(RunSettings):
    """The settings of one run: LangGraph's `context_schema`, shown by Studio as a form.

    The planner node copies them into the state, so a run that is resumed keeps the settings it began with.
    """

    planner: str | None = Field(
        None, description="Name of a registered planner; empty: the one the graph was built with."
    )
    critic: str | None = Field(
        None, description="Name of a registered critic; empty: the one the graph was built with."
    )
    generator: str | None = Field(
        None, description="Name of a registered image generator; empty: the one the graph was built with."
    )
