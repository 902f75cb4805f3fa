"""Planner and critic from a checkpoint on this machine, without a server: `pip install "interleaver[local]"`.

A model is loaded once however many backends use it, and calls that wait for it at the same time are answered as one
batch. For large models and many users a server (`interleaver serve`) is the better choice.
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
from interleaver.checkpoints import find_checkpoint
from interleaver.errors import BackendError, BadInput
from interleaver.extras import need

_LOADING = threading.Lock()
_CORES = threading.Lock()
"""Models on the CPU take turns: each uses all cores, and two at a time keep each other waiting."""
GATHER = 0.01
"""Seconds that a batch waits for more calls."""


@dataclass
class _Order:
    """One question, and where its answer goes."""

    messages: list[BaseMessage]
    temperature: float
    max_tokens: int
    batch_size: int
    answer: Future[AIMessage] = field(default_factory=Future)

    @property
    def settings(self) -> tuple[float, int]:
        """Only questions with the same settings go into one batch."""
        return self.temperature, self.max_tokens


class Engine:
    """A model and the thread it runs in."""

    def __init__(self, checkpoint: str):
        """Load a model.

        Args:
            checkpoint: a folder, or the name of a model on the hub.

        Raises:
            BadInput: it cannot be loaded.
        """
        torch, transformers = need("torch", "local"), need("transformers", "local")
        from interleaver.agents.processors import load_processor

        self._processor = load_processor(checkpoint)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            with _quiet():
                model = transformers.AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype)
        except (OSError, ValueError) as error:
            raise BadInput(f"the checkpoint {checkpoint!r} cannot be loaded: {str(error).splitlines()[0]}") from None
        self._model = model.to(device).eval()
        self._turn = _CORES if device == "cpu" else nullcontext()
        self._orders: queue.Queue[_Order] = queue.Queue()
        threading.Thread(target=self._work, daemon=True, name=f"interleaver {Path(checkpoint).name}").start()

    def ask(self, order: _Order) -> Future[AIMessage]:
        """Have a question answered as soon as it is its turn."""
        self._orders.put(order)
        return order.answer

    def _work(self) -> None:
        while True:
            batches: dict[tuple[float, int], list[_Order]] = {}
            for order in self._gather():
                # Whoever has gone away by now gets nothing; from here on an order cannot be taken back.
                if order.answer.set_running_or_notify_cancel():
                    batches.setdefault(order.settings, []).append(order)
            for batch in batches.values():
                self._serve(batch)

    def _gather(self) -> list[_Order]:
        orders = [self._orders.get()]
        while len(orders) < orders[0].batch_size:
            try:
                orders.append(self._orders.get(timeout=GATHER))
            except queue.Empty:
                break
        return orders

    def _serve(self, orders: Sequence[_Order]) -> None:
        try:
            with self._turn:
                answers = self._answer(orders)
        except Exception as error:  # whatever breaks must reach those who wait, and not end the thread
            for order in orders:
                order.answer.set_exception(BackendError(f"{type(error).__name__}: {error}"))
            return
        for order, answer in zip(orders, answers, strict=True):
            order.answer.set_result(answer)

    def _answer(self, orders: Sequence[_Order]) -> list[AIMessage]:
        import torch

        told = [_conversation(order.messages) for order in orders]
        texts = [
            self._processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for turns, _ in told
        ]
        pictures = [images for _, images in told]
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
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._message(tokens, count) for tokens, count in zip(answers, asked, strict=True)]

    def _message(self, tokens: list[int], asked: int) -> AIMessage:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        said = len(tokens) if stop is None else stop + 1
        return AIMessage(
            self._processor.tokenizer.decode(tokens[:stop], skip_special_tokens=True),
            response_metadata={"finish_reason": "length" if stop is None else "stop"},
            usage_metadata=UsageMetadata(input_tokens=asked, output_tokens=said, total_tokens=asked + said),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the loader's own progress bar, which would run through the run's."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def engine(checkpoint: str) -> Engine:
    """The engine of a checkpoint, loaded when it is first asked for."""
    with _LOADING:  # models cannot be loaded in several threads at once
        return _loaded(checkpoint)


@lru_cache(maxsize=4)
def _loaded(checkpoint: str) -> Engine:
    return Engine(checkpoint)


def _conversation(messages: list[BaseMessage]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Messages as chat templates take them, and their pictures in order."""
    from PIL import Image

    turns, pictures = [], []
    for message in messages:
        parts: list[dict[str, str]] = []
        for block in message.content_blocks:
            if block["type"] == "image":
                data = base64.b64decode(str(block.get("base64")))
                pictures.append(Image.open(io.BytesIO(data)).convert("RGB"))
                parts.append({"type": "image"})
            elif block["type"] == "text":
                parts.append({"type": "text", "text": block["text"]})
        turns.append({"role": {"human": "user", "ai": "assistant"}.get(message.type, message.type), "content": parts})
    return turns, pictures


class LocalChat(BaseChatModel):
    """A LangChain chat model from a checkpoint on this machine.

    Attributes:
        checkpoint: a folder, or the name of a model on the hub; `local_planner` and `local_critic` also know
            `interleaver:NAME`.
        temperature: 0 answers with the likeliest words.
        max_tokens: of an answer.
        batch_size: the most questions that are answered at a time.
    """

    checkpoint: str
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(1024, gt=0)
    batch_size: int = Field(16, ge=1)

    @property
    def model(self) -> str:
        """The checkpoint's name."""
        return Path(self.checkpoint).name

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
        answer = engine(self.checkpoint).ask(self._order(messages)).result()
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        loaded = await asyncio.to_thread(engine, self.checkpoint)
        answer = await asyncio.wrap_future(loaded.ask(self._order(messages)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _order(self, messages: list[BaseMessage]) -> _Order:
        return _Order(messages, self.temperature, self.max_tokens, self.batch_size)


def _chat(checkpoint: str, temperature: float, max_tokens: int, batch_size: int) -> LocalChat:
    need("transformers", "local")
    return LocalChat(
        checkpoint=find_checkpoint(checkpoint), temperature=temperature, max_tokens=max_tokens, batch_size=batch_size
    )


def local_planner(
    checkpoint: str,
    prompts: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    batch_size: int = 16,
) -> ChatPlanner:
    """A planner from a checkpoint on this machine, asked in the tagged format; for the settings see `LocalChat`."""
    chat = _chat(checkpoint, temperature, max_tokens, batch_size)
    return ChatPlanner(model=chat, format="tagged", max_tokens=max_tokens, prompts=prompts)


def local_critic(
    checkpoint: str,
    prompts: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    batch_size: int = 16,
) -> ChatCritic:
    """A critic from a checkpoint on this machine, asked in the tagged format; for the settings see `LocalChat`."""
    chat = _chat(checkpoint, temperature, max_tokens, batch_size)
    return ChatCritic(model=chat, format="tagged", max_tokens=max_tokens, prompts=prompts)
