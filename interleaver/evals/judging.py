"""Asking judges, and keeping every answer by what was asked: nothing is asked twice, and a crash loses nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.exchanges import recording
from interleaver.config import load_profile
from interleaver.errors import BackendError, BackendUnavailable, BadInput, UnreadableAnswer
from interleaver.evals.benchmarks.base import Benchmark, Model, Question
from interleaver.evals.prompts import Prompts, Template
from interleaver.graph.backends import call
from interleaver.pictures import Picture, shrunk
from interleaver.types import Exchange, Usage

CONCURRENCY = 16


@dataclass
class Judge:
    """A judge as it is asked.

    Attributes:
        name: what it is called in tables: the model's name.
        model: how to reach it.
        prices: of a million tokens in and out; None where they are not known.
        concurrency: calls at a time.
    """

    name: str
    model: ChatModel
    prices: tuple[float, float] | None = None
    concurrency: int = CONCURRENCY

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """What calls cost; 0 where prices are not known."""
        prices = self.prices or (0.0, 0.0)
        return (input_tokens * prices[0] + output_tokens * prices[1]) / 1e6


def judge_of(benchmark: Benchmark, told: str | None) -> Judge:
    """A judge.

    Args:
        benchmark: prescribes its own, with which published numbers were made.
        told: MODEL or MODEL@URL to have another model asked in the same way; or a profile whose [judge] is a chat
            model. None: the benchmark's own.

    Raises:
        BadInput: the profile's judge is no chat model.
    """
    own = benchmark.judge
    if told is None:
        return Judge(own.name, _chat(own, own.name, own.base_url, own.key), own.prices)
    if told.endswith(".toml"):
        profile = load_profile(told)
        settings = profile.judge
        if settings.backend != "chat":
            raise BadInput(f"the [judge] of {told!r} has the backend {settings.backend}; benchmarks need a chat model")
        model = profile.create("judge")
        told_prices = profile.prices.judge
        prices = (told_prices.input, told_prices.output) if told_prices.model_fields_set else None
        return Judge(model.model_name, model, prices, settings.concurrency or CONCURRENCY)
    name, _, url = told.partition("@")
    if name == own.name:
        return Judge(name, _chat(own, name, url or own.base_url, None if url else own.key), own.prices)
    return Judge(name, _chat(own, name, url or None, None))


def _chat(own: Model, name: str, url: str | None, key: str | None) -> ChatModel:
    extra = dict(own.extra_body) if name == own.name else {}
    return ChatModel(model=name, base_url=url, api_key_env=key, temperature=own.temperature, extra_body=extra)


class Judgements:
    """The answers that are kept, in one file of a folder; several processes may use it at a time."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._turn = threading.Lock()
        with FileLock(folder / ".judgements.lock"):  # two that set up the file at once would be in each other's way
            self._file = sqlite3.connect(
                folder / "judgements.sqlite", timeout=60, isolation_level=None, check_same_thread=False
            )
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS judgements (asked TEXT PRIMARY KEY, answer TEXT NOT NULL, "
                "input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL)"
            )

    def get(self, asked: str) -> tuple[str, Usage] | None:
        """The answer to what was asked, if there is one, and the tokens that it took."""
        query = "SELECT answer, input_tokens, output_tokens FROM judgements WHERE asked = ?"
        with self._turn:
            found = self._file.execute(query, (asked,)).fetchone()
        return (found[0], Usage(input_tokens=found[1], output_tokens=found[2])) if found else None

    def put(self, asked: str, answer: str, usage: Usage) -> None:
        """Keep an answer."""
        row = (asked, answer, usage.input_tokens, usage.output_tokens)
        with self._turn:
            self._file.execute("INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Said:
    """What came of a question.

    Attributes:
        value: what the answer says; None when there is none.
        answer: the judge's words.
        problem: why there is none.
        later: whether asking again later may help.
        calls: that were made now; none when the answer was there already.
        usage: tokens of all calls, whenever they were made.
    """

    value: Any = None
    answer: str = ""
    problem: str | None = None
    later: bool = False
    calls: int = 0
    usage: Usage = field(default_factory=Usage)


class Asking:
    """Asks one judge the questions of a benchmark."""

    def __init__(self, judge: Judge, benchmark: Benchmark, prompts: Prompts, kept: Judgements):
        self.judge = judge
        self._side = benchmark.side
        self._prompts = prompts
        self._kept = kept
        self.answer_tokens = benchmark.judge.answer_tokens
        self._conversation = Conversation(judge.model, "judge")
        self._slots = asyncio.Semaphore(judge.concurrency)

    def words(self, question: Question) -> str:
        """All that the judge is told, without the pictures."""
        template = self._prompts.of(question.template)
        return "\n".join([template.system, *(part for part in _parts(question, template) if isinstance(part, str))])

    def is_known(self, question: Question) -> bool:
        """Whether a question, and what follows from its answer, has been answered before."""
        said = self._known(self._key(question, self._prompts.of(question.template)), question)
        return said is not None and (question.then is None or self.is_known(question.then(said.value)))

    def _known(self, key: str, question: Question) -> Said | None:
        """The answer that was given before; one that the reader has become too strict for is none."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        try:
            return Said(question.read(kept[0]), answer=kept[0], usage=kept[1])
        except UnreadableAnswer:
            return None

    async def check(self) -> None:
        """See that the judge is there.

        Raises:
            BackendUnavailable: it cannot be reached.
        """
        try:
            await self._conversation.check()
        except BackendUnavailable:
            raise
        except BackendError:
            pass  # some servers do not list their models; what else is wrong, the first questions will show

    async def ask(self, question: Question) -> Said:
        """Ask, or find the answer that was given before; likewise what follows from it."""
        first = await self._ask(question)
        if first.problem or question.then is None:
            return first
        last = await self.ask(question.then(first.value))
        return replace(
            last,
            answer=f"{first.answer}\n\n{last.answer}",
            calls=first.calls + last.calls,
            usage=_sum([first.usage, last.usage]),
        )

    async def _ask(self, question: Question) -> Said:
        template = self._prompts.of(question.template)
        key = await asyncio.to_thread(self._key, question, template)
        known = await asyncio.to_thread(self._known, key, question)
        if known is not None:
            return known
        async with self._slots:
            return await self._call(question, template, key)

    async def _call(self, question: Question, template: Template, key: str) -> Said:
        with recording() as exchanges:
            try:
                parts = _parts(question, template)
                shown = [
                    part if isinstance(part, str) else await asyncio.to_thread(self._shown, part) for part in parts
                ]
                ask = Ask(shown, system=template.system, whole=True)
                read = lambda text: (text, question.read(text))  # noqa: E731  (the words are kept, not what was read)
                (answer, value), _ = await call(self.judge.model, lambda: self._conversation.ask(ask, read), tuple)
            except BackendUnavailable as error:
                return Said(problem=str(error), later=True, calls=1, usage=_used(exchanges))
            except (BackendError, BadInput, OSError) as error:
                return Said(problem=str(error), calls=1, usage=_used(exchanges))
        usage = _used(exchanges)
        await asyncio.to_thread(self._kept.put, key, answer, usage)
        return Said(value, answer=answer, calls=1, usage=usage)

    def _shown(self, path: Path) -> Picture:
        picture = Picture.decode(path.read_bytes(), f"the picture {str(path)!r}")
        return shrunk(picture, self._side, "JPEG") if self._side else picture

    def _key(self, question: Question, template: Template) -> str:
        """What a question is, whatever it is called: the judge and all that it is told and shown."""
        model = self.judge.model
        told = [
            self.judge.name,
            [model.temperature, model.max_tokens, model.extra_body],
            [template.system, self._side],
            [part if isinstance(part, str) else _digest_of(part) for part in _parts(question, template)],
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _parts(question: Question, template: Template) -> list[str | Path]:
    """What the judge is told and shown, in its order."""
    return [part for part in (template.fill(question), *question.shown) if part]


def _digest_of(path: Path) -> list[str] | None:
    return [_digest(path, path.stat().st_mtime_ns)] if path.exists() else None


@lru_cache(maxsize=100_000)
def _digest(path: Path, changed: int) -> str:
    """The checksum of a picture's file, which many questions may be about."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _used(exchanges: Sequence[Exchange]) -> Usage:
    return _sum([exchange.usage for exchange in exchanges])


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
    )
