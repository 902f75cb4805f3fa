"""`interleaver serve ...`: serve planners, critics and image generators over HTTP."""

from __future__ import annotations

import asyncio
import shlex
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from interleaver.choices import AnswerFormat
from interleaver.cli.common import (
    EXIT_UNFINISHED,
    api_key_env_option,
    host_option,
    one_line_errors,
    requests_per_minute_option,
    without_key_option,
)
from interleaver.errors import BadInput
from interleaver.types import Json

if TYPE_CHECKING:
    from interleaver.serving.vllm import VllmServer

Command = Callable[..., Any]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


address_options = _options(
    without_key_option,
    host_option,
    click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on."),
    api_key_env_option,
)
vllm_options = _options(
    address_options,
    click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="GPUs to split the model over."),
    click.option(
        "--python", default=sys.executable, metavar="PATH", help="Python interpreter of an environment that has vLLM."
    ),
    click.option(
        "--wait",
        type=float,
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help="Timeout for the server to become ready.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the command instead of running it."),
    click.argument("extra", nargs=-1, type=click.UNPROCESSED),
)


@click.group()
def serve() -> None:
    """Serve planners, critics and image generators, on one machine or many."""


@dataclass(frozen=True)
class ChatServerOptions:
    """The options of `serve planner` and `serve critic`."""

    weights: str | None
    profile: str | None
    adapters: tuple[str, ...]
    max_model_len: int
    images: int
    answer_format: AnswerFormat
    host: str
    port: int
    api_key_env: str | None
    gpus: int
    python: str
    wait: float
    dry_run: bool
    extra: tuple[str, ...]


def _chat_options(command: Command) -> Command:
    return _options(
        click.argument("weights", required=False),
        click.option("--profile", metavar="PATH|NAME", help='Serve the weights of the "local" backend in a profile.'),
        click.option("--adapter", "adapters", multiple=True, metavar="NAME=FOLDER",
                     help="LoRA adapter and the name to serve it under; can be repeated. With planner= and critic=, "
                     "one server provides both."),
        click.option("--max-model-len", type=click.IntRange(512), default=20_480, show_default=True,
                     help="Maximum tokens of prompt and answer together; reduced to the model's own limit."),
        click.option("--images", type=click.IntRange(0), default=16, show_default=True,
                     help="Maximum number of pictures in one prompt."),
        click.option("--format", "answer_format", type=click.Choice(get_args(AnswerFormat)), default="tagged",
                     show_default=True, help="Wire format of the answers; fine-tuned models use tagged."),
        vllm_options,
    )(command)  # fmt: skip


@serve.command()
@_chat_options
@one_line_errors
def planner(**options: Any) -> None:
    """Serve a planner with vLLM. WEIGHTS is a folder with weights or a hub id; arguments after "--" go to vLLM.

    \b
    interleaver serve planner InterleaveThinker/InterleaveThinker-Planner-8B --port 8001
    interleaver serve planner Qwen/Qwen3-VL-8B-Instruct --adapter planner=lora/p --adapter critic=lora/c
    interleaver serve planner ./weights -- --gpu-memory-utilization 0.45
    """
    _serve_chat("planner", ChatServerOptions(**options))


@serve.command()
@_chat_options
@one_line_errors
def critic(**options: Any) -> None:
    """Serve a critic with vLLM. WEIGHTS is a folder with weights or a hub id; arguments after "--" go to vLLM.

    \b
    interleaver serve critic InterleaveThinker/InterleaveThinker-Critic-8B --port 8002
    interleaver serve critic --profile miniature --port 8002
    """
    _serve_chat("critic", ChatServerOptions(**options))


def _serve_chat(role: Literal["planner", "critic"], options: ChatServerOptions) -> None:
    from interleaver.serving.vllm import VllmServer, chat_profile

    weights, extra, settings = _weights(role, options)
    loras = dict(_pair(text, "--adapter", "planner=path/to/adapter") for text in options.adapters)
    server = VllmServer(
        weights,
        ["base"] if loras else [role],
        options.host,
        options.port,
        loras,
        options.gpus,
        options.max_model_len,
        options.images,
        options.python,
        extra,
    )
    roles = [name for name in ("planner", "critic") if name in loras] if loras else [role]
    tables = [chat_profile(name, name, server.url, settings, options.api_key_env) for name in roles]
    command = server.chat_command()
    if options.dry_run:
        click.echo(shlex.join(command))
        return
    _run_vllm(server, command, "\n\n".join(tables), options.api_key_env, options.wait)


def _weights(role: Literal["planner", "critic"], options: ChatServerOptions) -> tuple[str, tuple[str, ...], Json]:
    """Return the weights to serve, the extra arguments for vLLM, and the backend settings for the printed profile."""
    from interleaver.profile import load_profile
    from interleaver.serving.launch import local_weights

    weights, extra = options.weights, options.extra
    if options.profile is None:
        if weights is None:
            raise BadInput("WEIGHTS are missing: give a folder with weights or a hub id, or --profile")
        return weights, extra, {"format": options.answer_format}
    if weights and not weights.startswith("-"):
        raise BadInput(f"WEIGHTS are {weights!r} and --profile is {options.profile!r}; give one of them")
    # If no weights are given, click assigns the first of vLLM's own arguments to WEIGHTS.
    extra = (*((weights,) if weights else ()), *extra)
    weights, settings = local_weights(load_profile(options.profile), role)
    return weights, extra, settings


def _run_vllm(server: VllmServer, command: list[str], profile: str, api_key_env: str | None, wait: float) -> None:
    """Run a vLLM server until it is stopped; if it exits by itself, report an error and exit."""
    from interleaver.serving.launch import run_vllm

    code = run_vllm(server, command, api_key_env, wait, lambda: _print_profile(profile))
    click.echo(f"Error: vLLM exited with code {code}", err=True)
    sys.exit(EXIT_UNFINISHED)


def _print_profile(profile: str) -> None:
    click.echo(f"\nReady. Add this to the profile:\n\n{profile}\n", nl=True)
    sys.stdout.flush()


@dataclass(frozen=True)
class GeneratorServerOptions:
    """The options of `serve generator`."""

    name: str
    host: str
    port: int
    api_key_env: str | None
    weights: str | None
    settings: tuple[str, ...]
    gpu_list: str | None
    queue: int
    requests_per_minute: int | None
    own_server: bool
    ray_address: str | None
    replicas: str
    batch: int
    wait: float


@serve.command()
@click.argument("name")
@address_options
@click.option("--weights", metavar="PATH", help="Hub id or local folder to use instead of the default weights.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
              help="Additional setting of the generator, such as offload=model; can be repeated.")  # fmt: skip
@click.option("--gpu", "gpu_list", metavar="0,1,...", help="GPUs to use, with one worker process each [default: all].")
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Maximum number of waiting pictures; further requests get HTTP 429.",
)
@requests_per_minute_option
@click.option("--own-server", is_flag=True, help="Use this package's own server even if vLLM-Omni has the model.")
@click.option("--ray", "ray_address", is_flag=False, flag_value="", metavar="[ADDRESS]",
              help="Run on the Ray cluster at ADDRESS; without ADDRESS, on one started on this machine.")  # fmt: skip
@click.option("--replicas", default="1", show_default=True, metavar="N|MIN:MAX", help="With --ray: number of replicas.")
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="With --ray: batch size of a replica."
)
@click.option(
    "--wait",
    type=float,
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="Timeout for vLLM-Omni to become ready.",
)
@one_line_errors
def generator(**options: Any) -> None:
    """Serve an image generator through the OpenAI Images API.

    NAME is a model of the `diffusers` backend or of vLLM-Omni, or `sandbox`. vLLM-Omni serves the model if it is
    installed and has it, otherwise this package's own server does.

    \b
    interleaver serve generator flux2-klein-9b
    interleaver serve generator qwen-image-edit-2511 --gpu 0,1 --set offload=model
    interleaver serve generator flux2-klein-4b --ray --replicas 1:8
    """
    from interleaver.serving import vllm

    chosen_options = GeneratorServerOptions(**options)
    own_server = chosen_options.own_server or chosen_options.ray_address is not None
    if chosen_options.name in vllm.OMNI_MODELS and not own_server and vllm.has_omni():
        _serve_with_omni(chosen_options)
    else:
        _serve_with_own_server(chosen_options)


def _serve_with_omni(options: GeneratorServerOptions) -> None:
    from interleaver.serving.launch import max_sources
    from interleaver.serving.vllm import OMNI_MODELS, VllmServer, generator_profile

    if options.settings or options.gpu_list or options.requests_per_minute:
        raise BadInput("--set, --gpu and --requests-per-minute are for this package's own server; add --own-server")
    weights = options.weights or OMNI_MODELS[options.name]
    server = VllmServer(weights, [options.name], options.host, options.port, python=sys.executable)
    profile = generator_profile(options.name, server.url, max_sources(options.name), options.api_key_env)
    _run_vllm(server, server.omni_command(), profile, options.api_key_env, options.wait)


def _serve_with_own_server(options: GeneratorServerOptions) -> None:
    from interleaver.serving import launch
    from interleaver.serving.ray_deployment import RayDeployment
    from interleaver.serving.server_process import check_port_free
    from interleaver.serving.vllm import generator_profile, url_of

    if options.ray_address is None and (options.replicas != "1" or options.batch != 1):
        raise BadInput("--replicas and --batch are for a Ray cluster; add --ray")
    if options.ray_address is not None and options.gpu_list:
        raise BadInput(
            "--gpu selects GPUs of this machine, but on Ray each replica gets one of the cluster's; leave out --gpu"
        )
    fields = {name: _value(text) for name, text in (_pair(pair, "--set", "offload=model") for pair in options.settings)}
    backend, settings = launch.generator_backend(options.name, options.weights, fields)
    check_port_free(options.host, options.port)
    url, sources = url_of(options.host, options.port), launch.max_sources(options.name)
    profile = generator_profile(options.name, url, sources, options.api_key_env)
    address = launch.ServerAddress(
        options.host, options.port, launch.read_key(options.api_key_env), options.requests_per_minute
    )

    def on_ready() -> None:
        _print_profile(profile)

    if options.ray_address is None:
        gpus = _gpu_numbers(options.gpu_list)
        click.echo(f"Loading {options.name} ...", err=True)
        asyncio.run(launch.run_images_server(options.name, backend, settings, gpus, options.queue, address, on_ready))
        return
    gpus_per_replica = 1 if backend == "diffusers" and settings.get("device") != "cpu" else 0
    bounds = _range(options.replicas)
    deployment = RayDeployment(backend, settings, options.name, *bounds, gpus_per_replica, options.queue, options.batch)
    launch.run_on_ray(deployment, address, options.ray_address or None, on_ready)


def _gpu_numbers(text: str | None) -> list[str]:
    from interleaver.serving.launch import visible_gpus

    return visible_gpus() if text is None else [gpu.strip() for gpu in text.split(",") if gpu.strip()]


def _range(replicas: str) -> tuple[int, int]:
    """Return the minimum and maximum number of replicas."""
    minimum, _, maximum = replicas.partition(":")
    maximum = maximum or minimum
    if not (minimum.isdecimal() and maximum.isdecimal() and 1 <= int(minimum) <= int(maximum)):
        raise BadInput(f"--replicas is {replicas!r}; give a number such as 4, or a range such as 1:8")
    return int(minimum), int(maximum)


@serve.command()
@click.argument("servers", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that nginx listens on; 0.0.0.0 for all.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port that nginx listens on."
)
@click.option(
    "--seconds", type=click.IntRange(1), default=600, show_default=True, help="Timeout of one request, in seconds."
)
@one_line_errors
def nginx(servers: tuple[str, ...], host: str, port: int, seconds: int) -> None:
    """Print an nginx configuration that balances requests over several servers of one model.

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
    """Return the value of a TOML literal; text that is not TOML is returned as it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
