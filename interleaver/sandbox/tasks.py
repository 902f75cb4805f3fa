"""Random steps of the sandbox world, to measure its critic and generator on.

Each task is a step as a run meets it: a scene that stands already, an instruction that can be carried out, and a
prompt that says the same less completely.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from interleaver.sandbox.drafting import casual
from interleaver.sandbox.language import Add, Backdrop, Instructions, Operation, Recolour, Remove, describe
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import COLOURS, PAPER, PLACES, RELATIONS, SIZES, Item, Scene, place_centre


@dataclass(frozen=True)
class Task:
    """One step.

    Attributes:
        before: the scene it starts from; None when it starts from nothing.
        instruction: what it should achieve, in the drawing language.
        prompt: the planner's first prompt for it.
    """

    before: Scene | None
    instruction: str
    prompt: str


def random_task(rng: Random) -> Task:
    """Draw a task: tutorials, additions, groups, relations, edits and new scenes, in fixed proportions."""
    make = rng.choices(
        (_tutorial_step, _addition, _group, _relation, _recolouring, _removal, _new_scene),
        weights=(25, 25, 12, 10, 8, 8, 12),
    )[0]
    before, operations = make(rng)
    instructions = Instructions(tuple(operations))
    return Task(before, describe(instructions), describe(casual(instructions, rng)))


def _kinds(rng: Random, count: int) -> list[str]:
    return rng.sample(list(subjects()), count)


def random_scene(rng: Random, things: int) -> tuple[Scene, list[str]]:
    """A scene with that many different things that do not cover each other, and the places that are free."""
    places = rng.sample(list(PLACES), len(PLACES))
    items = []
    for number, kind in enumerate(_kinds(rng, things), start=1):
        x, y = place_centre(places.pop(), *(2 * [SIZES["small"]]))
        size = round(rng.choice((SIZES["tiny"], SIZES["small"])) * rng.uniform(0.95, 1.05), 4)
        items.append(Item(number, kind, None, rng.choice(list(COLOURS)), x, y, size))
    background = rng.choice((PAPER, rng.choice(list(backgrounds()))))
    return Scene(background, tuple(items)), places


def _tutorial_step(rng: Random) -> tuple[Scene | None, list[Operation]]:
    kind = rng.choice([name for name, subject in subjects().items() if not subject.is_shape])
    parts = subjects()[kind].parts
    at = rng.randrange(len(parts))
    size, colour = rng.choice(("large", "huge")), rng.choice(list(COLOURS))
    asked = Add(kind, part=parts[at].name, size=size, colour=colour, place="middle")
    if at == 0:
        return None, [Backdrop(PAPER), asked]
    x, y = place_centre("middle", SIZES[size], SIZES[size])
    x, y = x + rng.uniform(-0.025, 0.025), y + rng.uniform(-0.025, 0.025)
    side = SIZES[size] * rng.uniform(0.95, 1.05)
    items = tuple(Item(number, kind, part.name, colour, x, y, side) for number, part in enumerate(parts[:at], start=1))
    return Scene(PAPER, items), [asked]


def _addition(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, free = random_scene(rng, rng.randint(0, 4))
    new = [kind for kind in _kinds(rng, 8) if all(item.kind != kind for item in scene.items)]
    asked: list[Operation] = [
        Add(kind, size=rng.choice(("tiny", "small")), colour=rng.choice(list(COLOURS)), place=place)
        for kind, place in zip(new, free[: rng.choice((1, 1, 2, 3))], strict=False)
    ]
    return scene, asked


def _group(rng: Random) -> tuple[Scene | None, list[Operation]]:
    background = rng.choice(list(backgrounds()))
    kind, other = _kinds(rng, 2)
    x, y = place_centre("bottom", SIZES["small"], SIZES["small"])
    scene = Scene(background, (Item(1, other, None, rng.choice(list(COLOURS)), x, y, SIZES["small"]),))
    count, place = rng.randint(2, 5), rng.choice(("top", "middle", "top left", "top right"))
    return scene, [Add(kind, count=count, size="tiny", colour=rng.choice(list(COLOURS)), place=place)]


def _relation(rng: Random) -> tuple[Scene | None, list[Operation]]:
    kind, anchor, third = _kinds(rng, 3)
    relation = rng.choice(list(RELATIONS))
    size = rng.choice(("tiny", "small"))
    stands = Item(1, anchor, None, rng.choice(list(COLOURS)), 0.5, 0.5, SIZES["small"])
    corner = Item(2, third, None, rng.choice(list(COLOURS)), 0.15, 0.15, SIZES["tiny"])
    scene = Scene(rng.choice(list(backgrounds())), (stands, corner))
    return scene, [Add(kind, size=size, colour=rng.choice(list(COLOURS)), relation=relation, anchor=anchor)]


def _recolouring(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, _ = random_scene(rng, rng.randint(1, 5))
    coloured = [item for item in scene.items if any(part.coloured for part in subjects()[item.kind].parts)]
    victim = rng.choice(coloured or list(scene.items))
    return scene, [Recolour(victim.kind, rng.choice([colour for colour in COLOURS if colour != victim.colour]))]


def _removal(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, _ = random_scene(rng, rng.randint(1, 5))
    return scene, [Remove(rng.choice(scene.items).kind)]


def _new_scene(rng: Random) -> tuple[Scene | None, list[Operation]]:
    background = rng.choice(list(backgrounds()))
    places = rng.sample(("left", "middle", "right", "top", "bottom"), rng.randint(1, 3))
    asked: list[Operation] = [Backdrop(background)]
    for kind, place in zip(_kinds(rng, len(places)), places, strict=True):
        asked.append(Add(kind, size=rng.choice(("tiny", "small")), colour=rng.choice(list(COLOURS)), place=place))
    return None, asked
