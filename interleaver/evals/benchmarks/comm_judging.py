"""How CoMM's judge is told a document, and where the marks stand in what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from interleaver.agents.answers import read_literal_in
from interleaver.errors import UnreadableAnswer
from interleaver.evals.benchmarks.base import Item, Output

MOST_PICTURES = 10
"""Pictures that the judge is shown of a document, as in the official scripts."""
PUBLISHED: Mapping[str, Sequence[tuple[str, ...]]] = {
    "style": [("scores", "Image_Coherence", "overall_score", "style_consistency")],
    "entity": [("scores", "Image_Coherence", "overall_score", "entity_consistency")],
    "trend": [("scores", "Image_Coherence", "overall_score", "trend_consistency")],
    "coherence": [("scores", "Image_Coherence", "overall_score", "overall_consistency")],
    "completeness": [("scores", "Completeness", "Score"), ("Completeness", "Score")],
    "quality": [("scores", "Image_Quality", "Score")],
    "fidelity": [("Consistency", "overall_score"), ("Text Fidelity to Image", "overall_score")],
}
"""Where the marks stand in answers to the benchmark's own prompts."""
ROOTS = ("scores", "Consistency", "Completeness")
"""The outermost name in those answers."""
NOT_APPLICABLE = "NA"
"""What those answers say of a sequence of one picture, for instance; the official script counts it as 0."""


@dataclass
class Told:
    """A document as the judge is told it.

    Attributes:
        parts: words and pictures in their order.
        made: the pictures that were made, those of them that are shown.
    """

    parts: tuple[str | Path, ...] = ()
    made: list[Path] = field(default_factory=list)
    shown: int = 0

    def add(self, *words: str) -> None:
        """Add words."""
        self.parts += words

    def show(self, picture: Path, made: bool, most: int = MOST_PICTURES) -> None:
        """Show a picture between its number, unless that would be too many."""
        if self.shown < most:
            self.parts += (f"<Img_{self.shown}>", picture, f"</Img_{self.shown}>")
            self.shown += 1
            self.made += [picture] if made else []

    def without_made(self) -> tuple[str | Path, ...]:
        """The same with the numbers of the pictures that were made, but not the pictures."""
        return tuple(part for part in self.parts if part not in self.made)


def captions(texts: Sequence[str], item: Item, pictures: Sequence[int]) -> tuple[str | Path, ...]:
    """Task 1: the texts that were written, each before the pictures of its step.

    Args:
        texts: by step.
        item: has the pictures.
        pictures: how many of them a step has.
    """
    left = list(item.pictures[:MOST_PICTURES])
    shown: list[str | Path] = []
    for text, count in zip_longest(texts, pictures):
        shown += [text or "", *left[: count or 0]]
        del left[: count or 0]
    return tuple(shown)


def illustrated(texts: Sequence[str], drawn: Sequence[Sequence[Path]]) -> Told:
    """Task 2: the texts that were given, each before the pictures that were drawn for it."""
    told = Told()
    for text, pictures in zip_longest(texts, drawn):
        told.add(text or "")
        for picture in pictures or ():
            told.show(picture, made=True)
    return told


def document(item: Item, output: Output, folder: Path) -> Told:
    """Tasks 3 and 4: what was given and what was made."""
    told = Told()
    told.add("INPUT:")
    for words, picture in zip_longest(item.request.split("<image>"), item.pictures):
        told.add(words)
        if picture:
            told.show(picture, made=False, most=MOST_PICTURES - 1)  # one of those that were made is always shown
    told.add("OUTPUT:")
    last = None
    for block in output.blocks:
        told.add(*([f"({block.step})"] if block.step != last else []), block.text or "")
        if block.picture:
            told.show(folder / block.picture, made=True)
        last = block.step
    return told


def pairs(expected: Sequence[str], made: Sequence[Path]) -> tuple[str | Path, ...]:
    """What is to be expected of each picture, and the picture."""
    shown: list[str | Path] = []
    for number, (description, picture) in enumerate(zip_longest(expected, made)):
        shown += [f"<Description_{number}> {description} </Description_{number}>"] if description else []
        shown += [f"<Img_{number}>", picture, f"</Img_{number}>"] if picture else []
    return tuple(shown)


def read_expected(text: str) -> list[str]:
    """What pictures should show: {"expected": ["...", ...]}, or as the benchmark's own prompt asks for it.

    Raises:
        UnreadableAnswer: it says no such thing.
    """
    if '"Tasks"' in text:
        found = _at(read_literal_in(text, "Tasks"), ("Tasks", "Create an Interleaved Text-Image Document"))
        found = list(found.values()) if isinstance(found, dict) else found
    else:
        found = read_literal_in(text, "expected")["expected"]
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise UnreadableAnswer(f"expected is {found!r:.80}; it must be a list of texts, one a picture")
    return found


def reader(marks: Sequence[str]) -> Callable[[str], dict[str, float]]:
    """What reads an answer such as {"fidelity": 7, "reason": "..."}: every mark, from 0 to 10.

    Answers to the benchmark's own prompts have the marks elsewhere (`PUBLISHED`).
    """

    def read(text: str) -> dict[str, float]:
        found = read_literal_in(text, next((root for root in ROOTS if f'"{root}"' in text), marks[0]))
        values = {name: _mark(found, name) for name in marks}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
                raise UnreadableAnswer(f"{name} is {value!r:.80}; it must be a number from 0 to 10")
        return {name: float(value) for name, value in values.items()}

    return read


def _mark(found: Mapping[str, Any], name: str) -> Any:
    """A mark, wherever it stands."""
    values = [_at(found, path) for path in ((name,), *PUBLISHED[name])]
    value = next((value for value in values if value is not None), None)
    return 0 if value == NOT_APPLICABLE else value


def _at(found: Any, path: Sequence[str]) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
