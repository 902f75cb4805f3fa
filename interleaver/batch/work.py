"""Carrying out many runs at once, in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from interleaver.batch.items import Item
from interleaver.errors import BadInput, InterleaverError
from interleaver.pictures import Picture
from interleaver.runner import Runner, read_picture
from interleaver.traces.locks import Taken
from interleaver.traces.trace import Skipped, Trace

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
POLL = 2.0
"""Seconds between two looks at the runs that other processes are working on."""
STORED = "sha256:"
"""How a picture begins that is in the image store already."""


class Done(BaseModel):
    """What became of an item.

    Attributes:
        run_id: its run; None when it could not be begun.
        status: the document's; `refused` when the item cannot be used, `error` when something else broke, `waits` when
            the run asks a person, `taken` while another process makes it.
        made: whether anything was done here and now.
        problem: why the status is not `complete`.
        drawings: generator calls here and now; likewise the model's tokens, and the cost by the profile's prices.
    """

    line: int
    run_id: str | None = None
    status: Literal["complete", "partial", "failed", "refused", "error", "waits", "taken"]
    made: bool = False
    problem: str | None = None
    drawings: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Worker:
    """Makes the runs of items, as many at once as it is asked to."""

    def __init__(self, runner: Runner, profile: str | None, retry: bool = False, owner: str | None = None):
        """Set up a worker.

        Args:
            runner: carries the runs out.
            profile: where the runner's profile was read from, see `Runner.begin`.
            retry: carry on runs that ended partial or failed.
            owner: for whom this process works, see `RunStore.lock`.
        """
        self.runner = runner
        self.profile = profile
        self.retry = retry
        self.owner = owner

    async def make(self, item: Item) -> Done:
        """Make the run of an item, or find that it has been made; never raises but when it is cancelled."""
        try:
            return await self._make(item)
        except Taken as error:
            return Done(line=item.line, status="taken", problem=str(error))
        except BadInput as error:
            return Done(line=item.line, status="refused", problem=str(error))
        except InterleaverError as error:
            return Done(line=item.line, status="error", problem=str(error))
        except Exception as error:
            # One item's misfortune, whatever it is, must not end the others.
            log.debug("item of line %d", item.line, exc_info=True)
            return Done(line=item.line, status="error", problem=f"{type(error).__name__}: {error}")

    async def _make(self, item: Item) -> Done:
        runs = self.runner.runs
        pictures = [await self._picture(image) for image in item.images]
        run_id = item.run_id([picture.ref.sha256 for picture in pictures])
        before = await asyncio.to_thread(runs.trace, run_id)
        drawings = 0
        made = False
        if not isinstance(before, Trace) or (self.retry and before.status != "complete"):
            settings, owner = {"seed": item.seed}, self.owner and f"{self.owner}-{item.line}-{item.seed}"
            events = self.runner.make(item.request, pictures, settings, self.profile, run_id, item.tags, owner)
            async for event in events:
                made = True
                drawings += event.type == "picture_ready"
        after = await asyncio.to_thread(runs.trace, run_id)
        if after is None:
            problem = f"the run waits for a person; answer with: interleaver run --resume {run_id}"
            return Done(line=item.line, run_id=run_id, status="waits", made=made, drawings=drawings, problem=problem)
        return self._done(item, after, before if isinstance(before, Trace) else None, made, drawings)

    async def _picture(self, image: str) -> Picture:
        """A picture of the request: a file, or one that is in the store already."""
        if image.startswith(STORED):
            return await self.runner.runs.images.find(image.removeprefix(STORED))
        return await asyncio.to_thread(read_picture, Path(image))

    def _done(self, item: Item, trace: Trace | Skipped, before: Trace | None, made: bool, drawings: int) -> Done:
        """What came of an item, and what it took here and now."""
        if isinstance(trace, Skipped):
            return Done(line=item.line, run_id=trace.what, status="error", made=made, problem=trace.detail)
        if trace.status == "unfinished":
            problem = "its trace was imported before the run had ended"
            return Done(line=item.line, run_id=trace.run_id, status="error", made=made, problem=problem)
        prices = self.runner.profile.prices
        told = before.exchanges() if before else []
        exchanges = trace.exchanges()[len(told) :] if made else []
        reasons = [result.reason for result in trace.results if result and result.reason]
        return Done(
            line=item.line,
            run_id=trace.run_id,
            status=trace.status,
            made=made,
            problem=trace.failure.reason if trace.failure else next(iter(reasons), None),
            drawings=drawings,
            input_tokens=sum(exchange.usage.input_tokens for exchange in exchanges),
            output_tokens=sum(exchange.usage.output_tokens for exchange in exchanges),
            cost=prices.of(exchanges, drawings),
        )


async def make_all(items: Iterable[Item], make: Callable[[Item], Awaitable[Done]], limit: int) -> AsyncIterator[Done]:
    """Make every item, `limit` at a time; what other processes are making comes last, in case that they die.

    Args:
        items: what is to be made.
        make: see `Worker.make`.
        limit: how many are at work at a time.
    """
    waiting = {item.key(): item for item in items}
    while waiting:
        results = in_parallel(list(waiting.values()), lambda item: _with(item, make), limit)
        taken = 0
        async for item, done in results:
            if done.status == "taken":
                taken += 1
                continue
            del waiting[item.key()]
            yield done
        if taken:
            await asyncio.sleep(POLL)


async def _with(item: Item, make: Callable[[Item], Awaitable[Done]]) -> tuple[Item, Done]:
    return item, await make(item)


async def in_parallel(items: Iterable[T], work: Callable[[T], Awaitable[R]], limit: int) -> AsyncIterator[R]:
    """The results of work on items, in the order in which they come; `limit` items are at work at a time."""
    waiting = iter(items)
    pending: set[asyncio.Task[R]] = set()
    try:
        while True:
            while len(pending) < limit and (item := next(waiting, None)) is not None:
                pending.add(asyncio.ensure_future(_awaited(work, item)))
            if not pending:
                return
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()  # what raises comes last, so that nothing which is done is lost
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _awaited(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)
