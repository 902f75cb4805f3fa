"""The desk of an image server: takes orders, keeps a bounded queue, and has worker processes draw."""

from __future__ import annotations

import asyncio
import inspect
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

from interleaver.errors import BackendError, BadInput, InterleaverError
from interleaver.pictures import Picture
from interleaver.registry import create
from interleaver.tools.generators import ImageGenerator, Size

Json = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """One picture to draw.

    Attributes:
        prompt: what to draw or change.
        sources: the pictures to edit; empty draws anew.
        seed: 0 to 2**31 - 1.
        size: width and height in pixels.
        mask: white where the generator may paint.
        call: parameters for this picture alone, such as `num_inference_steps`.
    """

    prompt: str
    sources: tuple[Picture, ...]
    seed: int
    size: Size
    mask: Picture | None = None
    call: Json = field(default_factory=dict)


class Busy(InterleaverError):
    """The queue is full.

    Attributes:
        retry_after: seconds after which there will be room, as far as can be told.
    """

    def __init__(self, retry_after: int):
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Desk(Protocol):
    """Whoever takes an image server's orders."""

    model: str

    async def draw(self, orders: Sequence[Order]) -> list[Picture]:
        """Draw the orders of one request.

        Raises:
            Busy: there are too many orders already.
            BackendError: it cannot be drawn.
        """
        ...


async def carry_out(generator: ImageGenerator, order: Order) -> Picture:
    """Have a generator draw an order.

    Raises:
        BadInput: the generator does not do what the order asks for.
        BackendError: it cannot be drawn.
    """
    limit = generator.capabilities.max_sources
    if len(order.sources) > limit:
        can = f"at most {limit} picture(s)" if limit else "no pictures at all"
        raise BadInput(f"image: {len(order.sources)} picture(s) were sent; this model edits {can}")
    known = inspect.signature(generator.generate).parameters
    extra: Json = {}
    for name, value, fields in (("mask", order.mask, ["mask"]), ("call", order.call, list(order.call))):
        if value and name not in known:
            raise BadInput(f"{', '.join(fields)}: this model takes no such parameter")
        if value:
            extra[name] = value
    try:
        return await generator.generate(order.prompt, order.sources, order.seed, order.size, **extra)
    except (BackendError, BadInput):
        raise
    except Exception as error:
        raise BackendError(f"the generator failed: {type(error).__name__}: {error}") from error


class LocalDesk:
    """Worker processes on this machine, one a GPU, behind a bounded queue.

    A worker that dies (a driver error, the kernel's out-of-memory killer) is replaced, and its order is drawn once
    more.
    """

    def __init__(
        self, backend: str, settings: Json, *, model: str, workers: int = 1, gpus: Sequence[str] = (), queue: int = 32
    ):
        """Set up a desk; `start` starts its workers.

        Args:
            backend: the registered generator that draws.
            settings: its settings.
            model: the name under which it is served.
            workers: how many processes draw.
            gpus: the GPU that each worker sees, as `CUDA_VISIBLE_DEVICES` names it; empty leaves that as it is.
            queue: how many pictures may wait; the next request is refused.
        """
        self.model = model
        self.restarts = 0
        self.drawing = 0
        self._workers = [_Worker(backend, settings, gpus[n] if gpus else None) for n in range(workers)]
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._queue = queue
        self._queued: set[asyncio.Task[Picture]] = set()
        self._seconds = 1.0  # what a picture takes, as a moving average

    @property
    def waiting(self) -> int:
        """How many orders wait for a worker."""
        return len(self._queued)

    async def start(self) -> None:
        """Start the workers and have each load its model.

        Raises:
            BadInput: the backend does not take these settings.
            BackendError: the model cannot be loaded.
        """
        try:
            await asyncio.gather(*[worker.run(_prepare) for worker in self._workers])
        except BrokenProcessPool:
            raise BackendError("a worker process died while it loaded the model; is there enough memory?") from None
        for worker in self._workers:
            self._free.put_nowait(worker)

    def stop(self) -> None:
        """End the workers; what they are drawing is given up."""
        for worker in self._workers:
            worker.stop()

    async def draw(self, orders: Sequence[Order]) -> list[Picture]:
        """Draw the orders of one request; see `Desk.draw`. They are taken all or none."""
        if self.waiting >= self._queue:
            raise Busy(max(1, math.ceil(self._seconds * (self.waiting + 1) / len(self._workers))))
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(self._draw(order)) for order in orders]
            # Queued from this moment on, so that the next request finds the queue as it is.
            self._queued.update(drawing)
            for task in drawing:
                task.add_done_callback(self._queued.discard)
        return [task.result() for task in drawing]

    async def _draw(self, order: Order) -> Picture:
        worker = await self._free.get()
        self._queued -= {asyncio.current_task()}
        # A process cannot be interrupted: a worker is free when it has finished, even if nobody waits for it any more.
        return await asyncio.shield(asyncio.create_task(self._keep_busy(worker, order)))

    async def _keep_busy(self, worker: _Worker, order: Order) -> Picture:
        self.drawing += 1
        started = time.monotonic()
        try:
            picture: Picture = await self._draw_at(worker, order)
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - started)
            return picture
        finally:
            self.drawing -= 1
            self._free.put_nowait(worker)

    async def _draw_at(self, worker: _Worker, order: Order) -> Picture:
        for last in (False, True):
            try:
                picture: Picture = await worker.run(_draw, order)
                return picture
            except BrokenProcessPool:
                self.restarts += 1
                worker.replace()
                if last:
                    raise BackendError(
                        "the worker process died twice on this picture; is there enough memory?"
                    ) from None
        raise AssertionError("unreachable")


class _Worker:
    """A process of its own, with a generator in it."""

    def __init__(self, backend: str, settings: Json, gpu: str | None):
        self._made_with = (backend, settings, gpu)
        self.replace()

    def replace(self) -> None:
        # Spawned, since CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _begin, self._made_with)

    async def run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    def stop(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


_made_with: tuple[str, Json] | None = None
_generator: ImageGenerator | None = None
_loop: asyncio.AbstractEventLoop | None = None


def _begin(backend: str, settings: Json, gpu: str | None) -> None:
    """In a worker: remember what to make. An error here would only break the pool, so `_prepare` makes it."""
    global _made_with
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which lets its workers finish
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _made_with = backend, settings


def _end_with_the_server() -> None:
    """In a worker: don't outlive a server that was killed, and keep its GPU."""
    server = multiprocessing.parent_process()
    assert server is not None
    server.join()
    os._exit(1)


def _prepare() -> None:
    """In a worker: make the generator and load its weights."""
    _at_work()


def _at_work() -> tuple[ImageGenerator, asyncio.AbstractEventLoop]:
    global _generator, _loop
    if _generator is None or _loop is None:
        assert _made_with is not None
        backend, settings = _made_with
        _loop = asyncio.new_event_loop()
        generator: ImageGenerator = create("generator", backend, **settings)
        load = getattr(generator, "load", None)
        if load is not None:
            _loop.run_until_complete(load())
        _generator = generator
    return _generator, _loop


def _draw(order: Order) -> Picture:
    """In a worker: draw an order."""
    generator, loop = _at_work()
    return loop.run_until_complete(carry_out(generator, order))
