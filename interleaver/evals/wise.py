"""WISE: pictures that take knowledge of the world, in two protocols that are never mixed.

*legacy* has three scores from 0 to 2 and GPT-4o as judge; *verified*, the current one, one yes or no by
Qwen3.5-35B-A3B. Prompts, judge and weights all differ, so numbers of the one say nothing about the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from interleaver.errors import BadInput
from interleaver.evals.scores import Table, complete, weighted

Protocol = Literal["wise-legacy", "wise-verified"]


@dataclass(frozen=True)
class Rules:
    """What a protocol prescribes.

    Attributes:
        prompts: how many there are in each category.
        weights: of the categories in the overall score.
        judge: the model.
        dimensions: what is asked of a picture.
        highest: the best value of a dimension; the lowest is 0.
    """

    prompts: Mapping[str, int]
    weights: Mapping[str, float]
    judge: str
    dimensions: tuple[str, ...]
    highest: int


CATEGORIES = ("culture", "time", "space", "biology", "physics", "chemistry")


def _by_category(*values: float) -> dict[str, float]:
    return dict(zip(CATEGORIES, values, strict=True))


RULES: Mapping[Protocol, Rules] = {
    "wise-legacy": Rules(
        prompts={name: int(count) for name, count in _by_category(400, 167, 133, 100, 100, 100).items()},
        weights=_by_category(0.4, 0.167, 0.133, 0.1, 0.1, 0.1),
        judge="gpt-4o-2024-05-13",
        dimensions=("consistency", "realism", "aesthetics"),
        highest=2,
    ),
    "wise-verified": Rules(
        prompts={name: int(count) for name, count in _by_category(400, 120, 120, 120, 120, 120).items()},
        weights=_by_category(0.4, 0.12, 0.12, 0.12, 0.12, 0.12),
        judge="Qwen3.5-35B-A3B",
        dimensions=("correct",),
        highest=1,
    ),
}
PARTS = {"consistency": 0.7, "realism": 0.2, "aesthetics": 0.1}
"""Weights of the legacy dimensions in WiScore."""


def item_score(protocol: Protocol, said: Mapping[str, int]) -> float:
    """What a picture is worth, 0 to 1.

    Args:
        protocol: which rules hold.
        said: the judge's whole numbers by dimension.

    Raises:
        BadInput: a dimension is missing or out of range.
    """
    rules = RULES[protocol]
    for name in rules.dimensions:
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
