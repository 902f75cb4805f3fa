"""A run of a benchmark: outputs are made, judged and put into a table, each of which can be carried on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from interleaver.batch.work import in_parallel
from interleaver.errors import BackendError, BadInput
from interleaver.evals.benchmarks.base import Answers, Benchmark, Block, Output, Question
from interleaver.evals.data import Data
from interleaver.evals.judging import Asking, Said
from interleaver.evals.scores import Table, cohens_kappa
from interleaver.evals.systems import NO_PICTURE, FileSystem, Outputs

PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds before a judge that was too busy is asked again; twice as long each time."""
PATIENCE = 300.0
"""Seconds without any answer after which it is given up."""
TOKENS_A_PICTURE, LETTERS_A_TOKEN = 1_000, 4
SECONDS_A_CALL = 4.0
"""What estimates reckon with before anything is known."""
GIVE_UP = 25
"""Calls in a row that find a judge busy before it is left alone; first answers that may all be unusable."""

log = logging.getLogger(__name__)
Asked = tuple[str, Question]
"""A question, and the item that it is about."""
Progress = Callable[[str, str, Said], None]
"""Is told of an answer: the system, the item, and what was said."""


@dataclass
class Judged:
    """What a judge said of a system's outputs.

    Attributes:
        said: by item and question.
        problems: why questions have no answer, by item.
        calls: that were made now.
        cached: answers that were there already.
        input_tokens: of all calls, whenever they were made; likewise the output's.
        cost: of all calls, by the judge's prices.
    """

    said: dict[str, dict[str, Said]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def answers(self, name: str) -> Answers:
        """What was said of an item."""
        return {key: said.value for key, said in self.said[name].items()}


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        outputs: to be made.
        calls: of judges.
        cost: of making outputs and of the judges, in US dollars or the profile's currency.
        unpriced: judges that are to be called at prices that are not known.
        seconds: of making outputs and of judging.
    """

    outputs: int
    calls: int
    cost: float
    unpriced: tuple[str, ...]
    seconds: float


class Evaluation:
    """A benchmark, the systems under test, and the judges."""

    def __init__(
        self,
        benchmark: Benchmark,
        data: Data,
        systems: Sequence[Outputs | FileSystem],
        asking: Sequence[Asking],
        models: Mapping[str, str],
    ):
        """Bring them together.

        Args:
            benchmark: what is asked for.
            data: its items.
            systems: under test.
            asking: the judges.
            models: who is planner, critic and generator in the systems of our own.

        Raises:
            BadInput: two systems or two judges have the same name.
        """
        for what, names in (("system", [_name(one) for one in systems]), ("judge", [one.judge.name for one in asking])):
            for name in names:
                if names.count(name) > 1:
                    raise BadInput(f"two {what}s are called {name!r}; their names must differ")
        self.benchmark = benchmark
        self.data = data
        self.systems = {_name(one): one for one in systems}
        self.asking = {one.judge.name: one for one in asking}
        self.models = models
        self.judged = {(system, judge): Judged() for system in self.systems for judge in self.asking}

    def folder(self, system: str) -> Path:
        """Where the pictures of a system's outputs are."""
        one = self.systems[system]
        return one.system.folder if isinstance(one, Outputs) else one.folder

    def outputs(self, system: str) -> dict[str, Output]:
        """The outputs of a system that can be judged, by item."""
        made = self.systems[system].made
        return {item.id: made[item.id] for item in self.data.items if item.id in made and self._fits(made[item.id])}

    def made(self, system: str) -> list[Output]:
        """All outputs of a system that were asked for, those that failed too."""
        made = self.systems[system].made
        return [made[item.id] for item in self.data.items if item.id in made]

    def _fits(self, output: Output) -> bool:
        shown = any(block.picture for block in output.blocks)
        return not output.problem and (shown or not self.benchmark.needs_picture)

    def questions(self) -> int:
        """How many questions all judges have to answer, or have answered."""
        made = {name: self.outputs(name) for name in self.systems}
        return sum(
            len(self.benchmark.questions(item, made[name][item.id], self.folder(name)))
            for name in self.systems
            for item in self.data.items
            if item.id in made[name]
        ) * len(self.asking)

    def estimate(self, workers: int) -> Estimate:
        """What is left to do; an output that is not made yet is judged as if it had one picture.

        Args:
            workers: how many outputs are made at a time.
        """
        calls, cost, seconds = 0, 0.0, 0.0
        unpriced = []
        for judge, asking in self.asking.items():
            asked = [question for system in self.systems for question in self._left(system, asking)]
            letters = sum(len(asking.words(question)) * question.calls for question in asked)
            pictures = sum(isinstance(part, Path) for question in asked for part in question.shown)
            tokens = letters // LETTERS_A_TOKEN + TOKENS_A_PICTURE * pictures
            needed = sum(question.calls for question in asked)
            cost += asking.judge.cost(tokens, asking.answer_tokens * needed)
            unpriced += [judge] if asked and asking.judge.prices is None else []
            seconds += SECONDS_A_CALL * needed / asking.judge.concurrency
            calls += needed
        missing = 0
        for name, one in self.systems.items():
            if isinstance(one, Outputs):
                left = len(self.data.items) - len(self.outputs(name))
                expected = one.expected()
                cost += left * expected.cost
                seconds += left * expected.seconds / min(workers, max(left, 1))
                missing += left
        return Estimate(missing, calls, cost, tuple(unpriced), seconds)

    def _made_here(self) -> list[str]:
        return [name for name, one in self.systems.items() if isinstance(one, Outputs)]

    def _left(self, system: str, asking: Asking) -> list[Question]:
        """The questions that have no answer yet."""
        made, left = self.outputs(system), []
        for item in self.data.items:
            if item.id in made:
                asked = self.benchmark.questions(item, made[item.id], self.folder(system))
                left += [question for question in asked if not asking.is_known(question)]
            elif system in self._made_here():
                expected = Output(id=item.id, blocks=[Block(picture="to-come.png")])
                left += self.benchmark.questions(item, expected, Path())
        return left

    async def make(self, workers: int) -> AsyncIterator[tuple[str, Output]]:
        """Make the outputs that are missing.

        Args:
            workers: how many are made at a time.

        Raises:
            BackendUnavailable: a judge cannot be reached, so that the outputs would be made in vain.
        """
        if any(len(self.outputs(name)) < len(self.data.items) for name in self._made_here()):
            for asking in self.asking.values():
                await asking.check()
        for name, one in self.systems.items():
            if isinstance(one, Outputs):
                async for output in one.make(self.data.items, workers):
                    yield name, output

    async def judge(self, progress: Progress = lambda system, item, said: None) -> None:
        """Have every output judged; a judge that is too busy, or away, is asked again later.

        Args:
            progress: is told of every answer.

        Raises:
            BackendError: a judge gave no answer at all to the first questions.
        """
        for (system, judge), judged in self.judged.items():
            asking, made = self.asking[judge], self.outputs(system)
            items = [item for item in self.data.items if item.id in made]
            left = [
                (item.id, question)
                for item in items
                for question in self.benchmark.questions(item, made[item.id], self.folder(system))
            ]
            judged.said = {item.id: {} for item in items}
            judged.problems |= await self._until_answered(asking, judged, left, partial(progress, system))
            for name in judged.problems:
                judged.said.pop(name, None)

    async def _until_answered(
        self,
        asking: Asking,
        judged: Judged,
        left: Sequence[Asked],
        progress: Callable[[str, Said], None],
    ) -> dict[str, str]:
        """Ask until nothing is left, or nothing has been answered for a long time; why items have no answer then."""
        pause, quiet_since = PAUSE, time.monotonic()
        while True:
            later, problem = await self._round(asking, judged, left, progress)
            if len(later) < len(left):
                pause, quiet_since = PAUSE, time.monotonic()
            if not later or time.monotonic() + pause > quiet_since + PATIENCE:
                return {name: problem for name, _ in later}
            if problem:
                log.warning("%s; asking again in %.0f s, %d answers are left", problem, pause, len(later))
                await asyncio.sleep(pause)
            left, pause = later, min(2 * pause, LONGEST_PAUSE)

    async def _round(
        self,
        asking: Asking,
        judged: Judged,
        questions: Sequence[Asked],
        progress: Callable[[str, Said], None],
    ) -> tuple[list[Asked], str]:
        """Ask once; the questions that are left for later, and why if the judge is too busy."""

        async def ask(asked: Asked) -> tuple[Asked, Said]:
            return asked, await asking.ask(asked[1])

        busy = answered = failed = 0
        waiting = iter(questions)

        def while_there_is_hope() -> Iterator[Asked]:
            for asked in waiting:
                yield asked
                if busy >= GIVE_UP or (failed >= GIVE_UP and not answered):
                    return

        later: list[Asked] = []
        problem = why = ""
        async for asked, said in in_parallel(while_there_is_hope(), ask, 2 * asking.judge.concurrency):
            name, question = asked
            self._count(asking, judged, said)
            if said.later:
                later.append(asked)
                busy, why = busy + 1, said.problem or ""
                continue
            busy = 0
            if said.problem is None:
                answered += 1
                judged.said[name][question.key] = said
            else:
                failed, problem = failed + 1, said.problem
                judged.problems[name] = said.problem
            progress(name, said)
        left = [*later, *waiting]
        if failed >= GIVE_UP and not answered:
            raise BackendError(f"the judge {asking.judge.name} answers nothing: {problem}")
        return left, why

    def _count(self, asking: Asking, judged: Judged, said: Said) -> None:
        judged.cached += not said.calls
        judged.calls += said.calls
        judged.input_tokens += said.usage.input_tokens
        judged.output_tokens += said.usage.output_tokens
        judged.cost += asking.judge.cost(said.usage.input_tokens, said.usage.output_tokens)

    def table(self, system: str, judge: str, allow_partial: bool) -> Table:
        """The scores of a system by a judge.

        Raises:
            BadInput: items are missing and that is not allowed.
        """
        judged = self.judged[system, judge]
        answers = {name: judged.answers(name) for name in judged.said}
        return self.benchmark.table(self.data.items, answers, allow_partial)

    def why_missing(self, system: str, judge: str, name: str) -> str:
        """Why an item has no score."""
        output = self.systems[system].made.get(name)
        if output is None:
            return "there is no output"
        if not self._fits(output):
            return output.problem or NO_PICTURE
        return self.judged[system, judge].problems.get(name, "it was not judged")

    def agreement(self, system: str) -> list[dict[str, Any]]:
        """How far judges agree on a system's outputs, by pair: Cohen's kappa, the share of equal answers, how many."""
        found = []
        for first, second in combinations(self.asking, 2):
            values = [flattened(self.judged[system, judge]) for judge in (first, second)]
            both = [key for key in values[0] if key in values[1]]
            pairs = [[one[key] for key in both] for one in values]
            equal = sum(a == b for a, b in zip(*pairs, strict=True)) / len(both) if both else None
            found.append(
                {"judges": [first, second], "kappa": cohens_kappa(*pairs), "equal": equal, "answers": len(both)}
            )
        return found


def _name(system: Outputs | FileSystem) -> str:
    return system.system.name if isinstance(system, Outputs) else system.name


def flattened(judged: Judged) -> Mapping[tuple[str, ...], Any]:
    """Every single value that a judge gave, by item, question and, where an answer has several, its name."""
    found: dict[tuple[str, ...], Any] = {}
    for name, asked in judged.said.items():
        for key, said in asked.items():
            parts = said.value.items() if isinstance(said.value, dict) else [("", said.value)]
            found |= {(name, key, part): value for part, value in parts}
    return found
