"""The sandbox critic: compares the pixels before and after a step with what its instruction asks for.

It explains the change one operation at a time, by recognising each thing that was asked for in what is new. What it
cannot explain was not asked for. It knows the language and the primer, never the scene behind a picture.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np

from interleaver.errors import UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.sandbox import sight
from interleaver.sandbox.faults import Fault, refined
from interleaver.sandbox.fitting import MISFIT, Fitting, Frame, Sighting, draw_over
from interleaver.sandbox.judge import SIZE_TOLERANCE, is_at, is_beside
from interleaver.sandbox.language import (
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
"""Changed pixels that may stay unexplained; less than the smallest thing the primer can draw."""


class SandboxCritic:
    """A `Critic` that looks at pixels."""

    async def judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        """Judge a step; see `interleaver.agents.Critic`."""
        return await asyncio.to_thread(self._judge, step, before, after, prompt)

    def _judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        operations = parse(step.goal).operations
        if not operations:
            raise UnreadableAnswer(f"the sandbox critic does not understand the instruction {step.goal[:80]!r}")
        if (before.width, before.height) != (after.width, after.height):
            reason = f"The picture is {after.width}x{after.height} instead of {before.width}x{before.height} pixels."
            return Verdict(accepted=False, refined_prompt=refined(operations, [], prompt), reasoning=reason, score=0.0)
        view = _View(sight.look(before), sight.look(after))
        faults = [fault for group in _groups(operations) for fault in view.check(group)]
        faults += view.unexplained()
        reasoning = " ".join([*view.notes, *(f"But {fault.said}." for fault in faults)])
        if not faults:
            return Verdict(accepted=True, reasoning=f"{reasoning} That is what was asked for.".strip(), score=1.0)
        score = max(0.0, 1 - len(faults) / (4 * len(operations) + 1))
        return Verdict(
            accepted=False,
            refined_prompt=refined(operations, faults, prompt),
            reasoning=reasoning,
            score=round(score, 3),
        )


Point = tuple[float, float]
"""A place on the canvas, as fractions of its width and height."""

Group = list[tuple[int, Operation]]
"""Operations with their positions in the instruction."""


def _groups(operations: tuple[Operation, ...]) -> list[Group]:
    """Each operation by itself, but neighbouring parts of one subject together."""
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
        after: pixels after it.
        expected: `before` with everything drawn in that was asked for and found.
        explained: where the difference to `expected` is accounted for.
        notes: what was recognised, in words.
        anchors: where things stood before the step, once somebody has asked.
    """

    before: Pixels
    after: Pixels
    notes: list[str] = field(default_factory=list)
    anchors: dict[str, Point | None] = field(default_factory=dict)
    expected: Pixels = field(init=False)
    explained: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.expected = self.before
        self.explained = np.zeros(self.before.shape[:2], bool)
        self.backdrop_before = sight.recognise_background(self.before)
        self.backdrop_after = sight.recognise_background(self.after)

    def check(self, group: Group) -> list[Fault]:
        """Look for what operations ask for that can only be seen together; returns what is wrong."""
        number, operation = group[0]
        match operation:
            case Add():
                return self._check_add(group, operation)
            case Recolour():
                found = self._check_recolour(operation)
            case Remove():
                found = self._check_remove(operation)
            case Backdrop():
                found = self._check_backdrop(operation)
        return [Fault(number, attribute, said) for attribute, said in found]

    def unexplained(self) -> list[Fault]:
        """What has changed although nobody asked for it."""
        different = sight.differs(self.expected, self.after)
        stray = (different & ~self.explained) | sight.solid(sight.differs_clearly(self.expected, self.after))
        if int(stray.sum()) <= STRAY_PIXELS:
            return []
        places = sorted({self._place_name(box) for box in sight.regions(stray)})
        return [Fault(None, "rest", f"something was changed that nobody asked for, {' and '.join(places[:3])}")]

    def _open_change(self) -> Mask:
        return sight.differs(self.expected, self.after) & ~self.explained

    def _take(self, sighting: Sighting) -> None:
        self.expected, silhouette = draw_over(self.expected, sighting)
        self.explained = self.explained | sight.grown(silhouette)

    def _check_backdrop(self, asked: Backdrop) -> list[tuple[str, str]]:
        seen = self.backdrop_after
        self.notes.append(f"The background is {seen or 'nothing I know'}.")
        if seen:
            behind = sight.backdrop(self.backdrop_before, self.before) if self.backdrop_before else self.before
            empty = sight.matches(self.before, behind)
            now = sight.backdrop(seen, self.after)
            self.expected = np.where(empty[..., None], now, self.expected)
            # Where an edge blends into the background it blends into another one now.
            self.explained = self.explained | (sight.grown(empty) & ~empty)
        if seen == asked.background:
            return []
        return [("done", f"the background should be {asked.background}")]

    def _check_add(self, group: Group, asked: Add) -> list[Fault]:
        """Check an addition; parts of one subject are looked for together, since they hide each other."""
        parts = tuple(part.part for _, part in group if isinstance(part, Add) and part.part)
        asked = replace(asked, part=" and ".join(parts) or None)
        sightings, missing = self._find(asked, parts), None
        if not sightings and len(parts) > 1:
            sightings, missing = self._find_all_but_one(asked, parts)
        if not sightings:
            wanted = noun_phrase(replace(asked, size=None))
            self.notes.append(f"I look for {wanted}.")
            return [Fault(number, "kind", f"nothing new in the picture looks like {wanted}") for number, _ in group]
        for sighting in sightings:
            self._take(sighting)
        self.notes.append(self._tell(replace(asked, part=" and ".join(sightings[0].parts) or None), sightings))
        faults = [
            Fault(number, attribute, said)
            for attribute, said in self._wrong_attributes(asked, sightings)
            for number, _ in group
        ]
        if missing is not None:
            faults.append(Fault(group[missing][0], "kind", f"there is no {parts[missing]}"))
        return faults

    def _wrong_attributes(self, asked: Add, sightings: list[Sighting]) -> list[tuple[str, str]]:
        faults = []
        if len(sightings) != asked.count:
            faults.append(("count", f"there are {len(sightings)} and not {asked.count}"))
        name = asked.part or asked.kind
        colours = sorted({sighting.colour for sighting in sightings if sighting.colour})
        if asked.colour and colours and colours != [asked.colour]:
            faults.append(("colour", f"the colour of the {name} is {' and '.join(colours)}, not {asked.colour}"))
        # A part takes its size from the subject that stands there already, right or wrong.
        sized = asked.size and not (asked.part and self._something_stands())
        if sized and not all(self._has_size(sighting, str(asked.size)) for sighting in sightings):
            faults.append(("size", f"the size of the {name} is not {asked.size}"))
        if not self._stands_right(asked, sightings):
            faults.append(("place", f"the place of the {name} is wrong"))
        return faults

    def _something_stands(self) -> bool:
        """Whether there was anything in the picture before the step."""
        if self.backdrop_before is None:
            return True
        return bool(sight.differs(self.before, sight.backdrop(self.backdrop_before, self.before)).any())

    def _find(self, asked: Add, parts: tuple[str, ...]) -> list[Sighting]:
        """What was added of the kind: one for a single thing, all there are for several."""
        found: list[Sighting] = []
        change = self._open_change()
        boxes = sight.regions(change)
        if len(boxes) > 1 and asked.count == 1:
            everything = boxes[0]
            for box in boxes[1:]:
                everything = everything.union(box)
            boxes = [*boxes, everything]
        for box in boxes:
            fitting = Fitting(asked.kind, parts, box, self.expected, self.after, change)
            sighting = fitting.best(guess=self._guess(asked))
            if sighting and sighting.misfit <= MISFIT:
                found.append(sighting)
        if asked.count == 1 and found:
            return [min(found, key=lambda sighting: (self._unmet(asked, sighting), sighting.misfit))]
        return found

    def _find_all_but_one(self, asked: Add, parts: tuple[str, ...]) -> tuple[list[Sighting], int | None]:
        """Several parts of which one is missing, and the position of that one."""
        for missing in range(len(parts)):
            sightings = self._find(asked, parts[:missing] + parts[missing + 1 :])
            if sightings:
                return sightings, missing
        return [], None

    def _guess(self, asked: Add) -> Frame | None:
        """Where the instruction says that the subject of a part stands."""
        if not (asked.part and asked.size and asked.place):
            return None
        height, width = self.after.shape[:2]
        x, y = place_centre(asked.place, SIZES[asked.size], SIZES[asked.size])
        return Frame(x * width, y * height, SIZES[asked.size] * min(width, height))

    def _unmet(self, asked: Add, sighting: Sighting) -> int:
        """How many of the stated attributes a sighting lacks: tells things of one kind apart."""
        wrong_colour = asked.colour and sighting.colour and sighting.colour != asked.colour
        return int(bool(wrong_colour)) + int(not self._stands_right(asked, [sighting]))

    def _check_recolour(self, asked: Recolour) -> list[tuple[str, str]]:
        change = self._open_change()
        boxes = sight.regions(change)
        if not boxes:
            self.notes.append("Nothing has changed.")
            return [("colour", f"the {asked.kind} has kept its colour")]
        colours = set()
        for box in boxes:
            fitting = Fitting(asked.kind, (), box, self.expected, self.after, change)
            sighting = fitting.best(main_only=True)
            if sighting and sighting.misfit <= MISFIT:
                self._take(sighting)
                colours.add(str(sighting.colour))
        self.notes.append(f"The {asked.kind} is now {' and '.join(sorted(colours)) or 'not to be recognised'}.")
        if colours == {asked.colour}:
            return []
        return [("colour", f"the {asked.kind} should be {asked.colour}")]

    def _check_remove(self, asked: Remove) -> list[tuple[str, str]]:
        change = self._open_change()
        gone = 0
        for box in sight.regions(change):
            # Whatever was removed, drawn back into the picture, gives the picture before.
            sighting = Fitting(asked.kind, (), box, self.after, self.expected, change).best()
            if sighting and sighting.misfit <= MISFIT:
                _, silhouette = draw_over(self.after, sighting)
                gap = sight.grown(silhouette)
                self.expected = np.where(gap[..., None], self.after, self.expected)
                gone += 1
        self.notes.append(f"{gone or 'No'} {asked.kind} has disappeared.")
        return [] if gone else [("done", f"the {asked.kind} should be gone")]

    def _stands_right(self, asked: Add, sightings: list[Sighting]) -> bool:
        x, y, size = self._centre(sightings)
        if asked.place:
            return is_at(asked.place, x, y, len(sightings), size)
        if asked.relation and asked.anchor:
            if asked.anchor not in self.anchors:
                self.anchors[asked.anchor] = self._locate(asked.anchor)
            anchor = self.anchors[asked.anchor]
            return anchor is None or is_beside(asked.relation, (x, y), anchor)
        return True

    def _locate(self, kind: str) -> Point | None:
        """Where a thing stood before the step, as fractions of the canvas; None when it is not recognised."""
        if self.backdrop_before is None:
            return None
        empty = sight.backdrop(self.backdrop_before, self.before)
        shown = sight.differs(self.before, empty)
        found = [Fitting(kind, (), box, empty, self.before, shown).best() for box in sight.regions(shown)]
        fitting = [sighting for sighting in found if sighting and sighting.misfit <= 2 * MISFIT]
        if not fitting:
            return None
        x, y, _ = self._centre([min(fitting, key=lambda sighting: sighting.misfit)])
        return x, y

    def _centre(self, sightings: list[Sighting]) -> tuple[float, float, float]:
        """Centre of a group as fractions of the canvas, and the mean size."""
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

    def _tell(self, asked: Add, sightings: list[Sighting]) -> str:
        x, y, size = self._centre(sightings)
        colours = {sighting.colour for sighting in sightings}
        seen = Add(
            asked.kind,
            part=asked.part,
            count=len(sightings),
            size=min(SIZES, key=lambda name: abs(SIZES[name] / size - 1)),
            colour=colours.pop() if len(colours) == 1 else None,
        )
        return f"I see {noun_phrase(seen)} {PLACE_PHRASES[nearest_place(x, y)]}."

    def _place_name(self, box: Box) -> str:
        height, width = self.after.shape[:2]
        return PLACE_PHRASES[nearest_place((box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height)]
