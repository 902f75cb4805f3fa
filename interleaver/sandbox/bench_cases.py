"""Benchmark requests with known answers: what a document's last picture must show, or what its text must mention.

The cases are determined by a seed. Nothing in the package was tuned on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from random import Random

from interleaver.choices import SandboxLevel
from interleaver.pictures import Picture
from interleaver.sandbox.judge import score_step
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
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.tasks import random_scene
from interleaver.sandbox.world import COLOURS, PLACES, RELATIONS, Scene, paint, scene_behind

SIZE = 256
OPENINGS = ("Draw", "Please draw", "I would like a picture with", "Make a picture of")
MINIATURE_OPENINGS = ("Draw", "Please draw", "I would like", "A picture with")
COLUMNS = (("top left", "left", "bottom left"), ("top", "middle", "bottom"), ("top right", "right", "bottom right"))


@dataclass(frozen=True)
class BenchCase:
    """A request with its known answer.

    Attributes:
        id: unique name of the case.
        level: kind of difficulty: a key of `LEVELS`, or "pairs" or "triples" in the miniature world.
        request: text of the request.
        pictures: input images of the request, in the order of their `<image>` tags.
        goal: what the last picture must show, in the drawing language; "" when nothing is to be drawn.
        steps: number of drawings that the request asks for; None if it leaves the number open.
        company: whether the picture may contain more than the goal asks for.
        words: words that the text must contain.
    """

    id: str
    level: str
    request: str
    goal: str = ""
    pictures: tuple[Picture, ...] = ()
    steps: int | None = None
    company: bool = False
    words: tuple[str, ...] = field(default=())

    def score(self, text: str, pictures: Sequence[Picture]) -> float:
        """Return how well a document fulfils the request, 0 to 1.

        The score is the geometric mean of the semantics and the quality of the last picture, as the sandbox judge
        scores them. For a question it is the share of the expected words that the text contains, and 0 if the document
        has pictures. A document with another number of steps than requested scores 0.

        Args:
            text: full text of the document.
            pictures: pictures of the document, in order.
        """
        if self.words:
            return 0.0 if pictures else sum(word in text.lower() for word in self.words) / len(self.words)
        scene = scene_behind(pictures[-1]) if pictures else None
        if scene is None or (self.steps is not None and len(pictures) != self.steps):
            return 0.0
        blank = Scene(scene.background)  # without input images, the document may choose any background
        scores = score_step(self.goal, scene_behind(self.pictures[-1]) if self.pictures else blank, scene)
        return sqrt((scores.editing if self.company else scores.semantics) * scores.quality) / 10


def bench_cases(count: int, seed: int, world: SandboxLevel = "full") -> list[BenchCase]:
    """Return benchmark cases, cycling through the levels.

    Args:
        count: number of cases.
        seed: random seed; equal seeds give equal cases.
        world: level of the sandbox world; the cases of the miniature world are pairs and triples of shapes, worded like
            its training requests.
    """
    if world == "miniature":
        return [_shapes_case(Random(f"bench/{seed}/{number}"), number) for number in range(count)]
    bench_case_list = []
    for number in range(count):
        level = LEVEL_ORDER[number % len(LEVEL_ORDER)]
        bench_case_list.append(
            LEVELS[level](Random(f"bench/{seed}/{number}"), f"{level.replace(' ', '-')}-{number:04d}", level)
        )
    return bench_case_list


def _random_things(rng: Random, count: int) -> list[Add]:
    """Return different things in different places, all with a visible main colour other than white."""
    kinds = rng.sample(
        [name for name, subject in subjects().items() if any(part.shows_colour for part in subject.parts)], count
    )
    places = rng.sample(list(PLACES), count)
    colours = [colour for colour in COLOURS if colour != "white"]
    return [Add(kind, colour=rng.choice(colours), place=place) for kind, place in zip(kinds, places, strict=True)]


def _phrase(add: Add) -> str:
    place_phrase = PLACE_PHRASES[add.place] if add.place else f"{RELATION_PHRASES[str(add.relation)]} the {add.anchor}"
    return f"{noun_phrase(add)} {place_phrase}"


def _draw_request(rng: Random, adds: Sequence[Add], openings: Sequence[str] = OPENINGS) -> str:
    *earlier_phrases, last_phrase = (_phrase(add) for add in adds)
    return f"{rng.choice(openings)} {', '.join(earlier_phrases)} and {last_phrase}."


def _goal(*operations: Operation) -> str:
    return describe(Instructions(operations))


def _shapes_case(rng: Random, number: int) -> BenchCase:
    """Return a request for two or three shapes of the miniature world, each in a different column."""
    world, level = level_of("miniature"), ("pairs", "triples")[number % 2]
    columns = rng.sample(COLUMNS, 2 if level == "pairs" else 3)
    kinds = rng.sample(world.kinds, len(columns))
    adds = [
        Add(kind, colour=rng.choice(world.colours), place=rng.choice(column))
        for kind, column in zip(kinds, columns, strict=True)
    ]
    return BenchCase(f"{level}-{number:04d}", level, _draw_request(rng, adds, MINIATURE_OPENINGS), _goal(*adds))


def _few_things_case(rng: Random, name: str, level: str) -> BenchCase:
    adds = _random_things(rng, 2)
    return BenchCase(name, level, _draw_request(rng, adds), _goal(*adds))


def _many_things_case(rng: Random, name: str, level: str) -> BenchCase:
    adds = _random_things(rng, rng.randint(4, 6))
    return BenchCase(name, level, _draw_request(rng, adds), _goal(*adds))


def _relations_case(rng: Random, name: str, level: str) -> BenchCase:
    first, second = _random_things(rng, 2)
    relation = rng.choice(list(RELATIONS))
    anchor = Add(second.kind, colour=second.colour)
    beside = Add(first.kind, colour=first.colour, relation=relation, anchor=second.kind)
    request = (
        f"Draw {noun_phrase(Add(first.kind, colour=first.colour))} {RELATION_PHRASES[relation]} {noun_phrase(anchor)}."
    )
    return BenchCase(name, level, request, _goal(anchor, beside))


def _groups_case(rng: Random, name: str, level: str) -> BenchCase:
    first, second = _random_things(rng, 2)
    group = Add(first.kind, count=rng.randint(2, 5), colour=first.colour, place=rng.choice(("top", "bottom", "middle")))
    other = Add(second.kind, colour=second.colour, place="bottom left" if group.place == "top" else "top left")
    return BenchCase(name, level, _draw_request(rng, [group, other]), _goal(group, other))


def _short_lesson_case(rng: Random, name: str, level: str) -> BenchCase:
    kind = rng.choice([name for name, subject in subjects().items() if len(subject.parts) in (3, 4)])
    return _lesson_case(kind, rng.randint(2, len(subjects()[kind].parts)), name, level)


def _long_lesson_case(rng: Random, name: str, level: str) -> BenchCase:
    kind = rng.choice([name for name, subject in subjects().items() if len(subject.parts) > 4])
    return _lesson_case(kind, rng.randint(len(subjects()[kind].parts) + 1, 12), name, level)


def _lesson_case(kind: str, steps: int, name: str, level: str) -> BenchCase:
    subject = subjects()[kind]
    article = "an" if kind[0] in "aeiou" else "a"
    goal = _goal(*(Add(kind, part=part.name, colour=subject.colour) for part in subject.parts))
    request = f"How to draw {article} {kind} in {steps} steps?"
    return BenchCase(name, level, request, goal, steps=steps, company=True)


def _edits_case(rng: Random, name: str, level: str) -> BenchCase:
    adds = _random_things(rng, 2)
    colour = rng.choice([colour for colour in COLOURS if colour not in ("white", adds[0].colour)])
    edits: tuple[Operation, ...] = (Recolour(adds[0].kind, colour), Remove(adds[1].kind))
    goal_item = Add(adds[0].kind, colour=colour, place=adds[0].place)
    request = " ".join([_draw_request(rng, adds), *(describe_operation(edit) for edit in edits)])
    return BenchCase(name, level, request, _goal(goal_item))


def _given_pictures_case(rng: Random, name: str, level: str) -> BenchCase:
    scene, free = random_scene(rng, rng.randint(1, 4))
    scene_kinds = {item.kind for item in scene.items}
    add = next(candidate for candidate in _random_things(rng, 6) if candidate.kind not in scene_kinds)
    addition = Add(add.kind, size="small", colour=add.colour, place=free[0])
    operations: list[Operation] = [addition]
    colourable_items = [item for item in scene.items if any(part.shows_colour for part in subjects()[item.kind].parts)]
    if colourable_items and rng.random() < 0.5:
        item = rng.choice(colourable_items)
        colour = rng.choice([colour for colour in COLOURS if colour not in ("white", item.colour)])
        operations.append(Recolour(item.kind, colour))
    request = " ".join(["<image>", *(describe_operation(operation) for operation in operations)])
    return BenchCase(name, level, request, _goal(*operations), (paint(scene, SIZE, SIZE),))


def _questions_case(rng: Random, name: str, level: str) -> BenchCase:
    scene, _ = random_scene(rng, rng.randint(1, 4))
    request = rng.choice(("<image> What is in this picture?", "Describe this picture: <image>"))
    words = tuple(item.kind for item in scene.items)
    return BenchCase(name, level, request, pictures=(paint(scene, SIZE, SIZE),), words=words)


LEVELS: dict[str, Callable[[Random, str, str], BenchCase]] = {
    "few things": _few_things_case,
    "many things": _many_things_case,
    "relations": _relations_case,
    "groups": _groups_case,
    "lessons": _short_lesson_case,
    "long lessons": _long_lesson_case,
    "edits": _edits_case,
    "given pictures": _given_pictures_case,
    "questions": _questions_case,
}
"""Functions that build a case, by level (kind of difficulty)."""
LEVEL_ORDER = (
    *("few things", "relations", "given pictures", "questions", "groups", "lessons", "given pictures"),
    *("relations", "given pictures", "few things", "edits", "many things", "given pictures", "relations"),
    *("given pictures", "questions", "few things", "long lessons", "given pictures", "relations", "given pictures"),
)
"""Order in which the levels are used; slow ones occur less often."""
