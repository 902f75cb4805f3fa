"""The models that the nodes call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from interleaver.agents import Critic, Planner
from interleaver.calling import call
from interleaver.graph.context import Context
from interleaver.registry import BackendKind, create_backend
from interleaver.tools import ImageGenerator

T = TypeVar("T")


@dataclass
class Backends:
    """The models that the graph was built with, and those that single runs select by name.

    Attributes:
        concurrency: maximum number of concurrent calls by kind of backend to the same endpoint, by all graphs of this
            process; no limit for a kind that is missing.
    """

    planner: Planner | None = None
    critic: Critic | None = None
    generator: ImageGenerator | None = None
    concurrency: Mapping[str, int | None] = field(default_factory=dict)
    _by_name: dict[tuple[BackendKind, str], Any] = field(default_factory=dict)

    async def pick(self, kind: BackendKind, settings: Context) -> Any:
        """Return the backend of a kind: the one named in the settings, else the graph's own, else the sandbox's."""
        name, built_with = getattr(settings, kind), getattr(self, kind)
        if name is None and built_with is not None:
            return built_with
        key = (kind, name or "sandbox")
        if key not in self._by_name:
            # Creating a backend imports its module and may read files, which would block the event loop.
            self._by_name[key] = await asyncio.to_thread(create_backend, *key)
        return self._by_name[key]

    async def call(
        self, kind: BackendKind, backend: object, make_call: Callable[[], Awaitable[T]], answer_type: type[T]
    ) -> T:
        """Call a backend within the concurrency limit of its kind; see `interleaver.calling.call`."""
        return await call(backend, make_call, answer_type, self.concurrency.get(kind))
