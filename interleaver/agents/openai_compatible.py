"""A chat model for any OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from interleaver.net.endpoints import OPENAI


class CompatibleChat(ChatOpenAI):
    """`ChatOpenAI` that also works with other OpenAI-compatible servers.

    It keeps the reasoning that vLLM, OpenRouter, DeepSeek and others return in a separate field, which the base class
    drops, and sends the token limit as `max_tokens`, which all of them accept.
    """

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        payload = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, payload.get("choices") or [], strict=False):
            message = choice.get("message") or {}
            reasoning = message.get("reasoning") or message.get("reasoning_content")
            if isinstance(reasoning, str):
                generation.message.additional_kwargs["reasoning_content"] = reasoning
            if message.get("refusal"):
                generation.message.additional_kwargs["refusal"] = message["refusal"]
        return result

    def _get_request_payload(self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if self.openai_api_base != OPENAI and "max_completion_tokens" in payload:
            payload["max_tokens"] = payload.pop("max_completion_tokens")
        return payload
