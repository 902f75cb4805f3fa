"""Requests with known answers: what the last picture of a document must show, or what its words must say.

The cases depend on a seed alone. Nothing of the package was tuned on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from random import Random

from interleaver.pictures import Picture
from interleaver.sandbox.judge import judge
from interleaver.sandbox.language import (
    PLACE_PHRASES,
    RELATION_PHRASES,
    Add,
    Instructions,
    Operation,
    Recolour,
    Remove,
    describe,
    describe_operation,
    noun_phrase,
)
from interleaver.sandbox.levels import LevelName, level_of
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.tasks import random_scene
from interleaver.sandbox.world import COLOURS, PLACES, RELATIONS, Scene, paint, scene_behind

SIZE = 256
OPENINGS = ("Draw", "Please draw", "I would like a picture with", "Make a picture of")
MINIATURE_OPENINGS = ("Draw", "Please draw", "I would like", "A picture with")
COLUMNS = (("top left", "left", "bottom left"), ("top", "middle", "bottom"), ("top right", "right", "bottom right"))


@dataclass(frozen=True)
class Case:
    """A request and its answer.

    Attributes:
        id: its name.
        level: the kind of difficulty.
        request: what is asked.
        pictures: that come with it.
        goal: what the last picture must show, in the drawing language; "" when nothing is to be drawn.
        steps: how many drawings the request asks for; None leaves it open.
        company: whether more than the goal may be in the picture.
        words: what the text must name.
    """

    id: str
    level: str
    request: str
    goal: str = ""
    pictures: tuple[Picture, ...] = ()
    steps: int | None = None
    company: bool = False
    words: tuple[str, ...] = field(default=())

    def score(self, text: str, drawn: Sequence[Picture]) -> float:
        """How far a document does what was asked, 0 to 1.

        Semantics and quality of its last picture, as the sandbox judge sees them, in geometric mean; for questions the
        share of the things that are named. A number of steps that was asked for and not kept gives nothing.

        Args:
            text: all of the document's words.
            drawn: its pictures.
        """
        if self.words:
            return 0.0 if drawn else sum(word in text.lower() for word in self.words) / len(self.words)
        scene = scene_behind(drawn[-1]) if drawn else None
        if scene is None or (self.steps is not None and len(drawn) != self.steps):
            return 0.0
        blank = Scene(scene.background)  # a document that starts from nothing chooses its background
        found = judge(self.goal, scene_behind(self.pictures[-1]) if self.pictures else blank, scene)
        return sqrt((found.editing if self.company else found.semantics) * found.quality) / 10


def cases(count: int, seed: int, world: LevelName = "full") -> list[Case]:
    """Cases of all levels in turn.

    Args:
        count: how many.
        seed: the same seed gives the same cases.
        world: how much of the sandbox world they use; in the miniature world they are pairs and triples of shapes, in
            the words of its requests for training.
    """
    if world == "miniature":
        return [_shapes(Random(f"bench/{seed}/{number}"), number) for number in range(count)]
    found = []
    for number in range(count):
        level = TURNS[number % len(TURNS)]
        found.append(LEVELS[level](Random(f"bench/{seed}/{number}"), f"{level.replace(' ', '-')}-{number:04d}", level))
    return found


def _things(rng: Random, count: int) -> list[Add]:
    """Different things in different places, with a colour that shows."""
    kinds = rng.sample([name for name, one in subjects().items() if any(part.coloured for part in one.parts)], count)
    places = rng.sample(list(PLACES), count)
    colours = [colour for colour in COLOURS if colour != "white"]
    return [Add(kind, colour=rng.choice(colours), place=place) for kind, place in zip(kinds, places, strict=True)]


def _said(add: Add) -> str:
    where = PLACE_PHRASES[add.place] if add.place else f"{RELATION_PHRASES[str(add.relation)]} the {add.anchor}"
    return f"{noun_phrase(add)} {where}"


def _drawn(rng: Random, adds: Sequence[Add], openings: Sequence[str] = OPENINGS) -> str:
    *first, last = (_said(add) for add in adds)
    return f"{rng.choice(openings)} {', '.join(first)} and {last}."


def _goal(*operations: Operation) -> str:
    return describe(Instructions(operations))


def _shapes(rng: Random, number: int) -> Case:
    """Two or three shapes of the miniature world, each in another column."""
    world, level = level_of("miniature"), ("pairs", "triples")[number % 2]
    columns = rng.sample(COLUMNS, 2 if level == "pairs" else 3)
    kinds = rng.sample(world.kinds, len(columns))
    adds = [
        Add(kind, colour=rng.choice(world.colours), place=rng.choice(column))
        for kind, column in zip(kinds, columns, strict=True)
    ]
    return Case(f"{level}-{number:04d}", level, _drawn(rng, adds, MINIATURE_OPENINGS), _goal(*adds))


def _few(rng: Random, name: str, level: str) -> Case:
    adds = _things(rng, 2)
    return Case(name, level, _drawn(rng, adds), _goal(*adds))


def _many(rng: Random, name: str, level: str) -> Case:
    adds = _things(rng, rng.randint(4, 6))
    return Case(name, level, _drawn(rng, adds), _goal(*adds))


def _related(rng: Random, name: str, level: str) -> Case:
    first, second = _things(rng, 2)
    relation = rng.choice(list(RELATIONS))
    anchor = Add(second.kind, colour=second.colour)
    beside = Add(first.kind, colour=first.colour, relation=relation, anchor=second.kind)
    request = (
        f"Draw {noun_phrase(Add(first.kind, colour=first.colour))} {RELATION_PHRASES[relation]} {noun_phrase(anchor)}."
    )
    return Case(name, level, request, _goal(anchor, beside))


def _grouped(rng: Random, name: str, level: str) -> Case:
    first, second = _things(rng, 2)
    group = Add(first.kind, count=rng.randint(2, 5), colour=first.colour, place=rng.choice(("top", "bottom", "middle")))
    other = Add(second.kind, colour=second.colour, place="bottom left" if group.place == "top" else "top left")
    return Case(name, level, _drawn(rng, [group, other]), _goal(group, other))


def _lesson(rng: Random, name: str, level: str) -> Case:
    kind = rng.choice([name for name, one in subjects().items() if len(one.parts) in (3, 4)])
    return _taught(kind, rng.randint(2, len(subjects()[kind].parts)), name, level)


def _long_lesson(rng: Random, name: str, level: str) -> Case:
    kind = rng.choice([name for name, one in subjects().items() if len(one.parts) > 4])
    return _taught(kind, rng.randint(len(subjects()[kind].parts) + 1, 12), name, level)


def _taught(kind: str, steps: int, name: str, level: str) -> Case:
    subject = subjects()[kind]
    article = "an" if kind[0] in "aeiou" else "a"
    goal = _goal(*(Add(kind, part=part.name, colour=subject.colour) for part in subject.parts))
    request = f"How to draw {article} {kind} in {steps} steps?"
    return Case(name, level, request, goal, steps=steps, company=True)


def _edited(rng: Random, name: str, level: str) -> Case:
    adds = _things(rng, 2)
    colour = rng.choice([colour for colour in COLOURS if colour not in ("white", adds[0].colour)])
    edits: tuple[Operation, ...] = (Recolour(adds[0].kind, colour), Remove(adds[1].kind))
    kept = Add(adds[0].kind, colour=colour, place=adds[0].place)
    request = " ".join([_drawn(rng, adds), *(describe_operation(edit) for edit in edits)])
    return Case(name, level, request, _goal(kept))


def _given(rng: Random, name: str, level: str) -> Case:
    scene, free = random_scene(rng, rng.randint(1, 4))
    known = {item.kind for item in scene.items}
    add = next(one for one in _things(rng, 6) if one.kind not in known)
    new = Add(add.kind, size="small", colour=add.colour, place=free[0])
    operations: list[Operation] = [new]
    recoloured = [item for item in scene.items if any(part.coloured for part in subjects()[item.kind].parts)]
    if recoloured and rng.random() < 0.5:
        item = rng.choice(recoloured)
        colour = rng.choice([colour for colour in COLOURS if colour not in ("white", item.colour)])
        operations.append(Recolour(item.kind, colour))
    request = " ".join(["<image>", *(describe_operation(operation) for operation in operations)])
    return Case(name, level, request, _goal(*operations), (paint(scene, SIZE, SIZE),))


def _asked(rng: Random, name: str, level: str) -> Case:
    scene, _ = random_scene(rng, rng.randint(1, 4))
    request = rng.choice(("<image> What is in this picture?", "Describe this picture: <image>"))
    words = tuple(item.kind for item in scene.items)
    return Case(name, level, request, pictures=(paint(scene, SIZE, SIZE),), words=words)


LEVELS: dict[str, Callable[[Random, str, str], Case]] = {
    "few things": _few,
    "many things": _many,
    "relations": _related,
    "groups": _grouped,
    "lessons": _lesson,
    "long lessons": _long_lesson,
    "edits": _edited,
    "given pictures": _given,
    "questions": _asked,
}
"""The kinds of difficulty."""
TURNS = (
    *("few things", "relations", "given pictures", "questions", "groups", "lessons", "given pictures"),
    *("relations", "given pictures", "few things", "edits", "many things", "given pictures", "relations"),
    *("given pictures", "questions", "few things", "long lessons", "given pictures", "relations", "given pictures"),
)
"""Their order; those that take long come less often."""
