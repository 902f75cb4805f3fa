"""A run of a benchmark: outputs are made, judged and put into a table, each of which can be carried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from interleaver.batch.work import in_parallel
from interleaver.evals.benchmarks.base import Answers, Benchmark, Block, Output, Question
from interleaver.evals.data import Data
from interleaver.evals.judging import Asking, Said
from interleaver.evals.scores import Table, cohens_kappa
from interleaver.evals.systems import FileSystem, Outputs

ROUNDS = 5
"""How often questions are asked again that a judge was too busy to answer."""
TOKENS_A_PICTURE, TOKENS_AN_ANSWER, LETTERS_A_TOKEN = 1_000, 150, 4
SECONDS_A_CALL = 4.0
"""What estimates reckon with before anything is known."""


@dataclass
class Judged:
    """What a judge said of a system's outputs.

    Attributes:
        said: by item and question.
        problems: why questions have no answer, by item.
        calls: that were made now.
        cached: answers that were there already.
        input_tokens: of the calls; likewise the output's.
        cost: by the judge's prices.
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
        cost: of the judges, in US dollars or the profile's currency; drawing is not in it.
        seconds: of judging.
    """

    outputs: int
    calls: int
    cost: float
    seconds: float


class Evaluation:
    """A benchmark, the systems under test, and the judges."""

    def __init__(
        self, benchmark: Benchmark, data: Data, systems: Sequence[Outputs | FileSystem], asking: Sequence[Asking]
    ):
        self.benchmark = benchmark
        self.data = data
        self.systems = {one.system.name if isinstance(one, Outputs) else one.name: one for one in systems}
        self.asking = {one.judge.name: one for one in asking}
        self.judged = {(system, judge): Judged() for system in self.systems for judge in self.asking}

    def folder(self, system: str) -> Path:
        """Where the pictures of a system's outputs are."""
        one = self.systems[system]
        return one.system.folder if isinstance(one, Outputs) else one.folder

    def outputs(self, system: str) -> dict[str, Output]:
        """The outputs of a system that can be judged, by item."""
        made = self.systems[system].made
        return {item.id: made[item.id] for item in self.data.items if item.id in made and self._fits(made[item.id])}

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

    def estimate(self) -> Estimate:
        """What is left to do; an output that is not made yet is reckoned with one picture."""
        calls, tokens, cost, seconds = 0, [0, 0], 0.0, 0.0
        for judge, asking in self.asking.items():
            asked = [question for system in self.systems for question in self._left(system, asking)]
            letters = sum(len(asking.prompt(question)) for question in asked)
            pictures = sum(len(question.pictures) for question in asked)
            tokens = [letters // LETTERS_A_TOKEN + TOKENS_A_PICTURE * pictures, TOKENS_AN_ANSWER * len(asked)]
            prices = self.asking[judge].judge.prices
            cost += sum(count * price for count, price in zip(tokens, prices, strict=True)) / 1e6
            seconds += SECONDS_A_CALL * len(asked) / asking.judge.concurrency
            calls += len(asked)
        missing = sum(len(self.data.items) - len(self.outputs(name)) for name in self._made_here())
        return Estimate(missing, calls, cost, seconds)

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
        """
        for name, one in self.systems.items():
            if isinstance(one, Outputs):
                async for output in one.make(self.data.items, workers):
                    yield name, output

    async def judge(self, progress: Callable[[Said], None] = lambda said: None) -> None:
        """Have every output judged; questions that a judge was too busy for are asked again.

        Args:
            progress: is told of every answer.
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
            for _ in range(ROUNDS):
                busy = await self._round(asking, judged, left, progress)
                if not busy or len(busy) == len(left):
                    break
                left = busy
            for name in judged.problems:
                judged.said.pop(name, None)

    async def _round(
        self,
        asking: Asking,
        judged: Judged,
        questions: Sequence[tuple[str, Question]],
        progress: Callable[[Said], None],
    ) -> list[tuple[str, Question]]:
        """Ask once; the questions that may be answered later."""

        async def ask(asked: tuple[str, Question]) -> tuple[str, Question, Said]:
            return *asked, await asking.ask(asked[1])

        busy = []
        judged.problems.clear()
        async for name, question, said in in_parallel(questions, ask, 2 * asking.judge.concurrency):
            self._count(asking, judged, said)
            if said.problem is None:
                judged.said[name][question.key] = said
                progress(said)
            elif said.later:
                busy.append((name, question))
                judged.problems[name] = said.problem
            else:
                judged.problems[name] = said.problem
                progress(said)
        return busy

    def _count(self, asking: Asking, judged: Judged, said: Said) -> None:
        judged.cached += said.cached
        judged.calls += not said.cached
        judged.input_tokens += said.usage.input_tokens
        judged.output_tokens += said.usage.output_tokens
        prices = asking.judge.prices
        judged.cost += (said.usage.input_tokens * prices[0] + said.usage.output_tokens * prices[1]) / 1e6

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
            return output.problem or "the output has no picture"
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


def flattened(judged: Judged) -> Mapping[tuple[str, ...], Any]:
    """Every single value that a judge gave, by item, question and, where an answer has several, its name."""
    found: dict[tuple[str, ...], Any] = {}
    for name, asked in judged.said.items():
        for key, said in asked.items():
            parts = said.value.items() if isinstance(said.value, dict) else [("", said.value)]
            found |= {(name, key, part): value for part, value in parts}
    return found
