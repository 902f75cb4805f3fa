"""The image server on a Ray cluster: an HTTP front, and generator replicas that draw the pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from interleaver.errors import BackendUnavailable, InterleaverError
from interleaver.pictures import Picture
from interleaver.registry import create_backend
from interleaver.serving.images_server import create_app
from interleaver.serving.ray_deployment import RayDeployment
from interleaver.serving.worker_pool import DrawRequest, QueueFull, draw_request
from interleaver.tools.protocols import ImageGenerator
from interleaver.types import Json

REPLICA_NAME = "Drawer"
MAX_TRIES = 5
"""Maximum number of replicas that a draw request is sent to, if each of them dies while drawing it."""


class GeneratorReplica:
    """A Ray Serve replica with one generator."""

    def __init__(self, backend: str, settings: Json, batch: int):
        from ray import serve

        self._generator: ImageGenerator = create_backend("generator", backend, **settings)
        self._draw_batched = serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.05)(self._draw_batch)
        self._batch = batch if hasattr(self._generator, "generate_batch") else 1

    async def draw(self, request: DrawRequest) -> Picture:
        """Draw one picture; exceptions are passed on to the front."""
        picture: Picture
        if self._batch > 1 and not (request.sources or request.mask or request.call):
            picture = await self._draw_batched(request)
        else:
            picture = await draw_request(self._generator, request)
        return picture

    async def _draw_batch(self, requests: list[DrawRequest]) -> Sequence[Picture]:
        """Draw the requests that Ray Serve has collected, as one batch per picture size."""
        pictures_by_index: dict[int, Picture] = {}
        for size in {request.size for request in requests}:
            indices = [n for n, request in enumerate(requests) if request.size == size]
            prompts, seeds = [requests[n].prompt for n in indices], [requests[n].seed for n in indices]
            pictures = await self._generator.generate_batch(prompts, seeds, size)  # type: ignore[attr-defined]
            pictures_by_index |= dict(zip(indices, pictures, strict=True))
        return [pictures_by_index[n] for n in range(len(requests))]


class RayReplicas:
    """A drawing service that sends draw requests to the replicas; if a replica dies, its requests are retried."""

    def __init__(self, model: str, queue: int):
        self.model = model
        self.restarts = 0
        self._queue = queue
        self.drawing = 0

    async def draw(self, requests: Sequence[DrawRequest]) -> list[Picture]:
        """Draw the pictures of one client request; see `DrawingService.draw`."""
        return list(await asyncio.gather(*[self._draw(request) for request in requests]))

    async def _draw(self, request: DrawRequest) -> Picture:
        from ray import serve
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError

        replicas = serve.get_deployment_handle(REPLICA_NAME, app_name=self.model)
        self.drawing += 1
        try:
            for _ in range(MAX_TRIES):
                try:
                    picture: Picture = await replicas.draw.remote(request)
                    return picture
                except RayActorError:
                    self.restarts += 1
                except BackPressureError:
                    raise QueueFull(max(1, self._queue // 8)) from None
                except RayTaskError as error:
                    raise error.cause if isinstance(error.cause, InterleaverError) else error from None
        finally:
            self.drawing -= 1
        raise BackendUnavailable(f"{MAX_TRIES} replicas died while they drew this picture")


def deploy(
    deployment: RayDeployment,
    host: str,
    port: int,
    api_key: str | None,
    requests_per_minute: int | None = None,
    address: str | None = None,
) -> None:
    """Start the server on a cluster, and return when it is ready.

    Args:
        deployment: configuration of the generator.
        host: address that the front listens on, on every node that runs one.
        port: port that the front listens on.
        api_key: API key that clients must send as a bearer token; None for a server without authentication.
        requests_per_minute: maximum number of requests of one client address to one front; None for no limit.
        address: address of the cluster; None to start one on this machine, or to join the one in `RAY_ADDRESS`.
    """
    import ray
    from ray import serve

    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    serve.start(http_options={"host": host, "port": port})
    serve.run(application(deployment, api_key, requests_per_minute), name=deployment.model, route_prefix="/")


def application(deployment: RayDeployment, api_key: str | None, requests_per_minute: int | None) -> Any:
    """Return the Ray Serve application: an HTTP front and its generator replicas."""
    from ray import serve

    scaling: Json = {"num_replicas": deployment.min_replicas}
    if deployment.max_replicas > deployment.min_replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": deployment.min_replicas,
                "max_replicas": deployment.max_replicas,
                "target_ongoing_requests": max(2, deployment.batch),
                "upscale_delay_s": 5.0,  # short, because loading a model adds to the delay
            }
        }
    replicas = serve.deployment(
        GeneratorReplica,
        name=REPLICA_NAME,
        ray_actor_options={"num_gpus": deployment.gpus},
        max_ongoing_requests=max(2, 2 * deployment.batch),
        max_queued_requests=deployment.queue,
        health_check_period_s=2,
        **scaling,
    )

    def build() -> Any:
        return create_app(RayReplicas(deployment.model, deployment.queue), api_key, requests_per_minute)

    # The front only waits for replicas, so it must not reserve a CPU core that a replica could use.
    front = serve.deployment(
        serve.ingress(build)(_Front),
        name="Front",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10 * deployment.queue,
    )
    return front.bind(replicas.bind(deployment.backend, deployment.settings, deployment.batch))


class _Front:
    """The ingress deployment. Its application is built on the node that runs it, and finds the replicas by name."""

    def __init__(self, _: Any):
        """Accept the bound replicas, which makes them part of the Ray Serve application."""
