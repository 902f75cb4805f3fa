"""Execution of many concurrent runs in one process."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from interleaver.batch.prompt_list import BatchItem
from interleaver.calling import run_concurrently
from interleaver.errors import BadInput, InterleaverError
from interleaver.pictures import Picture
from interleaver.runner import Runner, read_picture
from interleaver.store.locks import RunLocked
from interleaver.traces.trace import SkippedRecord, Trace

log = logging.getLogger(__name__)
POLL_SECONDS = 2.0
"""Seconds between two checks of the runs that other processes are working on."""
STORED_PREFIX = "sha256:"
"""Prefix of a picture in `BatchItem.images` that is given by its SHA-256 in the image store."""


class BatchResult(BaseModel):
    """The result of making one item.

    Attributes:
        line: line number of the item in the prompt list, from 1.
        run_id: id of the run; None if it could not be started.
        status: status of the document; or `refused` if the item cannot be used, `error` if something else failed,
            `waits` if the run waits for a person, `taken` if another process is making the run.
        worked: whether this call did any work on the run.
        problem: why the status is not `complete`.
        drawings: number of pictures drawn by this call.
        input_tokens: input tokens of the model calls made by this call.
        output_tokens: output tokens of the model calls made by this call.
        cost: cost of this call at the profile's prices.
    """

    line: int
    run_id: str | None = None
    status: Literal["complete", "partial", "failed", "refused", "error", "waits", "taken"]
    worked: bool = False
    problem: str | None = None
    drawings: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class BatchWorker:
    """A worker that makes the runs of items; `make` may be called concurrently."""

    def __init__(self, runner: Runner, retry: bool = False, owner: str | None = None):
        """Set up a worker.

        Args:
            runner: runner that executes the runs.
            retry: whether to resume runs that ended partial or failed.
            owner: lock owner that this process acts for, see `RunStore.lock`.
        """
        self.runner = runner
        self.retry = retry
        self.owner = owner

    async def make(self, item: BatchItem) -> BatchResult:
        """Make the run of an item unless it has been made; failures are returned, so only cancellation raises."""
        try:
            return await self._make(item)
        except RunLocked as error:
            return BatchResult(line=item.line, status="taken", problem=str(error))
        except BadInput as error:
            return BatchResult(line=item.line, status="refused", problem=str(error))
        except InterleaverError as error:
            return BatchResult(line=item.line, status="error", problem=str(error))
        except Exception as error:
            # A failure of one item, whatever it is, must not end the others.
            log.debug("item of line %d", item.line, exc_info=True)
            return BatchResult(line=item.line, status="error", problem=f"{type(error).__name__}: {error}")

    async def _make(self, item: BatchItem) -> BatchResult:
        runs = self.runner.runs
        pictures = [await self._picture(image) for image in item.images]
        run_id = await asyncio.to_thread(self._run_id, item, pictures)
        before = await asyncio.to_thread(runs.trace, run_id)
        drawings = 0
        worked = False
        if not isinstance(before, Trace) or (self.retry and before.status != "complete"):
            settings, owner = {"seed": item.seed}, self.owner and f"{self.owner}-{item.line}-{item.seed}"
            events = self.runner.make(item.request, pictures, settings, run_id, item.tags, owner)
            async with aclosing(events):
                async for event in events:
                    worked = True
                    drawings += event.type == "picture_ready"
        after = await asyncio.to_thread(runs.trace, run_id)
        if isinstance(after, Trace):
            await self.runner.write_missing_document(after)
        if after is None:
            problem = f"the run is waiting for a person; answer with: interleaver run --resume {run_id}"
            return BatchResult(
                line=item.line, run_id=run_id, status="waits", worked=worked, drawings=drawings, problem=problem
            )
        return self._result(item, after, before if isinstance(before, Trace) else None, worked, drawings)

    def _run_id(self, item: BatchItem, pictures: list[Picture]) -> str:
        """Return the id of an item's run; that of former versions, which stored files as they were, if it has one."""
        run_id = item.run_id([picture.ref.sha256 for picture in pictures])
        files = [image for image in item.images if not image.startswith(STORED_PREFIX)]
        if not files or len(files) < len(item.images) or self.runner.runs.find(run_id):
            return run_id
        former_run_id = item.run_id([hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files])
        return former_run_id if self.runner.runs.find(former_run_id) else run_id

    async def _picture(self, image: str) -> Picture:
        """Return a picture of the request, from a file or from the image store."""
        if image.startswith(STORED_PREFIX):
            return await self.runner.runs.images.find(image.removeprefix(STORED_PREFIX))
        return await asyncio.to_thread(read_picture, Path(image))

    def _result(
        self, item: BatchItem, trace: Trace | SkippedRecord, before: Trace | None, worked: bool, drawings: int
    ) -> BatchResult:
        """Return the result of an item; usage and cost cover only the work done by this call."""
        if isinstance(trace, SkippedRecord):
            return BatchResult(line=item.line, run_id=trace.name, status="error", worked=worked, problem=trace.detail)
        if trace.status == "unfinished":
            problem = "the trace was imported before the run had ended"
            return BatchResult(line=item.line, run_id=trace.run_id, status="error", worked=worked, problem=problem)
        prices = self.runner.profile.prices
        earlier_exchanges = before.exchanges() if before else []
        exchanges = trace.exchanges()[len(earlier_exchanges) :] if worked else []
        reasons = [result.reason for result in trace.results if result and result.reason]
        return BatchResult(
            line=item.line,
            run_id=trace.run_id,
            status=trace.status,
            worked=worked,
            problem=trace.failure.reason if trace.failure else next(iter(reasons), None),
            drawings=drawings,
            input_tokens=sum(exchange.usage.input_tokens for exchange in exchanges),
            output_tokens=sum(exchange.usage.output_tokens for exchange in exchanges),
            cost=prices.of(exchanges, drawings),
        )


async def make_all_runs(
    items: Iterable[BatchItem], make: Callable[[BatchItem], Awaitable[BatchResult]], limit: int
) -> AsyncGenerator[BatchResult]:
    """Make the runs of all items, and yield their results.

    Items that another process is working on are tried again until they are done, in case that process dies.

    Args:
        items: items to make.
        make: makes the run of one item, see `BatchWorker.make`.
        limit: number of concurrent runs.
    """
    waiting = {item.key(): item for item in items}
    while waiting:
        results = run_concurrently(list(waiting.values()), lambda item: _make_item(item, make), limit)
        locked_count = 0
        async with aclosing(results):
            async for item, result in results:
                if result.status == "taken":
                    locked_count += 1
                    continue
                del waiting[item.key()]
                yield result
        if locked_count:
            await asyncio.sleep(POLL_SECONDS)


async def _make_item(
    item: BatchItem, make: Callable[[BatchItem], Awaitable[BatchResult]]
) -> tuple[BatchItem, BatchResult]:
    return item, await make(item)
