"""A conversation with any chat model: asked, read, asked again, and kept."""

from __future__ import annotations

import asyncio
import base64
import io
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

from interleaver.agents.exchanges import record
from interleaver.agents.prompts import IMAGE_TAG, Part, fill, text_of
from interleaver.endpoints import OPENAI, Endpoint, openai_key
from interleaver.errors import BackendError, Refused, UnreadableAnswer
from interleaver.extras import need
from interleaver.pictures import Picture, encoded
from interleaver.types import Exchange, Message, Usage

T = TypeVar("T")
Json = dict[str, Any]
MANY_IMAGES = 5
SMALL = 384
"""With `MANY_IMAGES` pictures or more, each is shown at most this many pixels wide and high, as in the paper."""
MAX_QUOTED = 4_000
CUT = {"length", "max_tokens", "model_length"}
WHOLE = ("}", "]", "</answer>", "```", "</svg>")
"""How an answer ends that was cut at the token limit when nothing was missing any more."""
FILTERED = {"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii", "image_safety"}


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatModel:
    """A chat model and how to talk to it.

    Attributes:
        model: the name of a model behind an OpenAI-compatible endpoint, or any LangChain chat model, which then
            brings its own address, key and time-out.
        base_url: the endpoint; None for OpenAI's own.
        api_key_env: the environment variable that holds the key. None: OPENAI_API_KEY for OpenAI's own endpoint, no
            key for any other.
        timeout: seconds that one call may take.
        temperature: 0 to 2; None leaves it to the server.
        max_tokens: of an answer, its reasoning included; None leaves it to the server.
        extra_body: further fields of the request's JSON, as the server takes them.
    """

    model: str | BaseChatModel
    base_url: str | None = None
    api_key_env: str | None = None
    timeout: float = Field(default=300.0, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, gt=0)
    extra_body: Json = Field(default_factory=dict)

    def endpoint(self, section: str) -> Endpoint:
        """Where the model is served."""
        if isinstance(self.model, str):
            key = openai_key(self.api_key_env, self.base_url)
            return Endpoint(section, self.model_name, self.base_url, key, self.timeout)
        held = [value.get_secret_value() for value in vars(self.model).values() if isinstance(value, SecretStr)]
        return Endpoint(section, self.model_name, None, None, self.timeout, tuple(held))

    @property
    def model_name(self) -> str:
        """The model's name."""
        if isinstance(self.model, str):
            return self.model
        return str(getattr(self.model, "model_name", None) or getattr(self.model, "model", type(self.model).__name__))

    def connect(self, section: str) -> BaseChatModel:
        """The chat model itself."""
        if not isinstance(self.model, str):
            return self.model
        need("langchain_openai", "openai")
        from interleaver.agents.compatible import CompatibleChat

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
            disable_streaming=True,  # a stream of tokens carries neither their number nor the separate reasoning
            http_async_client=endpoint.client(),
        )
        if self.base_url is not None:
            chat.root_async_client.organization = chat.root_async_client.project = None  # as in `Endpoint.openai`
        return chat


@dataclass
class Ask:
    """One question: what the model is told, and what form its answer must have.

    Attributes:
        parts: the question.
        schema: of the answer, if it must be JSON.
        extra_body: further fields of the request's JSON.
        system: what the model is told before it, if anything.
        whole: show pictures as they are, however many there are.
    """

    parts: list[Part]
    schema: Json | None = None
    extra_body: Json = field(default_factory=dict)
    system: str = ""
    whole: bool = False


class Conversation:
    """Asks a chat model, reads its answer, asks once more when it cannot be read, and keeps a record of it all."""

    def __init__(self, model: ChatModel, role: Literal["planner", "critic", "generator", "judge"]):
        self.role = role
        self.settings = model
        self.endpoint = model.endpoint(role)
        self.chat = model.connect(role)
        _ = text_of("again")  # read here, where no event loop waits for the disk

    async def check(self) -> str:
        """Say that the model can be reached, or raise; see `Endpoint.check`."""
        if not isinstance(self.settings.model, str):
            return self.endpoint.model  # how to reach it is its own affair
        return await self.endpoint.check()

    async def ask(self, ask: Ask, read: Callable[[str], T]) -> tuple[T, str]:
        """Ask until the answer can be read, at most twice.

        Args:
            ask: the question.
            read: makes sense of the raw answer, or raises `UnreadableAnswer`.

        Returns:
            What was read, and the reasoning that the server returned apart from the answer.

        Raises:
            UnreadableAnswer: the second answer could not be read either.
            Refused: the model or a content filter declined.
            BackendUnavailable: the endpoint could not be reached.
            BackendError: the call failed otherwise.
        """
        turns: list[list[Part]] = [ask.parts]
        while True:
            exchange = self._exchange(turns)
            try:
                cut = await self._call(turns, ask, exchange)
                return await self._read(exchange, read, cut), exchange.reasoning
            except UnreadableAnswer as error:
                exchange.problem = exchange.problem or "unreadable"
                exchange.error = str(error)
                if len(turns) > 1:
                    where = "" if str(error).startswith(self.endpoint.name) else f"{self.endpoint.name}: "
                    raise UnreadableAnswer(f"{where}{error} (asked twice)") from None
                turns += [[_excerpt(exchange.answer)], fill(text_of("again"), problem=str(error))]
            except BackendError as error:
                exchange.problem = exchange.problem or "failed"
                exchange.error = str(error)
                raise
            finally:
                record(exchange)

    async def _read(self, exchange: Exchange, read: Callable[[str], T], cut: bool) -> T:
        """Make sense of an answer; one that was cut at the token limit may be whole all the same."""
        if cut and not exchange.answer.rstrip().endswith(WHOLE):
            raise self._truncated(exchange)
        try:
            return await asyncio.to_thread(read, exchange.answer)
        except UnreadableAnswer:
            if cut:
                raise self._truncated(exchange) from None
            raise

    def _truncated(self, exchange: Exchange) -> UnreadableAnswer:
        exchange.problem = "truncated"
        return UnreadableAnswer(
            f"{self.endpoint.name}: the answer was cut at the token limit after {exchange.usage.output_tokens} tokens; "
            f"raise {self.role}.max_tokens"
        )

    async def _call(self, turns: list[list[Part]], ask: Ask, exchange: Exchange) -> bool:
        """Call the model once and write what it said into the exchange; whether it was cut at the token limit."""
        started = time.monotonic()
        try:
            messages = await asyncio.to_thread(_as_messages, turns, ask)
            async with asyncio.timeout(self.endpoint.timeout):
                answer = await self._runnable(ask).ainvoke(messages, {"tags": [TAG_NOSTREAM]})
        except Exception as error:  # whatever an SDK raises
            failure = self.endpoint.failure(error)
            exchange.problem = "content_filter" if isinstance(failure, Refused) else None
            raise failure from None
        finally:
            exchange.seconds = round(time.monotonic() - started, 3)
        _read_message(answer, exchange)
        self._check(answer, exchange)
        return _finish_reason(answer) in CUT

    def _runnable(self, ask: Ask) -> Runnable[Any, Any]:
        if not isinstance(self.settings.model, str):
            if ask.schema is None:
                return self.chat
            structured = self.chat.with_structured_output(ask.schema, include_raw=True)
            return structured | (lambda answer: answer["raw"])
        extra = {**self.settings.extra_body, **ask.extra_body}
        if ask.schema is not None:
            # Through the extra body, since the SDK's own parsing raises on answers that are to be recorded.
            form = {"name": ask.schema["title"], "schema": ask.schema, "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": form}
        return self.chat.bind(extra_body=extra) if extra else self.chat

    def _check(self, answer: AIMessage, exchange: Exchange) -> None:
        """Tell refusals, filtered and empty answers from answers."""
        name, reason = self.endpoint.name, _finish_reason(answer)
        refusal = answer.additional_kwargs.get("refusal")
        if refusal or reason == "refusal":
            exchange.problem = "refusal"
            raise Refused(f"{name} refused: {str(refusal or exchange.answer)[:300] or 'no reason given'}")
        if reason in FILTERED:
            exchange.problem = "content_filter"
            raise Refused(f"{name}: a content filter kept the answer back ({reason}); reword the request")
        if not exchange.answer.strip() and reason not in CUT:
            exchange.problem = "empty"
            hint = f", only {len(exchange.reasoning)} characters of reasoning" if exchange.reasoning else ""
            raise UnreadableAnswer(f"{name}: the answer is empty{hint}")

    def _exchange(self, turns: list[list[Part]]) -> Exchange:
        roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
        return Exchange(
            role=self.role,
            model=self.endpoint.model,
            messages=[Message(role=roles[n % 2], content=_tagged(parts)) for n, parts in enumerate(turns)],
            images=[part.ref for parts in turns for part in parts if isinstance(part, Picture)],
        )


def _finish_reason(answer: AIMessage) -> str:
    """Why the model stopped, under whichever name its provider tells it."""
    said = answer.response_metadata
    return str(said.get("finish_reason") or said.get("stop_reason") or said.get("done_reason") or "").lower()


def _read_message(answer: AIMessage, exchange: Exchange) -> None:
    """Write a model's message into an exchange."""
    if answer.tool_calls:
        exchange.answer = json.dumps(answer.tool_calls[0]["args"], ensure_ascii=False)
    else:
        exchange.answer = answer.text
    blocks = [block.get("reasoning", "") for block in answer.content_blocks if block["type"] == "reasoning"]
    exchange.reasoning = "\n".join(filter(None, blocks)) or str(answer.additional_kwargs.get("reasoning_content") or "")
    usage = answer.usage_metadata
    if usage:
        exchange.usage = Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])


def _as_messages(turns: list[list[Part]], ask: Ask) -> list[BaseMessage]:
    pictures = sum(isinstance(part, Picture) for parts in turns for part in parts)
    many = pictures >= MANY_IMAGES and not ask.whole
    messages: list[BaseMessage] = [SystemMessage(ask.system)] if ask.system else []
    for number, parts in enumerate(turns):
        if number % 2:
            messages.append(AIMessage(content=_tagged(parts)))
        else:
            content: list[str | Json] = [_block(part, many) for part in parts]
            messages.append(HumanMessage(content=content))
    return messages


def _block(part: Part, many: bool) -> Json:
    """A content block that LangChain translates for every provider."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if many:
        part = _small(part)
    return {"type": "image", "base64": base64.b64encode(part.data).decode(), "mime_type": part.media_type}


def _tagged(parts: list[Part]) -> str:
    return "".join(IMAGE_TAG if isinstance(part, Picture) else part for part in parts)


def _excerpt(answer: str) -> str:
    if not answer.strip():
        return "(nothing)"
    return (answer if len(answer) <= MAX_QUOTED else f"{answer[:MAX_QUOTED]} ...").replace(IMAGE_TAG, "[image]")


def _small(picture: Picture) -> Picture:
    if max(picture.width, picture.height) <= SMALL:
        return picture
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        image.thumbnail((SMALL, SMALL))
        return encoded(image)
