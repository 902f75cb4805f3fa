"""Planner and critic that run local weights in this process, without a server: `pip install "interleaver[local]"`.

Each model is loaded once and shared by all backends that use it, and concurrent calls are answered in batches. For
large models and many users, a server (`interleaver serve`) is the better choice.
"""

from __future__ import annotations

import asyncio
import base64
import io
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from interleaver.agents.chat import ChatCritic, ChatPlanner
from interleaver.errors import BackendError, BadInput
from interleaver.extras import require_extra
from interleaver.pictures import flatten
from interleaver.types import LOCAL_PICTURES
from interleaver.weights import find_weights

_LOAD_LOCK = threading.Lock()
_CPU_LOCK = threading.Lock()
"""Makes models on the CPU take turns: each uses all cores, so running two at a time would slow both down."""
GATHER_SECONDS = 0.01
"""Seconds to wait for each further call before a batch starts."""


@dataclass
class _PendingQuestion:
    """A queued question and the future of its answer."""

    messages: list[BaseMessage]
    temperature: float
    max_tokens: int
    batch_size: int
    answer: Future[AIMessage] = field(default_factory=Future)

    @property
    def settings(self) -> tuple[float, int]:
        """Temperature and token limit; only questions with equal settings share a batch."""
        return self.temperature, self.max_tokens


class Engine:
    """A loaded model and the thread that runs it."""

    def __init__(self, weights: str):
        """Load a model.

        Args:
            weights: local folder or Hugging Face Hub id of the model.

        Raises:
            BadInput: the weights cannot be loaded.
        """
        torch, transformers = require_extra("torch", "local"), require_extra("transformers", "local")
        from interleaver.agents.hf_processors import load_processor

        self._processor = load_processor(weights)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            with _without_progress_bar():
                model = transformers.AutoModelForImageTextToText.from_pretrained(
                    weights, dtype=dtype, use_safetensors=True
                )
        except (OSError, ValueError) as error:
            raise BadInput(f"the weights {weights!r} cannot be loaded: {str(error).splitlines()[0]}") from None
        self._model = model.to(device).eval()
        self._turn = _CPU_LOCK if device == "cpu" else nullcontext()
        self._orders: queue.Queue[_PendingQuestion] = queue.Queue()
        threading.Thread(target=self._work, daemon=True, name=f"interleaver {Path(weights).name}").start()

    def ask(self, order: _PendingQuestion) -> Future[AIMessage]:
        """Queue a question and return the future of its answer."""
        self._orders.put(order)
        return order.answer

    def _work(self) -> None:
        while True:
            batches: dict[tuple[float, int], list[_PendingQuestion]] = {}
            for order in self._gather():
                # Skips questions that were cancelled while queued; from here on they cannot be cancelled.
                if order.answer.set_running_or_notify_cancel():
                    batches.setdefault(order.settings, []).append(order)
            for batch in batches.values():
                self._serve(batch)

    def _gather(self) -> list[_PendingQuestion]:
        orders = [self._orders.get()]
        while len(orders) < orders[0].batch_size:
            try:
                orders.append(self._orders.get(timeout=GATHER_SECONDS))
            except queue.Empty:
                break
        return orders

    def _serve(self, orders: Sequence[_PendingQuestion]) -> None:
        try:
            with self._turn:
                answers = self._answer(orders)
        except Exception as error:  # any failure must reach the callers and must not end the thread
            for order in orders:
                order.answer.set_exception(BackendError(f"{type(error).__name__}: {error}"))
            return
        for order, answer in zip(orders, answers, strict=True):
            order.answer.set_result(answer)

    def _answer(self, orders: Sequence[_PendingQuestion]) -> list[AIMessage]:
        import torch

        conversations = [_conversation(order.messages) for order in orders]
        texts = [
            self._processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            for turns, _ in conversations
        ]
        pictures = [images for _, images in conversations]
        inputs = self._processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=False,
        ).to(self._model.device)
        temperature, max_tokens = orders[0].settings
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=max_tokens, **sampling)
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._message(tokens, count) for tokens, count in zip(answers, prompt_tokens, strict=True)]

    def _message(self, tokens: list[int], prompt_tokens: int) -> AIMessage:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        answer_tokens = len(tokens) if stop is None else stop + 1
        return AIMessage(
            self._processor.tokenizer.decode(tokens[:stop], skip_special_tokens=True),
            response_metadata={"finish_reason": "length" if stop is None else "stop"},
            usage_metadata=UsageMetadata(
                input_tokens=prompt_tokens, output_tokens=answer_tokens, total_tokens=prompt_tokens + answer_tokens
            ),
        )


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Disable the loader's own progress bar, which would garble the progress display of the run."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def engine(weights: str) -> Engine:
    """Return the engine for these weights, which the first call loads."""
    with _LOAD_LOCK:  # models cannot be loaded in several threads at once
        return _cached_engine(weights)


@lru_cache(maxsize=4)
def _cached_engine(weights: str) -> Engine:
    return Engine(weights)


def _conversation(messages: list[BaseMessage]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Convert messages to the input of a chat template; return them and their pictures in order."""
    from PIL import Image

    turns, pictures = [], []
    for message in messages:
        parts: list[dict[str, str]] = []
        for block in message.content_blocks:
            if block["type"] == "image":
                data = base64.b64decode(str(block.get("base64")))
                pictures.append(flatten(Image.open(io.BytesIO(data))))
                parts.append({"type": "image"})
            elif block["type"] == "text":
                parts.append({"type": "text", "text": block["text"]})
        turns.append({"role": {"human": "user", "ai": "assistant"}.get(message.type, message.type), "content": parts})
    return turns, pictures


class LocalChat(BaseChatModel):
    """A LangChain chat model that runs local weights.

    Attributes:
        weights: local folder or Hugging Face Hub id of the model; `local_planner` and `local_critic` also accept
            `interleaver:NAME`.
        temperature: sampling temperature, 0 to 2; 0 for greedy decoding.
        max_tokens: maximum number of tokens of an answer.
        batch_size: maximum number of questions in a batch.
    """

    weights: str
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(1024, gt=0)
    batch_size: int = Field(16, ge=1)

    @property
    def model(self) -> str:
        """The name of the weights."""
        return Path(self.weights).name

    @property
    def _llm_type(self) -> str:
        return "interleaver-local"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = engine(self.weights).ask(self._order(messages)).result()
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        model_engine = await asyncio.to_thread(engine, self.weights)
        answer = await asyncio.wrap_future(model_engine.ask(self._order(messages)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _order(self, messages: list[BaseMessage]) -> _PendingQuestion:
        return _PendingQuestion(messages, self.temperature, self.max_tokens, self.batch_size)


def _chat(weights: str, temperature: float, max_tokens: int, batch_size: int) -> LocalChat:
    require_extra("transformers", "local")
    return LocalChat(
        weights=find_weights(weights), temperature=temperature, max_tokens=max_tokens, batch_size=batch_size
    )


def local_planner(
    weights: str,
    prompts: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    batch_size: int = 16,
) -> ChatPlanner:
    """Return a planner that runs local weights and uses the tagged format; see `LocalChat` for the settings."""
    chat = _chat(weights, temperature, max_tokens, batch_size)
    return ChatPlanner(model=chat, format="tagged", max_tokens=max_tokens, prompts=prompts, pictures=LOCAL_PICTURES)


def local_critic(
    weights: str,
    prompts: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    batch_size: int = 16,
) -> ChatCritic:
    """Return a critic that runs local weights and uses the tagged format; see `LocalChat` for the settings."""
    chat = _chat(weights, temperature, max_tokens, batch_size)
    return ChatCritic(model=chat, format="tagged", max_tokens=max_tokens, prompts=prompts, pictures=LOCAL_PICTURES)
