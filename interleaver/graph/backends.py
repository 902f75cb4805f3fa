"""Calling the models behind the nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from langgraph.errors import GraphBubbleUp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from interleaver.agents import Critic, Planner
from interleaver.errors import BackendError, BackendUnavailable, BadInput
from interleaver.graph.context import Context
from interleaver.registry import Kind, create
from interleaver.tools import ImageGenerator

log = logging.getLogger(__name__)
T = TypeVar("T")
NO_LIMIT = 86_400.0
BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
"""How long to wait, in seconds, before an unavailable backend is called again."""


@dataclass
class Backends:
    """The models behind the nodes: those the graph was built with, and others by name for a run that asks for them."""

    planner: Planner | None = None
    critic: Critic | None = None
    generator: ImageGenerator | None = None
    concurrency: Mapping[str, int | None] = field(default_factory=dict)
    _named: dict[tuple[Kind, str], Any] = field(default_factory=dict)
    _slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = field(
        default_factory=WeakKeyDictionary
    )

    async def pick(self, kind: Kind, settings: Context) -> Any:
        """The backend of a kind that these settings ask for."""
        name, built_with = getattr(settings, kind), getattr(self, kind)
        if name is None and built_with is not None:
            return built_with
        key = (kind, name or "sandbox")
        if key not in self._named:
            # Making a backend imports its module and may read files, which would block the loop.
            self._named[key] = await asyncio.to_thread(create, *key)
        return self._named[key]

    def slot(self, kind: Kind) -> AbstractAsyncContextManager[None]:
        """Room for one more call of a kind; whoever enters waits until there is some."""
        limit = self.concurrency.get(kind)
        if limit is None:
            return nullcontext()
        # A semaphore belongs to the loop it is first waited for in, and a graph may be run in several in turn.
        slots = self._slots.setdefault(asyncio.get_running_loop(), {})
        return slots.setdefault(kind, asyncio.Semaphore(limit))


async def call(backend: object, work: Callable[[], Awaitable[T]], answer: type[T]) -> T:
    """Call a backend: again, with backoff, while it is unavailable and its `timeout`, if it has one, is not spent.

    Args:
        backend: the backend that is called.
        work: the call.
        answer: the type that it must return.

    Raises:
        BackendUnavailable: it stayed unavailable.
        BackendError: it failed otherwise, or its answer is not of the type `answer`.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(BackendUnavailable),
        wait=_pause,
        stop=stop_after_attempt(4) | stop_before_delay(getattr(backend, "timeout", None) or NO_LIMIT),
        reraise=True,
    )
    try:
        given: object = await retrying(_as_coroutine, work)
    except (BackendError, BadInput, GraphBubbleUp):
        raise  # the last is how a backend that is a graph itself pauses for a person
    except Exception as error:
        # Backends come from other packages too: whatever breaks inside one must end in an explicit status.
        log.debug("a backend failed", exc_info=True)
        raise BackendError(f"{type(error).__name__}: {error}") from error
    if not isinstance(given, answer):
        raise BackendError(f"the backend answered a {type(given).__name__} instead of a {answer.__name__}")
    return given


def _pause(retry: RetryCallState) -> float:
    """Seconds before the next try: as long as the other side asked for, at least the backoff."""
    error = retry.outcome.exception() if retry.outcome else None
    asked = error.retry_after if isinstance(error, BackendUnavailable) else None
    return max(BACKOFF(retry), asked or 0.0)


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    # tenacity awaits coroutine functions only, and a lambda is none.
    return await work()
