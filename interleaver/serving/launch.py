"""Start servers and run them until they exit: vLLM, this package's images server, and Ray Serve."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from interleaver.errors import BadInput, did_you_mean
from interleaver.extras import require_extra
from interleaver.profile import Profile
from interleaver.registry import find_backend
from interleaver.serving.ray_deployment import RayDeployment
from interleaver.serving.server_process import ServerProcess, ServerStartError, check_port_free
from interleaver.serving.vllm import VllmServer, environment
from interleaver.tools.presets import presets
from interleaver.types import Json

OnReady = Callable[[], None]
"""Callback that is called once, when a server is ready."""


@dataclass(frozen=True)
class ServerAddress:
    """Address and API key of a server of this package.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        key: API key that clients must send as a bearer token; None for a server without authentication.
        requests_per_minute: maximum number of requests of one client address; None for no limit.
    """

    host: str
    port: int
    key: str | None
    requests_per_minute: int | None = None


def read_key(api_key_env: str | None) -> str | None:
    """Return the API key in an environment variable; None if `api_key_env` is None.

    Raises:
        BadInput: the variable is not set.
    """
    if api_key_env and not os.environ.get(api_key_env):
        raise BadInput(f"the variable {api_key_env} (--api-key-env) is not set")
    return os.environ[api_key_env] if api_key_env else None


def local_weights(profile: Profile, role: Literal["planner", "critic"]) -> tuple[str, Json]:
    """Return the weights of a profile's `local` backend, and the equivalent settings of a `chat` backend.

    With these settings, a `chat` backend calls a server of the weights in the same way as the `local` backend calls
    the model.

    Raises:
        BadInput: the role's backend is not `local`, or its settings are invalid.
    """
    section = getattr(profile, role)
    if section.backend != "local":
        raise BadInput(
            f"{role}.backend of the profile {profile.source or 'in use'} is {section.backend!r}; --profile serves the "
            'weights of a backend "local"'
        )
    settings = dict(section.model_extra or {})
    # Only the names of the settings are checked: the backend may need packages that only the server's environment has.
    find_backend(role, section.backend, settings)
    weights = str(settings.pop("weights"))
    settings.pop("batch_size", None)
    return weights, {"format": "tagged", "temperature": 0.0} | settings


def generator_backend(name: str, weights: str | None, settings: Json) -> tuple[str, Json]:
    """Return the name of the generator backend for a model, and the settings of that backend.

    Args:
        name: name of a diffusers preset, or "sandbox".
        weights: hub id or folder to use instead of the preset's weights.
        settings: further settings of the backend.

    Raises:
        BadInput: the name is unknown.
    """
    if name == "sandbox":
        return "sandbox", settings
    if name not in presets():
        choices = ["sandbox", *presets()]
        raise BadInput(
            f"the generator {name!r} is unknown{did_you_mean(name, choices)}; choose one of: {', '.join(choices)}"
        )
    return "diffusers", {"model": name, **({"weights": weights} if weights else {}), **settings}


def max_sources(name: str) -> int:
    """Return the maximum number of source pictures in one edit of a model; 1 if the model has no preset."""
    return presets()[name].max_sources if name in presets() else 1


def visible_gpus() -> list[str]:
    """Return the indices of this machine's GPUs; [] if there are none or torch is not installed."""
    try:
        import torch
    except ImportError:
        return []
    return [str(number) for number in range(torch.cuda.device_count())]


def run_vllm(
    server: VllmServer, command: list[str], api_key_env: str | None, wait_seconds: float, on_ready: OnReady
) -> int:
    """Start a vLLM server and wait until it exits; return its exit code.

    Args:
        server: configuration of the server.
        command: command line that starts the server.
        api_key_env: environment variable with the API key that clients must send; None for no key.
        wait_seconds: timeout for the server to become ready.
        on_ready: called once, when the server is ready.

    Raises:
        BadInput: the port is in use, the variable of the API key is not set, or the environment has no vLLM.
        ServerStartError: the server cannot be started, or did not become ready.
    """
    check_port_free(server.host, server.port)
    process = ServerProcess(command, environment(api_key_env), "vLLM")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        process.wait_until_ready(f"{server.url}/health", wait_seconds)
        on_ready()
        return process.wait()
    except ServerStartError as error:
        if "No module named 'vllm" in str(error):
            raise BadInput(
                f'{server.python} has no vLLM; pip install "interleaver[vllm]", '
                "or give the Python interpreter of an environment with vLLM as --python"
            ) from None
        raise
    finally:
        process.stop()


async def run_images_server(
    name: str, backend: str, settings: Json, gpus: list[str], queue: int, address: ServerAddress, on_ready: OnReady
) -> None:
    """Serve a generator with worker processes on this machine until SIGINT or SIGTERM.

    Args:
        name: name under which the model is served.
        backend: name of the registered generator backend.
        settings: settings of the backend.
        gpus: GPUs to use, with one worker process each; [] for one process without a GPU.
        queue: maximum number of waiting pictures.
        address: address and API key of the server.
        on_ready: called once, when the server is ready.
    """
    uvicorn = require_extra("uvicorn", "serve")
    require_extra("fastapi", "serve")
    from interleaver.serving.guards import guarded_config
    from interleaver.serving.images_server import create_app
    from interleaver.serving.worker_pool import WorkerPool

    pool = WorkerPool(backend, settings, model=name, workers=max(len(gpus), 1), gpus=gpus, queue=queue)
    try:
        await pool.start()
        app = create_app(pool, address.key, address.requests_per_minute)
        server = uvicorn.Server(guarded_config(app, address.host, address.port))
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn shuts down gracefully and then raises the signal again, which would skip stopping the pool.
            signal.signal(number, lambda *_: None)
        announcement = asyncio.create_task(_call_when_started(server, on_ready))
        await server.serve()
        announcement.cancel()
    finally:
        pool.stop()


async def _call_when_started(server: Any, on_ready: OnReady) -> None:
    while not server.started:  # noqa: ASYNC110  uvicorn has no event to wait for
        await asyncio.sleep(0.05)
    on_ready()


def run_on_ray(deployment: RayDeployment, address: ServerAddress, cluster: str | None, on_ready: OnReady) -> None:
    """Serve a generator on a Ray cluster until SIGINT or SIGTERM.

    Args:
        deployment: configuration of the generator.
        address: address and API key of the HTTP front, on every node that runs one.
        cluster: address of the cluster; None to start one on this machine, or to join the one in `RAY_ADDRESS`.
        on_ready: called once, when the server is ready.
    """
    serve = require_extra("ray.serve", "ray")
    from interleaver.serving.ray_replicas import deploy

    deploy(deployment, address.host, address.port, address.key, address.requests_per_minute, cluster)
    on_ready()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.delete(deployment.model)
