"""Planner and critic on vLLM, and the generators that vLLM-Omni serves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from interleaver.checkpoints import find_checkpoint
from interleaver.errors import BadInput

OMNI = {
    "qwen-image": "Qwen/Qwen-Image",
    "flux1-krea-dev": "black-forest-labs/FLUX.1-Krea-dev",
    "qwen-image-edit": "Qwen/Qwen-Image-Edit",
    "flux1-kontext-dev": "black-forest-labs/FLUX.1-Kontext-dev",
    "longcat-image-edit": "meituan-longcat/LongCat-Image-Edit",
    "omnigen2": "OmniGen2/OmniGen2",
    "qwen-image-edit-2509": "Qwen/Qwen-Image-Edit-2509",
    "qwen-image-edit-2511": "Qwen/Qwen-Image-Edit-2511",
    "flux2-klein-9b": "black-forest-labs/FLUX.2-klein-9B",
    "flux2-klein-4b": "black-forest-labs/FLUX.2-klein-4B",
}
"""The generators that vLLM-Omni serves, and their weights."""


@dataclass(frozen=True)
class Serve:
    """One vLLM server.

    Attributes:
        weights: a checkpoint folder or hub id, or `interleaver:NAME`.
        names: what the model is called there; with adapters, the base model's name.
        host: the address to listen at.
        port: likewise.
        adapters: LoRA folders by the name under which each is served: one server can be planner and critic at once.
        gpus: how many GPUs the model is split over.
        max_model_len: tokens of prompt and answer together; fewer where a checkpoint folder says that it takes fewer.
        images: how many pictures one prompt may show.
        python: the interpreter of an environment that has vLLM.
        extra: further arguments for vLLM.
    """

    weights: str
    names: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8000
    adapters: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    max_model_len: int = 20_480
    images: int = 16
    python: str = "python"
    extra: Sequence[str] = ()

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        return url_of(self.host, self.port)

    def chat_command(self) -> list[str]:
        """The command that serves a planner, a critic, or both.

        Raises:
            BadInput: an adapter is none, or this package has no such checkpoint.
        """
        weights = find_checkpoint(self.weights)
        tokens = min(self.max_model_len, _tokens_of(weights) or self.max_model_len)
        command = [self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", weights]
        command += ["--served-model-name", *self.names, "--host", self.host, "--port", str(self.port)]
        command += ["--tensor-parallel-size", str(self.gpus), "--max-model-len", str(tokens)]
        command += ["--limit-mm-per-prompt", json.dumps({"image": self.images, "video": 0})]
        if self.adapters:
            rank = max(_rank(folder) for folder in self.adapters.values())
            modules = [f"{name}={folder}" for name, folder in self.adapters.items()]
            command += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(len(modules))]
            command += ["--lora-modules", *modules]
        return [*command, *self.extra]

    def omni_command(self) -> list[str]:
        """The command that serves an image generator with vLLM-Omni."""
        command = [self.python, "-m", "vllm_omni.entrypoints.cli.main", "serve", self.weights, "--omni"]
        command += ["--served-model-name", *self.names, "--host", self.host, "--port", str(self.port)]
        if self.gpus > 1:
            command += ["--tensor-parallel-size", str(self.gpus)]
        return [*command, *self.extra]


def url_of(host: str, port: int) -> str:
    """Where clients on this machine reach a server that listens at a host."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def environment(api_key_env: str | None) -> dict[str, str]:
    """The environment of a vLLM server; its key travels there and not on the command line, where anyone could read it.

    Raises:
        BadInput: the variable of the key is not set.
    """
    if api_key_env is None:
        return dict(os.environ)
    if not os.environ.get(api_key_env):
        raise BadInput(f"the variable {api_key_env} (--api-key-env) is not set")
    return {**os.environ, "VLLM_API_KEY": os.environ[api_key_env]}


def has_omni() -> bool:
    """Whether this environment has vLLM-Omni."""
    return find_spec("vllm_omni") is not None


def chat_profile(
    role: Literal["planner", "critic"], name: str, url: str, settings: Mapping[str, Any], api_key_env: str | None
) -> str:
    """The lines of a profile that use a served planner or critic, with further settings of the backend `chat`."""
    return _table(role, {"backend": "chat", "model": name, "base_url": f"{url}/v1", **settings}, api_key_env)


def generator_profile(name: str, url: str, max_sources: int, api_key_env: str | None) -> str:
    """The lines of a profile that use a served generator."""
    fields = {
        "backend": "openai-images",
        "model": name,
        "base_url": f"{url}/v1",
        "max_sources": max_sources,
    }
    return _table("generator", fields, api_key_env)


def _table(section: str, fields: Mapping[str, Any], api_key_env: str | None) -> str:
    if api_key_env:
        fields = {**fields, "api_key_env": api_key_env}
    return "\n".join([f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())])


def _tokens_of(weights: str) -> int | None:
    """How many tokens a checkpoint folder's model takes; None where the folder does not say, or is none."""
    try:
        config = json.loads((Path(weights) / "config.json").read_text())
        return int(config.get("text_config", config)["max_position_embeddings"])
    except (OSError, ValueError, KeyError):
        return None


def _rank(folder: str) -> int:
    """The rank of a LoRA adapter."""
    try:
        return int(json.loads((Path(folder) / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder!r} is no LoRA adapter: its adapter_config.json cannot be read ({error})") from None
