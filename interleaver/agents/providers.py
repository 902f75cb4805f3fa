"""What the OpenAI-compatible endpoints of well-known providers do differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from interleaver.net.endpoints import AZURE_HOSTS, OPENAI, host_of
from interleaver.types import Json

ProviderName = Literal["azure", "dashscope", "groq", "lmstudio", "ollama", "openai", "openrouter", "vllm"]
ResponseFormat = Literal["json_schema", "json_object", "text"]


@dataclass(frozen=True)
class Provider:
    """A provider of chat models.

    Attributes:
        base_url: URL of its endpoint; None if every customer has another.
        api_key_env: environment variable with the API key; None if it needs none.
        hosts: ends of the host names by which it is recognised.
        token_parameter: name of the token limit in requests.
        response_formats: ways to ask for JSON, of which the next one is tried if the endpoint refuses one; with *text*
            only the prompt asks for it.
        thinking: fields of the request body that switch the model's thinking on and off; none where it has no switch.
    """

    base_url: str | None = None
    api_key_env: str | None = None
    hosts: tuple[str, ...] = ()
    token_parameter: str = "max_tokens"
    response_formats: tuple[ResponseFormat, ...] = ("json_schema", "json_object", "text")
    thinking: dict[bool, Json] = field(default_factory=dict)


def _template_switch(is_on: bool) -> Json:
    return {"chat_template_kwargs": {"enable_thinking": is_on}}


PROVIDERS: dict[ProviderName, Provider] = {
    "azure": Provider(
        api_key_env="AZURE_OPENAI_API_KEY",
        hosts=AZURE_HOSTS,
        token_parameter="max_completion_tokens",
        thinking={True: {"reasoning_effort": "medium"}, False: {"reasoning_effort": "minimal"}},
    ),
    "dashscope": Provider(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        (".aliyuncs.com",),
        response_formats=("json_object", "text"),
        thinking={True: {"enable_thinking": True}, False: {"enable_thinking": False}},
    ),
    "groq": Provider(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        ("api.groq.com",),
        token_parameter="max_completion_tokens",
        thinking={True: {"reasoning_effort": "default"}, False: {"reasoning_effort": "none"}},
    ),
    "lmstudio": Provider(
        "http://127.0.0.1:1234/v1",
        response_formats=("json_schema", "text"),
    ),
    "ollama": Provider(
        "http://127.0.0.1:11434/v1",
        thinking={True: {"reasoning_effort": "medium"}, False: {"reasoning_effort": "none"}},
    ),
    "openai": Provider(
        OPENAI,
        "OPENAI_API_KEY",
        ("api.openai.com",),
        token_parameter="max_completion_tokens",
        thinking={True: {"reasoning_effort": "medium"}, False: {"reasoning_effort": "minimal"}},
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        ("openrouter.ai",),
        thinking={True: {"reasoning": {"enabled": True}}, False: {"reasoning": {"enabled": False}}},
    ),
    "vllm": Provider(
        "http://127.0.0.1:8000/v1", thinking={True: _template_switch(True), False: _template_switch(False)}
    ),
}


def find_provider(name: ProviderName | None, base_url: str | None) -> Provider:
    """Return the provider of a name; without a name, the one that the address belongs to, else one of its own kind."""
    if name:
        return PROVIDERS[name]
    host = host_of(base_url)
    known = (provider for provider in PROVIDERS.values() if provider.hosts and host.endswith(provider.hosts))
    return next(known, Provider(base_url))
