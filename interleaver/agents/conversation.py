"""Questions to any chat model: asked, parsed, asked again if the answer is unreadable, and recorded."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langgraph.constants import TAG_NOSTREAM
from pydantic import ConfigDict, Field, SecretStr
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.answers import MAX_ANSWER
from interleaver.agents.exchanges import record_exchange
from interleaver.agents.prompts import PromptPart, fill, template_text
from interleaver.agents.providers import Provider, ProviderName, ResponseFormat, find_provider
from interleaver.errors import BackendError, BadInput, Refusal, UnreadableAnswer
from interleaver.extras import require_extra
from interleaver.net.endpoints import OPENAI, Endpoint, is_local_address, is_openai, openai_key_variable
from interleaver.net.failures import error_status
from interleaver.pictures import Picture, apply_policy
from interleaver.types import (
    HOSTED_PICTURES,
    IMAGE_TAG,
    LOCAL_PICTURES,
    Exchange,
    Json,
    Message,
    PicturePolicy,
    Usage,
    clean_text,
)

if TYPE_CHECKING:
    from interleaver.agents.openai_compatible import CompatibleChat

T = TypeVar("T")
MAX_QUOTED = 4_000
LENGTH_REASONS = {"length", "max_tokens", "model_length"}
COMPLETE_ENDINGS = ("}", "]", "</answer>", "```", "</svg>")
"""Endings of an answer that may be complete although it reached the token limit."""
TOKEN_PARAMETERS = ("max_tokens", "max_completion_tokens")
FORMAT_WORDS = ("response_format", "json_schema", "json_object", "json mode", "structured output", "guided", "grammar")
"""Words by which an endpoint names the format of the answer that it does not support."""
FILTER_REASONS = {"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii", "image_safety"}


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatModel:
    """A chat model and its connection settings.

    Attributes:
        model: name of a model at an OpenAI-compatible endpoint, or any LangChain chat model, which has its own
            address, key and timeout.
        provider: name of a well-known provider (see `PROVIDERS`), whose address and key variable are then the
            defaults; None to recognise it by the address.
        base_url: URL of the endpoint; None for the provider's, or OpenAI's own.
        api_key_env: environment variable with the API key; None for the provider's own variable, and no key at any
            other address.
        timeout: timeout of one call in seconds.
        temperature: sampling temperature, 0 to 2; None for the server's default.
        max_tokens: maximum number of tokens of an answer, including its reasoning; None for the server's default.
        thinking: whether the model thinks before it answers, where its provider has a switch for that; None for the
            model's default.
        extra_body: additional fields of the JSON request body, which are sent as they are.
        pictures: how pictures are sent; None for `HOSTED_PICTURES`, or `LOCAL_PICTURES` if the address is local.
    """

    model: str | BaseChatModel
    provider: ProviderName | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    timeout: float = Field(default=300.0, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, gt=0)
    thinking: bool | None = None
    extra_body: Json = Field(default_factory=dict)
    pictures: PicturePolicy | None = None

    @property
    def known_provider(self) -> Provider:
        """What is known of the model's provider."""
        return find_provider(self.provider, self.base_url)

    @property
    def url(self) -> str | None:
        """The URL of the endpoint; None for OpenAI's own."""
        url = self.base_url or (self.known_provider.base_url if self.provider else None)
        if url is None and self.provider == "azure":
            raise BadInput("base_url is missing; give the address of your Azure resource, which ends in /openai/v1/")
        return url

    @property
    def picture_policy(self) -> PicturePolicy:
        """How pictures are sent to the model."""
        is_local = isinstance(self.model, str) and is_local_address(self.url)
        return self.pictures or (LOCAL_PICTURES if is_local else HOSTED_PICTURES)

    def endpoint(self, section: str) -> Endpoint:
        """Return the endpoint that serves the model."""
        if isinstance(self.model, str):
            key = openai_key_variable(self.api_key_env or self.known_provider.api_key_env, self.url)
            return Endpoint(section, self.model_name, self.url, key, self.timeout)
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
            base_url=self.url or OPENAI,
            api_key=endpoint.key,
            timeout=self.timeout,
            temperature=self.temperature,
            max_completion_tokens=self.max_tokens,
            token_parameter=self.known_provider.token_parameter,
            max_retries=0,  # the graph retries, and records that it does
            use_responses_api=False,
            disable_streaming=True,  # a stream has neither the token counts nor the separate reasoning
            http_async_client=endpoint.client(),
        )
        if not is_openai(self.url):
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
        detail: OpenAI's level of detail of the pictures (*low*, *high* or *auto*); None sends none.
    """

    parts: list[PromptPart]
    schema: Json | None = None
    extra_body: Json = field(default_factory=dict)
    system: str = ""
    pictures: PicturePolicy | None = None
    detail: str | None = None


class Conversation:
    """A client that asks a chat model, asks again if the answer is unreadable, and records every exchange."""

    def __init__(self, model: ChatModel, role: Literal["planner", "critic", "generator", "judge"]):
        self.role = role
        self.settings = model
        self.endpoint = model.endpoint(role)
        self.chat = model.connect(role)
        self._formats = list(model.known_provider.response_formats)
        self._has_new_limit = False
        _ = template_text("again")  # cached here, so that no event loop has to wait for the disk

    @property
    def response_format(self) -> ResponseFormat:
        """How JSON is asked for at the moment; it changes when the endpoint refuses a way."""
        return self._formats[0]

    @property
    def resource(self) -> Hashable:
        """What conversations at the same endpoint have in common; None for a LangChain model, which has its own."""
        return self.endpoint.resource if isinstance(self.settings.model, str) else None

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
        for is_last in (False, True):
            exchange = self._exchange(turns, ask)
            try:
                message = await self._call(turns, ask, exchange)
                return await self._read(message, exchange, read), exchange.reasoning
            except UnreadableAnswer as error:
                exchange.problem = exchange.problem or "unreadable"
                exchange.error = str(error)
                if is_last:
                    raise self._unreadable(exchange, error) from None
                if exchange.problem != "failed":  # else the server did not pass the model's answer on
                    turns += [[_excerpt(exchange.answer)], fill(template_text("again"), problem=str(error))]
            except BackendError as error:
                exchange.problem = exchange.problem or "failed"
                exchange.error = str(error)
                raise
            finally:
                record_exchange(exchange)
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, message: AIMessage, exchange: Exchange, read: Callable[[str], T]) -> T:
        """Parse the answer of a message, wherever the server put it, and store it in the exchange.

        An answer that was cut off at the token limit may still be complete.
        """
        if len(exchange.answer) > MAX_ANSWER:
            count, exchange.answer = len(exchange.answer), exchange.answer[:MAX_QUOTED]
            raise UnreadableAnswer(f"the answer has {count:,} characters; at most {MAX_ANSWER:,} are read")
        is_truncated = _finish_reason(message) in LENGTH_REASONS
        error: UnreadableAnswer | None = None
        for text in _answer_texts(message) or ([exchange.reasoning] if exchange.reasoning else []):
            if is_truncated and not text.rstrip().endswith(COMPLETE_ENDINGS):
                continue
            try:
                parsed = await asyncio.to_thread(read, text)
            except UnreadableAnswer as problem:
                error = error or problem
                continue
            if text == exchange.reasoning:
                exchange.reasoning = ""
            exchange.answer = text
            return parsed
        if is_truncated:
            exchange.problem = "truncated"
            count = exchange.usage.output_tokens
            raise UnreadableAnswer(f"the answer was cut off at the token limit after {count} tokens")
        if error is None or not exchange.answer:
            exchange.problem = "empty"
            hint = f", only {len(exchange.reasoning)} characters of reasoning" if exchange.reasoning else ""
            raise UnreadableAnswer(f"the answer is empty{hint}")
        raise error

    def _unreadable(self, exchange: Exchange, error: UnreadableAnswer) -> UnreadableAnswer:
        """Return the error for the user, with the endpoint and what to change, which no model is told."""
        name = self.endpoint.name
        prefix = "" if str(error).startswith(name) else f"{name}: "
        hint = f"; raise {self.role}.max_tokens" if exchange.problem == "truncated" else ""
        return UnreadableAnswer(f"{prefix}{error}{hint} (asked twice)")

    async def _call(self, turns: list[list[PromptPart]], ask: Ask, exchange: Exchange) -> AIMessage:
        """Call the model, and store its answer in the exchange; what the endpoint refuses is asked for differently."""
        start = time.monotonic()
        try:
            messages = await asyncio.to_thread(_to_messages, turns, ask, exchange.pictures)
            while True:
                sent_settings = self._adaptable()
                try:
                    async with asyncio.timeout(self.endpoint.timeout):
                        message: AIMessage = await self._runnable(ask).ainvoke(messages, {"tags": [TAG_NOSTREAM]})
                    break
                except Exception as error:  # whatever an SDK raises
                    if not self._adapt(error, ask, sent_settings):
                        raise
        except Exception as error:
            failure = self.endpoint.failure(error)
            exchange.problem = "content_filter" if isinstance(failure, Refusal) else "failed"
            raise failure from None
        finally:
            exchange.seconds = round(time.monotonic() - start, 3)
        _read_message(message, exchange)
        self._check(message, exchange)
        return message

    def _adaptable(self) -> tuple[object, ...]:
        """Return what `_adapt` may change: the response format, the token parameter and the temperature."""
        return (
            self._formats[0],
            getattr(self.chat, "token_parameter", None),
            getattr(self.chat, "temperature", None),
        )

    def _adapt(self, error: Exception, ask: Ask, sent_settings: tuple[object, ...]) -> bool:
        """Change how the endpoint is asked if its error names what it does not take; return whether to ask again.

        Every change is made once, and stays. `sent_settings` is how it was asked: a call beside this one may have
        changed that.
        """
        if not isinstance(self.settings.model, str) or error_status(error) not in (400, 404, 415, 422):
            return False
        if sent_settings != self._adaptable():
            return True
        text = str(error).lower()
        if ask.schema is not None and len(self._formats) > 1 and any(word in text for word in FORMAT_WORDS):
            del self._formats[0]
            return True
        chat = cast("CompatibleChat", self.chat)
        for name in TOKEN_PARAMETERS:
            if name in text and chat.token_parameter == name and self.settings.max_tokens and not self._has_new_limit:
                self._has_new_limit = True
                chat.token_parameter = next(other for other in TOKEN_PARAMETERS if other != name)
                return True
        if "temperature" in text and chat.temperature is not None:
            chat.temperature = None
            return True
        return False

    def _runnable(self, ask: Ask) -> Runnable[Any, Any]:
        if not isinstance(self.settings.model, str):
            if ask.schema is None:
                return self.chat
            structured = self.chat.with_structured_output(ask.schema, include_raw=True)
            return structured | (lambda answer: answer["raw"])
        extra: Json = {}
        if ask.schema is not None and self._formats[0] != "text":
            # Sent in the extra body, since the SDK's own parsing raises on answers that must still be recorded.
            json_schema = {"name": ask.schema["title"], "schema": ask.schema, "strict": True}
            kind: Json = {"json_schema": json_schema} if self._formats[0] == "json_schema" else {}
            extra["response_format"] = {"type": self._formats[0], **kind}
        if self.settings.thinking is not None:
            extra |= self.settings.known_provider.thinking.get(self.settings.thinking, {})
        extra |= {**self.settings.extra_body, **ask.extra_body}
        return self.chat.bind(extra_body=extra) if extra else self.chat

    def _check(self, message: AIMessage, exchange: Exchange) -> None:
        """Raise if the answer is a refusal or was filtered."""
        name, reason = self.endpoint.name, _finish_reason(message)
        refusal = message.additional_kwargs.get("refusal")
        if (refusal and not exchange.answer.strip()) or reason == "refusal":
            exchange.problem = "refusal"
            raise Refusal(f"{name} refused: {str(refusal or exchange.answer)[:300] or 'no reason given'}")
        if reason in FILTER_REASONS:
            exchange.problem = "content_filter"
            raise Refusal(f"{name}: a content filter blocked the answer ({reason}); reword the request")

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


def _finish_reason(message: AIMessage) -> str:
    """Return why the model stopped, from whichever field its provider uses."""
    metadata = message.response_metadata
    return str(
        metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("done_reason") or ""
    ).lower()


def _answer_texts(message: AIMessage) -> list[str]:
    """Return the texts in which a message may hold its answer: its content, then the arguments of tool calls."""
    arguments = [json.dumps(call["args"], ensure_ascii=False) for call in message.tool_calls]
    arguments += [str(call["args"]) for call in message.invalid_tool_calls if call["args"]]
    return [clean_text(text) for text in (message.text, *arguments) if text.strip()]


def _read_message(message: AIMessage, exchange: Exchange) -> None:
    """Copy the content of a model's message into an exchange."""
    exchange.answer = next(iter(_answer_texts(message)), "")
    blocks = [block.get("reasoning", "") for block in message.content_blocks if block["type"] == "reasoning"]
    reasoning = "\n".join(filter(None, blocks)) or message.additional_kwargs.get("reasoning_content")
    exchange.reasoning = clean_text(str(reasoning or ""))
    usage = message.usage_metadata
    if usage:
        exchange.usage = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])


def _to_messages(turns: list[list[PromptPart]], ask: Ask, policy: PicturePolicy | None) -> list[BaseMessage]:
    messages: list[BaseMessage] = [SystemMessage(ask.system)] if ask.system else []
    for number, parts in enumerate(turns):
        if number % 2:
            messages.append(AIMessage(content=_tagged(parts)))
        else:
            content: list[str | Json] = [_block(part, policy, ask.detail) for part in parts]
            messages.append(HumanMessage(content=content))
    return messages


def _block(part: PromptPart, policy: PicturePolicy | None, detail: str | None) -> Json:
    """Return a content block that LangChain translates for every provider."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if policy:
        part = apply_policy(part, policy)
    base64_text = base64.b64encode(part.data).decode()
    if detail:  # OpenAI's own form is the only one that carries it
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{part.media_type};base64,{base64_text}", "detail": detail},
        }
    return {"type": "image", "base64": base64_text, "mime_type": part.media_type}


def _tagged(parts: list[PromptPart]) -> str:
    return "".join(IMAGE_TAG if isinstance(part, Picture) else part for part in parts)


def _excerpt(answer: str) -> str:
    if not answer.strip():
        return "(nothing)"
    return (answer if len(answer) <= MAX_QUOTED else f"{answer[:MAX_QUOTED]} ...").replace(IMAGE_TAG, "[image]")
