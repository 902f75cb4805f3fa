"""RISEBench: edits that take reasoning, judged for consistency, reasoning and plausibility, 1 to 5 each.

An item's score weighs its dimensions, is halved where the reasoning failed altogether, and is told in percent. The
headline is stricter: the share of items with full marks in every dimension that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from interleaver.errors import BadInput
from interleaver.evals.scores import Table, complete, weighted

JUDGE = "gpt-4.1-2025-04-14"
CATEGORIES = ("temporal", "causal", "spatial", "logical")
Dimension = Literal["consistency", "reasoning", "plausibility"]
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Item:
    """An item as it is scored.

    Attributes:
        category: one of `CATEGORIES`.
        consistency_free: nothing but the subject of the edit need look the same.
    """

    category: str
    consistency_free: bool = False

    @property
    def weights(self) -> dict[Dimension, float]:
        """The dimensions that it is judged in, and what each weighs."""
        if self.category == "logical":
            return {"consistency": 0.3, "reasoning": 0.7}
        if self.consistency_free:
            return {"reasoning": 0.8, "plausibility": 0.2}
        return {"consistency": 0.3, "reasoning": 0.5, "plausibility": 0.2}


def item_score(item: Item, said: Mapping[Dimension, int]) -> float:
    """The score of an item, 0 to 100.

    Args:
        item: what it is.
        said: the judge's whole numbers, 1 to 5; the reasoning of logical items is 1 or 5.

    Raises:
        BadInput: a dimension that the item has is missing or out of range.
    """
    _check(item, said)
    score = sum(weight * said[name] for name, weight in item.weights.items())
    if said["reasoning"] == LOWEST:
        score = max(float(LOWEST), score / 2)
    return 25 * (score - 1)


def is_accurate(item: Item, said: Mapping[Dimension, int]) -> bool:
    """Whether every dimension that the item has is at its best."""
    _check(item, said)
    return all(said[name] == HIGHEST for name in item.weights)


def _check(item: Item, said: Mapping[Dimension, int]) -> None:
    for name in item.weights:
        value = said.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not LOWEST <= value <= HIGHEST:
            raise BadInput(f"{name} is {value!r}; RISEBench knows whole numbers from {LOWEST} to {HIGHEST}")


def table(
    items: Mapping[str, Item], said: Mapping[str, Mapping[Dimension, int]], allow_partial: bool = False
) -> Table:
    """The table of one system: accuracy and score, in percent, over all items and by category.

    Args:
        items: all that were asked for, by id.
        said: the judge's numbers by id.
        allow_partial: do not refuse an incomplete set of ids.

    Raises:
        BadInput: a category is unknown, or items are not judged, or not wholly.
    """
    if unknown := sorted({item.category for item in items.values()} - set(CATEGORIES)):
        raise BadInput(f"category {unknown[0]!r} is unknown to RISEBench; it has: {', '.join(CATEGORIES)}")
    missing = complete(list(items), said.keys(), allow_partial)
    measures = {
        "accuracy": {one: 100.0 * is_accurate(items[one], said[one]) for one in items if one in said},
        "score": {one: item_score(items[one], said[one]) for one in items if one in said},
    }
    asked = [name for name in CATEGORIES if any(item.category == name for item in items.values())]
    return Table(
        overall={name: weighted([list(values.values())], [1.0]) for name, values in measures.items()},
        groups={
            category: {
                name: weighted([[value for one, value in values.items() if items[one].category == category]], [1.0])
                for name, values in measures.items()
            }
            for category in asked
        },
        missing=missing,
    )
