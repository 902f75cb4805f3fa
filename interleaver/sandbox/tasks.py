"""Random steps of the sandbox world, on which its critic and generator are measured.

Each task is a step as it occurs in a run: an existing scene, an instruction that can be carried out, and a prompt that
says the same but may leave attributes open.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from interleaver.sandbox.language import Add, Backdrop, Instructions, Operation, Recolour, Remove, describe
from interleaver.sandbox.outlining import leave_attributes_open
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import COLOURS, PAPER, PLACES, RELATIONS, SIZES, Scene, SceneItem, place_centre


@dataclass(frozen=True)
class StepTask:
    """A single step to carry out.

    Attributes:
        before: scene that the step starts from; None if it starts from nothing.
        instruction: what the step should achieve, in the drawing language.
        prompt: the planner's first prompt for the step.
    """

    before: Scene | None
    instruction: str
    prompt: str


def random_task(rng: Random) -> StepTask:
    """Sample a task: tutorials, additions, groups, relations, edits and new scenes, in fixed proportions."""
    make = rng.choices(
        (_tutorial_step, _addition, _group, _relation, _recolouring, _removal, _new_scene),
        weights=(25, 25, 12, 10, 8, 8, 12),
    )[0]
    before, operations = make(rng)
    instructions = Instructions(tuple(operations))
    return StepTask(before, describe(instructions), describe(leave_attributes_open(instructions, rng)))


def _kinds(rng: Random, count: int) -> list[str]:
    return rng.sample(list(subjects()), count)


def random_scene(rng: Random, things: int) -> tuple[Scene, list[str]]:
    """Return a scene with `things` different things that do not overlap, and the names of the free places."""
    places = rng.sample(list(PLACES), len(PLACES))
    items = []
    for number, kind in enumerate(_kinds(rng, things), start=1):
        x, y = place_centre(places.pop(), *(2 * [SIZES["small"]]))
        size = round(rng.choice((SIZES["tiny"], SIZES["small"])) * rng.uniform(0.95, 1.05), 4)
        items.append(SceneItem(number, kind, None, rng.choice(list(COLOURS)), x, y, size))
    background = rng.choice((PAPER, rng.choice(list(backgrounds()))))
    return Scene(background, tuple(items)), places


def _tutorial_step(rng: Random) -> tuple[Scene | None, list[Operation]]:
    kind = rng.choice([name for name, subject in subjects().items() if not subject.is_shape])
    parts = subjects()[kind].parts
    at = rng.randrange(len(parts))
    size, colour = rng.choice(("large", "huge")), rng.choice(list(COLOURS))
    addition = Add(kind, part=parts[at].name, size=size, colour=colour, place="middle")
    if at == 0:
        return None, [Backdrop(PAPER), addition]
    x, y = place_centre("middle", SIZES[size], SIZES[size])
    x, y = x + rng.uniform(-0.025, 0.025), y + rng.uniform(-0.025, 0.025)
    side = SIZES[size] * rng.uniform(0.95, 1.05)
    items = tuple(
        SceneItem(number, kind, part.name, colour, x, y, side) for number, part in enumerate(parts[:at], start=1)
    )
    return Scene(PAPER, items), [addition]


def _addition(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, free = random_scene(rng, rng.randint(0, 4))
    new_kinds = [kind for kind in _kinds(rng, 8) if all(item.kind != kind for item in scene.items)]
    additions: list[Operation] = [
        Add(kind, size=rng.choice(("tiny", "small")), colour=rng.choice(list(COLOURS)), place=place)
        for kind, place in zip(new_kinds, free[: rng.choice((1, 1, 2, 3))], strict=False)
    ]
    return scene, additions


def _group(rng: Random) -> tuple[Scene | None, list[Operation]]:
    background = rng.choice(list(backgrounds()))
    kind, other = _kinds(rng, 2)
    x, y = place_centre("bottom", SIZES["small"], SIZES["small"])
    scene = Scene(background, (SceneItem(1, other, None, rng.choice(list(COLOURS)), x, y, SIZES["small"]),))
    count, place = rng.randint(2, 5), rng.choice(("top", "middle", "top left", "top right"))
    return scene, [Add(kind, count=count, size="tiny", colour=rng.choice(list(COLOURS)), place=place)]


def _relation(rng: Random) -> tuple[Scene | None, list[Operation]]:
    kind, anchor, third = _kinds(rng, 3)
    relation = rng.choice(list(RELATIONS))
    size = rng.choice(("tiny", "small"))
    stands = SceneItem(1, anchor, None, rng.choice(list(COLOURS)), 0.5, 0.5, SIZES["small"])
    corner = SceneItem(2, third, None, rng.choice(list(COLOURS)), 0.15, 0.15, SIZES["tiny"])
    scene = Scene(rng.choice(list(backgrounds())), (stands, corner))
    return scene, [Add(kind, size=size, colour=rng.choice(list(COLOURS)), relation=relation, anchor=anchor)]


def _recolouring(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, _ = random_scene(rng, rng.randint(1, 5))
    coloured_items = [item for item in scene.items if any(part.shows_colour for part in subjects()[item.kind].parts)]
    victim = rng.choice(coloured_items or list(scene.items))
    return scene, [Recolour(victim.kind, rng.choice([colour for colour in COLOURS if colour != victim.colour]))]


def _removal(rng: Random) -> tuple[Scene | None, list[Operation]]:
    scene, _ = random_scene(rng, rng.randint(1, 5))
    return scene, [Remove(rng.choice(scene.items).kind)]


def _new_scene(rng: Random) -> tuple[Scene | None, list[Operation]]:
    background = rng.choice(list(backgrounds()))
    places = rng.sample(("left", "middle", "right", "top", "bottom"), rng.randint(1, 3))
    operations: list[Operation] = [Backdrop(background)]
    for kind, place in zip(_kinds(rng, len(places)), places, strict=True):
        operations.append(Add(kind, size=rng.choice(("tiny", "small")), colour=rng.choice(list(COLOURS)), place=place))
    return None, operations
