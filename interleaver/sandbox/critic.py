"""The sandbox critic: checks the change in pixels that a step made against the step's instruction.

It explains the change one operation at a time, by recognising each requested thing in the pixels that are new. Changes
that stay unexplained are reported as not asked for. The critic uses the drawing language and the primer, but never the
scene stored in a picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from interleaver.errors import UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.sandbox import sight
from interleaver.sandbox.faults import Fault, write_refined_prompt
from interleaver.sandbox.fitting import EXACT, MISFIT, Fitting, Frame, Sighting, draw_over
from interleaver.sandbox.judge import SIZE_TOLERANCE, is_at, is_beside
from interleaver.sandbox.language import (
    MAX_COUNT,
    PLACE_PHRASES,
    Add,
    Backdrop,
    Operation,
    Recolour,
    Remove,
    noun_phrase,
)
from interleaver.sandbox.reading import parse
from interleaver.sandbox.sight import Box, Mask, Pixels
from interleaver.sandbox.world import SIZES, nearest_place, place_centre
from interleaver.types import Step, Verdict

STRAY_PIXELS = 10
"""Number of changed pixels that may stay unexplained; the smallest thing in the primer covers more."""


class SandboxCritic:
    """A `Critic` that sees only pixels."""

    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        """Review a step; see `interleaver.agents.Critic`."""
        return await asyncio.to_thread(self._review, step, before, after, prompt)

    def _review(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        operations = parse(step.goal).operations
        if not operations:
            raise UnreadableAnswer(f"the sandbox critic does not understand the instruction {step.goal[:80]!r}")
        if (before.width, before.height) != (after.width, after.height):
            reason = f"The picture is {after.width}x{after.height} instead of {before.width}x{before.height} pixels."
            return Verdict(
                accepted=False, refined_prompt=write_refined_prompt(operations, [], prompt), reasoning=reason, score=0.0
            )
        view = _View(sight.look(before), sight.look(after))
        faults = view.check_all(operations)
        if any(fault.attribute == "rest" for fault in faults):  # a closer look may explain what the glance could not
            view = _View(view.before, view.after, closely=True)
            faults = view.check_all(operations)
        reasoning = " ".join([*view.notes, *(f"But {fault.description}." for fault in faults)])
        if not faults:
            return Verdict(accepted=True, reasoning=f"{reasoning} That is what was asked for.".strip(), score=1.0)
        score = max(0.0, 1 - len(faults) / (4 * len(operations) + 1))
        return Verdict(
            accepted=False,
            refined_prompt=write_refined_prompt(operations, faults, prompt),
            reasoning=reasoning,
            score=round(score, 3),
        )


Point = tuple[float, float]
"""Position on the canvas, as fractions of its width and height."""

Group = list[tuple[int, Operation]]
"""Operations that are checked together, with their positions in the instruction."""


def _groups(operations: tuple[Operation, ...]) -> list[Group]:
    """Group the operations: neighbouring parts of one subject together, every other operation by itself."""
    groups: list[Group] = []
    for number, operation in enumerate(operations):
        before = groups[-1][-1][1] if groups else None
        together = (
            isinstance(operation, Add)
            and isinstance(before, Add)
            and operation.part
            and before.part
            and replace(operation, part=None, emphasis=frozenset()) == replace(before, part=None, emphasis=frozenset())
        )
        if together:
            groups[-1].append((number, operation))
        else:
            groups.append([(number, operation)])
    return groups


@dataclass
class _View:
    """The two pictures of a step, and how much of the change has been explained so far.

    Attributes:
        before: pixels before the step.
        after: pixels after the step.
        closely: whether to search long for the exact place of everything.
        expected: `before` with all the requested changes that were found applied to it.
        explained_mask: where a difference between `expected` and `after` is accounted for.
        notes: sentences about what was recognised, which begin the reasoning.
        anchors: cache of the positions of things before the step, by kind; None for a thing that was not recognised.
    """

    before: Pixels
    after: Pixels
    closely: bool = False
    notes: list[str] = field(default_factory=list)
    anchors: dict[str, Point | None] = field(default_factory=dict)
    expected: Pixels = field(init=False)
    explained_mask: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.expected = self.before
        self.explained_mask = np.zeros(self.before.shape[:2], bool)
        self.backdrop_before = sight.recognise_background(self.before)
        self.backdrop_after = sight.recognise_background(self.after)

    def check_all(self, operations: tuple[Operation, ...]) -> list[Fault]:
        """Check all operations and what else has changed, and return the faults that were found."""
        faults = [fault for group in _groups(operations) for fault in self.check(group)]
        return faults + self.unexplained_faults()

    def check(self, group: Group) -> list[Fault]:
        """Check a group of operations and return the faults that were found."""
        number, operation = group[0]
        match operation:
            case Add():
                return self._check_add(group, operation)
            case Recolour():
                problems = self._check_recolour(operation)
            case Remove():
                problems = self._check_remove(operation)
            case Backdrop():
                problems = self._check_backdrop(operation)
        return [Fault(number, attribute, description) for attribute, description in problems]

    def unexplained_faults(self) -> list[Fault]:
        """Return a fault if something changed that no operation asked for."""
        stray = self._stray(self.expected, self.explained_mask)
        if int(stray.sum()) <= STRAY_PIXELS:
            return []
        places = sorted({self._place_name(box) for box in sight.regions(stray)})
        return [Fault(None, "rest", f"something was changed that nobody asked for, {' and '.join(places[:3])}")]

    def _stray(self, expected: Pixels, explained_mask: Mask) -> Mask:
        """Return where the picture differs from the expected one in a way that the explained changes do not cover."""
        different = sight.differs(expected, self.after)
        return (different & ~explained_mask) | sight.solid(sight.differs_clearly(expected, self.after))

    def _left_over(self, sightings: list[Sighting]) -> int:
        """Return how many changed pixels the sightings leave unexplained."""
        expected, explained_mask = self.expected, self.explained_mask
        for sighting in sightings:
            expected, silhouette = draw_over(expected, sighting)
            explained_mask = explained_mask | sight.grown(silhouette)
        return int(self._stray(expected, explained_mask).sum())

    def _fit(self, fitting: Fitting, main_only: bool = False, guess: Frame | None = None) -> Sighting | None:
        """Return the sighting of a fitting, at a glance or after a long search; None if it is not recognised."""
        sighting = fitting.best(main_only, guess, enough=EXACT) if self.closely else fitting.glance(main_only)
        return sighting if sighting and sighting.misfit <= MISFIT else None

    def _open_change(self) -> Mask:
        return sight.differs(self.expected, self.after) & ~self.explained_mask

    def _draw_sighting(self, sighting: Sighting) -> None:
        self.expected, silhouette = draw_over(self.expected, sighting)
        self.explained_mask = self.explained_mask | sight.grown(silhouette)

    def _check_backdrop(self, operation: Backdrop) -> list[tuple[str, str]]:
        backdrop = self.backdrop_after
        self.notes.append(f"The background is {backdrop or 'nothing I know'}.")
        if backdrop:
            behind = sight.backdrop(self.backdrop_before, self.before) if self.backdrop_before else self.before
            empty = sight.matches(self.before, behind)
            current_backdrop = sight.backdrop(backdrop, self.after)
            self.expected = np.where(empty[..., None], current_backdrop, self.expected)
            # Antialiased edges now blend into the new background, so they have changed as well.
            self.explained_mask = self.explained_mask | (sight.grown(empty) & ~empty)
        if backdrop == operation.background:
            return []
        return [("done", f"the background should be {operation.background}")]

    def _check_add(self, group: Group, operation: Add) -> list[Fault]:
        """Check an addition; parts of one subject are searched for together, since they occlude each other."""
        parts = tuple(part.part for _, part in group if isinstance(part, Add) and part.part)
        operation = replace(operation, part=" and ".join(parts) or None)
        sightings, missing = self._find_parts(operation, parts)
        if not sightings:
            phrase = noun_phrase(replace(operation, size=None))
            self.notes.append(f"I look for {phrase}.")
            return [Fault(number, "kind", f"nothing new in the picture looks like {phrase}") for number, _ in group]
        for sighting in sightings:
            self._draw_sighting(sighting)
        self.notes.append(
            self._describe_sightings(replace(operation, part=" and ".join(sightings[0].parts) or None), sightings)
        )
        faults = [
            Fault(number, attribute, description)
            for attribute, description in self._wrong_attributes(operation, sightings)
            for number, _ in group
        ]
        if missing is not None:
            faults.append(Fault(group[missing][0], "kind", f"there is no {parts[missing]}"))
        return faults

    def _wrong_attributes(self, operation: Add, sightings: list[Sighting]) -> list[tuple[str, str]]:
        faults = []
        if len(sightings) != operation.count:
            faults.append(("count", f"there are {len(sightings)} and not {operation.count}"))
        name = operation.part or operation.kind
        colours = sorted({sighting.colour for sighting in sightings if sighting.colour})
        if operation.colour and colours and colours != [operation.colour]:
            faults.append(("colour", f"the colour of the {name} is {' and '.join(colours)}, not {operation.colour}"))
        # A part takes its size from the subject that is already in the picture, so its stated size is not checked.
        checks_size = operation.size and not (operation.part and self._something_stands())
        if checks_size and not all(self._has_size(sighting, str(operation.size)) for sighting in sightings):
            faults.append(("size", f"the size of the {name} is not {operation.size}"))
        if not self._stands_right(operation, sightings):
            faults.append(("place", f"the place of the {name} is wrong"))
        return faults

    def _something_stands(self) -> bool:
        """Return whether the picture before the step showed anything but a known background."""
        if self.backdrop_before is None:
            return True
        return bool(sight.differs(self.before, sight.backdrop(self.backdrop_before, self.before)).any())

    def _find(self, operation: Add, parts: tuple[str, ...]) -> list[Sighting]:
        """Return the sightings of the requested kind in the change: the best if one was asked for, else all."""
        sightings: list[Sighting] = []
        change = self._open_change()
        boxes = sight.regions(change)
        if len(boxes) > 1 and operation.count == 1:
            boxes = [*boxes, sight.around(boxes)]
        for box in boxes:
            fitting = Fitting(operation.kind, parts, box, self.expected, self.after, change)
            sighting = self._fit(fitting, guess=self._guess(operation) if box is boxes[-1] else None)
            if sighting:
                sightings.append(sighting)
        if operation.count == 1 and len(sightings) > 1:
            return [
                min(sightings, key=lambda sighting: (self._unmet(operation, sighting), self._left_over([sighting])))
            ]
        return sightings

    def _find_parts(self, operation: Add, parts: tuple[str, ...]) -> tuple[list[Sighting], int | None]:
        """Search for parts of one subject; if something stays unexplained, also with one part left out.

        Returns:
            The sightings that explain most, and the position of the part that is missing; None if none is.
        """
        complete = self._find(operation, parts)
        if len(parts) < 2 or self._left_over(complete) <= STRAY_PIXELS:
            return complete, None
        candidates: list[tuple[list[Sighting], int | None]] = [(complete, None)]
        for missing in range(len(parts)):
            candidates.append((self._find(operation, parts[:missing] + parts[missing + 1 :]), missing))
        return min(candidates, key=lambda candidate: self._left_over(candidate[0]))

    def _guess(self, operation: Add) -> Frame | None:
        """Return the frame that the instruction states for the subject of a part; None if it states none."""
        if not (operation.part and operation.size and operation.place):
            return None
        height, width = self.after.shape[:2]
        x, y = place_centre(operation.place, SIZES[operation.size], SIZES[operation.size])
        return Frame(x * width, y * height, SIZES[operation.size] * min(width, height))

    def _unmet(self, operation: Add, sighting: Sighting) -> int:
        """Return how many stated attributes a sighting lacks, for choosing among things of one kind."""
        wrong_colour = operation.colour and sighting.colour and sighting.colour != operation.colour
        return int(bool(wrong_colour)) + int(not self._stands_right(operation, [sighting]))

    def _check_recolour(self, operation: Recolour) -> list[tuple[str, str]]:
        change = self._open_change()
        boxes = sight.regions(change)
        if not boxes:
            self.notes.append("Nothing has changed.")
            return [("colour", f"the {operation.kind} has kept its colour")]
        sightings = self._find_recoloured(operation.kind, boxes, change)
        if not sightings:  # one thing may show its colour in several regions
            sightings = self._find_recoloured(operation.kind, [sight.around(boxes)], change)
        for sighting in sightings:
            self._draw_sighting(sighting)
        colours = {str(sighting.colour) for sighting in sightings}
        self.notes.append(f"The {operation.kind} is now {' and '.join(sorted(colours)) or 'not to be recognised'}.")
        if colours == {operation.colour}:
            return []
        return [("colour", f"the {operation.kind} should be {operation.colour}")]

    def _find_recoloured(self, kind: str, boxes: list[Box], change: Mask) -> list[Sighting]:
        """Return the sightings of a kind in regions that show its main colour."""
        fittings = [Fitting(kind, (), box, self.expected, self.after, change) for box in boxes]
        sightings = [self._fit(fitting, main_only=True) for fitting in fittings]
        return [sighting for sighting in sightings if sighting]

    def _check_remove(self, operation: Remove) -> list[tuple[str, str]]:
        change = self._open_change()
        removed_count = 0
        for box in sight.regions(change):
            # Drawing the removed thing back into the picture must reproduce the picture before the step.
            sighting = self._fit(Fitting(operation.kind, (), box, self.after, self.expected, change))
            if sighting:
                _, silhouette = draw_over(self.after, sighting)
                gap = sight.grown(silhouette)
                self.expected = np.where(gap[..., None], self.after, self.expected)
                removed_count += 1
        self.notes.append(f"{removed_count or 'No'} {operation.kind} has disappeared.")
        return [] if removed_count else [("done", f"the {operation.kind} should be gone")]

    def _stands_right(self, operation: Add, sightings: list[Sighting]) -> bool:
        x, y, size = self._centre(sightings)
        if operation.place:
            return is_at(operation.place, x, y, len(sightings), size)
        if operation.relation and operation.anchor:
            if operation.anchor not in self.anchors:
                self.anchors[operation.anchor] = self._locate(operation.anchor)
            anchor = self.anchors[operation.anchor]
            return anchor is None or is_beside(operation.relation, (x, y), anchor)
        return True

    def _locate(self, kind: str) -> Point | None:
        """Return where a thing stood before the step, as fractions of the canvas; None when it is not recognised."""
        if self.backdrop_before is None:
            return None
        empty = sight.backdrop(self.backdrop_before, self.before)
        foreground = sight.differs(self.before, empty)
        sightings = [Fitting(kind, (), box, empty, self.before, foreground).best() for box in sight.regions(foreground)]
        close_sightings = [sighting for sighting in sightings if sighting and sighting.misfit <= 2 * MISFIT]
        if not close_sightings:
            return None
        x, y, _ = self._centre([min(close_sightings, key=lambda sighting: sighting.misfit)])
        return x, y

    def _centre(self, sightings: list[Sighting]) -> tuple[float, float, float]:
        """Return the centre (x, y) of a group and its mean size, all as fractions of the canvas."""
        height, width = self.after.shape[:2]
        xs = [sighting.frame.x for sighting in sightings]
        ys = [sighting.frame.y for sighting in sightings]
        sides = [sighting.frame.side for sighting in sightings]
        size = sum(sides) / len(sides) / min(width, height)
        return (min(xs) + max(xs)) / 2 / width, (min(ys) + max(ys)) / 2 / height, size

    def _has_size(self, sighting: Sighting, size: str) -> bool:
        actual = float(sighting.frame.side / min(self.after.shape[:2]))
        # The frame of a small part is known less exactly than that of a whole subject.
        return abs(actual / SIZES[size] - 1) < (2 if sighting.parts else 1.25) * SIZE_TOLERANCE

    def _describe_sightings(self, operation: Add, sightings: list[Sighting]) -> str:
        x, y, size = self._centre(sightings)
        colours = {sighting.colour for sighting in sightings}
        addition = Add(
            operation.kind,
            part=operation.part,
            count=min(len(sightings), MAX_COUNT),
            size=min(SIZES, key=lambda name: abs(SIZES[name] / size - 1)),
            colour=colours.pop() if len(colours) == 1 else None,
        )
        return f"I see {noun_phrase(addition)} {PLACE_PHRASES[nearest_place(x, y)]}."

    def _place_name(self, box: Box) -> str:
        height, width = self.after.shape[:2]
        return PLACE_PHRASES[nearest_place((box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height)]
