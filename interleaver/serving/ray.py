"""The image server on a Ray cluster: a front that takes orders, and replicas that draw them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from interleaver.errors import BackendUnavailable, InterleaverError
from interleaver.pictures import Picture
from interleaver.registry import create
from interleaver.serving.desk import Busy, Order, carry_out
from interleaver.serving.fleet import Fleet
from interleaver.serving.images import create_app
from interleaver.tools.generators import ImageGenerator

Json = dict[str, Any]
DRAWER = "Drawer"
TRIES = 5
"""How often an order is given to another replica when the one that had it dies."""


class Drawer:
    """A replica: one generator."""

    def __init__(self, backend: str, settings: Json, batch: int):
        from ray import serve

        self._generator: ImageGenerator = create("generator", backend, **settings)
        self._batched = serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.05)(self._draw_batch)
        self._batch = batch if hasattr(self._generator, "generate_batch") else 1

    async def draw(self, order: Order) -> Picture:
        """Draw an order; what it raises reaches the front."""
        picture: Picture
        if self._batch > 1 and not (order.sources or order.mask or order.call):
            picture = await self._batched(order)
        else:
            picture = await carry_out(self._generator, order)
        return picture

    async def _draw_batch(self, orders: list[Order]) -> Sequence[Picture]:
        """Draw what has come together: one pass for each size that was asked for."""
        drawn: dict[int, Picture] = {}
        for size in {order.size for order in orders}:
            alike = [n for n, order in enumerate(orders) if order.size == size]
            prompts, seeds = [orders[n].prompt for n in alike], [orders[n].seed for n in alike]
            pictures = await self._generator.generate_batch(prompts, seeds, size)  # type: ignore[attr-defined]
            drawn |= dict(zip(alike, pictures, strict=True))
        return [drawn[n] for n in range(len(orders))]


class RayDesk:
    """Gives orders to the replicas; one whose replica dies is given to another."""

    def __init__(self, model: str, queue: int):
        self.model = model
        self.restarts = 0
        self._queue = queue
        self.drawing = 0

    async def draw(self, orders: Sequence[Order]) -> list[Picture]:
        """Draw the orders of one request; see `Desk.draw`."""
        return list(await asyncio.gather(*[self._draw(order) for order in orders]))

    async def _draw(self, order: Order) -> Picture:
        from ray import serve
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError

        replicas = serve.get_deployment_handle(DRAWER, app_name=self.model)
        self.drawing += 1
        try:
            for _ in range(TRIES):
                try:
                    picture: Picture = await replicas.draw.remote(order)
                    return picture
                except RayActorError:
                    self.restarts += 1
                except BackPressureError:
                    raise Busy(max(1, self._queue // 8)) from None
                except RayTaskError as error:
                    raise error.cause if isinstance(error.cause, InterleaverError) else error from None
        finally:
            self.drawing -= 1
        raise BackendUnavailable(f"{TRIES} replicas died on this picture")


def deploy(fleet: Fleet, host: str, port: int, api_key: str | None, address: str | None = None) -> None:
    """Start the server on a cluster, and return when it is ready.

    Args:
        fleet: what to run.
        host: where the front listens, on every node that has one.
        port: likewise.
        api_key: what clients must send as a bearer token; None lets everyone in.
        address: the cluster; None starts one on this machine, or joins the one that `RAY_ADDRESS` names.
    """
    import ray
    from ray import serve

    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    serve.start(http_options={"host": host, "port": port})
    serve.run(application(fleet, api_key), name=fleet.model, route_prefix="/")


def application(fleet: Fleet, api_key: str | None) -> Any:
    """The Ray Serve application: a front over replicas."""
    from ray import serve

    scaling: Json = {"num_replicas": fleet.min_replicas}
    if fleet.max_replicas > fleet.min_replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": fleet.min_replicas,
                "max_replicas": fleet.max_replicas,
                "target_ongoing_requests": max(2, fleet.batch),
                "upscale_delay_s": 5.0,  # loading a model takes long enough
            }
        }
    drawers = serve.deployment(
        Drawer,
        name=DRAWER,
        ray_actor_options={"num_gpus": fleet.gpus},
        max_ongoing_requests=max(2, 2 * fleet.batch),
        max_queued_requests=fleet.queue,
        health_check_period_s=2,
        **scaling,
    )

    def build() -> Any:
        return create_app(RayDesk(fleet.model, fleet.queue), api_key)

    # The front only waits; it must not need a core that a replica could have.
    front = serve.deployment(
        serve.ingress(build)(_Front),
        name="Front",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10 * fleet.queue,
    )
    return front.bind(drawers.bind(fleet.backend, fleet.settings, fleet.batch))


class _Front:
    """The ingress; the application that it serves is built on its node, and finds the replicas by their name."""

    def __init__(self, _: Any):
        """Be bound to the replicas, which makes them part of the application."""
