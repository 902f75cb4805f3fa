"""`interleaver serve ...` and `interleaver mcp`: what others can call."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from interleaver.cli.common import clear_errors, out_option, profile_option
from interleaver.config import load_profile
from interleaver.errors import BadInput, did_you_mean
from interleaver.registry import find
from interleaver.serving.fleet import Fleet

if TYPE_CHECKING:
    from interleaver.serving.vllm import Serve

Json = dict[str, Any]
Command = Callable[..., Any]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


where = _options(
    click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all."),
    click.option(
        "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to listen at."
    ),
    click.option("--api-key-env", metavar="NAME", help="The environment variable with the key that clients must send."),
)
vllm_options = _options(
    where,
    click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="GPUs to split the model over."),
    click.option("--python", default=sys.executable, metavar="PATH", help="The Python of an environment with vLLM."),
    click.option(
        "--wait",
        type=float,
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until it is ready.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the command instead of running it."),
    click.argument("extra", nargs=-1, type=click.UNPROCESSED),
)


@click.group()
def serve() -> None:
    """Serve planner, critic and image generators, on one machine or many."""


def _chat_options(command: Command) -> Command:
    return _options(
        click.argument("weights", required=False),
        click.option("--profile", metavar="PATH|NAME", help="Serve the checkpoint that a profile names."),
        click.option("--adapter", "adapters", multiple=True, metavar="NAME=FOLDER",
                     help="A LoRA adapter and the name it is served by; with planner= and critic= one server is both."),
        click.option("--max-model-len", type=click.IntRange(512), default=20_480, show_default=True,
                     help="Tokens of prompt and answer together; fewer where the model takes fewer."),
        click.option("--images", type=click.IntRange(0), default=16, show_default=True,
                     help="Pictures that one prompt may show."),
        click.option("--format", "form", type=click.Choice(["tagged", "structured"]), default="tagged",
                     show_default=True, help="How the model answers: tagged when it was fine-tuned for it."),
        vllm_options,
    )(command)  # fmt: skip


@serve.command()
@_chat_options
@clear_errors
def planner(**options: Any) -> None:
    """Serve a planner with vLLM: a checkpoint folder or a hub id.

    \b
    interleaver serve planner InterleaveThinker/InterleaveThinker-Planner-8B --port 8001
    interleaver serve planner Qwen/Qwen3-VL-8B-Instruct --adapter planner=lora/p --adapter critic=lora/c
    interleaver serve planner ./checkpoint -- --gpu-memory-utilization 0.45
    """
    _serve_chat("planner", **options)


@serve.command()
@_chat_options
@clear_errors
def critic(**options: Any) -> None:
    """Serve a critic with vLLM: a checkpoint folder or a hub id.

    \b
    interleaver serve critic InterleaveThinker/InterleaveThinker-Critic-8B --port 8002
    interleaver serve critic --profile miniature --port 8002
    """
    _serve_chat("critic", **options)


def _serve_chat(
    role: Literal["planner", "critic"],
    weights: str | None,
    profile: str | None,
    adapters: tuple[str, ...],
    max_model_len: int,
    images: int,
    form: str,
    host: str,
    port: int,
    api_key_env: str | None,
    gpus: int,
    python: str,
    wait: float,
    dry_run: bool,
    extra: tuple[str, ...],
) -> None:
    from interleaver.serving.vllm import Serve, chat_profile

    settings: Json = {"format": form}
    if profile is not None:
        if weights and not weights.startswith("-"):
            raise BadInput(f"WEIGHTS are {weights!r} and --profile is {profile!r}; give one of them")
        # Without weights, click takes the first of vLLM's own arguments for them.
        extra = (*((weights,) if weights else ()), *extra)
        weights, settings = _checkpoint_of(profile, role)
    if weights is None:
        raise BadInput("WEIGHTS are missing: give a checkpoint folder or a hub id, or --profile")
    loras = dict(_pair(text, "--adapter", "planner=path/to/adapter") for text in adapters)
    served = Serve(
        weights, ["base"] if loras else [role], host, port, loras, gpus, max_model_len, images, python, extra
    )
    roles = [one for one in ("planner", "critic") if one in loras] if loras else [role]
    tables = [chat_profile(one, one, served.url, settings, api_key_env) for one in roles]
    _run_vllm(served, served.chat_command(), "\n\n".join(tables), api_key_env, wait, dry_run)


def _checkpoint_of(profile: str, role: Literal["planner", "critic"]) -> tuple[str, Json]:
    """The checkpoint that a profile names, and the settings with which a served one is asked the same way."""
    chosen = load_profile(profile)
    settings = getattr(chosen, role)
    if settings.backend != "local":
        raise BadInput(
            f"the {role} of the profile {profile!r} has the backend {settings.backend}; --profile serves checkpoints, "
            'which are named by backend = "local"'
        )
    given = dict(settings.model_extra or {})
    find(role, settings.backend, given)  # tells what is wrong; the server's environment may have what this one lacks
    weights = str(given.pop("checkpoint"))
    given.pop("batch_size", None)
    return weights, {"format": "tagged", "temperature": 0.0} | given


def _run_vllm(
    served: Serve, command: list[str], profile: str, api_key_env: str | None, wait: float, dry_run: bool
) -> None:
    """Start a vLLM server, tell when it is ready, and stay with it until it ends."""
    from interleaver.serving.process import ServerFailed, ServerProcess, free_port
    from interleaver.serving.vllm import environment

    if dry_run:
        click.echo(shlex.join(command))
        return
    free_port(served.host, served.port)
    server = ServerProcess(command, environment(api_key_env), "vLLM")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.wait_until_ready(f"{served.url}/health", wait)
        _announce(profile)
        code = server.wait()
        click.echo(f"Error: vLLM ended with code {code}", err=True)
        sys.exit(3)
    except ServerFailed as error:
        if "No module named 'vllm" in str(error):
            raise BadInput(
                f'{served.python} has no vLLM; pip install "interleaver[vllm]", '
                "or name the Python of an environment that has it with --python"
            ) from None
        raise
    finally:
        server.stop()


def _announce(profile: str) -> None:
    click.echo(f"\nReady. In the profile:\n\n{profile}\n", nl=True)
    sys.stdout.flush()


@serve.command()
@click.argument("name")
@where
@click.option("--weights", metavar="PATH", help="Another hub id or a local folder.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
              help="A further setting of the generator, such as offload=model.")  # fmt: skip
@click.option("--gpu", "gpu_list", metavar="0,1,...", help="The GPUs to use, one worker process each [default: all].")
@click.option(
    "--queue", type=click.IntRange(1), default=32, show_default=True, help="Requests that may wait; more get 429."
)
@click.option("--own-server", is_flag=True, help="Don't use vLLM-Omni, though it is installed and has the model.")
@click.option("--ray", "ray_address", is_flag=False, flag_value="", metavar="[ADDRESS]",
              help="Run on a Ray cluster; without an address, one on this machine.")  # fmt: skip
@click.option("--replicas", default="1", show_default=True, metavar="N|MIN:MAX", help="On Ray: how many replicas.")
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="On Ray: pictures that are drawn in one pass."
)
@click.option(
    "--wait", type=float, default=1800.0, show_default=True, metavar="SECONDS", help="How long to wait for vLLM-Omni."
)
@clear_errors
def generator(
    name: str,
    host: str,
    port: int,
    api_key_env: str | None,
    weights: str | None,
    settings: tuple[str, ...],
    gpu_list: str | None,
    queue: int,
    own_server: bool,
    ray_address: str | None,
    replicas: str,
    batch: int,
    wait: float,
) -> None:
    """Serve an image generator behind the OpenAI Images API: with vLLM-Omni, else with this package's own server.

    NAME is a model that the backend `diffusers` or vLLM-Omni knows, or `sandbox`.

    \b
    interleaver serve generator flux2-klein-9b
    interleaver serve generator qwen-image-edit-2511 --gpu 0,1 --set offload=model
    interleaver serve generator flux2-klein-4b --ray --replicas 1:8
    """
    from interleaver.serving import vllm
    from interleaver.serving.process import free_port

    if name in vllm.OMNI and not own_server and ray_address is None and vllm.has_omni():
        if settings or gpu_list:
            raise BadInput("--set and --gpu are for this package's own server; add --own-server")
        free_port(host, port)
        served = vllm.Serve(weights or vllm.OMNI[name], [name], host, port, python=sys.executable)
        profile = vllm.generator_profile(name, served.url, _max_sources(name), api_key_env)
        _run_vllm(served, served.omni_command(), profile, api_key_env, wait, False)
        return
    if ray_address is None and (replicas != "1" or batch != 1):
        raise BadInput("--replicas and --batch are for a Ray cluster; add --ray")
    if ray_address is not None and gpu_list:
        raise BadInput("--gpu chooses GPUs of this machine; on Ray each replica gets one of the cluster's")
    backend, given = _backend(name, weights, settings)
    free_port(host, port)
    profile = vllm.generator_profile(name, vllm.url_of(host, port), _max_sources(name), api_key_env)
    door = Door(host, port, _key(api_key_env), profile)
    if ray_address is None:
        asyncio.run(_serve_here(name, backend, given, _gpus(gpu_list), queue, door))
    else:
        least, most = _range(replicas)
        gpus = 1 if backend == "diffusers" and given.get("device") != "cpu" else 0
        _serve_on_ray(Fleet(backend, given, name, least, most, gpus, queue, batch), door, ray_address or None)


@dataclass(frozen=True)
class Door:
    """Where a server of this package is reached, by whom, and the lines of the profile that say so."""

    host: str
    port: int
    key: str | None
    profile: str


def _backend(name: str, weights: str | None, settings: tuple[str, ...]) -> tuple[str, Json]:
    """The backend that draws, and its settings."""
    from interleaver.tools.presets import presets

    given = {field: _value(text) for field, text in (_pair(one, "--set", "offload=model") for one in settings)}
    if name == "sandbox":
        return "sandbox", given
    if name not in presets():
        known = ["sandbox", *presets()]
        raise BadInput(
            f"the generator {name!r} is unknown{did_you_mean(name, known)}; choose one of: {', '.join(known)}"
        )
    return "diffusers", {"model": name, **({"weights": weights} if weights else {}), **given}


def _max_sources(name: str) -> int:
    from interleaver.tools.presets import presets

    return presets()[name].max_sources if name in presets() else 1


def _gpus(text: str | None) -> list[str]:
    """The GPUs to use; empty where there is none."""
    if text is not None:
        return [gpu.strip() for gpu in text.split(",") if gpu.strip()]
    try:
        import torch
    except ImportError:
        return []
    return [str(number) for number in range(torch.cuda.device_count())]


def _key(api_key_env: str | None) -> str | None:
    if api_key_env and not os.environ.get(api_key_env):
        raise BadInput(f"the variable {api_key_env} (--api-key-env) is not set")
    return os.environ[api_key_env] if api_key_env else None


async def _serve_here(name: str, backend: str, given: Json, gpus: list[str], queue: int, door: Door) -> None:
    from interleaver.extras import need

    uvicorn = need("uvicorn", "serve")
    need("fastapi", "serve")
    from interleaver.serving.desk import LocalDesk
    from interleaver.serving.images import create_app

    desk = LocalDesk(backend, given, model=name, workers=max(len(gpus), 1), gpus=gpus, queue=queue)
    try:
        click.echo(f"Loading {name} ...", err=True)
        await desk.start()
        config = uvicorn.Config(create_app(desk, door.key), host=door.host, port=door.port, log_level="warning")
        server = uvicorn.Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn ends in good order and then raises the signal again, which would skip what is to be done below.
            signal.signal(number, lambda *_: None)
        announced = asyncio.create_task(_announce_when(lambda: server.started, door.profile))
        await server.serve()
        announced.cancel()
    finally:
        desk.stop()


async def _announce_when(ready: Callable[[], bool], profile: str) -> None:
    while not ready():  # noqa: ASYNC110  uvicorn has no event to wait for
        await asyncio.sleep(0.05)
    _announce(profile)


def _serve_on_ray(fleet: Fleet, door: Door, address: str | None) -> None:
    from interleaver.extras import need

    serve = need("ray.serve", "ray")
    from interleaver.serving.ray import deploy

    deploy(fleet, door.host, door.port, door.key, address)
    _announce(door.profile)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.delete(fleet.model)


def _range(replicas: str) -> tuple[int, int]:
    """The least and the greatest number of replicas."""
    least, _, most = replicas.partition(":")
    most = most or least
    if not (least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most)):
        raise BadInput(f"--replicas is {replicas!r}; give a number such as 4, or a range such as 1:8")
    return int(least), int(most)


@serve.command()
@click.argument("servers", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where nginx listens; 0.0.0.0 for all addresses.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Likewise.")
@click.option(
    "--seconds", type=click.IntRange(1), default=600, show_default=True, help="How long one request may take."
)
@clear_errors
def nginx(servers: tuple[str, ...], host: str, port: int, seconds: int) -> None:
    """Print an nginx configuration that spreads requests over several servers of one model.

    \b
    interleaver serve nginx http://10.0.0.1:8000 http://10.0.0.2:8000 --port 8080 > nginx.conf
    """
    from interleaver.serving.nginx import nginx_config

    click.echo(nginx_config(servers, port, host=host, seconds=seconds))


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise BadInput(f"{option} is {text!r}; give for example {option} {example}")
    return name, value


def _value(text: str) -> Any:
    """A value as TOML writes it; what is not TOML is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@click.command()
@profile_option
@out_option
@click.option("--http", is_flag=True, help="Serve streamable HTTP instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen, with --http.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Likewise.")
@clear_errors
def mcp(profile: str | None, out: str | None, http: bool, host: str, port: int) -> None:
    """Serve the graph to MCP clients: tools to illustrate and look up runs, pictures as resources.

    \b
    interleaver mcp                      # what an MCP client starts
    interleaver mcp --http --port 8000   # at http://127.0.0.1:8000/mcp
    """
    from interleaver.config import find_profile, load_profile
    from interleaver.extras import need
    from interleaver.runner import Runner

    need("mcp", "mcp")
    from interleaver.adapters.mcp import create_server

    runner = Runner(load_profile(profile), out)
    runner.runs.prepare()
    server = create_server(runner, find_profile(profile), host, port)
    if http:
        click.echo(f"MCP at http://{host}:{port}/mcp", err=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            click.echo("It asks for no key: put something in front of it that does.", err=True)
    server.run("streamable-http" if http else "stdio")
