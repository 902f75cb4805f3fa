"""Carrying out many runs on a Ray cluster."""

from __future__ import annotations

import asyncio
import math
import secrets
from pathlib import Path
from typing import Any

from interleaver.batch.items import Item
from interleaver.batch.work import STORED, Done, Worker
from interleaver.config import Profile
from interleaver.errors import BadInput, InterleaverError
from interleaver.extras import need
from interleaver.runner import Runner, read_picture

PER_ACTOR = 16
"""How many runs one process makes at a time; runs mostly wait for models."""
RETRIES = 3
"""How often an item is tried again whose process died: an item that kills its process must not do so for ever."""


class RayWorkers:
    """Worker processes all over a cluster. Ray starts one that died again, and gives it what it was working on.

    Each process holds its own limits of `concurrency`.
    """

    def __init__(self, address: str, workers: int, profile: Profile, out: str | None, **options: Any):
        """Join a cluster and start the workers.

        Args:
            address: of the cluster; "local" starts one on this machine.
            workers: how many runs are made at a time, all processes together.
            profile: the models and settings.
            out: where the runs are kept; every machine must reach it.
            options: `profile_path`, `documents` and `retry` of the workers.

        Raises:
            BadInput: Ray is not installed, or the cluster cannot be joined.
        """
        ray = need("ray", "ray")
        try:
            if not ray.is_initialized():
                ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInput(f"the Ray cluster {address!r} (--ray) cannot be joined: {error}") from None
        nodes = sum(node["Alive"] for node in ray.nodes())
        count = min(workers, max(nodes, math.ceil(workers / PER_ACTOR)))
        self._ray = ray
        store = profile.store.open(out)
        self._images = store.images
        # A relative path would be another folder in each worker.
        out = str(store.root.local.resolve()) if store.root.local else store.root.url
        each = math.ceil(workers / count)
        actor = ray.remote(_Actor).options(
            max_restarts=-1, max_task_retries=RETRIES, max_concurrency=each, scheduling_strategy="SPREAD"
        )
        owner = secrets.token_hex(8)
        told = profile.model_dump(mode="json")
        self._actors = [actor.remote(told, out, owner, options) for _ in range(count)]
        self._free = asyncio.Queue[Any]()
        for _ in range(each):
            for one in self._actors:
                self._free.put_nowait(one)

    async def make(self, item: Item) -> Done:
        """Make the run of an item on the cluster; see `Worker.make`."""
        actor = await self._free.get()
        try:
            sent = item.model_copy(update={"images": [await self._stored(image) for image in item.images]})
            return Done.model_validate(await actor.make.remote(sent.model_dump()))
        except InterleaverError as error:
            return Done(line=item.line, status="refused", problem=str(error))
        except self._ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[-1]
            return Done(line=item.line, status="error", problem=f"Ray gave up on it: {said}")
        finally:
            self._free.put_nowait(actor)

    async def _stored(self, image: str) -> str:
        """A picture of this machine as one of the store, which every worker can read."""
        picture = await asyncio.to_thread(read_picture, Path(image))
        return STORED + (await self._images.put(picture)).sha256

    def close(self) -> None:
        """Leave the cluster; its workers end."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()


class _Actor:
    """A worker process."""

    def __init__(self, profile: dict[str, Any], out: str | None, owner: str, options: dict[str, Any]):
        runner = Runner(Profile.model_validate(profile), out, options["documents"])
        self._worker = Worker(runner, options["profile_path"], options["retry"], owner)

    async def make(self, item: dict[str, Any]) -> dict[str, Any]:
        return (await self._worker.make(Item.model_validate(item))).model_dump()
