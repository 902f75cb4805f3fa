"""Commands and profile sections for planners and critics on vLLM, and for generators on vLLM-Omni."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from interleaver.errors import BadInput
from interleaver.weights import find_weights

OMNI_MODELS = {
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
"""Generators that vLLM-Omni can serve: the hub id of the weights, by model name."""


@dataclass(frozen=True)
class VllmServer:
    """Configuration of one vLLM server.

    Attributes:
        weights: a folder with weights, a hub id, or `interleaver:NAME` for weights that come with this package.
        names: names under which the model is served; with adapters, names of the base model.
        host: address to listen on.
        port: port to listen on.
        adapters: LoRA adapter folders by the name under which each is served; one server can provide both planner and
            critic.
        gpus: number of GPUs to split the model over.
        max_model_len: maximum tokens of prompt and answer together; reduced to the limit in the `config.json` of a
            folder with weights.
        images: maximum number of pictures in one prompt.
        python: Python interpreter of an environment with vLLM.
        extra: further command line arguments for vLLM.
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
        """URL at which clients on this machine reach the server."""
        return url_of(self.host, self.port)

    def chat_command(self) -> list[str]:
        """Return the command that serves a planner, a critic, or both.

        Raises:
            BadInput: an adapter folder is not a LoRA adapter, or this package has no weights of that name.
        """
        weights = find_weights(self.weights)
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
        """Return the command that serves an image generator with vLLM-Omni."""
        command = [self.python, "-m", "vllm_omni.entrypoints.cli.main", "serve", self.weights, "--omni"]
        command += ["--served-model-name", *self.names, "--host", self.host, "--port", str(self.port)]
        if self.gpus > 1:
            command += ["--tensor-parallel-size", str(self.gpus)]
        return [*command, *self.extra]


def url_of(host: str, port: int) -> str:
    """Return the URL at which clients on this machine reach a server that listens on a host and port."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def environment(api_key_env: str | None) -> dict[str, str]:
    """Return the environment variables of a vLLM server, with its API key.

    The key is not passed on the command line, where other users of the machine could read it.

    Args:
        api_key_env: environment variable with the API key; None for a server without authentication.

    Raises:
        BadInput: the variable of the API key is not set.
    """
    if api_key_env is None:
        return dict(os.environ)
    if not os.environ.get(api_key_env):
        raise BadInput(f"the variable {api_key_env} (--api-key-env) is not set")
    return {**os.environ, "VLLM_API_KEY": os.environ[api_key_env]}


def has_omni() -> bool:
    """Return whether this environment has vLLM-Omni."""
    return find_spec("vllm_omni") is not None


def chat_profile(
    role: Literal["planner", "critic"], name: str, url: str, settings: Mapping[str, Any], api_key_env: str | None
) -> str:
    """Return the profile section that uses a served planner or critic.

    Args:
        role: section of the profile.
        name: name under which the model is served.
        url: URL of the server, without `/v1`.
        settings: further settings of the `chat` backend.
        api_key_env: environment variable with the API key; None for a server without authentication.
    """
    return _table(role, {"backend": "chat", "model": name, "base_url": f"{url}/v1", **settings}, api_key_env)


def generator_profile(name: str, url: str, max_sources: int, api_key_env: str | None) -> str:
    """Return the profile section that uses a served generator."""
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
    """Return the maximum sequence length in a weights folder's `config.json`; None if it cannot be read there."""
    try:
        config = json.loads((Path(weights) / "config.json").read_text())
        return int(config.get("text_config", config)["max_position_embeddings"])
    except (OSError, ValueError, KeyError):
        return None


def _rank(folder: str) -> int:
    """Return the rank of a LoRA adapter from its `adapter_config.json`."""
    try:
        return int(json.loads((Path(folder) / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder!r} is not a LoRA adapter: its adapter_config.json cannot be read ({error})") from None
