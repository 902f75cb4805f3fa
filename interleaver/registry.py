"""Backends by name: the built-in ones and those that other packages add through entry points."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, Literal

from pydantic import ValidationError

from interleaver.errors import BadInput, did_you_mean, explain

Kind = Literal["planner", "critic", "generator", "judge"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "planner": {
        "sandbox": "interleaver.sandbox.planner:SandboxPlanner",
        "one-step": "interleaver.agents.plain:OneStepPlanner",
        "chat": "interleaver.agents.chat:ChatPlanner",
        "local": "interleaver.agents.local:local_planner",
    },
    "critic": {
        "sandbox": "interleaver.sandbox.critic:SandboxCritic",
        "sandbox-exact": "interleaver.sandbox.exact:ExactCritic",
        "accept": "interleaver.agents.plain:AcceptingCritic",
        "chat": "interleaver.agents.chat:ChatCritic",
        "local": "interleaver.agents.local:local_critic",
    },
    "generator": {
        "sandbox": "interleaver.sandbox.generator:SandboxGenerator",
        "openai-images": "interleaver.tools.openai_images:OpenAIImages",
        "gemini-images": "interleaver.tools.gemini_images:GeminiImages",
        "diffusers": "interleaver.tools.diffusers:DiffusersGenerator",
        "svg": "interleaver.tools.svg:SvgGenerator",
        "pool": "interleaver.tools.combined:GeneratorPool",
        "draw-and-edit": "interleaver.tools.combined:DrawAndEdit",
    },
    "judge": {
        "sandbox": "interleaver.sandbox.judge:SandboxJudge",
        "chat": "interleaver.agents.judging:ChatJudge",
    },
}


@cache
def backends(kind: Kind) -> dict[str, EntryPoint]:
    """All backends of a kind, by name.

    A third-party package adds one by declaring an entry point in the group `interleaver.planners`,
    `interleaver.critics`, `interleaver.generators` or `interleaver.judges` that names a class whose arguments are its
    settings.
    """
    group = f"interleaver.{kind}s"
    found = {entry.name: entry for entry in entry_points(group=group)}
    return found | {name: EntryPoint(name, target, group) for name, target in BUILT_IN[kind].items()}


def create(kind: Kind, name: str, **settings: Any) -> Any:
    """Make the backend `name` of a kind.

    Raises:
        BadInput: there is no such backend, or it does not take these settings.
    """
    backend = find(kind, name, settings)
    try:
        return backend(**settings)
    except BadInput:
        raise
    except ValidationError as error:
        raise BadInput(f"{kind} {name!r}: {explain(error)}") from None
    except Exception as error:
        raise BadInput(f"{kind} {name!r} cannot be made: {type(error).__name__}: {error}") from error


def find(kind: Kind, name: str, settings: Collection[str]) -> Callable[..., Any]:
    """What makes the backend `name` of a kind; nothing is made yet, so what it needs may be missing here.

    Raises:
        BadInput: there is no such backend, or it does not take settings of these names, or needs more.
    """
    known = backends(kind)
    if name not in known:
        raise BadInput(f"{kind} {name!r} is unknown; choose one of: {', '.join(sorted(known))}")
    try:
        backend: Callable[..., Any] = known[name].load()
    except Exception as error:  # whatever the module of another package raises
        raise BadInput(f"{kind} {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    fields = signature(backend).parameters
    for field in settings:
        if field not in fields:
            valid = ", ".join(["backend", "concurrency", *fields])
            hint = did_you_mean(field, fields)
            raise BadInput(f"{kind} {name!r} has no field {field!r}{hint}; valid fields: {valid}")
    for field, parameter in fields.items():
        if field not in settings and parameter.default is parameter.empty:
            raise BadInput(f"{kind} {name!r} needs the field {field!r}, which is missing")
    return backend
