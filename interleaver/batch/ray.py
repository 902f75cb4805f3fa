"""Execution of batches of runs on a Ray cluster."""

from __future__ import annotations

import asyncio
import math
import secrets
from pathlib import Path
from typing import Any

from interleaver.batch.prompt_list import BatchItem
from interleaver.batch.workers import STORED_PREFIX, BatchResult, BatchWorker
from interleaver.errors import BadInput, InterleaverError
from interleaver.extras import require_extra
from interleaver.profile import Profile
from interleaver.runner import Runner, open_run_store, read_picture
from interleaver.types import Json

PER_ACTOR = 16
"""Number of concurrent runs per worker process; runs mostly wait for models."""
RETRIES = 3
"""Number of retries of an item whose process died; limited, since the item itself may have crashed the process."""


class RayWorkers:
    """The worker processes on a Ray cluster. Ray restarts a process that died and retries its items.

    Each process applies the profile's `concurrency` limits on its own.
    """

    def __init__(self, address: str, workers: int, profile: Profile, out: str | None, **options: Any):
        """Join a cluster and start the workers.

        Args:
            address: address of the cluster; "local" starts one on this machine.
            workers: number of concurrent runs across all processes.
            profile: profile with the models and settings.
            out: folder or URL of the runs, which every machine must be able to access; None for the profile's.
            options: `documents` (of `Runner`) and `retry` (of `BatchWorker`).

        Raises:
            BadInput: Ray is not installed, or the cluster cannot be joined.
        """
        ray = require_extra("ray", "ray")
        try:
            if not ray.is_initialized():
                ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInput(f"the Ray cluster {address!r} (--ray) cannot be joined: {error}") from None
        nodes = sum(node["Alive"] for node in ray.nodes())
        count = min(workers, max(nodes, math.ceil(workers / PER_ACTOR)))
        self._ray = ray
        store = open_run_store(profile, out)
        self._images = store.images
        # A relative path would be a different folder in each worker.
        out = str(store.root.local.resolve()) if store.root.local else store.root.url
        runs_per_actor = math.ceil(workers / count)
        actor = ray.remote(_Actor).options(
            max_restarts=-1, max_task_retries=RETRIES, max_concurrency=runs_per_actor, scheduling_strategy="SPREAD"
        )
        owner = secrets.token_hex(8)
        profile_data = profile.model_dump(mode="json")
        self._actors = [actor.remote(profile_data, profile.source, out, owner, options) for _ in range(count)]
        self._free_actors = asyncio.Queue[Any]()
        for _ in range(runs_per_actor):
            for actor_handle in self._actors:
                self._free_actors.put_nowait(actor_handle)

    async def make(self, item: BatchItem) -> BatchResult:
        """Make the run of an item on the cluster; see `BatchWorker.make`."""
        actor = await self._free_actors.get()
        try:
            stored_item = item.model_copy(update={"images": [await self._store_image(image) for image in item.images]})
            return BatchResult.model_validate(await actor.make.remote(stored_item.model_dump()))
        except InterleaverError as error:
            return BatchResult(line=item.line, status="refused", problem=str(error))
        except self._ray.exceptions.RayError as error:
            last_line = str(error).strip().splitlines()[-1]
            return BatchResult(line=item.line, status="error", problem=f"Ray stopped retrying it: {last_line}")
        finally:
            self._free_actors.put_nowait(actor)

    async def _store_image(self, image: str) -> str:
        """Copy a local picture to the image store, which every worker can read, and return its reference there."""
        picture = await asyncio.to_thread(read_picture, Path(image))
        return STORED_PREFIX + (await self._images.put(picture)).sha256

    def close(self) -> None:
        """Stop the workers and leave the cluster."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()


class _Actor:
    """A worker process on the cluster."""

    def __init__(self, profile: Json, source: str | None, out: str | None, owner: str, options: Json):
        runner = Runner(Profile.model_validate(profile).with_source(source), out, options["documents"])
        self._worker = BatchWorker(runner, options["retry"], owner)

    async def make(self, item: dict[str, Any]) -> dict[str, Any]:
        return (await self._worker.make(BatchItem.model_validate(item))).model_dump()
