"""A chat model for any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from interleaver.net.failures import raise_answered_error


class CompatibleChat(ChatOpenAI):
    """`ChatOpenAI` that also works with other OpenAI-compatible servers.

    It keeps the reasoning that vLLM, OpenRouter, DeepSeek and others return in a separate field, which the base class
    drops; reads answers that a gateway streams although it was not asked to; and raises errors that come with status
    200.

    Attributes:
        token_parameter: name of the token limit: `max_tokens`, which most servers take, or `max_completion_tokens`.
    """

    token_parameter: str = "max_tokens"

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        payload = _payload(response)
        raise_answered_error(payload)
        payload["usage"] = _clean_usage(payload.get("usage"))
        result = super()._create_chat_result(payload, generation_info)
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
        limits = [payload.pop(name) for name in ("max_completion_tokens", "max_tokens") if name in payload]
        return payload | ({self.token_parameter: limits[0]} if limits else {})


def _payload(response: Any) -> dict[str, Any]:
    if isinstance(response, str):
        return _merge_stream(response)
    return dict(response) if isinstance(response, dict) else dict(response.model_dump(warnings=False))


def _merge_stream(text: str) -> dict[str, Any]:
    """Return the chat completion that server-sent events amount to.

    Raises:
        ValueError: the text is no such stream.
    """
    message: dict[str, Any] = {"role": "assistant"}
    merged: dict[str, Any] = {"choices": []}
    choice = {"index": 0, "message": message, "finish_reason": None}
    for line in text.split("\n"):
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        chunk = json.loads(data)
        raise_answered_error(chunk)
        merged |= {name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)}
        for part in chunk.get("choices") or []:
            merged["choices"] = [choice]
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            for name, value in (part.get("delta") or part.get("message") or {}).items():
                if isinstance(value, str) and name != "role":
                    message[name] = message.get(name, "") + value
    if not merged["choices"]:
        raise ValueError(f"the answer is text instead of JSON: {text[:60]!r}")
    message.setdefault("content", "")
    return merged


def _clean_usage(usage: object) -> dict[str, Any] | None:
    """Return token counts that are whole numbers; servers also send null, floats, texts and negative numbers."""
    if not isinstance(usage, dict):
        return None
    counts = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    return counts | {"total_tokens": sum(counts.values())}


def _count(value: object) -> int:
    try:
        return max(int(float(value)), 0) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0
