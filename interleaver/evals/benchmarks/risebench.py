"""RISEBench: edits that take reasoning, judged for consistency, reasoning and plausibility, 1 to 5 each.

An item's score weighs its dimensions, is halved where the reasoning failed altogether, and is told in percent. The
headline is stricter: the share of items with full marks in every dimension that they have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    absent,
    id_in,
    picture_in,
    text_in,
    write_png,
)
from interleaver.evals.scores import Table, complete, weighted

CATEGORIES = ("temporal", "causal", "spatial", "logical")
Dimension = Literal["consistency", "reasoning", "plausibility"]
LOWEST, HIGHEST = 1, 5


class RiseBench(Benchmark):
    """RISEBench; see `interleaver.evals.benchmarks.base.Benchmark`."""

    name = "risebench"
    title = "RISEBench"
    source = "PhoenixZ/RISEBench"
    files = (("datav2_total_w_subtask.json",), ("data_total.json",))
    beside = "the pictures in data/ or data.zip"
    count = 360
    judge = Model("gpt-4.1-2025-04-14", key="OPENAI_API_KEY", prices=(2.0, 8.0), answer_tokens=300)
    side = 768
    scale = 100.0
    headline = "accuracy"
    needs_picture = True

    def item(self, row: Row, folder: Path) -> Item:
        """An item."""
        category = text_in(row, "category").removesuffix("_reasoning")
        if category not in CATEGORIES:
            raise BadInput(f"category {category!r} is unknown to RISEBench; it has: {', '.join(CATEGORIES)}")
        instruction = text_in(row, "instruction")
        pictures = (picture_in(row, "image", folder),)
        made = Item(id_in(row, "index"), category, f"<image>\n{instruction}", row, folder, pictures)
        _asks(made, Path())  # a row that lacks what a question needs is told of now
        return made

    def questions(self, item: Item, output: Output, folder: Path) -> list[Question]:
        """One question a dimension that the item has; none without a picture."""
        pictures = output.pictures(folder)
        if not pictures:
            return []
        told = {"instruct": str(item.row["instruction"]), "reference": _reference(item.row)}
        return [
            Question(name, f"risebench.{template}", reader(item.group == "logical"), told, shown)
            for name, (template, shown) in _asks(item, pictures[-1]).items()
        ]

    def score(self, item: Item, answers: Answers) -> float:
        """The score of an item, as a share."""
        return item_score(_kind(item), answers) / 100

    def table(self, items: Sequence[Item], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """The table of a system."""
        return table({item.id: _kind(item) for item in items}, answers, allow_partial)

    def read_outputs(self, path: Path, items: Sequence[Item]) -> Iterator[Output]:
        """A folder with `images/{category}/{index}.png`, or .jpg or .jpeg."""
        if not (path / "images").is_dir():
            raise BadInput(f"{str(path)!r} has no folder 'images'; RISEBench takes images/CATEGORY/INDEX.png")
        for item in items:
            stem = f"images/{item.row['category']}/{item.id}"
            found = next((f"{stem}.{end}" for end in ("png", "jpg", "jpeg") if (path / f"{stem}.{end}").exists()), None)
            if found:
                yield Output(id=item.id, blocks=[Block(picture=found)])

    def write_outputs(self, path: Path, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path) -> None:
        """The same."""
        for item in items:
            if item.id in outputs:
                for picture in outputs[item.id].pictures(folder)[-1:]:
                    write_png(picture, path / f"images/{item.row['category']}/{item.id}.png")


def _kind(item: Item) -> Kind:
    free = item.row.get("consistency_free")
    return Kind(item.group, not absent(free) and bool(free))


def _reference(row: Row) -> str:
    for name in ("reference", "reference_txt"):
        if not absent(row.get(name)):
            return text_in(row, name)
    return ""


def _asks(item: Item, made: Path) -> dict[Dimension, tuple[str, tuple[Path, ...]]]:
    """The prompt and the pictures of each dimension; a picture of the answer stands in for the given one.

    Raises:
        BadInput: there is nothing to compare the answer with.
    """
    row, given = item.row, item.pictures[0]
    shown: Path | None = None
    in_words = item.group == "logical" and not absent(row.get("reference_txt"))
    if item.group in ("spatial", "logical") and not in_words and not absent(row.get("reference_img")):
        shown = picture_in(row, "reference_img", item.folder)
    if shown is None and not _reference(row):
        raise BadInput("the field 'reference' is missing, and there is no 'reference_txt' or 'reference_img' instead")
    compared = (shown or given, made)
    if item.group == "logical":
        how = ("image" if absent(row.get("reasoning_wo_ins")) else "image.alone") if shown else "text"
        reasoning = (f"logical.{how}", compared if shown else (made,))
        style = "logical.consistency" if shown else "logical.consistency.text"
        return {"consistency": (style, compared), "reasoning": reasoning}
    kind = "spatial" if item.group == "spatial" else "change"
    if shown:
        reasoning = (f"{kind}.image", compared)
    elif absent(row.get("reasoning_img")):
        reasoning = (f"{kind}.reasoning", (made,))
    else:
        reasoning = (f"{kind}.reasoning.shown", compared)
    asks: dict[Dimension, tuple[str, tuple[Path, ...]]] = {
        "consistency": (f"{kind}.consistency", compared),
        "reasoning": reasoning,
        "plausibility": (f"{kind}.plausibility", (made,)),
    }
    return {name: ask for name, ask in asks.items() if name in _kind(item).weights}


def reader(bit: bool) -> Callable[[str], int]:
    """What reads the line "Final Score: 4" of an answer.

    Args:
        bit: the judge says 0 or 1, as of logical items, which stand for the lowest and the highest.
    """
    lowest, highest = (0, 1) if bit else (LOWEST, HIGHEST)

    def read(text: str) -> int:
        said = re.findall(r"final\s+score[\s*_]*[:=][\s*_]*(\d+)(?![.,]?\d)", text, re.IGNORECASE)
        if not said:
            raise UnreadableAnswer("the answer must end with a line such as 'Final Score: 1'")
        value = int(said[-1])
        if not lowest <= value <= highest:
            raise UnreadableAnswer(f"Final Score is {value}; it must be from {lowest} to {highest}")
        return (HIGHEST if value else LOWEST) if bit else value

    return read


@dataclass(frozen=True)
class Kind:
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


def item_score(item: Kind, said: Mapping[str, int]) -> float:
    """The score of an item, 0 to 100.

    Args:
        item: what it is.
        said: the judge's whole numbers, 1 to 5; those of logical items are 1 or 5.

    Raises:
        BadInput: a dimension that the item has is missing or out of range.
    """
    _check(item, said)
    score = sum(weight * said[name] for name, weight in item.weights.items())
    if said["reasoning"] == LOWEST:
        score = max(float(LOWEST), score / 2)
    return 25 * (score - 1)


def is_accurate(item: Kind, said: Mapping[str, int]) -> bool:
    """Whether every dimension that the item has is at its best."""
    _check(item, said)
    return all(said[name] == HIGHEST for name in item.weights)


def _check(item: Kind, said: Mapping[str, int]) -> None:
    for name in item.weights:
        value = said.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not LOWEST <= value <= HIGHEST:
            raise BadInput(f"{name} is {value!r}; RISEBench knows whole numbers from {LOWEST} to {HIGHEST}")


def table(items: Mapping[str, Kind], said: Mapping[str, Mapping[str, int]], allow_partial: bool = False) -> Table:
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
