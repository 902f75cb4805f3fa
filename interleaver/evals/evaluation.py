"""An evaluation on a benchmark: make the outputs, judge them, build the table. Every stage can be resumed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from interleaver.calling import run_concurrently
from interleaver.errors import BackendError, BadInput
from interleaver.evals.benchmarks.base import Answers, Benchmark, Output, OutputBlock, Question
from interleaver.evals.data import BenchmarkData
from interleaver.evals.judge_client import JudgeAnswer, JudgeClient
from interleaver.evals.scores import Table, cohens_kappa
from interleaver.evals.systems import NO_PICTURE, ImportedOutputs, Outputs

FIRST_PAUSE, MAX_PAUSE = 5.0, 60.0
"""Initial and maximum delay, in seconds, before retrying an unavailable judge; the delay doubles on each retry."""
PATIENCE_SECONDS = 300.0
"""Seconds without any new answer after which an unavailable judge is no longer retried."""
TOKENS_PER_PICTURE, LETTERS_PER_TOKEN = 1_000, 4
SECONDS_PER_CALL = 4.0
"""Assumptions of the estimates: tokens per picture, characters per token, seconds per judge call."""
MAX_BUSY_CALLS = 25
"""Limit of consecutive calls that find the judge unavailable, and of failed calls before the first usable answer."""

log = logging.getLogger(__name__)
ItemQuestion = tuple[str, Question]
"""The id of an item and a question about its output."""
AnswerProgress = Callable[[str, str, JudgeAnswer], None]
"""Progress callback, called with the system, the item id and the judge's answer."""


@dataclass(frozen=True)
class JudgeAgreement:
    """Agreement of two judges on the same outputs.

    Attributes:
        judges: names of the two judges.
        kappa: Cohen's kappa, -1 to 1; None where it is undefined because agreement by chance is 1.
        equal: share of equal answers, 0 to 1; None if no answers could be compared.
        answers: number of answers that were compared.
    """

    judges: tuple[str, str]
    kappa: float | None
    equal: float | None
    answers: int


@dataclass
class JudgedOutputs:
    """A judge's answers about a system's outputs.

    Attributes:
        answers: answers by item id, then by question key.
        problems: reason why an item could not be judged, by item id.
        calls: number of judge calls made in this evaluation.
        cached_calls: number of answers taken from the cache.
        input_tokens: input tokens of all calls, including those behind cached answers.
        output_tokens: output tokens of all calls, including those behind cached answers.
        cost: cost of all calls, including those behind cached answers, at the judge's prices.
    """

    answers: dict[str, dict[str, JudgeAnswer]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    cached_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def answers_of(self, name: str) -> Answers:
        """Return the values of the judge's answers about an item, by question key."""
        return {key: answer.value for key, answer in self.answers[name].items()}


@dataclass(frozen=True)
class Estimate:
    """An estimate of the remaining work.

    Attributes:
        outputs: number of outputs that are still to be made.
        calls: number of judge calls that are still to be made.
        cost: expected cost of making and judging outputs, in the currency of the configured prices (US dollars for the
            prescribed judges).
        unpriced_judges: names of judges that will be called but whose prices are unknown.
        seconds: expected duration of making and judging outputs.
    """

    outputs: int
    calls: int
    cost: float
    unpriced_judges: tuple[str, ...]
    seconds: float


class Evaluation:
    """A benchmark, the systems under test, and the judges."""

    def __init__(
        self,
        benchmark: Benchmark,
        data: BenchmarkData,
        systems: Sequence[Outputs | ImportedOutputs],
        clients: Sequence[JudgeClient],
        models: Mapping[str, str],
    ):
        """Set up the evaluation.

        Args:
            benchmark: the benchmark.
            data: the items to evaluate.
            systems: the systems under test.
            clients: one client per judge.
            models: names of the planner, critic and generator models of the profile.

        Raises:
            BadInput: two systems or two judges have the same name.
        """
        for role, names in (
            ("system", [_system_name(member) for member in systems]),
            ("judge", [member.judge.name for member in clients]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise BadInput(f"two {role}s are named {name!r}; {role} names must be unique")
        self.benchmark = benchmark
        self.data = data
        self.systems = {_system_name(member): member for member in systems}
        self.clients = {member.judge.name: member for member in clients}
        self.models = models
        self.judged_outputs = {(system, judge): JudgedOutputs() for system in self.systems for judge in self.clients}

    def folder(self, system: str) -> Path:
        """Return the folder that the picture paths of a system's outputs are relative to."""
        outputs = self.systems[system]
        return outputs.system.folder if isinstance(outputs, Outputs) else outputs.folder

    def outputs(self, system: str) -> dict[str, Output]:
        """Return those outputs of a system that can be judged, by item id."""
        outputs = self.systems[system].outputs
        return {
            item.id: outputs[item.id] for item in self.data.items if item.id in outputs and self._fits(outputs[item.id])
        }

    def all_outputs(self, system: str) -> list[Output]:
        """Return a system's outputs for the selected items, including failed ones."""
        outputs = self.systems[system].outputs
        return [outputs[item.id] for item in self.data.items if item.id in outputs]

    def _fits(self, output: Output) -> bool:
        has_picture = any(block.picture for block in output.blocks)
        return not output.problem and (has_picture or not self.benchmark.needs_picture)

    def questions(self) -> int:
        """Return the total number of questions for all judges, answered or not."""
        outputs = {name: self.outputs(name) for name in self.systems}
        return sum(
            len(self.benchmark.questions(item, outputs[name][item.id], self.folder(name)))
            for name in self.systems
            for item in self.data.items
            if item.id in outputs[name]
        ) * len(self.clients)

    def estimate(self, workers: int) -> Estimate:
        """Estimate the remaining work, assuming that every output still to be made has one picture.

        Args:
            workers: maximum number of outputs made concurrently.
        """
        calls, cost, seconds = 0, 0.0, 0.0
        unpriced_judges = []
        for judge, client in self.clients.items():
            questions = [question for system in self.systems for question in self._left(system, client)]
            letters = sum(len(client.words(question)) * question.calls for question in questions)
            pictures = sum(isinstance(part, Path) for question in questions for part in question.content)
            tokens = letters // LETTERS_PER_TOKEN + TOKENS_PER_PICTURE * pictures
            call_count = sum(question.calls for question in questions)
            cost += client.judge.cost(tokens, client.answer_tokens * call_count)
            unpriced_judges += [judge] if questions and client.judge.prices is None else []
            seconds += SECONDS_PER_CALL * call_count / client.judge.concurrency
            calls += call_count
        missing = 0
        for name, system_outputs in self.systems.items():
            if isinstance(system_outputs, Outputs):
                missing_count = len(self.data.items) - len(self.outputs(name))
                expected = system_outputs.expected()
                cost += missing_count * expected.cost
                seconds += missing_count * expected.seconds / min(workers, max(missing_count, 1))
                missing += missing_count
        return Estimate(missing, calls, cost, tuple(unpriced_judges), seconds)

    def _made_here(self) -> list[str]:
        return [name for name, system_outputs in self.systems.items() if isinstance(system_outputs, Outputs)]

    def _left(self, system: str, client: JudgeClient) -> list[Question]:
        """Return the questions about a system's outputs that have no cached answer yet."""
        outputs, open_questions = self.outputs(system), []
        for item in self.data.items:
            if item.id in outputs:
                questions = self.benchmark.questions(item, outputs[item.id], self.folder(system))
                open_questions += [question for question in questions if not client.is_known(question)]
            elif system in self._made_here():
                expected = Output(id=item.id, blocks=[OutputBlock(picture="to-come.png")])
                open_questions += self.benchmark.questions(item, expected, Path())
        return open_questions

    async def make(self, workers: int) -> AsyncGenerator[tuple[str, Output]]:
        """Make the missing outputs and yield each with the name of its system.

        Args:
            workers: maximum number of outputs made concurrently.

        Raises:
            BackendUnavailable: a judge cannot be reached. This is checked before any output is made.
        """
        if any(len(self.outputs(name)) < len(self.data.items) for name in self._made_here()):
            for client in self.clients.values():
                await client.check()
        for name, system_outputs in self.systems.items():
            if isinstance(system_outputs, Outputs):
                async with aclosing(system_outputs.make(self.data.items, workers)) as outputs:
                    async for output in outputs:
                        yield name, output

    async def score_outputs(self, progress: AnswerProgress = lambda system, item, answer: None) -> None:
        """Have every judge answer all questions about every output; retry while a judge is unavailable.

        Args:
            progress: progress callback, called for every answer.

        Raises:
            BackendError: a judge gave no usable answer to the first questions.
        """
        for (system, judge), judged_output in self.judged_outputs.items():
            client, outputs = self.clients[judge], self.outputs(system)
            items = [item for item in self.data.items if item.id in outputs]
            open_questions = [
                (item.id, question)
                for item in items
                for question in self.benchmark.questions(item, outputs[item.id], self.folder(system))
            ]
            judged_output.answers = {item.id: {} for item in items}
            judged_output.problems |= await self._until_answered(
                client, judged_output, open_questions, partial(progress, system)
            )
            for name in judged_output.problems:
                judged_output.answers.pop(name, None)

    async def _until_answered(
        self,
        client: JudgeClient,
        judged_output: JudgedOutputs,
        open_questions: Sequence[ItemQuestion],
        progress: Callable[[str, JudgeAnswer], None],
    ) -> dict[str, str]:
        """Ask until all questions are answered or `PATIENCE_SECONDS` pass without an answer.

        Returns:
            The reason for each item that has unanswered questions, by item id.
        """
        pause, quiet_since = FIRST_PAUSE, time.monotonic()
        while True:
            later, problem = await self._round(client, judged_output, open_questions, progress)
            if len(later) < len(open_questions):
                pause, quiet_since = FIRST_PAUSE, time.monotonic()
            if not later or time.monotonic() + pause > quiet_since + PATIENCE_SECONDS:
                return {name: problem for name, _ in later}
            if problem:
                log.warning("%s; retrying in %.0f s, %d questions remain", problem, pause, len(later))
                await asyncio.sleep(pause)
            open_questions, pause = later, min(2 * pause, MAX_PAUSE)

    async def _round(
        self,
        client: JudgeClient,
        judged_output: JudgedOutputs,
        questions: Sequence[ItemQuestion],
        progress: Callable[[str, JudgeAnswer], None],
    ) -> tuple[list[ItemQuestion], str]:
        """Ask every question once.

        Returns:
            The questions to ask again later, and the last reason why the judge was unavailable ("" if it was not).
        """

        async def ask(item_question: ItemQuestion) -> tuple[ItemQuestion, JudgeAnswer]:
            return item_question, await client.ask(item_question[1])

        busy_count = answer_count = failed_count = 0
        waiting = iter(questions)

        def until_unresponsive() -> Iterator[ItemQuestion]:
            for item_question in waiting:
                yield item_question
                if busy_count >= MAX_BUSY_CALLS or (failed_count >= MAX_BUSY_CALLS and not answer_count):
                    return

        later: list[ItemQuestion] = []
        last_problem = busy_reason = ""
        async with aclosing(run_concurrently(until_unresponsive(), ask, 2 * client.judge.concurrency)) as answers:
            async for item_question, answer in answers:
                name, question = item_question
                self._count(client, judged_output, answer)
                if answer.later:
                    later.append(item_question)
                    busy_count, busy_reason = busy_count + 1, answer.problem or ""
                    continue
                busy_count = 0
                if answer.problem is None:
                    answer_count += 1
                    judged_output.answers[name][question.key] = answer
                else:
                    failed_count, last_problem = failed_count + 1, answer.problem
                    judged_output.problems[name] = answer.problem
                progress(name, answer)
        open_questions = [*later, *waiting]
        if failed_count >= MAX_BUSY_CALLS and not answer_count:
            raise BackendError(
                f"the judge {client.judge.name} gave no usable answer to {failed_count} questions; the last error: "
                f"{last_problem}"
            )
        return open_questions, busy_reason

    def _count(self, client: JudgeClient, judged_output: JudgedOutputs, answer: JudgeAnswer) -> None:
        judged_output.cached_calls += not answer.calls
        judged_output.calls += answer.calls
        judged_output.input_tokens += answer.usage.input_tokens
        judged_output.output_tokens += answer.usage.output_tokens
        judged_output.cost += client.judge.cost(answer.usage.input_tokens, answer.usage.output_tokens)

    def table(self, system: str, judge: str, allow_partial: bool) -> Table:
        """Return the scores that a judge gave to a system.

        Args:
            system: name of the system.
            judge: name of the judge.
            allow_partial: whether to accept items without a score.

        Raises:
            BadInput: items have no score and `allow_partial` is false.
        """
        judged_output = self.judged_outputs[system, judge]
        answers = {name: judged_output.answers_of(name) for name in judged_output.answers}
        return self.benchmark.table(self.data.items, answers, allow_partial)

    def why_missing(self, system: str, judge: str, name: str) -> str:
        """Return the reason why an item has no score."""
        output = self.systems[system].outputs.get(name)
        if output is None:
            return "there is no output"
        if not self._fits(output):
            return output.problem or NO_PICTURE
        return self.judged_outputs[system, judge].problems.get(name, "it was not judged")

    def agreement(self, system: str) -> list[JudgeAgreement]:
        """Return the agreement of each pair of judges on a system's outputs."""
        return [self._agreement(system, first, second) for first, second in combinations(self.clients, 2)]

    def _agreement(self, system: str, first: str, second: str) -> JudgeAgreement:
        values = [flatten_answers(self.judged_outputs[system, judge]) for judge in (first, second)]
        shared_keys = [key for key in values[0] if key in values[1]]
        pairs = [[judge_values[key] for key in shared_keys] for judge_values in values]
        equal = sum(a == b for a, b in zip(*pairs, strict=True)) / len(shared_keys) if shared_keys else None
        return JudgeAgreement((first, second), cohens_kappa(*pairs), equal, len(shared_keys))


def _system_name(system: Outputs | ImportedOutputs) -> str:
    return system.system.name if isinstance(system, Outputs) else system.name


def flatten_answers(judged_output: JudgedOutputs) -> Mapping[tuple[str, ...], Any]:
    """Return all values of a judge's answers, keyed by item id, question key and value name ("" for a plain value)."""
    values: dict[tuple[str, ...], Any] = {}
    for name, item_answers in judged_output.answers.items():
        for key, answer in item_answers.items():
            parts = answer.value.items() if isinstance(answer.value, dict) else [("", answer.value)]
            values |= {(name, key, part): value for part, value in parts}
    return values
