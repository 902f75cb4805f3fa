"""RISEBench: edits that require reasoning, judged for consistency, reasoning and plausibility, 1 to 5 each.

An item's score is the weighted mean of its dimensions, halved where the reasoning failed completely, in percent. The
headline, accuracy, is stricter: the share of items with full marks in all of their dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

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
    find_picture,
    is_absent,
    read_id,
    read_text,
    write_png,
)
from interleaver.evals.scores import Score, Table, missing_ids, weighted_mean

CATEGORIES = ("temporal", "causal", "spatial", "logical")
Dimension = Literal["consistency", "reasoning", "plausibility"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
MIN_SCORE, MAX_SCORE = 1, 5
# "Final Score: 4", "**Final Scores** 4", or a heading "### Final Score" with the number below it.
_FINAL_SCORE = re.compile(r"final\s+scores?[\s*_]*[:=]?[\s*_#]*(\d+)(?![.,]?\d)", re.IGNORECASE)
_BARE_SCORE = re.compile(r"\A[\s*_]*(?:score[\s*_]*[:=][\s*_]*)?(\d+)(?:\s*/\s*5)?[\s*_.]*\Z", re.IGNORECASE)


class RiseBench(Benchmark):
    """RISEBench; see `interleaver.evals.benchmarks.base.Benchmark`."""

    name = "risebench"
    title = "RISEBench"
    source = "PhoenixZ/RISEBench"
    files = (("datav2_total_w_subtask.json",), ("data_total.json",))
    companions = "the pictures in data/ or data.zip"
    count = 360
    judge = PrescribedJudge(
        "gpt-4.1-2025-04-14",
        key="OPENAI_API_KEY",
        max_tokens=4096,
        detail="high",
        prices=(2.0, 8.0),
        answer_tokens=300,
    )
    max_side = 768
    scale = 100.0
    headline = "accuracy"
    needs_picture = True

    def item(self, row: BenchmarkRow, folder: Path) -> BenchmarkItem:
        """Return the item of a row."""
        category = read_text(row, "category").removesuffix("_reasoning")
        if category not in CATEGORIES:
            raise BadInput(
                f"category {category!r} is unknown to RISEBench; its categories are: {', '.join(CATEGORIES)}"
            )
        instruction = read_text(row, "instruction")
        pictures = (find_picture(row, "image", folder),)
        benchmark_item = BenchmarkItem(
            read_id(row, "index"), category, f"<image>\n{instruction}", row, folder, pictures
        )
        _dimension_prompts(benchmark_item, Path())  # raises now if the row lacks anything that a question needs
        return benchmark_item

    def questions(self, item: BenchmarkItem, output: Output, folder: Path) -> list[Question]:
        """Return one question per dimension of the item, about the last picture; none if there is no picture."""
        pictures = output.pictures(folder)
        if not pictures:
            return []
        fields = {"instruct": str(item.row["instruction"]), "reference": _reference(item.row)}
        return [
            Question(name, f"risebench.{template}", score_reader(item.group == "logical"), fields, images)
            for name, (template, images) in _dimension_prompts(item, pictures[-1]).items()
        ]

    def score(self, item: BenchmarkItem, answers: Answers) -> float:
        """Return the score of an item, scaled to 0 to 1."""
        return item_score(_scored_item(item), answers) / 100

    def table(self, items: Sequence[BenchmarkItem], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """Return accuracy, score and the means of the dimensions, in percent, overall, by category and by subtask."""
        return table({item.id: _scored_item(item) for item in items}, answers, allow_partial)

    def read_outputs(self, path: Path, items: Sequence[BenchmarkItem]) -> Iterator[Output]:
        """Yield the outputs in a folder that has `images/{category}/{index}.png` (or .jpg or .jpeg) for each item."""
        if not (path / "images").is_dir():
            raise BadInput(f"{str(path)!r} has no folder 'images'; RISEBench needs images/CATEGORY/INDEX.png")
        for item in items:
            stem = f"images/{item.row['category']}/{item.id}"
            picture_path = next(
                (f"{stem}.{end}" for end in ("png", "jpg", "jpeg") if (path / f"{stem}.{end}").exists()), None
            )
            if picture_path:
                yield Output(id=item.id, blocks=[OutputBlock(picture=picture_path)])

    def write_outputs(
        self, path: Path, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> None:
        """Write the last picture of each output as `images/{category}/{index}.png`."""
        for item in items:
            if item.id in outputs:
                for picture in outputs[item.id].pictures(folder)[-1:]:
                    write_png(picture, path / f"images/{item.row['category']}/{item.id}.png")


def _scored_item(item: BenchmarkItem) -> ScoredItem:
    free, subtask = item.row.get("consistency_free"), item.row.get("subtask")
    return ScoredItem(item.group, not is_absent(free) and bool(free), "" if is_absent(subtask) else str(subtask))


def _reference(row: BenchmarkRow) -> str:
    for name in ("reference", "reference_txt"):
        if not is_absent(row.get(name)):
            return read_text(row, name)
    return ""


def _dimension_prompts(item: BenchmarkItem, output: Path) -> dict[Dimension, tuple[str, tuple[Path, ...]]]:
    """Return the template and the pictures of each dimension of an item.

    The output is compared with the picture of the right answer where the row has one, or else with the given picture.

    Raises:
        BadInput: the row has no reference to compare the output with.
    """
    row, source = item.row, item.pictures[0]
    reference: Path | None = None
    in_words = item.group == "logical" and not is_absent(row.get("reference_txt"))
    if item.group in ("spatial", "logical") and not in_words and not is_absent(row.get("reference_img")):
        reference = find_picture(row, "reference_img", item.folder)
    if reference is None and not _reference(row):
        raise BadInput("the field 'reference' is missing, and there is no 'reference_txt' or 'reference_img' instead")
    image_pair = (reference or source, output)
    if item.group == "logical":
        variant = ("image" if is_absent(row.get("reasoning_wo_ins")) else "image.alone") if reference else "text"
        reasoning = (f"logical.{variant}", image_pair if reference else (output,))
        style = "logical.consistency" if reference else "logical.consistency.text"
        return {"consistency": (style, image_pair), "reasoning": reasoning}
    kind = "spatial" if item.group == "spatial" else "change"
    if reference:
        reasoning = (f"{kind}.image", image_pair)
    elif is_absent(row.get("reasoning_img")):
        reasoning = (f"{kind}.reasoning", (output,))
    else:
        reasoning = (f"{kind}.reasoning.shown", image_pair)
    prompts: dict[Dimension, tuple[str, tuple[Path, ...]]] = {
        "consistency": (f"{kind}.consistency", image_pair),
        "reasoning": reasoning,
        "plausibility": (f"{kind}.plausibility", (output,)),
    }
    return {name: prompt for name, prompt in prompts.items() if name in _scored_item(item).weights}


def score_reader(bit: bool) -> Callable[[str], int]:
    """Return a parser of the line "Final Score: 4" in an answer.

    Args:
        bit: whether the judge answers 0 or 1, as for logical items, which is mapped to the lowest or highest score.
    """
    lowest, highest = (0, 1) if bit else (MIN_SCORE, MAX_SCORE)

    def read(text: str) -> int:
        scores = _FINAL_SCORE.findall(text) or _BARE_SCORE.findall(text)
        if not scores:
            raise UnreadableAnswer("the answer must end with a line such as 'Final Score: 1'")
        value = int(scores[-1])
        if not lowest <= value <= highest:
            raise UnreadableAnswer(f"Final Score is {value}; it must be from {lowest} to {highest}")
        return (MAX_SCORE if value else MIN_SCORE) if bit else value

    return read


@dataclass(frozen=True)
class ScoredItem:
    """The properties of an item that its scoring depends on.

    Attributes:
        category: category of the item, one of `CATEGORIES`.
        consistency_free: whether consistency is not scored, because only the subject of the edit must stay the same.
        subtask: name of the part of the category that the item belongs to; "" in datasets without subtasks.
    """

    category: str
    consistency_free: bool = False
    subtask: str = ""

    @property
    def weights(self) -> dict[Dimension, float]:
        """The weights of the item's dimensions; other dimensions are not judged."""
        if self.category == "logical":
            return {"consistency": 0.3, "reasoning": 0.7}
        if self.consistency_free:
            return {"reasoning": 0.8, "plausibility": 0.2}
        return {"consistency": 0.3, "reasoning": 0.5, "plausibility": 0.2}


def item_score(item: ScoredItem, scores: Mapping[str, int]) -> float:
    """Return the score of an item, 0 to 100.

    Args:
        item: properties of the item.
        scores: the judge's integer scores by dimension, 1 to 5; only 1 or 5 for logical items.

    Raises:
        BadInput: the score of one of the item's dimensions is missing or out of range.
    """
    _check_scores(item, scores)
    score = sum(weight * scores[name] for name, weight in item.weights.items())
    if scores["reasoning"] == MIN_SCORE:
        score = max(float(MIN_SCORE), score / 2)
    return 25 * (score - 1)


def is_accurate(item: ScoredItem, scores: Mapping[str, int]) -> bool:
    """Return whether all dimensions of the item have the maximum score."""
    _check_scores(item, scores)
    return all(scores[name] == MAX_SCORE for name in item.weights)


def _dimension_values(
    name: Dimension, items: Mapping[str, ScoredItem], scores: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """Return the scores of one dimension in percent, for the items that have it."""
    judged_ids = [item_id for item_id in items if item_id in scores and name in items[item_id].weights]
    return {item_id: 25.0 * (scores[item_id][name] - MIN_SCORE) for item_id in judged_ids}


def _check_scores(item: ScoredItem, scores: Mapping[str, int]) -> None:
    for name in item.weights:
        value = scores.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not MIN_SCORE <= value <= MAX_SCORE:
            raise BadInput(f"{name} is {value!r}; scores of RISEBench are integers from {MIN_SCORE} to {MAX_SCORE}")


def table(
    items: Mapping[str, ScoredItem], scores: Mapping[str, Mapping[str, int]], allow_partial: bool = False
) -> Table:
    """Return accuracy, score and dimensions of one system, in percent, overall, by category and by subtask.

    Args:
        items: scoring properties of all selected items, by item id.
        scores: the judge's scores by item id and dimension.
        allow_partial: whether to accept items without scores.

    Raises:
        BadInput: a category is unknown, an item is not completely judged, or items have no scores and `allow_partial`
            is false.
    """
    if unknown := sorted({item.category for item in items.values()} - set(CATEGORIES)):
        raise BadInput(f"category {unknown[0]!r} is unknown to RISEBench; its categories are: {', '.join(CATEGORIES)}")
    missing = missing_ids(list(items), scores.keys(), allow_partial)
    measures: dict[str, dict[str, float]] = {
        "accuracy": {
            item_id: 100.0 * is_accurate(items[item_id], scores[item_id]) for item_id in items if item_id in scores
        },
        "score": {item_id: item_score(items[item_id], scores[item_id]) for item_id in items if item_id in scores},
        **{name: _dimension_values(name, items, scores) for name in DIMENSIONS},
    }

    def means(item_ids: Collection[str]) -> dict[str, Score]:
        return {
            name: weighted_mean([[value for item_id, value in values.items() if item_id in item_ids]], [1.0])
            for name, values in measures.items()
        }

    ids_by_category: dict[str, set[str]] = {name: set() for name in CATEGORIES}
    ids_by_subtask: dict[tuple[str, str], set[str]] = {}
    for item_id, item in items.items():
        ids_by_category[item.category].add(item_id)
        if item.subtask:
            ids_by_subtask.setdefault((item.category, item.subtask), set()).add(item_id)
    subtasks = sorted(ids_by_subtask, key=lambda key: (CATEGORIES.index(key[0]), key[1]))
    return Table(
        overall=means(items.keys()),
        groups={category: means(item_ids) for category, item_ids in ids_by_category.items() if item_ids},
        missing=missing,
        subgroups={
            f"{category}: {subtask}": means(ids_by_subtask[category, subtask]) for category, subtask in subtasks
        },
    )
