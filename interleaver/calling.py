"""Calling backends: with retries, and many calls concurrently."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

from langgraph.errors import GraphBubbleUp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from interleaver.errors import BackendError, BackendUnavailable, BadInput

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
NO_TIME_LIMIT = 86_400.0
BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
"""Seconds to wait before retrying an unavailable backend: exponential backoff with jitter, at most 20."""


async def call(backend: object, make_call: Callable[[], Awaitable[T]], answer_type: type[T]) -> T:
    """Call a backend, and retry with backoff while it is unavailable.

    A backend with a `timeout` attribute (in seconds) is retried only until that time has passed.

    Args:
        backend: the backend to call; only its `timeout` is read here.
        make_call: function that starts the call.
        answer_type: type that the answer must have.

    Returns:
        The backend's answer.

    Raises:
        BackendUnavailable: the backend was unavailable four times in a row, or until its timeout had passed.
        BackendError: the call failed for another reason, or returned another type.
        BadInput: raised by the backend itself.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(BackendUnavailable),
        wait=_pause,
        stop=stop_after_attempt(4) | stop_before_delay(getattr(backend, "timeout", None) or NO_TIME_LIMIT),
        reraise=True,
    )
    try:
        answer: object = await retrying(_as_coroutine, make_call)
    except (BackendError, BadInput, GraphBubbleUp):
        raise  # GraphBubbleUp is how a backend that is itself a graph interrupts for human input
    except Exception as error:
        # Backends may come from other packages, so any exception must become one that the graph handles.
        log.debug("a backend failed", exc_info=True)
        raise BackendError(f"{type(error).__name__}: {error}") from error
    if not isinstance(answer, answer_type):
        raise BackendError(f"the backend returned a {type(answer).__name__} instead of a {answer_type.__name__}")
    return answer


def _pause(retry: RetryCallState) -> float:
    """Return the seconds to wait before the next call: what the server asked for, but at least the backoff."""
    error = retry.outcome.exception() if retry.outcome else None
    server_delay = error.retry_after if isinstance(error, BackendUnavailable) else None
    return max(BACKOFF(retry), server_delay or 0.0)


async def _as_coroutine(make_call: Callable[[], Awaitable[T]]) -> T:
    # tenacity only awaits coroutine functions, and `make_call` may be a lambda.
    return await make_call()


async def run_concurrently(items: Iterable[T], work: Callable[[T], Awaitable[R]], limit: int) -> AsyncGenerator[R]:
    """Apply an async function to many items concurrently and yield the results as they finish.

    Args:
        items: inputs of the function, consumed lazily; the first None ends them.
        work: the function, called once per item.
        limit: maximum number of concurrent calls.
    """
    waiting = iter(items)
    pending: set[asyncio.Task[R]] = set()
    try:
        while True:
            while len(pending) < limit and (item := next(waiting, None)) is not None:
                pending.add(asyncio.ensure_future(_await_work(work, item)))
            if not pending:
                return
            finished_tasks, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(finished_tasks, key=lambda task: task.exception() is not None):
                yield task.result()  # failures come last, so that no finished result is lost
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _await_work(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)
