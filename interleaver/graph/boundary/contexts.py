"""Settings in the contexts of callers and of parent graphs, which may hold things of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from interleaver.errors import edit_distance
from interleaver.graph.context import Context
from interleaver.registry import backends

log = logging.getLogger(__name__)
KEY = "interleaver"
"""Key of a context under which all settings may stand together."""
TYPING_ERRORS = 2
"""An unknown name that differs from a setting by at most this many letters is taken for a misspelt setting."""


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
    settings = Context.model_validate({name: value for name, value in values.items() if name not in foreign})
    return settings.model_copy(update=_nested_settings(context))


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
    settings = {name: value for name, value in fields.items() if _fits(name, value)}
    if len(settings) < len(fields):
        foreign_names = ", ".join(repr(name) for name in fields if name not in settings)
        _warn_once(
            f"the parent's {foreign_names} is no setting of interleaver; to set one, put it under the key {KEY!r}"
        )
    return settings | _nested_settings(context)


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
