"""The client that asks judges. Every answer is cached, so that no question is paid for twice or lost in a crash."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.exchanges import record_exchanges
from interleaver.calling import call
from interleaver.errors import BackendError, BackendUnavailable, BadInput, UnreadableAnswer
from interleaver.evals.benchmarks.base import Benchmark, PrescribedJudge, Question
from interleaver.evals.prompts import JudgePrompt, JudgePrompts
from interleaver.pictures import Picture, shrink_picture
from interleaver.profile import load_profile
from interleaver.runner import make_backend
from interleaver.types import Exchange, PicturePolicy, Usage

CONCURRENCY = 16


@dataclass
class BenchmarkJudge:
    """A judge with its connection, prices and limits.

    Attributes:
        name: name in tables, which is the model's name.
        model: chat model that is called.
        prices: prices of a million input tokens and of a million output tokens; None if unknown.
        concurrency: maximum number of concurrent calls.
    """

    name: str
    model: ChatModel
    prices: tuple[float, float] | None = None
    concurrency: int = CONCURRENCY

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of a number of tokens; 0 if the prices are unknown."""
        prices = self.prices or (0.0, 0.0)
        return (input_tokens * prices[0] + output_tokens * prices[1]) / 1e6


def make_judge(benchmark: Benchmark, choice: str | None) -> BenchmarkJudge:
    """Return the judge that the user has chosen.

    Args:
        benchmark: benchmark whose prescribed judge, with which the published numbers were made, is the default.
        choice: MODEL or MODEL@URL for another model with the prescribed temperature; or the path of a profile (*.toml)
            whose [judge] is a chat model. None uses the prescribed judge.

    Raises:
        BadInput: the profile's judge is not a chat model.
    """
    prescription = benchmark.judge
    if choice is None:
        return BenchmarkJudge(
            prescription.name,
            _chat_model(prescription, prescription.name, prescription.base_url, prescription.key),
            prescription.prices,
        )
    if choice.endswith(".toml"):
        profile = load_profile(choice)
        settings = profile.judge
        if settings.backend != "chat":
            raise BadInput(
                f"the [judge] of {choice!r} has backend = {settings.backend!r}; benchmarks need backend = 'chat'"
            )
        model = make_backend(profile, "judge")
        profile_prices = profile.prices.judge
        prices = (profile_prices.input, profile_prices.output) if profile_prices.model_fields_set else None
        return BenchmarkJudge(model.model_name, model, prices, settings.concurrency or CONCURRENCY)
    name, _, url = choice.partition("@")
    if name == prescription.name:
        return BenchmarkJudge(
            name,
            _chat_model(prescription, name, url or prescription.base_url, None if url else prescription.key),
            prescription.prices,
        )
    return BenchmarkJudge(name, _chat_model(prescription, name, url or None, None))


def _chat_model(prescription: PrescribedJudge, name: str, url: str | None, key: str | None) -> ChatModel:
    extra = dict(prescription.extra_body) if name == prescription.name else {}
    return ChatModel(
        model=name,
        base_url=url,
        api_key_env=key,
        temperature=prescription.temperature,
        max_tokens=prescription.max_tokens,
        extra_body=extra,
    )


class AnswerCache:
    """A persistent cache of judge answers in one SQLite file; several processes may share it."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with FileLock(folder / ".judgements.lock"):  # two processes must not set up the database at the same time
            self._database = sqlite3.connect(
                folder / "judgements.sqlite", timeout=60, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS judgements (asked TEXT PRIMARY KEY, answer TEXT NOT NULL, "
                "input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL)"
            )

    def get(self, key: str) -> tuple[str, Usage] | None:
        """Return the cached answer and its token usage, or None.

        Args:
            key: cache key of the question.
        """
        query = "SELECT answer, input_tokens, output_tokens FROM judgements WHERE asked = ?"
        with self._lock:
            row = self._database.execute(query, (key,)).fetchone()
        return (row[0], Usage(input_tokens=row[1], output_tokens=row[2])) if row else None

    def put(self, key: str, answer: str, usage: Usage) -> None:
        """Store an answer.

        Args:
            key: cache key of the question.
            answer: raw answer of the judge.
            usage: tokens that the call took.
        """
        row = (key, answer, usage.input_tokens, usage.output_tokens)
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@dataclass
class JudgeAnswer:
    """The answer of a judge to a question, or the reason why there is none.

    Attributes:
        value: parsed answer, as plain JSON; None if there is none.
        answer: raw answer of the judge.
        problem: reason why there is no answer; None if there is one.
        later: whether asking again later may succeed.
        calls: number of judge calls made now; 0 if the answer was cached.
        usage: tokens of all calls, including those behind a cached answer.
    """

    value: Any = None
    answer: str = ""
    problem: str | None = None
    later: bool = False
    calls: int = 0
    usage: Usage = field(default_factory=Usage)


class JudgeClient:
    """A client that asks one judge the questions of a benchmark.

    Attributes:
        judge: judge that is asked.
        answer_tokens: expected number of tokens of an answer, for estimates.
    """

    def __init__(self, judge: BenchmarkJudge, benchmark: Benchmark, prompts: JudgePrompts, cache: AnswerCache):
        self.judge = judge
        self._max_side = benchmark.max_side
        self._detail = benchmark.judge.detail
        self._prompts = prompts
        self._cache = cache
        self.answer_tokens = benchmark.judge.answer_tokens
        self._conversation = Conversation(judge.model, "judge")

    def words(self, question: Question) -> str:
        """Return all text that the judge is sent for a question, without the pictures."""
        template = self._prompts.load(question.template)
        return "\n".join(
            [template.system, *(part for part in _prompt_parts(question, template) if isinstance(part, str))]
        )

    def is_known(self, question: Question) -> bool:
        """Return whether the answers to a question and its follow-ups are cached."""
        answer = self._cached_answer(self._key(question, self._prompts.load(question.template)), question)
        return answer is not None and (question.follow_up is None or self.is_known(question.follow_up(answer.value)))

    def _cached_answer(self, key: str, question: Question) -> JudgeAnswer | None:
        """Return the cached answer, or None if there is none that `question.read` accepts."""
        cached_answer = self._cache.get(key)
        if cached_answer is None:
            return None
        try:
            return JudgeAnswer(question.read(cached_answer[0]), answer=cached_answer[0], usage=cached_answer[1])
        except UnreadableAnswer:
            return None

    async def check(self) -> None:
        """Check that the judge's endpoint can be reached.

        Raises:
            BackendUnavailable: the endpoint cannot be reached.
        """
        try:
            await self._conversation.check()
        except BackendUnavailable:
            raise
        except BackendError:
            pass  # some servers do not list their models; the first questions will show any other error

    async def ask(self, question: Question) -> JudgeAnswer:
        """Return the answer to a question and its follow-ups, from the cache or by calling the judge.

        Failures are reported in `JudgeAnswer.problem`.
        """
        first = await self._ask(question)
        if first.problem or question.follow_up is None:
            return first
        last = await self.ask(question.follow_up(first.value))
        return replace(
            last,
            answer=f"{first.answer}\n\n{last.answer}",
            calls=first.calls + last.calls,
            usage=_sum_usages([first.usage, last.usage]),
        )

    async def _ask(self, question: Question) -> JudgeAnswer:
        template = self._prompts.load(question.template)
        key = await asyncio.to_thread(self._key, question, template)
        cached_answer = await asyncio.to_thread(self._cached_answer, key, question)
        if cached_answer is not None:
            return cached_answer
        return await self._call(question, template, key)

    async def _call(self, question: Question, template: JudgePrompt, key: str) -> JudgeAnswer:
        with record_exchanges() as exchanges:
            try:
                parts = _prompt_parts(question, template)
                content = [
                    part if isinstance(part, str) else await asyncio.to_thread(self._load_picture, part)
                    for part in parts
                ]
                ask = Ask(content, system=template.system, pictures=PicturePolicy(), detail=self._detail)
                read = lambda text: (text, question.read(text))  # noqa: E731  (the raw answer is cached, too)
                make_call = partial(self._conversation.ask, ask, read)
                (answer, value), _ = await call(self.judge.model, make_call, tuple, self.judge.concurrency)
            except BackendUnavailable as error:
                return JudgeAnswer(problem=str(error), later=True, calls=1, usage=_total_usage(exchanges))
            except (BackendError, BadInput, OSError) as error:
                return JudgeAnswer(problem=str(error), calls=1, usage=_total_usage(exchanges))
        usage = _total_usage(exchanges)
        await asyncio.to_thread(self._cache.put, key, answer, usage)
        return JudgeAnswer(value, answer=answer, calls=1, usage=usage)

    def _load_picture(self, path: Path) -> Picture:
        picture = Picture.decode(path.read_bytes(), f"the picture {str(path)!r}")
        return shrink_picture(picture, self._max_side, "JPEG") if self._max_side else picture

    def _key(self, question: Question, template: JudgePrompt) -> str:
        """Return the cache key of a question: a hash of the judge, its settings and all content that it is sent."""
        model = self.judge.model
        content = [
            self.judge.name,
            [model.temperature, model.max_tokens, model.extra_body],
            [template.system, self._max_side],
            [part if isinstance(part, str) else _file_digests(part) for part in _prompt_parts(question, template)],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _prompt_parts(question: Question, template: JudgePrompt) -> list[str | Path]:
    """Return the texts and the pictures that the judge is sent, in their order."""
    return [part for part in (template.fill(question), *question.content) if part]


def _file_digests(path: Path) -> list[str] | None:
    return [_digest(path, path.stat().st_mtime_ns)] if path.exists() else None


@lru_cache(maxsize=100_000)
def _digest(path: Path, modified_ns: int) -> str:
    """Return the checksum of a picture file; memoised, since many questions may be about the same picture."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _total_usage(exchanges: Sequence[Exchange]) -> Usage:
    return _sum_usages([exchange.usage for exchange in exchanges])


def _sum_usages(usages: Sequence[Usage]) -> Usage:
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
    )
