"""The drawing language: operations on a picture, written in plain English.

Canonical sentences, as `describe` writes them::

    Draw a large orange cat in the middle.
    Draw three small yellow stars at the top.
    Draw the ears of a large orange cat in the middle.
    Draw a small red house to the left of the tree.
    Paint the house blue.
    Remove the cloud.
    Make the background a night sky.
    It must be orange and large.          (emphasis on the previous operation)
    Keep everything else as it is.

`interleaver.sandbox.reading.parse` reads these and much looser English, and
`parse(describe(instructions)) == instructions` for all instructions.
"""

from __future__ import annotations

from dataclasses import dataclass

from interleaver.sandbox.primer import Subject, subjects

COUNTS = ("no", "one", "two", "three", "four", "five", "six")
MAX_COUNT = len(COUNTS) - 1
PLACE_PHRASES = {
    "middle": "in the middle",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "top left": "at the top left",
    "top right": "at the top right",
    "bottom left": "at the bottom left",
    "bottom right": "at the bottom right",
}
RELATION_PHRASES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
}
KEEP = "Keep everything else as it is."


@dataclass(frozen=True)
class Add:
    """Draw something new.

    Attributes:
        kind: the subject's proper name.
        part: draw only this part; None for the whole.
        count: number of things, 1 to 6.
        size: one of `SIZES`; None leaves it open.
        colour: one of `COLOURS`; None leaves it open.
        place: one of `PLACES`; None leaves it open.
        relation: one of `RELATIONS`, relative to `anchor`; mutually exclusive with `place`.
        anchor: proper name of the subject in the picture that `relation` refers to.
        emphasis: attributes that the prompt insists on: "kind", "count", "size", "colour", "place".
    """

    kind: str
    part: str | None = None
    count: int = 1
    size: str | None = None
    colour: str | None = None
    place: str | None = None
    relation: str | None = None
    anchor: str | None = None
    emphasis: frozenset[str] = frozenset()

    @property
    def subject(self) -> Subject:
        """The primer's entry for the kind."""
        return subjects()[self.kind]


@dataclass(frozen=True)
class Recolour:
    """Give something in the picture another main colour."""

    kind: str
    colour: str
    emphasis: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Remove:
    """Take something out of the picture."""

    kind: str
    emphasis: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Backdrop:
    """Change the background."""

    background: str
    emphasis: frozenset[str] = frozenset()


Operation = Add | Recolour | Remove | Backdrop


@dataclass(frozen=True)
class Instructions:
    """What a prompt asks for.

    Attributes:
        operations: operations in the order of the prompt.
        careful: whether the prompt says to leave everything else alone.
    """

    operations: tuple[Operation, ...]
    careful: bool = False


def describe(instructions: Instructions) -> str:
    """Return instructions as canonical sentences."""
    sentences = []
    for operation in instructions.operations:
        sentences.append(describe_operation(operation))
        if operation.emphasis:
            sentences.append(f"It must be {' and '.join(_emphasis_phrases(operation))}.")
    if instructions.careful:
        sentences.append(KEEP)
    return " ".join(sentences)


def describe_operation(operation: Operation) -> str:
    """Return one operation as a canonical sentence, without emphasis."""
    match operation:
        case Add():
            return f"Draw {noun_phrase(operation)}{_place_phrase(operation)}."
        case Recolour(kind=kind, colour=colour):
            return f"Paint the {kind} {colour}."
        case Remove(kind=kind):
            return f"Remove the {kind}."
        case Backdrop(background=background):
            return f"Make the background {background}."


def noun_phrase(add: Add) -> str:
    """Return the noun phrase of an addition, such as "three small yellow stars" or "the ears of a large orange cat"."""
    adjectives = [word for word in (add.size, add.colour) if word]
    if add.count > 1:
        return " ".join([COUNTS[add.count], *adjectives, add.subject.plural])
    words = [*adjectives, add.kind]
    article = "an" if words[0][0] in "aeiou" else "a"
    whole = " ".join([article, *words])
    return f"the {add.part} of {whole}" if add.part else whole


def _place_phrase(add: Add) -> str:
    if add.place:
        return f" {PLACE_PHRASES[add.place]}"
    if add.relation and add.anchor:
        return f" {RELATION_PHRASES[add.relation]} the {add.anchor}"
    return ""


def _emphasis_phrases(operation: Operation) -> list[str]:
    phrases = []
    for attribute in ("done", "kind", "count", "size", "colour", "place"):
        if attribute in operation.emphasis:
            phrases.append(_attribute_phrase(operation, attribute))
    return phrases


def _attribute_phrase(operation: Operation, attribute: str) -> str:
    match operation, attribute:
        case Add(), "kind":
            return f"clearly {'an' if operation.kind[0] in 'aeiou' else 'a'} {operation.kind}"
        case Add(), "count":
            return f"exactly {COUNTS[operation.count]}"
        case Add(), "size":
            return str(operation.size)
        case Add(), "place":
            return _place_phrase(operation).strip() or "in its proper place"
        case Add() | Recolour(), "colour":
            return str(operation.colour)
        case _:
            return "done"
