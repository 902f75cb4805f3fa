"""The worker processes of an image server, behind a bounded queue of draw requests."""

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
from interleaver.registry import create_backend
from interleaver.tools.protocols import ImageGenerator, Size
from interleaver.types import Json


@dataclass(frozen=True)
class DrawRequest:
    """One picture to draw.

    Attributes:
        prompt: what to draw or change.
        sources: pictures to edit; empty to draw a new picture.
        seed: seed of the picture, 0 to 2**31 - 1.
        size: width and height in pixels.
        mask: picture that is white where the generator may paint; None to paint everywhere.
        call: generator parameters for this picture only, such as `num_inference_steps`.
    """

    prompt: str
    sources: tuple[Picture, ...]
    seed: int
    size: Size
    mask: Picture | None = None
    call: Json = field(default_factory=dict)


class QueueFull(InterleaverError):
    """The queue is full.

    Attributes:
        retry_after: estimated seconds until the queue has room.
    """

    def __init__(self, retry_after: int):
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class DrawingService(Protocol):
    """A service that draws the pictures of an image server.

    Attributes:
        model: name under which the model is served.
    """

    model: str

    async def draw(self, requests: Sequence[DrawRequest]) -> list[Picture]:
        """Draw the pictures of one client request; return them in the same order.

        Raises:
            QueueFull: too many draw requests are waiting already.
            BackendError: a picture cannot be drawn.
        """
        ...


async def draw_request(generator: ImageGenerator, request: DrawRequest) -> Picture:
    """Draw one picture with a generator.

    Raises:
        BadInput: the generator does not accept that many sources, a mask, or a parameter of the request.
        BackendError: the picture cannot be drawn.
    """
    limit = generator.capabilities.max_sources
    if len(request.sources) > limit:
        can = f"at most {limit} picture(s)" if limit else "no pictures at all"
        raise BadInput(f"image: {len(request.sources)} picture(s) were sent; this model edits {can}")
    parameters = inspect.signature(generator.generate).parameters
    extra: Json = {}
    for name, value, fields in (("mask", request.mask, ["mask"]), ("call", request.call, list(request.call))):
        if value and name not in parameters:
            raise BadInput(f"{', '.join(fields)}: this model takes no such parameter")
        if value:
            extra[name] = value
    try:
        return await generator.generate(request.prompt, request.sources, request.seed, request.size, **extra)
    except (BackendError, BadInput):
        raise
    except Exception as error:
        raise BackendError(f"the generator failed: {type(error).__name__}: {error}") from error


class WorkerPool:
    """Worker processes on this machine, one per GPU, behind a bounded queue.

    A worker that dies (a driver error, the kernel's out-of-memory killer) is replaced, and its draw request is retried
    once.
    """

    def __init__(
        self, backend: str, settings: Json, *, model: str, workers: int = 1, gpus: Sequence[str] = (), queue: int = 32
    ):
        """Set up a pool; `start` starts its workers.

        Args:
            backend: name of the registered generator backend.
            settings: settings of the backend.
            model: name under which the model is served.
            workers: number of worker processes.
            gpus: value of `CUDA_VISIBLE_DEVICES` for each worker; empty to leave the variable unchanged.
            queue: number of waiting pictures from which on further requests are refused.
        """
        self.model = model
        self.restarts = 0
        self.drawing = 0
        self._workers = [_WorkerProcess(backend, settings, gpus[n] if gpus else None) for n in range(workers)]
        self._free_workers: asyncio.Queue[_WorkerProcess] = asyncio.Queue()
        self._queue = queue
        self._queued_tasks: set[asyncio.Task[Picture]] = set()
        self._average_seconds = 1.0  # moving average of the drawing time of a picture

    @property
    def waiting(self) -> int:
        """Number of draw requests that wait for a worker."""
        return len(self._queued_tasks)

    async def start(self) -> None:
        """Start the workers and have each load its model.

        Raises:
            BadInput: the backend does not accept these settings.
            BackendError: the model cannot be loaded.
        """
        try:
            await asyncio.gather(*[worker.run(_load) for worker in self._workers])
        except BrokenProcessPool:
            raise BackendError("a worker process died while it loaded the model; check the free memory") from None
        for worker in self._workers:
            self._free_workers.put_nowait(worker)

    def stop(self) -> None:
        """Terminate the workers; pictures that are being drawn are lost."""
        for worker in self._workers:
            worker.stop()

    async def draw(self, requests: Sequence[DrawRequest]) -> list[Picture]:
        """Draw the pictures of one client request, all or none of them; see `DrawingService.draw`."""
        if self.waiting >= self._queue:
            raise QueueFull(max(1, math.ceil(self._average_seconds * (self.waiting + 1) / len(self._workers))))
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(self._draw(request)) for request in requests]
            # Count them as queued at once, so that the next request sees the actual length of the queue.
            self._queued_tasks.update(drawing)
            for task in drawing:
                task.add_done_callback(self._queued_tasks.discard)
        return [task.result() for task in drawing]

    async def _draw(self, request: DrawRequest) -> Picture:
        worker = await self._free_workers.get()
        self._queued_tasks -= {asyncio.current_task()}
        # A worker cannot be interrupted: it is released when it has finished, even if the request was cancelled.
        return await asyncio.shield(asyncio.create_task(self._draw_and_release(worker, request)))

    async def _draw_and_release(self, worker: _WorkerProcess, request: DrawRequest) -> Picture:
        self.drawing += 1
        start = time.monotonic()
        try:
            picture: Picture = await self._draw_with_retry(worker, request)
            self._average_seconds = 0.8 * self._average_seconds + 0.2 * (time.monotonic() - start)
            return picture
        finally:
            self.drawing -= 1
            self._free_workers.put_nowait(worker)

    async def _draw_with_retry(self, worker: _WorkerProcess, request: DrawRequest) -> Picture:
        for is_last_try in (False, True):
            try:
                picture: Picture = await worker.run(_draw, request)
                return picture
            except BrokenProcessPool:
                self.restarts += 1
                worker.replace()
                if is_last_try:
                    raise BackendError(
                        "the worker process died twice while it drew this picture; check the free memory"
                    ) from None
        raise AssertionError("unreachable")


class _WorkerProcess:
    """A child process with one generator."""

    def __init__(self, backend: str, settings: Json, gpu: str | None):
        self._initialiser_arguments = (backend, settings, gpu)
        self.replace()

    def replace(self) -> None:
        # Spawned, since CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _initialise, self._initialiser_arguments)

    async def run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    def stop(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


_generator_settings: tuple[str, Json] | None = None
_generator: ImageGenerator | None = None
_loop: asyncio.AbstractEventLoop | None = None


def _initialise(backend: str, settings: Json, gpu: str | None) -> None:
    """In a worker: store the generator's settings; `_load` creates it, since an error here would break the pool."""
    global _generator_settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C and lets its workers finish
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _generator_settings = backend, settings


def _end_with_the_server() -> None:
    """In a worker: exit when the server process ends, so that a killed server does not leave its GPU in use."""
    server = multiprocessing.parent_process()
    assert server is not None
    server.join()
    os._exit(1)


def _load() -> None:
    """In a worker: create the generator and load its weights."""
    _loaded_generator()


def _loaded_generator() -> tuple[ImageGenerator, asyncio.AbstractEventLoop]:
    global _generator, _loop
    if _generator is None or _loop is None:
        assert _generator_settings is not None
        backend, settings = _generator_settings
        _loop = asyncio.new_event_loop()
        generator: ImageGenerator = create_backend("generator", backend, **settings)
        load = getattr(generator, "load", None)
        if load is not None:
            _loop.run_until_complete(load())
        _generator = generator
    return _generator, _loop


def _draw(request: DrawRequest) -> Picture:
    """In a worker: draw one picture."""
    generator, loop = _loaded_generator()
    return loop.run_until_complete(draw_request(generator, request))
