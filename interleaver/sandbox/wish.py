"""What a request to the sandbox asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from interleaver.errors import BackendError
from interleaver.sandbox.language import COUNTS, MAX_COUNT, Add, Operation, Recolour, Remove
from interleaver.sandbox.primer import Subject, subjects
from interleaver.sandbox.reading import Mark, Noun, parse, phrases, read_scene, sentences, unknown_things
from interleaver.sandbox.world import PAPER

STEPS = re.compile(
    r"\bin\s+(?:exactly\s+)?(\d+|" + "|".join(COUNTS) + r"|seven|eight|nine|ten)\s+steps?\b", re.IGNORECASE
)
NUMBERS = {word: number for number, word in enumerate((*COUNTS, "seven", "eight", "nine", "ten"))}


@dataclass
class Wish:
    """What a request asks for.

    Attributes:
        things: in the order they are named.
        edits: changes to what is there already.
        backdrop: the background that was asked for.
        links: (first, relation, second) between things, by position.
        steps: the number of steps that was asked for.
    """

    things: list[Add] = field(default_factory=list)
    edits: list[Operation] = field(default_factory=list)
    backdrop: str | None = None
    links: list[tuple[int, str, int]] = field(default_factory=list)
    steps: int | None = None

    def background(self, subject: Subject | None) -> str:
        """The background to draw on."""
        settings = [add.subject.setting for add in self.things if add.subject.setting]
        if self.backdrop:
            return self.backdrop
        if subject:
            return subject.setting or PAPER
        return settings[0] if settings else PAPER


def read_wish(request: str) -> Wish:
    """Read a request.

    Raises:
        BackendError: it asks for something the sandbox does not know, or for nothing that can be drawn.
    """
    wish = Wish()
    steps = STEPS.search(request)
    if steps:
        said = steps[1].lower()
        wish.steps = int(said) if said.isdigit() else NUMBERS[said]
        request = request.replace(steps[0], " ")
    for sentence in sentences(request):
        found = list(phrases(sentence))
        operations = parse(sentence).operations
        if operations and isinstance(operations[0], Recolour | Remove):
            wish.edits += operations
        else:
            _read_things(found, wish)
    strange = unknown_things(request)
    if strange or not (wish.things or wish.edits or wish.backdrop):
        what = " and ".join(repr(name) for name in strange) or "anything to draw in this request"
        known = ", ".join(name for name, subject in subjects().items() if not subject.is_shape)
        raise BackendError(
            f"the sandbox does not know {what}. It knows: {known}. For anything else connect a real model: "
            "set [planner], [critic] and [generator] in interleaver.toml (see docs/configuration.md)"
        )
    return wish


def _read_things(found: list[Noun | Mark], wish: Wish) -> None:
    """Add a sentence's things to the wish, with the relations between them."""
    relation: str | None = None
    varied = any(isinstance(item, Mark) and item.role == "variety" for item in found)
    for item in found:
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
            known = [number for number, thing in enumerate(wish.things[:-1]) if thing.kind == add.kind]
            if known:
                wish.links.append((len(wish.things) - 1, relation, known[-1]))
            else:
                side = "right of" if relation == "beside" else relation
                wish.things[-1] = replace(wish.things[-1], relation=side, anchor=add.kind)
        else:
            wish.things += _varied(add) if varied else [add]
        relation = None


def _varied(add: Add) -> list[Add]:
    """Several things in different colours, one by one."""
    colours = ("red", "blue", "yellow", "green", "purple", "orange")
    return [replace(add, count=1, colour=colours[number]) for number in range(add.count)]
