"""Calling backends: each endpoint's slots, pauses and retries; and many calls concurrently."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from langgraph.errors import GraphBubbleUp
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from interleaver.errors import BackendError, BackendUnavailable, BadInput, explain

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
NO_TIME_LIMIT = 86_400.0
MAX_ATTEMPTS = 4
"""Number of calls after which a backend that fails without saying that it is busy is given up."""
BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
"""Seconds to wait before retrying an unavailable backend: exponential backoff with jitter, at most 20."""
BUSY_SECONDS = (0.5, 20.0)
"""First and longest pause of a busy endpoint that does not say how long to wait."""
DOWN_FAILURES = 8
"""Calls in a row that must fail for an endpoint to count as down."""
PROBE_SECONDS = (1.0, 60.0)
"""First and longest pause of an endpoint that is down; after each, a single call tries whether it is back."""
PATIENCE = 30.0
"""Seconds for which calls wait for an endpoint that is down; later ones fail at once until a call gets through."""
SPREAD = 0.25
"""Calls that waited for the same pause go on within this share of it, at least of a second, so not all at once."""


@dataclass(eq=False)
class CallQueue:
    """The calls to one endpoint by everybody in this process.

    A call that finds the endpoint busy pauses all of them, and gives its slot back meanwhile. An endpoint that fails
    time after time counts as down: then only single calls try whether it is back.

    Attributes:
        paused_until: monotonic time in seconds before which no call is made.
        pauses: number of pauses since the last call that was answered.
        failures: number of calls in a row that failed because the endpoint was unavailable.
        down_since: monotonic time in seconds since which the endpoint counts as down; None if it does not.
        probe_at: monotonic time in seconds of the next call to an endpoint that is down.
    """

    paused_until: float = 0.0
    pauses: int = 0
    failures: int = 0
    down_since: float | None = None
    probe_at: float = 0.0
    _probe_pause: float = PROBE_SECONDS[0]
    _slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, asyncio.Semaphore]] = field(
        default_factory=WeakKeyDictionary
    )

    def pause(self, seconds: float | None) -> None:
        """Pause all calls for the seconds that the endpoint asked for, or for longer each time in a row."""
        current_time = time.monotonic()
        if not seconds and current_time < self.paused_until:
            return  # calls that were made before the pause are answered during it
        first, longest = BUSY_SECONDS
        own_seconds = min(first * 2**self.pauses, longest)
        self.pauses = min(self.pauses + 1, 10)
        self.paused_until = max(self.paused_until, current_time + (max(seconds, first) if seconds else own_seconds))

    def note_answer(self) -> None:
        """Note that the endpoint has answered a call, whatever the answer was."""
        self.pauses = self.failures = 0
        self.down_since, self._probe_pause = None, PROBE_SECONDS[0]

    def note_failure(self) -> None:
        """Note that a call failed because the endpoint was unavailable."""
        self.failures += 1
        if self.failures >= DOWN_FAILURES and self.down_since is None:
            self.down_since = time.monotonic()
            self.postpone_probe()

    def postpone_probe(self) -> None:
        """Set the time of the next call to an endpoint that is down; the pauses get longer."""
        self.probe_at = time.monotonic() + self._probe_pause
        self._probe_pause = min(2 * self._probe_pause, PROBE_SECONDS[1])

    @property
    def given_up(self) -> bool:
        """Whether the endpoint has been down for so long that calls no longer wait for it."""
        return self.down_since is not None and time.monotonic() - self.down_since > PATIENCE

    @property
    def pause_left(self) -> float:
        """Seconds for which no call is made; 0 if calls are made."""
        return max(self.paused_until - time.monotonic(), 0.0)

    def slot(self, kind: type[object], limit: int | None) -> AbstractAsyncContextManager[None]:
        """Return a context manager for one call; entering it waits until the limit allows it."""
        if limit is None:
            return nullcontext()
        # A semaphore is bound to the event loop that first waits for it, and a process may have several.
        slots = self._slots.setdefault(asyncio.get_running_loop(), {})
        return slots.setdefault((kind, limit), asyncio.Semaphore(limit))


_endpoint_queues: dict[Hashable, CallQueue] = {}
_object_queues: WeakValueDictionary[int, CallQueue] = WeakValueDictionary()


def queue_of(backend: object) -> CallQueue:
    """Return the queue of the endpoint that a backend names in its attribute `resource`, else its own."""
    resource: Hashable = getattr(backend, "resource", None)
    if resource is None:
        return _object_queues.setdefault(id(backend), CallQueue())
    return _endpoint_queues.setdefault(resource, CallQueue())


async def call(
    backend: object,
    make_call: Callable[[], Awaitable[T]],
    answer_type: type[T],
    concurrency: int | None = None,
) -> T:
    """Call a backend, wait while its endpoint is busy, and retry with backoff while it is unavailable.

    A backend may have an attribute `resource`, a hashable value that is equal for all backends at the same endpoint:
    they share its pauses and slots. It may have a `timeout` in seconds, within which a call is retried.

    Args:
        backend: the backend to call; only its `resource` and `timeout` are read here.
        make_call: function that starts the call.
        answer_type: type that the answer must have.
        concurrency: maximum number of concurrent calls with this type of answer to the endpoint; None for no limit.

    Returns:
        The backend's answer.

    Raises:
        BackendUnavailable: the backend was unavailable four times in a row, or busy until its timeout had passed.
        BackendError: the call failed for another reason, or returned another type.
        BadInput: raised by the backend itself.
    """
    attempts = _Attempts(queue_of(backend), getattr(backend, "timeout", None) or NO_TIME_LIMIT)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(BackendUnavailable), wait=attempts.wait, stop=attempts.is_last, reraise=True
    )
    try:
        answer: object = await retrying(attempts.make, make_call, answer_type, concurrency)
    except (BackendError, BadInput, GraphBubbleUp):
        raise  # GraphBubbleUp is how a backend that is itself a graph interrupts for human input
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except ValidationError as error:
        raise BackendError(explain(error)) from error
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise BackendError("the backend cancelled its own call") from error
    except BaseException as error:
        # Backends may come from other packages, so any exception must become one that the graph handles; panics of
        # libraries in Rust and `sys.exit` are no Exceptions.
        log.debug("a backend failed", exc_info=True)
        raise BackendError(f"{type(error).__name__}: {error}") from error
    if not isinstance(answer, answer_type):
        raise BackendError(f"the backend returned a {type(answer).__name__} instead of a {answer_type.__name__}")
    return answer


@dataclass
class _Attempts:
    """The attempts at one call.

    Attributes:
        queue: queue of the endpoint.
        timeout: seconds after the first attempt within which the call is retried.
        start_time: monotonic time in seconds of the first attempt; None while the call waits for its turn.
    """

    queue: CallQueue
    timeout: float
    start_time: float | None = None

    async def make(self, make_call: Callable[[], Awaitable[T]], answer_type: type[T], concurrency: int | None) -> T:
        """Make one attempt, once a slot is free and the endpoint is not paused."""
        while True:
            if pause := self.queue.pause_left:
                if self._elapsed() + pause > self.timeout:
                    text = f"the endpoint asks for a pause of {pause:.0f} s more, longer than the call may take"
                    raise BackendUnavailable(text, retry_after=pause)
                await asyncio.sleep(pause + random.uniform(0, SPREAD * max(pause, 1)))
            if self.queue.down_since is not None and not await self._is_probe():
                continue
            async with self.queue.slot(answer_type, concurrency):
                if not self.queue.pause_left:
                    self.start_time = self.start_time or time.monotonic()
                    return await self._watch(make_call)

    async def _watch(self, make_call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and note in the queue whether the endpoint was available."""
        try:
            answer = await make_call()
        except BackendUnavailable as error:
            if not error.busy:
                self.queue.note_failure()
            raise
        except Exception:
            self.queue.note_answer()
            raise
        self.queue.note_answer()
        return answer

    async def _is_probe(self) -> bool:
        """Return whether this call tries if an endpoint that is down is back; wait for another one that does."""
        pause = self.queue.probe_at - time.monotonic()
        if pause <= 0:
            self.queue.postpone_probe()
            return True
        if self.queue.given_up:
            down_seconds = time.monotonic() - (self.queue.down_since or 0.0)
            raise BackendUnavailable(
                f"the endpoint has not answered for {down_seconds:.0f} s, and is called again in {pause:.0f} s"
            )
        await asyncio.sleep(pause)
        return False

    def wait(self, retry: RetryCallState) -> float:
        """Return the backoff before the next attempt; a busy endpoint is paused instead, for everybody."""
        error = retry.outcome.exception() if retry.outcome else None
        if isinstance(error, BackendUnavailable) and error.busy:
            self.queue.pause(error.retry_after)
            return 0.0
        return BACKOFF(retry)

    def is_last(self, retry: RetryCallState) -> bool:
        """Return whether the call is given up: its time is over, or would be after the pause that is asked for."""
        error = retry.outcome.exception() if retry.outcome else None
        if isinstance(error, BackendUnavailable) and error.busy:
            return self._elapsed() + (error.retry_after or 0.0) >= self.timeout
        if self.queue.given_up or retry.attempt_number >= MAX_ATTEMPTS:
            return True
        # A call that hung has used up all its time, and gets a second chance.
        return retry.attempt_number > 1 and self._elapsed() + retry.upcoming_sleep >= self.timeout

    def _elapsed(self) -> float:
        return time.monotonic() - self.start_time if self.start_time else 0.0


class Stopwatch:
    """Measures how long calls take, without the time between them.

    Attributes:
        seconds: total duration of the calls.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def time(self, work: Awaitable[T]) -> T:
        """Await something, and add the time that it takes."""
        start = time.monotonic()
        try:
            return await work
        finally:
            self.seconds += time.monotonic() - start


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
