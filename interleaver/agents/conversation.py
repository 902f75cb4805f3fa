"""Questions to any chat model: asked, parsed, asked again if the answer is unreadable, and recorded."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langgraph.constants import TAG_NOSTREAM
from pydantic import ConfigDict, Field, SecretStr
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.exchanges import record_exchange
from interleaver.agents.prompts import PromptPart, fill, template_text
from interleaver.errors import BackendError, Refusal, UnreadableAnswer
from interleaver.extras import require_extra
from interleaver.net.endpoints import OPENAI, Endpoint, is_local_address, openai_key_variable
from interleaver.pictures import Picture, apply_policy
from interleaver.types import HOSTED_PICTURES, IMAGE_TAG, LOCAL_PICTURES, Exchange, Json, Message, PicturePolicy, Usage

T = TypeVar("T")
MAX_QUOTED = 4_000
LENGTH_REASONS = {"length", "max_tokens", "model_length"}
COMPLETE_ENDINGS = ("}", "]", "</answer>", "```", "</svg>")
"""Endings of an answer that may be complete although it reached the token limit."""
FILTER_REASONS = {"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii", "image_safety"}


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatModel:
    """A chat model and its connection settings.

    Attributes:
        model: name of a model at an OpenAI-compatible endpoint, or any LangChain chat model, which has its own
            address, key and timeout.
        base_url: URL of the endpoint; None for OpenAI's own.
        api_key_env: environment variable with the API key. None for OPENAI_API_KEY at OpenAI's own endpoint and no key
            at any other.
        timeout: timeout of one call in seconds.
        temperature: sampling temperature, 0 to 2; None for the server's default.
        max_tokens: maximum number of tokens of an answer, including its reasoning; None for the server's default.
        extra_body: additional fields of the JSON request body, which are sent as they are.
        pictures: how pictures are sent; None for `HOSTED_PICTURES`, or `LOCAL_PICTURES` if the address is local.
    """

    model: str | BaseChatModel
    base_url: str | None = None
    api_key_env: str | None = None
    timeout: float = Field(default=300.0, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, gt=0)
    extra_body: Json = Field(default_factory=dict)
    pictures: PicturePolicy | None = None

    @property
    def picture_policy(self) -> PicturePolicy:
        """How pictures are sent to the model."""
        is_local = isinstance(self.model, str) and is_local_address(self.base_url)
        return self.pictures or (LOCAL_PICTURES if is_local else HOSTED_PICTURES)

    def endpoint(self, section: str) -> Endpoint:
        """Return the endpoint that serves the model."""
        if isinstance(self.model, str):
            key = openai_key_variable(self.api_key_env, self.base_url)
            return Endpoint(section, self.model_name, self.base_url, key, self.timeout)
        secrets = [value.get_secret_value() for value in vars(self.model).values() if isinstance(value, SecretStr)]
        return Endpoint(section, self.model_name, None, None, self.timeout, tuple(secrets))

    @property
    def model_name(self) -> str:
        """The model's name."""
        if isinstance(self.model, str):
            return self.model
        return str(getattr(self.model, "model_name", None) or getattr(self.model, "model", type(self.model).__name__))

    def connect(self, section: str) -> BaseChatModel:
        """Return the LangChain chat model."""
        if not isinstance(self.model, str):
            return self.model
        require_extra("langchain_openai", "openai")
        from interleaver.agents.openai_compatible import CompatibleChat

        endpoint = self.endpoint(section)
        chat = CompatibleChat(
            model=self.model,
            base_url=self.base_url or OPENAI,
            api_key=endpoint.key,
            timeout=self.timeout,
            temperature=self.temperature,
            max_completion_tokens=self.max_tokens,
            extra_body=self.extra_body or None,
            max_retries=0,  # the graph retries, and records that it does
            use_responses_api=False,
            disable_streaming=True,  # a stream has neither the token counts nor the separate reasoning
            http_async_client=endpoint.client(),
        )
        if self.base_url is not None:
            chat.root_async_client.organization = chat.root_async_client.project = None  # as in `Endpoint.openai`
        return chat


@dataclass
class Ask:
    """A question to a model, and the schema of its answer.

    Attributes:
        parts: texts and pictures of the question.
        schema: JSON schema of the answer; None if the answer need not be JSON.
        extra_body: additional fields of the JSON request body.
        system: system message; empty for none.
        pictures: how its pictures are sent; None as the model's settings say.
    """

    parts: list[PromptPart]
    schema: Json | None = None
    extra_body: Json = field(default_factory=dict)
    system: str = ""
    pictures: PicturePolicy | None = None


class Conversation:
    """A client that asks a chat model, asks again if the answer is unreadable, and records every exchange."""

    def __init__(self, model: ChatModel, role: Literal["planner", "critic", "generator", "judge"]):
        self.role = role
        self.settings = model
        self.endpoint = model.endpoint(role)
        self.chat = model.connect(role)
        _ = template_text("again")  # cached here, so that no event loop has to wait for the disk

    async def check(self) -> str:
        """Check that the model can be reached; see `Endpoint.check`."""
        if not isinstance(self.settings.model, str):
            return self.endpoint.model  # a LangChain model manages its own connection
        return await self.endpoint.check()

    async def ask(self, ask: Ask, read: Callable[[str], T]) -> tuple[T, str]:
        """Ask until the answer can be read, at most twice.

        Args:
            ask: the question.
            read: parses the raw answer, or raises `UnreadableAnswer`.

        Returns:
            The parsed answer, and the reasoning that the server returned separately from it.

        Raises:
            UnreadableAnswer: the second answer could not be read either.
            Refusal: the model or a content filter declined.
            BackendUnavailable: the endpoint could not be reached.
            BackendError: the call failed for another reason.
        """
        turns: list[list[PromptPart]] = [ask.parts]
        while True:
            exchange = self._exchange(turns, ask)
            try:
                truncated = await self._call(turns, ask, exchange)
                return await self._read(exchange, read, truncated), exchange.reasoning
            except UnreadableAnswer as error:
                exchange.problem = exchange.problem or "unreadable"
                exchange.error = str(error)
                if len(turns) > 1:
                    prefix = "" if str(error).startswith(self.endpoint.name) else f"{self.endpoint.name}: "
                    raise UnreadableAnswer(f"{prefix}{error} (asked twice)") from None
                turns += [[_excerpt(exchange.answer)], fill(template_text("again"), problem=str(error))]
            except BackendError as error:
                exchange.problem = exchange.problem or "failed"
                exchange.error = str(error)
                raise
            finally:
                record_exchange(exchange)

    async def _read(self, exchange: Exchange, read: Callable[[str], T], truncated: bool) -> T:
        """Parse an answer; one that was cut off at the token limit may still be complete."""
        if truncated and not exchange.answer.rstrip().endswith(COMPLETE_ENDINGS):
            raise self._truncated(exchange)
        try:
            return await asyncio.to_thread(read, exchange.answer)
        except UnreadableAnswer:
            if truncated:
                raise self._truncated(exchange) from None
            raise

    def _truncated(self, exchange: Exchange) -> UnreadableAnswer:
        exchange.problem = "truncated"
        return UnreadableAnswer(
            f"{self.endpoint.name}: the answer was cut off at the token limit after {exchange.usage.output_tokens} "
            f"tokens; raise {self.role}.max_tokens"
        )

    async def _call(self, turns: list[list[PromptPart]], ask: Ask, exchange: Exchange) -> bool:
        """Call the model once, store its answer in the exchange, and return whether the token limit cut it off."""
        start = time.monotonic()
        try:
            messages = await asyncio.to_thread(_to_messages, turns, ask, exchange.pictures)
            async with asyncio.timeout(self.endpoint.timeout):
                answer = await self._runnable(ask).ainvoke(messages, {"tags": [TAG_NOSTREAM]})
        except Exception as error:  # whatever an SDK raises
            failure = self.endpoint.failure(error)
            exchange.problem = "content_filter" if isinstance(failure, Refusal) else None
            raise failure from None
        finally:
            exchange.seconds = round(time.monotonic() - start, 3)
        _read_message(answer, exchange)
        self._check(answer, exchange)
        return _finish_reason(answer) in LENGTH_REASONS

    def _runnable(self, ask: Ask) -> Runnable[Any, Any]:
        if not isinstance(self.settings.model, str):
            if ask.schema is None:
                return self.chat
            structured = self.chat.with_structured_output(ask.schema, include_raw=True)
            return structured | (lambda answer: answer["raw"])
        extra = {**self.settings.extra_body, **ask.extra_body}
        if ask.schema is not None:
            # Sent in the extra body, since the SDK's own parsing raises on answers that must still be recorded.
            json_schema = {"name": ask.schema["title"], "schema": ask.schema, "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        return self.chat.bind(extra_body=extra) if extra else self.chat

    def _check(self, answer: AIMessage, exchange: Exchange) -> None:
        """Raise if the answer is a refusal, was filtered, or is empty."""
        name, reason = self.endpoint.name, _finish_reason(answer)
        refusal = answer.additional_kwargs.get("refusal")
        if refusal or reason == "refusal":
            exchange.problem = "refusal"
            raise Refusal(f"{name} refused: {str(refusal or exchange.answer)[:300] or 'no reason given'}")
        if reason in FILTER_REASONS:
            exchange.problem = "content_filter"
            raise Refusal(f"{name}: a content filter blocked the answer ({reason}); reword the request")
        if not exchange.answer.strip() and reason not in LENGTH_REASONS:
            exchange.problem = "empty"
            hint = f", only {len(exchange.reasoning)} characters of reasoning" if exchange.reasoning else ""
            raise UnreadableAnswer(f"{name}: the answer is empty{hint}")

    def _exchange(self, turns: list[list[PromptPart]], ask: Ask) -> Exchange:
        roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
        images = [part.ref for parts in turns for part in parts if isinstance(part, Picture)]
        policy = ask.pictures or self.settings.picture_policy
        return Exchange(
            role=self.role,
            model=self.endpoint.model,
            messages=[Message(role=roles[n % 2], content=_tagged(parts)) for n, parts in enumerate(turns)],
            images=images,
            pictures=policy.among(len(images)) if images else None,
        )


def _finish_reason(answer: AIMessage) -> str:
    """Return why the model stopped, from whichever field its provider uses."""
    metadata = answer.response_metadata
    return str(
        metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("done_reason") or ""
    ).lower()


def _read_message(answer: AIMessage, exchange: Exchange) -> None:
    """Copy the content of a model's message into an exchange."""
    if answer.tool_calls:
        exchange.answer = json.dumps(answer.tool_calls[0]["args"], ensure_ascii=False)
    else:
        exchange.answer = answer.text
    blocks = [block.get("reasoning", "") for block in answer.content_blocks if block["type"] == "reasoning"]
    exchange.reasoning = "\n".join(filter(None, blocks)) or str(answer.additional_kwargs.get("reasoning_content") or "")
    usage = answer.usage_metadata
    if usage:
        exchange.usage = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])


def _to_messages(turns: list[list[PromptPart]], ask: Ask, policy: PicturePolicy | None) -> list[BaseMessage]:
    messages: list[BaseMessage] = [SystemMessage(ask.system)] if ask.system else []
    for number, parts in enumerate(turns):
        if number % 2:
            messages.append(AIMessage(content=_tagged(parts)))
        else:
            content: list[str | Json] = [_block(part, policy) for part in parts]
            messages.append(HumanMessage(content=content))
    return messages


def _block(part: PromptPart, policy: PicturePolicy | None) -> Json:
    """Return a content block that LangChain translates for every provider."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if policy:
        part = apply_policy(part, policy)
    return {"type": "image", "base64": base64.b64encode(part.data).decode(), "mime_type": part.media_type}


def _tagged(parts: list[PromptPart]) -> str:
    return "".join(IMAGE_TAG if isinstance(part, Picture) else part for part in parts)


def _excerpt(answer: str) -> str:
    if not answer.strip():
        return "(nothing)"
    return (answer if len(answer) <= MAX_QUOTED else f"{answer[:MAX_QUOTED]} ...").replace(IMAGE_TAG, "[image]")
