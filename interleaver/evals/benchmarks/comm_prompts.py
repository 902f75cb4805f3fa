"""The prompts that show CoMM's judge a document, and the parsers of its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from interleaver.agents.answers import read_literal_in
from interleaver.errors import UnreadableAnswer
from interleaver.evals.benchmarks.base import BenchmarkItem, Output

MAX_PICTURES = 10
"""Maximum number of pictures of a document that the judge is shown, as in the official scripts."""
OFFICIAL_PATHS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "style": [("scores", "Image_Coherence", "overall_score", "style_consistency")],
    "entity": [("scores", "Image_Coherence", "overall_score", "entity_consistency")],
    "trend": [("scores", "Image_Coherence", "overall_score", "trend_consistency")],
    "coherence": [("scores", "Image_Coherence", "overall_score", "overall_consistency")],
    "completeness": [("scores", "Completeness", "Score"), ("Completeness", "Score")],
    "quality": [("scores", "Image_Quality", "Score")],
    "fidelity": [("Consistency", "overall_score"), ("Text Fidelity to Image", "overall_score")],
}
"""Paths of keys to each mark in answers to the benchmark's own prompts."""
OFFICIAL_ROOTS = ("scores", "Consistency", "Completeness")
"""Possible top-level keys of such answers."""
NOT_APPLICABLE = "NA"
"""Value of a mark that does not apply, for instance to a single picture; the official script counts it as 0."""


@dataclass
class DocumentPrompt:
    """A document in the form that the judge is shown.

    Attributes:
        parts: texts and picture files in reading order.
        output_pictures: those of the shown pictures that belong to the output.
        picture_count: number of pictures shown so far.
    """

    parts: tuple[str | Path, ...] = ()
    output_pictures: list[Path] = field(default_factory=list)
    picture_count: int = 0

    def add_text(self, *words: str) -> None:
        """Append texts."""
        self.parts += words

    def add_picture(self, picture: Path, from_output: bool, limit: int = MAX_PICTURES) -> None:
        """Append a picture between its numbered tags, unless the limit is reached.

        Args:
            picture: file of the picture.
            from_output: whether the picture belongs to the output rather than the request.
            limit: maximum number of pictures in the document, including this one.
        """
        if self.picture_count < limit:
            self.parts += (f"<Img_{self.picture_count}>", picture, f"</Img_{self.picture_count}>")
            self.picture_count += 1
            self.output_pictures += [picture] if from_output else []

    def without_output_pictures(self) -> tuple[str | Path, ...]:
        """Return the parts without the output's pictures; their numbered tags are kept."""
        return tuple(part for part in self.parts if part not in self.output_pictures)


def caption_prompt(texts: Sequence[str], item: BenchmarkItem, pictures: Sequence[int]) -> tuple[str | Path, ...]:
    """Return the content for task 1: each text of the output, followed by the given pictures of its step.

    Args:
        texts: texts of the output, one per step.
        item: item that the pictures belong to.
        pictures: number of given pictures of each step.
    """
    remaining = list(item.pictures[:MAX_PICTURES])
    parts: list[str | Path] = []
    for text, count in zip_longest(texts, pictures):
        parts += [text or "", *remaining[: count or 0]]
        del remaining[: count or 0]
    return tuple(parts)


def picture_prompt(texts: Sequence[str], pictures_by_step: Sequence[Sequence[Path]]) -> DocumentPrompt:
    """Return the document for task 2: each given text, followed by the pictures of the output for its step.

    Args:
        texts: given texts, one per step.
        pictures_by_step: picture files of the output, one list per step.
    """
    prompt = DocumentPrompt()
    for text, pictures in zip_longest(texts, pictures_by_step):
        prompt.add_text(text or "")
        for picture in pictures or ():
            prompt.add_picture(picture, from_output=True)
    return prompt


def document_prompt(item: BenchmarkItem, output: Output, folder: Path) -> DocumentPrompt:
    """Return the document for tasks 3 and 4: the request, followed by the output.

    Args:
        item: item that the output was made for.
        output: output to judge.
        folder: folder that the output's picture paths are relative to.
    """
    prompt = DocumentPrompt()
    prompt.add_text("INPUT:")
    for words, picture in zip_longest(item.request.split("<image>"), item.pictures):
        prompt.add_text(words)
        if picture:
            prompt.add_picture(
                picture, from_output=False, limit=MAX_PICTURES - 1
            )  # leave room for at least one picture of the output
    prompt.add_text("OUTPUT:")
    last_step = None
    for block in output.blocks:
        prompt.add_text(*([f"({block.step})"] if block.step != last_step else []), block.text or "")
        if block.picture:
            prompt.add_picture(folder / block.picture, from_output=True)
        last_step = block.step
    return prompt


def fidelity_prompt(expected: Sequence[str], pictures: Sequence[Path]) -> tuple[str | Path, ...]:
    """Return the content of the fidelity question: each picture after the description of what it should show."""
    parts: list[str | Path] = []
    for number, (description, picture) in enumerate(zip_longest(expected, pictures)):
        parts += [f"<Description_{number}> {description} </Description_{number}>"] if description else []
        parts += [f"<Img_{number}>", picture, f"</Img_{number}>"] if picture else []
    return tuple(parts)


def read_expected(text: str) -> list[str]:
    """Parse the descriptions of what the pictures should show, one per picture.

    The answer is {"expected": ["...", ...]}, or has the format that the benchmark's own prompt asks for.

    Raises:
        UnreadableAnswer: the answer has neither format.
    """
    if '"Tasks"' in text:
        expected = _value_at(read_literal_in(text, "Tasks"), ("Tasks", "Create an Interleaved Text-Image Document"))
        expected = list(expected.values()) if isinstance(expected, dict) else expected
    else:
        expected = read_literal_in(text, "expected")["expected"]
    if (
        not isinstance(expected, list)
        or not expected
        or not all(isinstance(text_value, str) for text_value in expected)
    ):
        raise UnreadableAnswer(f"expected is {expected!r:.80}; it must be a list of texts, one a picture")
    return expected


def marks_reader(marks: Sequence[str]) -> Callable[[str], dict[str, float]]:
    """Return a parser of answers such as {"fidelity": 7, "reason": "..."} that requires every mark, from 0 to 10.

    Answers to the benchmark's own prompts, which nest the marks (`OFFICIAL_PATHS`), are understood as well.
    """

    def read(text: str) -> dict[str, float]:
        answer = read_literal_in(text, next((root for root in OFFICIAL_ROOTS if f'"{root}"' in text), marks[0]))
        values = {name: _mark(answer, name) for name in marks}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
                raise UnreadableAnswer(f"{name} is {value!r:.80}; it must be a number from 0 to 10")
        return {name: float(value) for name, value in values.items()}

    return read


def _mark(answer: Mapping[str, Any], name: str) -> Any:
    """Return the value of a mark from any of its possible positions in an answer."""
    values = [_value_at(answer, path) for path in ((name,), *OFFICIAL_PATHS[name])]
    value = next((value for value in values if value is not None), None)
    return 0 if value == NOT_APPLICABLE else value


def _value_at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
