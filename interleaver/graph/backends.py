"""The models that the nodes call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from interleaver.agents import Critic, Planner
from interleaver.graph.context import Context
from interleaver.registry import BackendKind, create_backend
from interleaver.tools import ImageGenerator


@dataclass
class Backends:
    """The models that the graph was built with, and those that single runs select by name.

    Attributes:
        concurrency: maximum number of concurrent calls by kind of backend; no limit for a kind that is missing.
    """

    planner: Planner | None = None
    critic: Critic | None = None
    generator: ImageGenerator | None = None
    concurrency: Mapping[str, int | None] = field(default_factory=dict)
    _by_name: dict[tuple[BackendKind, str], Any] = field(default_factory=dict)
    _slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = field(
        default_factory=WeakKeyDictionary
    )

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

    def slot(self, kind: BackendKind) -> AbstractAsyncContextManager[None]:
        """Return a context manager for one call of a kind; entering it waits until the concurrency limit allows it."""
        limit = self.concurrency.get(kind)
        if limit is None:
            return nullcontext()
        # A semaphore is bound to the event loop that first waits for it, and a graph may be used from several loops.
        slots = self._slots.setdefault(asyncio.get_running_loop(), {})
        return slots.setdefault(kind, asyncio.Semaphore(limit))
