"""WISE: pictures that take knowledge of the world, in two protocols that are never mixed.

*legacy* has three scores from 0 to 2 and GPT-4o as judge; *verified*, the current one, one yes or no by
Qwen3.5-35B-A3B. Prompts, judge and weights all differ, so numbers of the one say nothing about the other.
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
    Block,
    Item,
    Model,
    Output,
    Question,
    Row,
    id_in,
    text_in,
    write_png,
)
from interleaver.evals.scores import Table, complete, weighted

Protocol = Literal["wise-legacy", "wise-verified"]
CATEGORIES = ("culture", "time", "space", "biology", "physics", "chemistry")
PARTS = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}
"""Weights of the legacy dimensions in WiScore."""


@dataclass(frozen=True)
class Rules:
    """What a protocol prescribes.

    Attributes:
        prompts: how many there are in each category; they are numbered from 1, one category after another.
        weights: of the categories in the overall score.
        judge: the model.
        dimensions: what is asked of a picture, by the name that the judge answers under.
        highest: the best value of a dimension; the lowest is 0.
        source: the data on the hub.
        files: the data within a folder.
    """

    prompts: Mapping[str, int]
    weights: Mapping[str, float]
    judge: Model
    dimensions: Mapping[str, str]
    highest: int
    source: str
    files: tuple[tuple[str, ...], ...]

    def category(self, number: int) -> str:
        """The category of a prompt, by its number."""
        last = 0
        for name, count in self.prompts.items():
            last += count
            if number <= last:
                return name
        raise BadInput(f"prompt_id is {number}; there are {last} prompts")


def _by_category(*values: float) -> dict[str, float]:
    return dict(zip(CATEGORIES, values, strict=True))


_STEMS = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
RULES: Mapping[Protocol, Rules] = {
    "wise-legacy": Rules(
        prompts={name: int(count) for name, count in _by_category(400, 167, 133, 100, 100, 100).items()},
        weights=_by_category(0.4, 0.167, 0.133, 0.1, 0.1, 0.1),
        judge=Model("gpt-4o-2024-05-13", key="OPENAI_API_KEY", prices=(5.0, 15.0)),
        dimensions={"Consistency": "consistency", "Realism": "realism", "Aesthetic Quality": "aesthetic_quality"},
        highest=2,
        source="Yuwei-Niu/WISE",
        files=(tuple(f"{stem}.json" for stem in _STEMS),),
    ),
    "wise-verified": Rules(
        prompts={name: int(count) for name, count in _by_category(400, 120, 120, 120, 120, 120).items()},
        weights=_by_category(0.4, 0.12, 0.12, 0.12, 0.12, 0.12),
        judge=Model(
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

    side = None
    scale = 1.0
    headline = "overall"
    needs_picture = True

    def __init__(self, protocol: Protocol):
        self.name = protocol
        self.protocol: Protocol = protocol
        self.rules = RULES[protocol]
        self.title = f"WISE, the {protocol.removeprefix('wise-')} protocol"
        self.source, self.files, self.judge = self.rules.source, self.rules.files, self.rules.judge
        self.count = sum(self.rules.prompts.values())

    def item(self, row: Row, folder: Path) -> Item:
        """An item; its category follows from its number, as in the official scripts."""
        number = id_in(row, "prompt_id")
        if not number.isdigit() or number == "0":
            raise BadInput(f"prompt_id is {number!r}; it must be a number from 1 on")
        text_in(row, "Explanation")
        return Item(number, self.rules.category(int(number)), text_in(row, "Prompt"), row, folder)

    def questions(self, item: Item, output: Output, folder: Path) -> list[Question]:
        """One question, about the last picture."""
        told = {"prompt": item.request, "explanation": str(item.row["Explanation"])}
        return [Question("said", self.name, self._read, told, tuple(output.pictures(folder)[-1:]))]

    def _read(self, text: str) -> dict[str, int]:
        """The lines of an answer, such as "Realism: 2"."""
        found = {}
        for label, name in self.rules.dimensions.items():
            said = re.findall(rf"^\W*{label}\W*:[\s*_]*(\d+)(?![.,]?\d)", text, re.IGNORECASE | re.MULTILINE)
            if len(set(said)) != 1:
                raise UnreadableAnswer(f"there must be one line such as '{label}: 1'")
            found[name] = int(said[0])
            if found[name] > self.rules.highest:
                raise UnreadableAnswer(f"{label} is {found[name]}; it must be from 0 to {self.rules.highest}")
        return found

    def score(self, item: Item, answers: Answers) -> float:
        """WiScore."""
        return item_score(self.protocol, answers["said"])

    def table(self, items: Sequence[Item], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """The table of a system."""
        categories = {item.id: item.group for item in items}
        scores = {item.id: self.score(item, answers[item.id]) for item in items if item.id in answers}
        return table(self.protocol, categories, scores, allow_partial)

    def read_outputs(self, path: Path, items: Sequence[Item]) -> Iterator[Output]:
        """A folder with the picture `{prompt_id}.png` of each prompt."""
        if not path.is_dir():
            raise BadInput(f"{str(path)!r} is no folder; {self.name} takes one with pictures named 1.png, 2.png, ...")
        for item in items:
            if (path / f"{item.id}.png").exists():
                yield Output(id=item.id, blocks=[Block(picture=f"{item.id}.png")])

    def write_outputs(self, path: Path, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path) -> None:
        """The same."""
        for number, output in outputs.items():
            for picture in output.pictures(folder)[-1:]:
                write_png(picture, path / f"{number}.png")


def item_score(protocol: Protocol, said: Mapping[str, int]) -> float:
    """What a picture is worth, 0 to 1.

    Args:
        protocol: which rules hold.
        said: the judge's whole numbers by dimension.

    Raises:
        BadInput: a dimension is missing or out of range.
    """
    rules = RULES[protocol]
    for name in rules.dimensions.values():
        value = said.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= rules.highest:
            raise BadInput(f"{name} is {value!r}; {protocol} knows whole numbers from 0 to {rules.highest}")
    if protocol == "wise-verified":
        return float(said["correct"])
    return sum(weight * said[name] for name, weight in PARTS.items()) / rules.highest


def table(
    protocol: Protocol, categories: Mapping[str, str], scores: Mapping[str, float], allow_partial: bool = False
) -> Table:
    """The table of one system.

    Args:
        protocol: which rules hold.
        categories: of all items that were asked for, by id.
        scores: 0 to 1, by id.
        allow_partial: do not refuse an incomplete set of ids.

    Raises:
        BadInput: a category is unknown, or items have no score.
    """
    rules = RULES[protocol]
    if unknown := sorted(set(categories.values()) - set(CATEGORIES)):
        raise BadInput(f"category {unknown[0]!r} is unknown to {protocol}; it has: {', '.join(CATEGORIES)}")
    missing = complete(list(categories), scores.keys(), allow_partial)
    groups = {
        name: [scores[one] for one, category in categories.items() if category == name and one in scores]
        for name in CATEGORIES
    }
    asked = [name for name in CATEGORIES if name in categories.values()]
    overall = weighted([groups[name] for name in CATEGORIES], [rules.weights[name] for name in CATEGORIES])
    return Table(
        overall={"overall": overall},
        groups={name: {"score": weighted([groups[name]], [1.0])} for name in asked},
        missing=missing,
    )
