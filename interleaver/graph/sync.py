"""Async nodes under synchronous callers: one event loop in the background, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def as_sync(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return the synchronous counterpart of an async function."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_in_background(function(*args, **kwargs))

    return run


def run_in_background(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background loop, with the caller's context variables, and wait for its result.

    All calls of a process share one loop, so clients, locks and semaphores that are bound to a loop can be used again
    in the next call. An exception in the waiting thread, such as KeyboardInterrupt, cancels the coroutine.
    """
    thread, loop = _background(os.getpid())
    if threading.current_thread() is thread:  # a node that calls a graph synchronously would wait for itself
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, asyncio.run, coroutine).result()
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@cache
def _background(process_id: int) -> tuple[threading.Thread, asyncio.AbstractEventLoop]:
    """Start the background loop; a process that was forked has an id, and so a loop, of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="interleaver", daemon=True)
    thread.start()
    return thread, loop
