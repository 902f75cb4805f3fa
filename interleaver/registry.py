"""Backends by name: the built-in ones, and those that other packages register through entry points."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, Literal

from pydantic import ValidationError

from interleaver.errors import BadInput, did_you_mean, explain

BackendKind = Literal["planner", "critic", "generator", "judge"]

BUILT_IN: dict[BackendKind, dict[str, str]] = {
    "planner": {
        "sandbox": "interleaver.sandbox.planner:SandboxPlanner",
        "one-step": "interleaver.agents.baselines:OneStepPlanner",
        "chat": "interleaver.agents.chat:ChatPlanner",
        "local": "interleaver.agents.local:local_planner",
    },
    "critic": {
        "sandbox": "interleaver.sandbox.critic:SandboxCritic",
        "sandbox-exact": "interleaver.sandbox.exact:ExactCritic",
        "accept": "interleaver.agents.baselines:AcceptingCritic",
        "chat": "interleaver.agents.chat:ChatCritic",
        "local": "interleaver.agents.local:local_critic",
    },
    "generator": {
        "sandbox": "interleaver.sandbox.generator:SandboxGenerator",
        "openai-images": "interleaver.tools.openai_images:OpenAIImages",
        "edit-service": "interleaver.tools.edit_service:EditService",
        "gemini-images": "interleaver.tools.gemini_images:GeminiImages",
        "diffusers": "interleaver.tools.diffusers:DiffusersGenerator",
        "svg": "interleaver.tools.svg:SvgGenerator",
        "pool": "interleaver.tools.combined:GeneratorPool",
        "draw-and-edit": "interleaver.tools.combined:DrawAndEdit",
        "with-fallback": "interleaver.tools.combined:GeneratorWithFallback",
    },
    "judge": {
        "sandbox": "interleaver.sandbox.judge:SandboxJudge",
        "chat": "interleaver.agents.chat_judge:ChatJudge",
    },
}


@cache
def backends(kind: BackendKind) -> dict[str, EntryPoint]:
    """Return all backends of a kind, by name.

    A third-party package registers a backend with an entry point in the group `interleaver.planners`,
    `interleaver.critics`, `interleaver.generators` or `interleaver.judges`. The entry point refers to a class or
    function whose arguments are the backend's settings.
    """
    group = f"interleaver.{kind}s"
    plugins = {entry.name: entry for entry in entry_points(group=group)}
    return plugins | {name: EntryPoint(name, target, group) for name, target in BUILT_IN[kind].items()}


def create_backend(kind: BackendKind, name: str, **settings: Any) -> Any:
    """Create the backend `name` of a kind.

    Args:
        kind: kind of the backend.
        name: registered name of the backend.
        settings: the backend's own settings.

    Raises:
        BadInput: there is no such backend, it does not accept these settings, or it cannot be created.
    """
    backend = find_backend(kind, name, settings)
    try:
        return backend(**settings)
    except BadInput:
        raise
    except ValidationError as error:
        raise BadInput(f"{kind} {name!r}: {explain(error)}") from None
    except Exception as error:
        raise BadInput(f"{kind} {name!r} cannot be created: {type(error).__name__}: {error}") from error


def find_backend(kind: BackendKind, name: str, settings: Collection[str]) -> Callable[..., Any]:
    """Return the class or function that creates the backend `name` of a kind, without calling it.

    Args:
        kind: kind of the backend.
        name: registered name of the backend.
        settings: names of the settings that it will be given.

    Raises:
        BadInput: there is no such backend, it cannot be imported, a setting is unknown, or a required one is missing.
    """
    known_backends = backends(kind)
    if name not in known_backends:
        raise BadInput(f"{kind} {name!r} is unknown; choose one of: {', '.join(sorted(known_backends))}")
    try:
        backend: Callable[..., Any] = known_backends[name].load()
    except Exception as error:  # the module of another package may raise anything
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
