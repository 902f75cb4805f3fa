"""Parse what a request to the sandbox asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from interleaver.errors import BackendError
from interleaver.sandbox.language import COUNTS, MAX_COUNT, Add, Operation, Recolour, Remove
from interleaver.sandbox.primer import Subject, subjects
from interleaver.sandbox.reading import Mark, Noun, parse, phrases, read_scene, sentences, unknown_things
from interleaver.sandbox.world import PAPER

NUMBERS = {word: number for number, word in enumerate((*COUNTS, "seven", "eight", "nine", "ten"))}
STEPS = re.compile(
    rf"(?:\b(?:in|of|with)\s+(?:exactly\s+)?|\b(?=\w+-))(\d+|{'|'.join(NUMBERS)})"
    r"[\s-]+(?:step|picture|image|drawing|illustration|panel)s?\b",
    re.IGNORECASE,
)
"""A number of steps that a request asks for: "in 4 steps", "a story of five pictures" or "a six-step lesson"."""
LESSON = re.compile(r"\bhow\b.{0,80}\bdraw\b", re.IGNORECASE)
"""A request for a lesson, in which a plural without a number stands for any thing of its kind."""


@dataclass
class Wish:
    """What a request asks for.

    Attributes:
        things: things to draw, in the order they are named.
        edits: changes to what is already in the picture.
        backdrop: name of the requested background; None if the request states none.
        links: relations between things: (position of the first, relation, position of the second).
        steps: requested number of steps; None if the request states none.
    """

    things: list[Add] = field(default_factory=list)
    edits: list[Operation] = field(default_factory=list)
    backdrop: str | None = None
    links: list[tuple[int, str, int]] = field(default_factory=list)
    steps: int | None = None

    def background(self, subject: Subject | None) -> str:
        """Return the background to draw on: the requested one, else one that suits the subject or the things."""
        settings = [add.subject.setting for add in self.things if add.subject.setting]
        if self.backdrop:
            return self.backdrop
        if subject:
            return subject.setting or PAPER
        return settings[0] if settings else PAPER


def read_wish(request: str) -> Wish:
    """Parse a request.

    Raises:
        BackendError: the request names something the sandbox does not know, too many things of a kind, or nothing that
            can be drawn.
    """
    wish = Wish()
    steps = STEPS.search(request)
    if steps:
        step_word = steps[1].lower()
        wish.steps = int(step_word) if step_word.isdigit() else NUMBERS[step_word]
        request = request.replace(steps[0], " ")
    general = bool(LESSON.search(request))
    for sentence in sentences(request):
        sentence_phrases = [_one_of(item) if general else item for item in phrases(sentence)]
        operations = parse(sentence).operations
        if operations and isinstance(operations[0], Recolour | Remove):
            wish.edits += operations
        else:
            _read_things(sentence_phrases, wish)
    unknown_phrases = unknown_things(request)
    if unknown_phrases or not (wish.things or wish.edits or wish.backdrop):
        unknown_text = " and ".join(repr(name) for name in unknown_phrases) or "anything to draw in this request"
        known_subjects = ", ".join(name for name, subject in subjects().items() if not subject.is_shape)
        raise BackendError(
            f"the sandbox does not know {unknown_text}. It knows: {known_subjects}. For anything else connect a real "
            "model: set [planner], [critic] and [generator] in interleaver.toml (see docs/configuration.md)"
        )
    return wish


def _one_of(item: Noun | Mark) -> Noun | Mark:
    """Return a phrase with a plural without a number, as in "how to draw cats", read as one thing of its kind."""
    return replace(item, count=1) if isinstance(item, Noun) and item.bare else item


def _read_things(sentence_phrases: list[Noun | Mark], wish: Wish) -> None:
    """Add the things in a sentence to the wish, with the relations between them."""
    relation: str | None = None
    varies_colours = any(isinstance(item, Mark) and item.role == "variety" for item in sentence_phrases)
    for item in sentence_phrases:
        if isinstance(item, Mark):
            if item.role == "relation":
                relation = item.value
            elif item.role == "background":
                wish.backdrop = item.value
            elif item.role == "place" and wish.things:
                wish.things[-1] = replace(wish.things[-1], place=item.value)
            continue
        if item.count > MAX_COUNT:
            raise BackendError(f"the sandbox draws at most {COUNTS[MAX_COUNT]} of a kind; ask for fewer {item.kind}s")
        add = next(operation for operation in read_scene([item]) if isinstance(operation, Add))
        if relation and wish.things and not item.definite:
            wish.links.append((len(wish.things) - 1, relation, len(wish.things)))
        if relation and wish.things and item.definite:
            positions = [number for number, thing in enumerate(wish.things[:-1]) if thing.kind == add.kind]
            if positions:
                wish.links.append((len(wish.things) - 1, relation, positions[-1]))
            else:
                side = "right of" if relation == "beside" else relation
                wish.things[-1] = replace(wish.things[-1], relation=side, anchor=add.kind)
        else:
            wish.things += _vary_colours(add) if varies_colours else [add]
        relation = None


def _vary_colours(add: Add) -> list[Add]:
    """Split an addition of several things into single things of different colours."""
    colours = ("red", "blue", "yellow", "green", "purple", "orange")
    return [replace(add, count=1, colour=colours[number]) for number in range(add.count)]
