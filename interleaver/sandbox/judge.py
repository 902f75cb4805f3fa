"""The sandbox judge: reads the scenes stored in the pictures and scores a step exactly.

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
from interleaver.sandbox.world import RELATIONS, SIZES, Scene, SceneItem, extent, place_centre, row_of, scene_behind
from interleaver.types import Scores as Scores
from interleaver.types import Step

PLACE_TOLERANCE = 0.1
SIZE_TOLERANCE = 0.15
PART_TOLERANCE = 0.04


@dataclass(frozen=True)
class ExactScores:
    """The judge's scores of one step, with the faults behind them.

    Attributes:
        editing: how well the instruction was carried out, 0 to 10.
        preserving: how well everything else was left unchanged, 0 to 10.
        quality: naturalness and absence of artefacts, 0 to 10.
        faults: everything that is wrong; empty on success.
    """

    editing: float
    preserving: float
    quality: float
    faults: tuple[Fault, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """Descriptions of the faults, one phrase each."""
        return tuple(fault.description for fault in self.faults)

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
    """A `Judge` that gives exact scores to pictures drawn by the sandbox."""

    async def score(self, step: Step, before: Picture, after: Picture) -> Scores:
        """Score a step; see `interleaver.agents.Judge`."""
        exact_scores = await asyncio.to_thread(_score_pictures, step.goal, before, after)
        return Scores(
            editing=exact_scores.editing,
            preserving=exact_scores.preserving,
            naturalness=10.0,
            soundness=exact_scores.quality,
            success=exact_scores.success,
            reasoning="; ".join(exact_scores.findings),
        )


def _score_pictures(instruction: str, before: Picture, after: Picture) -> ExactScores:
    scene = scene_behind(after)
    if scene is None:
        raise BackendError(
            "the sandbox judge scores the sandbox's own pictures only, and this picture has no scene stored in it; "
            "set another backend in [judge]"
        )
    return score_step(instruction, scene_behind(before), scene)


def score_step(instruction: str, before: Scene | None, after: Scene) -> ExactScores:
    """Score a step exactly.

    Args:
        instruction: what the step should achieve, in the drawing language.
        before: scene before the step; None for an empty white page.
        after: scene after the step.
    """
    before = before or Scene()
    operations = parse(instruction).operations
    items_before = before.by_ident()
    new_items = [item for item in after.items if item.ident not in items_before]
    faults: list[Fault] = []
    fractions: list[float] = []
    for number, operation in enumerate(operations):
        checks = _check(operation, before, after, new_items)
        faults += [Fault(number, attribute, description) for attribute, description, holds in checks if not holds]
        fractions.append(sum(holds for *_, holds in checks) / len(checks))
    harm = _harm(operations, before, after) + [f"an unasked {item.title}" for item in new_items]
    blots = len(after.smudges) - len(before.smudges)
    return ExactScores(
        editing=10 * sum(fractions) / len(fractions) if fractions else 0.0,
        preserving=max(0.0, 10.0 - 4.0 * len(harm)),
        quality=10.0 if blots <= 0 else 4.0,
        faults=(
            *faults,
            *(Fault(None, "harm", description) for description in (*harm, *(["a smudge"] if blots > 0 else []))),
        ),
    )


Checks = list[tuple[str, str, bool]]
"""Results of checks: the checked attribute, the fault's description if the check fails, and whether it passes."""


def _check(operation: Operation, before: Scene, after: Scene, fresh: list[SceneItem]) -> Checks:
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


def _check_add(add: Add, before: Scene, after: Scene, fresh: list[SceneItem]) -> Checks:
    """Check an addition against the new items that match it best, which are removed from `fresh`."""
    candidates = [item for item in fresh if (item.kind, item.part) == (add.kind, add.part)]
    if not candidates:
        return [("kind", f"no {add.part or add.kind}", False)]
    if add.count == 1:
        best = max(candidates, key=lambda item: sum(holds for *_, holds in _attributes(add, [item], before, after)))
        candidates = [best]
    for item in candidates:
        fresh.remove(item)
    count_check = ("count", f"{len(candidates)} instead of {add.count}", len(candidates) == add.count)
    return [count_check, *_attributes(add, candidates, before, after)]


def _attributes(add: Add, items: list[SceneItem], before: Scene, after: Scene) -> Checks:
    whole = next((item for item in before.items if item.kind == add.kind), None) if add.part else None
    checks: Checks = []
    name = add.part or add.kind
    if add.colour and any(part.shows_colour for part in add.subject.parts if add.part in (None, part.name)):
        checks.append(("colour", f"the {name} is not {add.colour}", all(item.colour == add.colour for item in items)))
    if whole:
        together = all(max(abs(item.x - whole.x), abs(item.y - whole.y)) < PART_TOLERANCE for item in items)
        return [*checks, ("place", f"the {name} is out of place", together)]
    if add.size:
        wanted_size = SIZES[add.size]
        checks.append(("size", f"the {name} is not {add.size}",
                       all(abs(item.size / wanted_size - 1) < SIZE_TOLERANCE for item in items)))  # fmt: skip
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


def centre_of(items: list[SceneItem]) -> tuple[float, float]:
    """Return the centre (x, y) of the box around the centres of a group of items."""
    xs, ys = [item.x for item in items], [item.y for item in items]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def is_at(place: str, x: float, y: float, count: int, size: float) -> bool:
    """Return whether a group of `count` things of the given size, centred at (x, y), counts as being at a place."""
    width, height = extent(row_of(count, size), size)
    right_x, right_y = place_centre(place, width, height)
    return max(abs(x - right_x), abs(y - right_y)) < PLACE_TOLERANCE


def is_beside(relation: str, thing: tuple[float, float], anchor: tuple[float, float]) -> bool:
    """Return whether a thing is left of, right of, above or below an anchor; the larger offset decides."""
    across, down = thing[0] - anchor[0], thing[1] - anchor[1]
    along, aside = (across, down) if RELATIONS[relation][0] else (down, across)
    sign = sum(RELATIONS[relation])
    return along * sign > 0.05 and abs(along) >= abs(aside)


def _harm(operations: tuple[Operation, ...], before: Scene, after: Scene) -> list[str]:
    """Return descriptions of the changes that were not asked for."""
    items_after = after.by_ident()
    recoloured_kinds = {operation.kind for operation in operations if isinstance(operation, Recolour)}
    removed_kinds = {operation.kind for operation in operations if isinstance(operation, Remove)}
    harm = []
    for item in before.items:
        item_after = items_after.get(item.ident)
        if item_after is None and item.kind not in removed_kinds:
            harm.append(f"the {item.title} is gone")
        elif item_after and (item_after.x, item_after.y) != (item.x, item.y):
            harm.append(f"the {item.title} has moved")
        elif (
            item_after
            and item_after.colour != item.colour
            and item.kind not in recoloured_kinds
            and _shows_colour(item)
        ):
            harm.append(f"the {item.title} has turned {item_after.colour}")
    backdrop_requested = any(isinstance(operation, Backdrop) for operation in operations)
    if not backdrop_requested and after.background != before.background:
        harm.append("the background has changed")
    return harm


def _shows_colour(item: SceneItem) -> bool:
    from interleaver.sandbox.primer import subjects

    subject = subjects()[item.kind]
    return any(part.shows_colour for part in subject.parts if item.part in (None, part.name))
