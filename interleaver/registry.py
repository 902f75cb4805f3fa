"""Backends by name: the built-in ones and those that other packages add through entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, Literal

from interleaver.errors import BadInput, did_you_mean

Kind = Literal["planner", "critic", "generator"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "planner": {"sandbox": "interleaver.sandbox.planner:SandboxPlanner"},
    "critic": {"sandbox": "interleaver.sandbox.critic:SandboxCritic"},
    "generator": {"sandbox": "interleaver.sandbox.generator:SandboxGenerator"},
}


@cache
def backends(kind: Kind) -> dict[str, EntryPoint]:
    """All backends of a kind, by name.

    A third-party package adds one by declaring an entry point in the group `interleaver.planners`,
    `interleaver.critics` or `interleaver.generators` that names a class whose arguments are its settings.
    """
    group = f"interleaver.{kind}s"
    found = {entry.name: entry for entry in entry_points(group=group)}
    return found | {name: EntryPoint(name, target, group) for name, target in BUILT_IN[kind].items()}


def create(kind: Kind, name: str, **settings: Any) -> Any:
    """Make the backend `name` of a kind.

    Raises:
        BadInput: there is no such backend, or it does not take these settings.
    """
    known = backends(kind)
    if name not in known:
        raise BadInput(f"{kind} {name!r} is unknown; choose one of: {', '.join(sorted(known))}")
    backend = known[name].load()
    fields = signature(backend).parameters
    for field in settings:
        if field not in fields:
            valid = ", ".join(["backend", *fields])
            raise BadInput(
                f"{kind} {name!r} has no field {field!r}{did_you_mean(field, fields)}; valid fields: {valid}"
            )
    return backend(**settings)
