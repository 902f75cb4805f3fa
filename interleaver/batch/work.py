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
from interleaver.runner import Runner, read_picture
from interleaver.traces.locks import Taken
from interleaver.traces.trace import Skipped, Trace

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
POLL = 2.0
"""Seconds between two looks at a run that another process is working on."""


class Done(BaseModel):
    """What became of an item.

    Attributes:
        run_id: its run; None when it could not be begun.
        status: the document's; `refused` when the item cannot be used, `error` when something else broke, `waits` when
            the run asks a person.
        made: whether the run was carried out here and now.
        problem: why the status is not `complete`.
        drawings: generator calls; likewise the model's tokens, and the cost by the profile's prices.
    """

    line: int
    run_id: str | None = None
    status: Literal["complete", "partial", "failed", "refused", "error", "waits"]
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
        pictures = [await asyncio.to_thread(read_picture, Path(image)) for image in item.images]
        run_id = item.run_id([picture.ref.sha256 for picture in pictures])
        made = False
        while not made:
            trace = await asyncio.to_thread(runs.trace, run_id)
            if isinstance(trace, Trace) and (trace.status == "complete" or not self.retry):
                break
            record = await asyncio.to_thread(runs.find, run_id)
            if record is None:
                settings = {"seed": item.seed}
                record = await self.runner.begin(item.request, pictures, settings, self.profile, run_id, item.tags)
            try:
                async for _ in self.runner.work(record, owner=self.owner):
                    pass
                made = True
            except Taken:
                await asyncio.sleep(POLL)  # another process makes it; if that one dies, this one takes over
        return await self._done(item, run_id, made)

    async def _done(self, item: Item, run_id: str, made: bool) -> Done:
        trace = await asyncio.to_thread(self.runner.runs.trace, run_id)
        if trace is None:
            problem = "the run waits for a person; answer with: interleaver run --resume"
            return Done(line=item.line, run_id=run_id, status="waits", made=made, problem=problem)
        if isinstance(trace, Skipped):
            return Done(line=item.line, run_id=run_id, status="error", made=made, problem=trace.detail)
        exchanges = trace.exchanges()
        reasons = [result.reason for result in trace.results if result and result.reason]
        assert trace.status != "unfinished"  # only runs that have ended leave a trace
        return Done(
            line=item.line,
            run_id=run_id,
            status=trace.status,
            made=made,
            problem=trace.failure.reason if trace.failure else next(iter(reasons), None),
            drawings=sum(attempt.image is not None for attempt in [*trace.attempts, *trace.drafts]),
            input_tokens=sum(exchange.usage.input_tokens for exchange in exchanges),
            output_tokens=sum(exchange.usage.output_tokens for exchange in exchanges),
            cost=self.runner.profile.prices.cost(trace),
        )


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
