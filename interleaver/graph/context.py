"""The settings that a caller may choose for one run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import edit_distance
from interleaver.registry import backends

log = logging.getLogger(__name__)
KEY = "interleaver"
"""Key of a context under which all settings may stand together."""
TYPING_ERRORS = 2
"""An unknown name that differs from a setting by at most this many letters is taken for a misspelt setting."""


class RunSettings(BaseModel):
    """The settings of a run that do not depend on its models."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Seed from which the seed of every attempt derives.",
    )
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
    max_generator_calls: int | None = Field(None, ge=1, description="Stop the run after this many generator calls.")
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


class _Nested(BaseModel):
    """Settings under a key of their own, so that a validation error names them as `interleaver.seed`."""

    interleaver: Context


def read_context(context: Mapping[str, Any]) -> Context:
    """Return the context that the caller of this graph passed as a mapping.

    Names of other programs (AG-UI adds `thread_id`, for example) are ignored with one warning, and so are values of
    None. Settings may also stand together under the key `interleaver`.

    Raises:
        ValidationError: a value is invalid, or a name is not a setting although it is at most two letters away from
            one, or stands under `interleaver`.
    """
    values = {name: value for name, value in context.items() if value is not None and name != KEY}
    foreign = [name for name in values if not any(_is_near(name, field) for field in Context.model_fields)]
    if foreign:
        _warn_once(
            f"the context has {', '.join(map(repr, foreign))}, which is no setting of interleaver and is ignored"
        )
    own = Context.model_validate({name: value for name, value in values.items() if name not in foreign})
    return own.model_copy(update=_nested_settings(context))


def given_settings(context: object) -> dict[str, Any]:
    """Return the settings that are given in a run's context.

    In a subgraph the context is the parent graph's: a mapping, or an object of any type. Those of its fields are taken
    that have the name of a setting and a value that fits; a parent may use the same names for things of its own. Under
    the key `interleaver` everything must be a setting.

    Raises:
        ValidationError: what stands under `interleaver` is not valid.
    """
    if isinstance(context, Context):
        return context.model_dump(exclude_unset=True)
    fields = {name: value for name in Context.model_fields if (value := _field(context, name)) is not None}
    own = {name: value for name, value in fields.items() if _fits(name, value)}
    if len(own) < len(fields):
        others = ", ".join(repr(name) for name in fields if name not in own)
        _warn_once(f"the parent's {others} is no setting of interleaver; to set one, put it under the key {KEY!r}")
    return own | _nested_settings(context)


def _nested_settings(context: object) -> dict[str, Any]:
    nested = _field(context, KEY)
    if nested is None:
        return {}
    settings = nested.model_dump(exclude_unset=True) if isinstance(nested, BaseModel) else nested
    return _Nested.model_validate({KEY: settings}).interleaver.model_dump(exclude_unset=True)


def _field(context: object, name: str) -> Any:
    return context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)


def _fits(name: str, value: object) -> bool:
    """Return whether a value of a parent's field can be meant as a setting."""
    if name in ("planner", "critic", "generator"):
        return isinstance(value, str) and value in backends(name)
    try:
        Context.model_validate({name: value})
    except ValidationError:
        return False
    return True


def _is_near(name: str, field: str) -> bool:
    return edit_distance(name, field) <= TYPING_ERRORS


@cache
def _warn_once(message: str) -> None:
    log.warning(message)
