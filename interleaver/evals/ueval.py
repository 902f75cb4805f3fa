"""UEval: questions that want both text and pictures, each judged by rubrics of its own.

Every rubric is one question to the judge; "not sure" counts as unmet. An item's rate is the share of met rubrics, for
its text and for its pictures apart; a task's score is the mean of both means, and the overall score the plain mean over
the eight tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interleaver.errors import BadInput
from interleaver.evals.scores import Score, Table, complete, weighted

JUDGE = "gemini-2.5-pro"
CLOSED = ("space", "textbook", "diagram", "paper")
OPEN = ("art", "life", "tech", "exercise")
TASKS = (*CLOSED, *OPEN)
Said = Literal["met", "unmet", "not sure"]
Part = Literal["text", "image"]


@dataclass(frozen=True)
class Item:
    """An item as it is scored.

    Attributes:
        task: one of `TASKS`.
        text: how many rubrics its text has.
        image: how many its pictures have.
    """

    task: str
    text: int
    image: int


def item_rate(rubrics: int, said: Sequence[Said]) -> float | None:
    """The share of rubrics that are met, 0 to 1; None for an item without rubrics, which does not count.

    Raises:
        BadInput: there are not as many answers as rubrics.
    """
    if len(said) != rubrics:
        raise BadInput(f"{len(said)} answers for {rubrics} rubrics; every rubric must be judged")
    return sum(one == "met" for one in said) / rubrics if rubrics else None


def table(
    items: Mapping[str, Item], said: Mapping[str, Mapping[Part, Sequence[Said]]], allow_partial: bool = False
) -> Table:
    """The table of one system.

    Args:
        items: all that were asked for, by id.
        said: the judge's answers by id, for the text and for the pictures, in the order of the rubrics.
        allow_partial: do not refuse an incomplete set of ids.

    Raises:
        BadInput: a task is unknown, or items are not judged, or not wholly.
    """
    if unknown := sorted({item.task for item in items.values()} - set(TASKS)):
        raise BadInput(f"task {unknown[0]!r} is unknown to UEval; it has: {', '.join(TASKS)}")
    missing = complete(list(items), said.keys(), allow_partial)
    groups: dict[str, dict[str, Score]] = {}
    parts: list[list[float]] = []
    weights: list[float] = []
    asked = [task for task in TASKS if any(item.task == task for item in items.values())]
    for task in asked:
        rates = {part: _rates(task, part, items, said) for part in ("text", "image")}
        counted = [values for values in rates.values() if values]
        groups[task] = {
            "score": weighted(counted, [1 / len(counted)] * len(counted)) if counted else Score(None),
            **{part: weighted([values], [1.0]) for part, values in rates.items()},
        }
        parts += counted
        weights += [1 / (len(counted) * len(TASKS)) for _ in counted]
    whole = len(asked) == len(TASKS) and all(group["score"].value is not None for group in groups.values())
    return Table(
        overall={"overall": weighted(parts, weights) if whole else Score(None, items=len(said))},
        groups=groups,
        missing=missing,
    )


def _rates(
    task: str, part: Part, items: Mapping[str, Item], said: Mapping[str, Mapping[Part, Sequence[Said]]]
) -> list[float]:
    found = [
        item_rate(getattr(item, part), said[one].get(part, ()))
        for one, item in items.items()
        if item.task == task and one in said
    ]
    return [rate for rate in found if rate is not None]
