"""UEval: questions that want both text and pictures, each judged by rubrics of its own.

Every rubric is one question to the judge; "not sure" counts as unmet. An item's rate is the share of met rubrics, for
its text and for its pictures apart; a task's score is the mean of both means, and the overall score the plain mean over
the eight tasks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    text_in,
    write_png,
)
from interleaver.evals.scores import Score, Table, complete, mean_of_parts, scaled

CLOSED = ("space", "textbook", "diagram", "paper")
OPEN = ("art", "life", "tech", "exercise")
TASKS = (*CLOSED, *OPEN)
Said = Literal["met", "unmet", "not sure"]
Part = Literal["text", "image"]
PARTS: tuple[Part, ...] = ("text", "image")


class UEval(Benchmark):
    """UEval; see `interleaver.evals.benchmarks.base.Benchmark`."""

    name = "ueval"
    title = "UEval"
    source = "zlab-princeton/UEval"
    files = (("*.parquet",), ("*.jsonl",), ("*.json",))
    count = 1000
    judge = Model(
        "gemini-2.5-pro",
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        key="GEMINI_API_KEY",
        temperature=None,
        prices=(1.25, 10.0),
        answer_tokens=800,
    )
    side = None
    scale = 100.0
    headline = "overall"
    needs_picture = False

    def item(self, row: Row, folder: Path) -> Item:
        """An item."""
        task = text_in(row, "task").strip().lower()
        if task not in TASKS:
            raise BadInput(f"task {task!r} is unknown to UEval; it has: {', '.join(TASKS)}")
        rubrics = {f"{part}_rubrics": _criteria(row, f"{part}_rubrics") for part in PARTS}
        return Item(id_in(row, "id"), task, text_in(row, "prompt"), dict(row) | rubrics, folder)

    def questions(self, item: Item, output: Output, folder: Path) -> list[Question]:
        """One question a rubric; rubrics about pictures are unmet without asking where there is no picture."""
        pictures = tuple(output.pictures(folder))
        about = "ueval.image.closed" if item.group in CLOSED else "ueval.image.open"
        told = {"question": item.request, "text_answer": output.text}
        shown: tuple[tuple[Part, str, tuple[Path, ...]], ...] = (
            ("text", "ueval.text", ()),
            *((("image", about, pictures),) if pictures else ()),
        )
        return [
            Question(f"{part}.{number}", template, read_criterion, told | {"rubric": rubric}, seen)
            for part, template, seen in shown
            for number, rubric in enumerate(item.row[f"{part}_rubrics"])
        ]

    def score(self, item: Item, answers: Answers) -> float | None:
        """The mean of both rates; of one where the other has no rubrics, and of none where neither has."""
        said = _said(item, answers)
        rates = [item_rate(len(item.row[f"{part}_rubrics"]), said[part]) for part in PARTS]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if known else None

    def table(self, items: Sequence[Item], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """The table of a system, in percent as on the leaderboard."""
        rubrics = {
            item.id: Rubrics(item.group, *(len(item.row[f"{part}_rubrics"]) for part in PARTS)) for item in items
        }
        said = {item.id: _said(item, answers[item.id]) for item in items if item.id in answers}
        return scaled(table(rubrics, said, allow_partial), self.scale)

    def read_outputs(self, path: Path, items: Sequence[Item]) -> Iterator[Output]:
        """A file `[{id, text_answer, image_answer: [paths]}]`; paths are relative to the file."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"the outputs {str(path)!r} cannot be read: {error}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise BadInput(f"the outputs {str(path)!r} must be a list of objects with id, text_answer and image_answer")
        asked, seen = {item.id for item in items}, set()
        for row in rows:
            name, text, given = str(row["id"]), row.get("text_answer") or "", row.get("image_answer") or []
            pictures = [given] if isinstance(given, str) else given
            if not isinstance(text, str) or not (
                isinstance(pictures, list) and all(isinstance(one, str) for one in pictures)
            ):
                raise BadInput(f"the output of item {name}: text_answer must be a text, image_answer a list of paths")
            if name in seen:
                raise BadInput(f"the outputs {str(path)!r} have item {name} twice")
            seen.add(name)
            if name in asked:
                yield Output(id=name, blocks=[Block(text=text), *(Block(picture=one) for one in pictures)])

    def write_outputs(self, path: Path, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path) -> None:
        """The same: `outputs.json`, and the pictures beside it."""
        rows: list[dict[str, Any]] = []
        for name, output in outputs.items():
            pictures = [f"pictures/{name}-{number}.png" for number in range(1, len(output.pictures(folder)) + 1)]
            for picture, written in zip(output.pictures(folder), pictures, strict=True):
                write_png(picture, path / written)
            rows.append({"id": name, "text_answer": output.text, "image_answer": pictures})
        (path / "outputs.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")


def _criteria(row: Row, name: str) -> list[str]:
    """The rubrics of a row, whether they are texts or objects with a `criterion`."""
    found = [] if absent(row.get(name)) else row[name]
    if not isinstance(found, list):
        raise BadInput(f"the field {name!r} is {found!r:.80}; it must be a list of texts")
    texts = [one.get("criterion") if isinstance(one, Mapping) else one for one in found]
    rubrics = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(rubrics) < len(found):
        raise BadInput(f"the field {name!r} must be a list of texts, or of objects with a criterion")
    return rubrics


def _said(item: Item, answers: Answers) -> dict[Part, list[Said]]:
    """The answers in the order of the rubrics; those about pictures that were not asked, for want of any, are unmet."""
    found: dict[Part, list[Said]] = {}
    for part in PARTS:
        keys = [f"{part}.{number}" for number in range(len(item.row[f"{part}_rubrics"]))]
        asked = part == "text" or any(key in answers for key in keys)
        found[part] = [answers[key] if asked else "unmet" for key in keys]
    return found


def read_criterion(text: str) -> Said:
    """An answer such as {"criteria_met": true}.

    Raises:
        UnreadableAnswer: it holds no such object, or another value.
    """
    said = re.findall(r'"criteria_met"\s*:\s*(true|false|"[^"]*")', text, re.IGNORECASE)
    values = {one.strip('"').strip().lower() for one in said}
    if len(values) != 1:
        raise UnreadableAnswer('the answer must be one object such as {"criteria_met": true}')
    value = values.pop()
    known: dict[str, Said] = {"true": "met", "yes": "met", "false": "unmet", "no": "unmet", "not sure": "not sure"}
    if value not in known:
        raise UnreadableAnswer(f'criteria_met is {value!r}; it must be true, false or "not sure"')
    return known[value]


@dataclass(frozen=True)
class Rubrics:
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
    items: Mapping[str, Rubrics], said: Mapping[str, Mapping[Part, Sequence[Said]]], allow_partial: bool = False
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
    asked = [task for task in TASKS if any(item.task == task for item in items.values())]
    rates = {task: _rates(task, items, said) for task in asked}
    groups = {
        task: {
            "score": mean_of_parts([found]),
            **{part: mean_of_parts([[(rate[number],) for rate in found]]) for number, part in enumerate(PARTS)},
        }
        for task, found in rates.items()
    }
    whole = len(asked) == len(TASKS)
    overall = mean_of_parts(list(rates.values())) if whole else Score(None, items=len(said))
    return Table(overall={"overall": overall}, groups=groups, missing=missing)


def _rates(
    task: str, items: Mapping[str, Rubrics], said: Mapping[str, Mapping[Part, Sequence[Said]]]
) -> list[tuple[float | None, ...]]:
    """The rates of a task's items, for text and pictures."""
    return [
        tuple(item_rate(getattr(item, part), said[name].get(part, ())) for part in PARTS)
        for name, item in items.items()
        if item.task == task and name in said
    ]
