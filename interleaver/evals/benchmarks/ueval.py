"""UEval: questions that need an answer of text and pictures, each judged by its own rubrics.

Every rubric is one question to the judge; "not sure" counts as unmet. An item has two rates, the shares of met rubrics
of its text and of its pictures. A task's score is the mean of its mean text rate and its mean picture rate; the overall
score is the unweighted mean over the eight tasks.
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
    BenchmarkItem,
    BenchmarkRow,
    Output,
    OutputBlock,
    PrescribedJudge,
    Question,
    is_absent,
    read_id,
    read_text,
    write_png,
)
from interleaver.evals.scores import Score, Table, mean_of_parts, missing_ids, scale_table
from interleaver.text_files import read_text_file

CLOSED_TASKS = ("space", "textbook", "diagram", "paper")
OPEN_TASKS = ("art", "life", "tech", "exercise")
TASKS = (*CLOSED_TASKS, *OPEN_TASKS)
RubricAnswer = Literal["met", "unmet", "not sure"]
AnswerPart = Literal["text", "image"]
ANSWER_PARTS: tuple[AnswerPart, ...] = ("text", "image")


class UEval(Benchmark):
    """UEval; see `interleaver.evals.benchmarks.base.Benchmark`."""

    name = "ueval"
    title = "UEval"
    source = "zlab-princeton/UEval"
    files = (("*.parquet",), ("*.jsonl",), ("*.json",))
    count = 1000
    judge = PrescribedJudge(
        "gemini-2.5-pro",
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        key="GEMINI_API_KEY",
        temperature=None,
        prices=(1.25, 10.0),
        answer_tokens=800,
    )
    max_side = None
    scale = 100.0
    headline = "overall"
    needs_picture = False

    def item(self, row: BenchmarkRow, folder: Path) -> BenchmarkItem:
        """Return the item of a row, with its rubrics as lists of strings."""
        task = read_text(row, "task").strip().lower()
        if task not in TASKS:
            raise BadInput(f"task {task!r} is unknown to UEval; its tasks are: {', '.join(TASKS)}")
        rubrics = {f"{part}_rubrics": _read_rubrics(row, f"{part}_rubrics") for part in ANSWER_PARTS}
        return BenchmarkItem(read_id(row, "id"), task, read_text(row, "prompt"), dict(row) | rubrics, folder)

    def questions(self, item: BenchmarkItem, output: Output, folder: Path) -> list[Question]:
        """Return one question per rubric; without a picture, the picture rubrics are not asked and count as unmet."""
        pictures = tuple(output.pictures(folder))
        about = "ueval.image.closed" if item.group in CLOSED_TASKS else "ueval.image.open"
        fields = {"question": item.request, "text_answer": output.text}
        part_prompts: tuple[tuple[AnswerPart, str, tuple[Path, ...]], ...] = (
            ("text", "ueval.text", ()),
            *((("image", about, pictures),) if pictures else ()),
        )
        return [
            Question(f"{part}.{number}", template, read_criterion, fields | {"rubric": rubric}, images)
            for part, template, images in part_prompts
            for number, rubric in enumerate(item.row[f"{part}_rubrics"])
        ]

    def score(self, item: BenchmarkItem, answers: Answers) -> float | None:
        """Return the mean of the rates of text and pictures; a part without rubrics is ignored, None if both are."""
        rubric_answers = _answers_by_part(item, answers)
        rates = [item_rate(len(item.row[f"{part}_rubrics"]), rubric_answers[part]) for part in ANSWER_PARTS]
        known_rates = [rate for rate in rates if rate is not None]
        return sum(known_rates) / len(known_rates) if known_rates else None

    def table(self, items: Sequence[BenchmarkItem], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """Return the scores of a system, overall and by task, in percent as on the leaderboard."""
        rubrics = {
            item.id: RubricCounts(item.group, *(len(item.row[f"{part}_rubrics"]) for part in ANSWER_PARTS))
            for item in items
        }
        rubric_answers = {item.id: _answers_by_part(item, answers[item.id]) for item in items if item.id in answers}
        return scale_table(table(rubrics, rubric_answers, allow_partial), self.scale)

    def read_outputs(self, path: Path, items: Sequence[BenchmarkItem]) -> Iterator[Output]:
        """Yield the outputs in a JSON file `[{id, text_answer, image_answer: [paths]}]`; paths are relative to it."""
        try:
            rows = json.loads(read_text_file(path))
        except (OSError, ValueError) as error:
            raise BadInput(f"the outputs {str(path)!r} cannot be read: {error}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise BadInput(f"the outputs {str(path)!r} must be a list of objects with id, text_answer and image_answer")
        item_ids, seen_ids = {item.id for item in items}, set()
        for row in rows:
            item_id, text, image_answer = str(row["id"]), row.get("text_answer") or "", row.get("image_answer") or []
            pictures = [image_answer] if isinstance(image_answer, str) else image_answer
            if not isinstance(text, str) or not (
                isinstance(pictures, list) and all(isinstance(path_value, str) for path_value in pictures)
            ):
                raise BadInput(
                    f"the output of item {item_id}: text_answer must be a string, image_answer a list of paths"
                )
            if item_id in seen_ids:
                raise BadInput(f"the outputs {str(path)!r} contain item {item_id} twice; ids must be unique")
            seen_ids.add(item_id)
            if item_id in item_ids:
                yield Output(
                    id=item_id,
                    blocks=[OutputBlock(text=text), *(OutputBlock(picture=path_value) for path_value in pictures)],
                )

    def write_outputs(
        self, path: Path, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> None:
        """Write the outputs to `outputs.json` and their pictures to the folder `pictures` next to it."""
        rows: list[dict[str, Any]] = []
        for name, output in outputs.items():
            pictures = [f"pictures/{name}-{number}.png" for number in range(1, len(output.pictures(folder)) + 1)]
            for picture, file_name in zip(output.pictures(folder), pictures, strict=True):
                write_png(picture, path / file_name)
            rows.append({"id": name, "text_answer": output.text, "image_answer": pictures})
        (path / "outputs.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")


def _read_rubrics(row: BenchmarkRow, name: str) -> list[str]:
    """Return the rubrics in a field of a row, which may be strings or objects with a `criterion`."""
    values = [] if is_absent(row.get(name)) else row[name]
    if not isinstance(values, list):
        raise BadInput(f"the field {name!r} is {values!r:.80}; it must be a list of strings")
    texts = [value.get("criterion") if isinstance(value, Mapping) else value for value in values]
    rubrics = [text for text in texts if isinstance(text, str) and text.strip()]
    if len(rubrics) < len(values):
        raise BadInput(f"the field {name!r} must be a list of non-empty strings, or of objects with a criterion")
    return rubrics


def _answers_by_part(item: BenchmarkItem, answers: Answers) -> dict[AnswerPart, list[RubricAnswer]]:
    """Return the answers by part, in the order of its rubrics.

    Picture rubrics that were not asked, because the output has no picture, are unmet.
    """
    by_part: dict[AnswerPart, list[RubricAnswer]] = {}
    for part in ANSWER_PARTS:
        keys = [f"{part}.{number}" for number in range(len(item.row[f"{part}_rubrics"]))]
        was_asked = part == "text" or any(key in answers for key in keys)
        by_part[part] = [answers[key] if was_asked else "unmet" for key in keys]
    return by_part


def read_criterion(text: str) -> RubricAnswer:
    """Parse an answer such as {"criteria_met": true}, in JSON or as a Python literal.

    Raises:
        UnreadableAnswer: the answer has no such object, several that differ, or an unknown value.
    """
    matches = re.findall(r"""["']criteria_met["']\s*:\s*(true|false|null|none|"[^"]*"|'[^']*')""", text, re.IGNORECASE)
    values = {match.strip("\"'").strip().lower() for match in matches}
    if len(values) != 1:
        raise UnreadableAnswer('the answer must be one object such as {"criteria_met": true}')
    value = values.pop()
    meanings: dict[str, RubricAnswer] = {
        **dict.fromkeys(("true", "yes", "y", "1"), "met"),
        **dict.fromkeys(("false", "no", "n", "0", "null", "none", ""), "unmet"),
        **dict.fromkeys(("not sure", "not_sure", "unsure", "unknown"), "not sure"),
    }
    if value not in meanings:
        raise UnreadableAnswer(f'criteria_met is {value!r}; it must be true, false or "not sure"')
    return meanings[value]


@dataclass(frozen=True)
class RubricCounts:
    """The task and the number of rubrics of an item.

    Attributes:
        task: task of the item, one of `TASKS`.
        text: number of rubrics about the text.
        image: number of rubrics about the pictures.
    """

    task: str
    text: int
    image: int


def item_rate(rubrics: int, answers: Sequence[RubricAnswer]) -> float | None:
    """Return the share of met rubrics, 0 to 1; None if there are no rubrics.

    Args:
        rubrics: number of rubrics.
        answers: the judge's answers, one per rubric.

    Raises:
        BadInput: the numbers of answers and rubrics differ.
    """
    if len(answers) != rubrics:
        raise BadInput(f"{len(answers)} answers for {rubrics} rubrics; every rubric must be judged")
    return sum(answer == "met" for answer in answers) / rubrics if rubrics else None


def table(
    items: Mapping[str, RubricCounts],
    answers: Mapping[str, Mapping[AnswerPart, Sequence[RubricAnswer]]],
    allow_partial: bool = False,
) -> Table:
    """Return the scores of one system, overall and by task, 0 to 1; and the rates of all items, pooled over tasks.

    Args:
        items: tasks and rubric counts of all selected items, by item id.
        answers: the judge's answers by item id and part, in the order of the rubrics.
        allow_partial: whether to accept items without answers.

    Raises:
        BadInput: a task is unknown, an item is not completely judged, or items have no answers and `allow_partial` is
            false.
    """
    if unknown := sorted({item.task for item in items.values()} - set(TASKS)):
        raise BadInput(f"task {unknown[0]!r} is unknown to UEval; its tasks are: {', '.join(TASKS)}")
    missing = missing_ids(list(items), answers.keys(), allow_partial)
    tasks = [task for task in TASKS if any(item.task == task for item in items.values())]
    rates = {task: _rates(task, items, answers) for task in tasks}
    groups = {
        task: {
            "score": mean_of_parts([task_rates]),
            **{
                part: mean_of_parts([[(rate[number],) for rate in task_rates]])
                for number, part in enumerate(ANSWER_PARTS)
            },
        }
        for task, task_rates in rates.items()
    }
    has_all_tasks = len(tasks) == len(TASKS)
    overall = mean_of_parts(list(rates.values())) if has_all_tasks else Score(None, items=len(answers))
    item_rates = [rate for task_rates in rates.values() for rate in task_rates]
    pooled_rates = {
        f"{part} (pooled)": mean_of_parts([[(rate[number],) for rate in item_rates]])
        for number, part in enumerate(ANSWER_PARTS)
    }
    return Table(overall={"overall": overall, **pooled_rates}, groups=groups, missing=missing)


def _rates(
    task: str, items: Mapping[str, RubricCounts], answers: Mapping[str, Mapping[AnswerPart, Sequence[RubricAnswer]]]
) -> list[tuple[float | None, ...]]:
    """Return the rates of the judged items of a task, one tuple of text rate and picture rate per item."""
    return [
        tuple(item_rate(getattr(item, part), answers[name].get(part, ())) for part in ANSWER_PARTS)
        for name, item in items.items()
        if item.task == task and name in answers
    ]
