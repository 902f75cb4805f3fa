"""The chat model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Any

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from interleaver.endpoints import OPENAI


class CompatibleChat(ChatOpenAI):
    """`ChatOpenAI` for the servers of other makers too.

    It keeps the reasoning that vLLM, OpenRouter, DeepSeek and others return apart from the answer, which the base
    class drops, and calls the token limit by the name that all of them know.
    """

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        told = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, told.get("choices") or [], strict=False):
            said = choice.get("message") or {}
            reasoning = said.get("reasoning") or said.get("reasoning_content")
            if isinstance(reasoning, str):
                generation.message.additional_kwargs["reasoning_content"] = reasoning
            if said.get("refusal"):
                generation.message.additional_kwargs["refusal"] = said["refusal"]
        return result

    def _get_request_payload(self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        if self.openai_api_base != OPENAI and "max_completion_tokens" in payload:
            payload["max_tokens"] = payload.pop("max_completion_tokens")
        return payload
