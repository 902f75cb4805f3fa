"""The sandbox judge: sees the scenes behind the pictures and scores a step exactly.

Scores run from 0 to 10, as in the judge of the paper: semantic consistency is the lower of editing success and
absence of over-editing, perceptual quality the lower of naturalness and absence of artefacts, and the overall score
is the square root of their product.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import sqrt

from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox.faults import Fault
from interleaver.sandbox.language import Add, Backdrop, Operation, Recolour, Remove
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import RELATIONS, SIZES, Item, Scene, extent, place_centre, row_of, scene_behind
from interleaver.types import Judgement as Scores
from interleaver.types import Step

PLACE_TOLERANCE = 0.1
SIZE_TOLERANCE = 0.15
PART_TOLERANCE = 0.04


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one step.

    Attributes:
        editing: how far the instruction was carried out, 0 to 10.
        preserving: how far everything else was left alone, 0 to 10.
        quality: naturalness and absence of artefacts, 0 to 10.
        faults: what is wrong; empty on success.
    """

    editing: float
    preserving: float
    quality: float
    faults: tuple[Fault, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, one phrase each."""
        return tuple(fault.said for fault in self.faults)

    @property
    def semantics(self) -> float:
        """Semantic consistency, 0 to 10."""
        return min(self.editing, self.preserving)

    @property
    def overall(self) -> float:
        """Geometric mean of semantics and quality, 0 to 10."""
        return sqrt(self.semantics * self.quality)

    @property
    def success(self) -> bool:
        """Whether the step is right in every respect."""
        return not self.faults


class SandboxJudge:
    """The judge as a backend: exact scores for pictures that the sandbox drew."""

    async def score(self, step: Step, before: Picture, after: Picture) -> Scores:
        """Score a step; see `interleaver.agents.Judge`."""
        found = await asyncio.to_thread(_judge_pictures, step.goal, before, after)
        return Scores(
            editing=found.editing,
            preserving=found.preserving,
            naturalness=10.0,
            soundness=found.quality,
            success=found.success,
            reasoning="; ".join(found.findings),
        )


def _judge_pictures(instruction: str, before: Picture, after: Picture) -> Judgement:
    scene = scene_behind(after)
    if scene is None:
        raise BackendError("the sandbox judge knows the truth of the sandbox's own pictures only; set another [judge]")
    return judge(instruction, scene_behind(before), scene)


def judge(instruction: str, before: Scene | None, after: Scene) -> Judgement:
    """Score a step.

    Args:
        instruction: what the step should achieve, in the drawing language.
        before: the scene it started from; None stands for an empty white page.
        after: the scene behind the result.
    """
    before = before or Scene()
    operations = parse(instruction).operations
    known = before.by_ident()
    fresh = [item for item in after.items if item.ident not in known]
    faults: list[Fault] = []
    fractions: list[float] = []
    for number, operation in enumerate(operations):
        checks = _check(operation, before, after, fresh)
        faults += [Fault(number, attribute, said) for attribute, said, holds in checks if not holds]
        fractions.append(sum(holds for *_, holds in checks) / len(checks))
    harm = _harm(operations, before, after) + [f"an unasked {item.title}" for item in fresh]
    blots = len(after.smudges) - len(before.smudges)
    return Judgement(
        editing=10 * sum(fractions) / len(fractions) if fractions else 0.0,
        preserving=max(0.0, 10.0 - 4.0 * len(harm)),
        quality=10.0 if blots <= 0 else 4.0,
        faults=(*faults, *(Fault(None, "harm", said) for said in (*harm, *(["a smudge"] if blots > 0 else [])))),
    )


Checks = list[tuple[str, str, bool]]
"""The attribute that is checked, what is wrong if it does not hold, and whether it does."""


def _check(operation: Operation, before: Scene, after: Scene, fresh: list[Item]) -> Checks:
    match operation:
        case Add():
            return _check_add(operation, before, after, fresh)
        case Recolour(kind=kind, colour=colour):
            items = [item for item in after.items if item.kind == kind]
            return [
                ("colour", f"the {kind} is not {colour}", bool(items) and all(item.colour == colour for item in items))
            ]
        case Remove(kind=kind):
            return [("done", f"the {kind} is still there", all(item.kind != kind for item in after.items))]
        case Backdrop(background=background):
            return [("done", f"the background is not {background}", after.background == background)]


def _check_add(add: Add, before: Scene, after: Scene, fresh: list[Item]) -> Checks:
    """Check an addition against the items it best explains, which are taken out of `fresh`."""
    candidates = [item for item in fresh if (item.kind, item.part) == (add.kind, add.part)]
    if not candidates:
        return [("kind", f"no {add.part or add.kind}", False)]
    if add.count == 1:
        best = max(candidates, key=lambda item: sum(holds for *_, holds in _attributes(add, [item], before, after)))
        candidates = [best]
    for item in candidates:
        fresh.remove(item)
    counted = ("count", f"{len(candidates)} instead of {add.count}", len(candidates) == add.count)
    return [counted, *_attributes(add, candidates, before, after)]


def _attributes(add: Add, items: list[Item], before: Scene, after: Scene) -> Checks:
    whole = next((item for item in before.items if item.kind == add.kind), None) if add.part else None
    checks: Checks = []
    name = add.part or add.kind
    if add.colour and any(part.coloured for part in add.subject.parts if add.part in (None, part.name)):
        checks.append(("colour", f"the {name} is not {add.colour}", all(item.colour == add.colour for item in items)))
    if whole:
        together = all(max(abs(item.x - whole.x), abs(item.y - whole.y)) < PART_TOLERANCE for item in items)
        return [*checks, ("place", f"the {name} is out of place", together)]
    if add.size:
        wanted = SIZES[add.size]
        checks.append(("size", f"the {name} is not {add.size}",
                       all(abs(item.size / wanted - 1) < SIZE_TOLERANCE for item in items)))  # fmt: skip
    x, y = centre_of(items)
    if add.place:
        size = sum(item.size for item in items) / len(items)
        checks.append(("place", f"the {name} is in the wrong place", is_at(add.place, x, y, len(items), size)))
    anchor = next((item for item in after.items if item.kind == add.anchor and item not in items), None)
    if add.relation and anchor:
        checks.append(
            ("place", f"the {name} is on the wrong side", is_beside(add.relation, (x, y), (anchor.x, anchor.y)))
        )
    return checks


def centre_of(items: list[Item]) -> tuple[float, float]:
    """The middle of the box round a group of items."""
    xs, ys = [item.x for item in items], [item.y for item in items]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def is_at(place: str, x: float, y: float, count: int, size: float) -> bool:
    """Whether the centre (x, y) of a group of `count` things counts as that place."""
    width, height = extent(row_of(count, size), size)
    right_x, right_y = place_centre(place, width, height)
    return max(abs(x - right_x), abs(y - right_y)) < PLACE_TOLERANCE


def is_beside(relation: str, thing: tuple[float, float], anchor: tuple[float, float]) -> bool:
    """Whether a thing stands left of, right of, above or below an anchor: the larger offset decides."""
    across, down = thing[0] - anchor[0], thing[1] - anchor[1]
    along, aside = (across, down) if RELATIONS[relation][0] else (down, across)
    sign = sum(RELATIONS[relation])
    return along * sign > 0.05 and abs(along) >= abs(aside)


def _harm(operations: tuple[Operation, ...], before: Scene, after: Scene) -> list[str]:
    """What was changed without being asked for."""
    now = after.by_ident()
    recoloured = {operation.kind for operation in operations if isinstance(operation, Recolour)}
    removed = {operation.kind for operation in operations if isinstance(operation, Remove)}
    harm = []
    for item in before.items:
        left = now.get(item.ident)
        if left is None and item.kind not in removed:
            harm.append(f"the {item.title} is gone")
        elif left and (left.x, left.y) != (item.x, item.y):
            harm.append(f"the {item.title} has moved")
        elif left and left.colour != item.colour and item.kind not in recoloured and _shows_colour(item):
            harm.append(f"the {item.title} has turned {left.colour}")
    asked = any(isinstance(operation, Backdrop) for operation in operations)
    if not asked and after.background != before.background:
        harm.append("the background has changed")
    return harm


def _shows_colour(item: Item) -> bool:
    from interleaver.sandbox.primer import subjects

    subject = subjects()[item.kind]
    return any(part.coloured for part in subject.parts if item.part in (None, part.name))
