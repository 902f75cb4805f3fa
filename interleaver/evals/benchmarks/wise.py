"""WISE: prompts that require world knowledge, in two protocols that are never mixed.

In the *legacy* protocol, GPT-4o gives three scores from 0 to 2; in the current *verified* protocol, Qwen3.5-35B-A3B
gives a single score of 0 or 1. Prompts, judge and weights all differ, so results of the two are not comparable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.evals.benchmarks.base import (
    Answers,
    Benchmark,
    BenchmarkItem,
    BenchmarkRow,
    Output,
    OutputBlock,
    PrescribedJudge,
    Question,
    read_id,
    read_text,
    write_png,
)
from interleaver.evals.scores import Table, missing_ids, weighted_mean

ProtocolName = Literal["wise-legacy", "wise-verified"]
CATEGORIES = ("culture", "time", "space", "biology", "physics", "chemistry")
DIMENSION_WEIGHTS = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}
"""Weights of the legacy dimensions in WiScore."""


@dataclass(frozen=True)
class WiseProtocol:
    """The rules of a protocol.

    Attributes:
        prompts: number of prompts in each category; prompts are numbered from 1, category after category.
        weights: weight of each category in the overall score.
        judge: prescribed judge.
        dimensions: names of the scored dimensions by their labels in the judge's answer.
        highest: highest score of a dimension; the lowest is 0.
        source: id of the published dataset on the hub.
        files: alternative sets of data files, see `Benchmark`.
    """

    prompts: Mapping[str, int]
    weights: Mapping[str, float]
    judge: PrescribedJudge
    dimensions: Mapping[str, str]
    highest: int
    source: str
    files: tuple[tuple[str, ...], ...]

    def category(self, number: int) -> str:
        """Return the category of a prompt.

        Args:
            number: number of the prompt, from 1.

        Raises:
            BadInput: the number is too high.
        """
        last = 0
        for name, count in self.prompts.items():
            last += count
            if number <= last:
                return name
        raise BadInput(f"prompt_id is {number}; there are {last} prompts")


def _by_category(*values: float) -> dict[str, float]:
    return dict(zip(CATEGORIES, values, strict=True))


_STEMS = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
PROTOCOLS: Mapping[ProtocolName, WiseProtocol] = {
    "wise-legacy": WiseProtocol(
        prompts={name: int(count) for name, count in _by_category(400, 167, 133, 100, 100, 100).items()},
        weights=_by_category(0.4, 0.167, 0.133, 0.1, 0.1, 0.1),
        judge=PrescribedJudge("gpt-4o-2024-05-13", key="OPENAI_API_KEY", prices=(5.0, 15.0)),
        dimensions={"Consistency": "consistency", "Realism": "realism", "Aesthetic Quality": "aesthetic_quality"},
        highest=2,
        source="Yuwei-Niu/WISE",
        files=(tuple(f"{stem}.json" for stem in _STEMS),),
    ),
    "wise-verified": WiseProtocol(
        prompts={name: int(count) for name, count in _by_category(400, 120, 120, 120, 120, 120).items()},
        weights=_by_category(0.4, 0.12, 0.12, 0.12, 0.12, 0.12),
        judge=PrescribedJudge(
            "Qwen3.5-35B-A3B",
            "http://127.0.0.1:8000/v1",
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        ),
        dimensions={"Score": "correct"},
        highest=1,
        source="Yuwei-Niu/WISE_Verified",
        files=(tuple(f"{stem}_verified.json" for stem in _STEMS),),
    ),
}


class Wise(Benchmark):
    """WISE in one of its protocols; see `interleaver.evals.benchmarks.base.Benchmark`."""

    max_side = None
    scale = 1.0
    headline = "overall"
    needs_picture = True

    def __init__(self, protocol: ProtocolName):
        self.name = protocol
        self.protocol: ProtocolName = protocol
        self.protocol_rules = PROTOCOLS[protocol]
        self.title = f"WISE, the {protocol.removeprefix('wise-')} protocol"
        self.source, self.files, self.judge = (
            self.protocol_rules.source,
            self.protocol_rules.files,
            self.protocol_rules.judge,
        )
        self.count = sum(self.protocol_rules.prompts.values())

    def item(self, row: BenchmarkRow, folder: Path) -> BenchmarkItem:
        """Return the item of a row; its category follows from its number, as in the official scripts."""
        number = read_id(row, "prompt_id")
        if not number.isdigit() or number == "0":
            raise BadInput(f"prompt_id is {number!r}; it must be a positive integer")
        read_text(row, "Explanation")
        return BenchmarkItem(number, self.protocol_rules.category(int(number)), read_text(row, "Prompt"), row, folder)

    def questions(self, item: BenchmarkItem, output: Output, folder: Path) -> list[Question]:
        """Return a single question, about the last picture."""
        fields = {"prompt": item.request, "explanation": str(item.row["Explanation"])}
        return [Question("said", self.name, self._read, fields, tuple(output.pictures(folder)[-1:]))]

    def _read(self, text: str) -> dict[str, int]:
        """Return the scores by dimension from the lines of an answer, such as "Realism: 2"."""
        scores = {}
        for label, name in self.protocol_rules.dimensions.items():
            numbers = re.findall(rf"^\W*{label}\W*:[\s*_]*(\d+)(?![.,]?\d)", text, re.IGNORECASE | re.MULTILINE)
            if len(set(numbers)) != 1:
                raise UnreadableAnswer(f"there must be one line such as '{label}: 1'")
            scores[name] = int(numbers[0])
            if scores[name] > self.protocol_rules.highest:
                raise UnreadableAnswer(f"{label} is {scores[name]}; it must be from 0 to {self.protocol_rules.highest}")
        return scores

    def score(self, item: BenchmarkItem, answers: Answers) -> float:
        """Return the WiScore of an item, 0 to 1."""
        return item_score(self.protocol, answers["said"])

    def table(self, items: Sequence[BenchmarkItem], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """Return the scores of a system, overall and by category."""
        categories = {item.id: item.group for item in items}
        scores = {item.id: self.score(item, answers[item.id]) for item in items if item.id in answers}
        return table(self.protocol, categories, scores, allow_partial)

    def read_outputs(self, path: Path, items: Sequence[BenchmarkItem]) -> Iterator[Output]:
        """Yield the outputs in a folder that has a picture `{prompt_id}.png` for each prompt."""
        if not path.is_dir():
            raise BadInput(f"{str(path)!r} is not a folder; {self.name} needs a folder with pictures 1.png, 2.png, ...")
        for item in items:
            if (path / f"{item.id}.png").exists():
                yield Output(id=item.id, blocks=[OutputBlock(picture=f"{item.id}.png")])

    def write_outputs(
        self, path: Path, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> None:
        """Write the last picture of each output as `{prompt_id}.png`."""
        for number, output in outputs.items():
            for picture in output.pictures(folder)[-1:]:
                write_png(picture, path / f"{number}.png")


def item_score(protocol: ProtocolName, scores: Mapping[str, int]) -> float:
    """Return the score of a picture, 0 to 1.

    Args:
        protocol: name of the protocol.
        scores: the judge's integer scores by dimension.

    Raises:
        BadInput: the score of a dimension is missing or out of range.
    """
    rules = PROTOCOLS[protocol]
    for name in rules.dimensions.values():
        value = scores.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= rules.highest:
            raise BadInput(f"{name} is {value!r}; scores of {protocol} are integers from 0 to {rules.highest}")
    if protocol == "wise-verified":
        return float(scores["correct"])
    return sum(weight * scores[name] for name, weight in DIMENSION_WEIGHTS.items()) / rules.highest


def table(
    protocol: ProtocolName, categories: Mapping[str, str], scores: Mapping[str, float], allow_partial: bool = False
) -> Table:
    """Return the scores of one system, overall and by category.

    Args:
        protocol: name of the protocol.
        categories: categories of all selected items, by item id.
        scores: scores from 0 to 1, by item id.
        allow_partial: whether to accept items without a score.

    Raises:
        BadInput: a category is unknown, or items have no score and `allow_partial` is false.
    """
    rules = PROTOCOLS[protocol]
    if unknown := sorted(set(categories.values()) - set(CATEGORIES)):
        raise BadInput(f"category {unknown[0]!r} is unknown to {protocol}; its categories are: {', '.join(CATEGORIES)}")
    missing = missing_ids(list(categories), scores.keys(), allow_partial)
    groups = {
        name: [scores[item_id] for item_id, category in categories.items() if category == name and item_id in scores]
        for name in CATEGORIES
    }
    categories_asked = [name for name in CATEGORIES if name in categories.values()]
    overall = weighted_mean([groups[name] for name in CATEGORIES], [rules.weights[name] for name in CATEGORIES])
    return Table(
        overall={"overall": overall},
        groups={name: {"score": weighted_mean([groups[name]], [1.0])} for name in categories_asked},
        missing=missing,
    )
