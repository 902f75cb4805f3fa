"""The sandbox generator: draws and edits from a prompt, and makes mistakes as real generators do.

Attributes that a prompt leaves open are chosen at random. Stated attributes are missed with a small probability, and
with a smaller one if the prompt insists on them. Crowded prompts lose objects, and edits sometimes damage what was in
the picture. So a clearer prompt really helps. Prompts with the same meaning give the same picture for the same source
and seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from interleaver.choices import SandboxLevel
from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox.language import MAX_COUNT, Add, Backdrop, Instructions, Operation, Recolour, Remove, describe
from interleaver.sandbox.levels import Level, level_of
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import (
    PAPER,
    PLACES,
    RELATIONS,
    SIZES,
    Scene,
    SceneItem,
    extent,
    keep_inside,
    nearest_place,
    paint,
    place_centre,
    row_of,
    scene_over,
)
from interleaver.tools import Capabilities

Rate = Annotated[float, Field(ge=0, le=1)]


class Slips(BaseModel):
    """Error rates of the generator: probabilities from 0 to 1, except `scatter`.

    Attributes:
        stated: probability of missing an attribute that the prompt states.
        stressed: probability of missing an attribute that the prompt insists on.
        crowding: probability of losing a thing, per other thing that the prompt asks for.
        damage: probability that an edit damages something that was in the picture.
        careful_damage: `damage` for prompts that say to keep everything else.
        smudge: probability of leaving a blot on the picture.
        scatter: random spread of places and sizes that does not count as a mistake, as a fraction of the canvas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stated: Rate = 0.1
    stressed: Rate = 0.02
    crowding: Rate = 0.07
    damage: Rate = 0.1
    careful_damage: Rate = 0.02
    smudge: Rate = 0.03
    scatter: Annotated[float, Field(ge=0, le=0.03)] = 0.025


INHERITED_COLOUR_SHARE = 0.6
"""Probability that a part whose colour is left open takes the colour of its subject."""
FAULTLESS = Slips(stated=0, stressed=0, crowding=0, damage=0, careful_damage=0, smudge=0)


class SandboxGenerator:
    """An `ImageGenerator` that draws the subjects of the primer."""

    capabilities = Capabilities(max_sources=1)

    def __init__(self, slips: Slips | dict[str, float] | None = None, level: SandboxLevel = "full"):
        """Make a generator.

        Args:
            slips: error rates, as a `Slips` or as a dict of its fields.
            level: level of the sandbox world from which random choices and mistakes are drawn.
        """
        self.slips = Slips.model_validate(slips or {})
        self.level = level_of(level)

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: tuple[int, int]) -> Picture:
        """Draw or edit a picture; see `interleaver.tools.ImageGenerator`."""
        return await asyncio.to_thread(self._generate, prompt, sources, seed, size)

    def _generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: tuple[int, int]) -> Picture:
        instructions = parse(prompt)
        if not instructions.operations:
            raise BackendError(f"the sandbox generator finds nothing it can draw in the prompt {prompt[:80]!r}")
        width, height = (sources[-1].width, sources[-1].height) if sources else size
        before = scene_over(sources[-1]) if sources else None
        hand = _Hand(Random(f"{seed}/{describe(instructions)}"), self.slips, instructions.careful, self.level)
        return paint(hand.carry_out(instructions, before), width, height)


class _Hand:
    """One drawing in progress: every random decision comes from one seeded source, in a fixed order."""

    def __init__(self, rng: Random, slips: Slips, careful: bool, level: Level):
        self.rng = rng
        self.slips = slips
        self.careful = careful
        self.level = level

    def carry_out(self, instructions: Instructions, before: Scene | None) -> Scene:
        scene = before or self._blank(instructions)
        things = sum(operation.count for operation in instructions.operations if isinstance(operation, Add))
        for operation in instructions.operations:
            scene = self._apply(operation, scene, things)
        if before:
            scene = self._maybe_damage(scene, before)
        if self.rng.random() < self.slips.smudge:
            scene = replace(scene, smudges=(*scene.smudges, self._spot(scene)))
        return scene

    def _spot(self, scene: Scene) -> tuple[float, float, float]:
        x, y = self.rng.uniform(0.15, 0.85), self.rng.uniform(0.15, 0.85)
        if self.level.one_a_place:
            x, y = PLACES[self.rng.choice(self._free(scene))]
        return x, y, self.rng.uniform(0.05, 0.09)

    def _blank(self, instructions: Instructions) -> Scene:
        """Return an empty scene, sometimes with a made-up background if the prompt states none."""
        states_backdrop = any(isinstance(operation, Backdrop) for operation in instructions.operations)
        made_up = not states_backdrop and self.slips.stated > 0 and self.rng.random() < 0.2
        return Scene(background=self.rng.choice(self.level.backgrounds) if made_up else PAPER)

    def _apply(self, operation: Operation, scene: Scene, things: int) -> Scene:
        match operation:
            case Add():
                return self._add(operation, scene, things)
            case Recolour(kind=kind, colour=colour):
                if self._misses(operation.emphasis, "colour"):
                    colour = self.rng.choice([name for name in self.level.colours if name != colour])
                items = [replace(item, colour=colour) if item.kind == kind else item for item in scene.items]
                return replace(scene, items=tuple(items))
            case Remove(kind=kind):
                if self._misses(operation.emphasis, "done"):
                    return scene
                return replace(scene, items=tuple(item for item in scene.items if item.kind != kind))
            case Backdrop(background=background):
                if self._misses(operation.emphasis, "done"):
                    background = self.rng.choice(
                        [name for name in self.level.backgrounds if name != background] or [background]
                    )
                return replace(scene, background=background)

    def _misses(self, emphasis: frozenset[str], attribute: str, weight: float = 1.0) -> bool:
        rate = self.slips.stressed if attribute in emphasis else self.slips.stated
        return self.rng.random() < rate * weight

    def _add(self, add: Add, scene: Scene, things: int) -> Scene:
        count = self._count(add, things)
        kind = self._kind(add)
        part = add.part if kind == add.kind else None
        whole = next((item for item in scene.items if item.kind == add.kind), None) if add.part else None
        colour = self._colour(add, whole)
        if whole:
            centres, size = [self._part_centre(add, whole)], whole.size
        else:
            size = self._size(add)
            centres = self._centres(add, count, size, scene)
        first = scene.next_ident()
        new_items = [
            SceneItem(first + number, kind, part, colour, round(x, 4), round(y, 4), round(size, 4))
            for number, (x, y) in enumerate(centres[:count])
        ]
        return replace(scene, items=(*scene.items, *new_items))

    def _count(self, add: Add, things: int) -> int:
        other_things = things - 1 if add.count == 1 else things - add.count
        attention = 0.25 if "kind" in add.emphasis else 1.0
        if self.rng.random() < min(0.5, self.slips.crowding * other_things * attention):
            return 0
        if add.count > 1 and self._misses(add.emphasis, "count", 1.5):
            return min(MAX_COUNT, max(1, add.count + self.rng.choice((-1, 1))))
        if add.count == 1 and self._misses(add.emphasis, "kind", 0.25):
            return 0
        return add.count

    def _kind(self, add: Add) -> str:
        if add.part or not self._misses(add.emphasis, "kind", 0.4):
            return add.kind
        return self.rng.choice(self.level.alike(add.kind))

    def _colour(self, add: Add, whole: SceneItem | None) -> str:
        if add.colour is None:
            if whole and self.rng.random() < INHERITED_COLOUR_SHARE:
                return whole.colour
            usual_colour = add.subject.colour if add.subject.colour in self.level.colours else self.level.colours[0]
            return self.rng.choice((usual_colour, *self.level.colours)) if self.slips.stated else usual_colour
        if self._misses(add.emphasis, "colour"):
            return self.rng.choice([name for name in self.level.colours if name != add.colour])
        return add.colour

    def _size(self, add: Add) -> float:
        name = (
            add.size
            or self.level.size
            or self.rng.choice(("tiny", "small") if add.count > 1 else ("small", "medium", "large"))
        )
        if add.size and self._misses(add.emphasis, "size"):
            name = self.rng.choice([other for other in SIZES if other != add.size and other != "huge"])
        return SIZES[name] * self.rng.uniform(1 - 2 * self.slips.scatter, 1 + 2 * self.slips.scatter)

    def _part_centre(self, add: Add, whole: SceneItem) -> tuple[float, float]:
        """Return the centre of a part: that of its subject, or by mistake a point beside it."""
        if not self._misses(add.emphasis, "place", 0.8):
            return whole.x, whole.y
        across = self.rng.choice((-1, 1)) * self.rng.uniform(0.15, 0.2)
        return whole.x + across, whole.y + self.rng.uniform(-0.08, 0.08)

    def _centres(self, add: Add, count: int, size: float, scene: Scene) -> list[tuple[float, float]]:
        offsets = row_of(max(count, 1), size)
        width, height = extent(offsets, size)
        x, y = self._centre(add, width, height, scene)
        spread = self.slips.scatter
        x = keep_inside(x + self.rng.uniform(-spread, spread), width)
        y = keep_inside(y + self.rng.uniform(-spread, spread), height)
        return [(x + across, y + down) for across, down in offsets]

    def _centre(self, add: Add, width: float, height: float, scene: Scene) -> tuple[float, float]:
        anchor = next((item for item in scene.items if item.kind == add.anchor), None)
        if add.relation and anchor:
            across, down = RELATIONS[add.relation]
            if self._misses(add.emphasis, "place"):
                across, down = -across, -down
            return (
                anchor.x + across * ((anchor.size + width) / 2 + 0.02),
                anchor.y + down * ((anchor.size + height) / 2 + 0.02),
            )
        place = add.place or self.rng.choice(self._free(scene))
        if add.place and self._misses(add.emphasis, "place"):
            place = self._elsewhere(add.place, width, height, scene)
        return place_centre(place, width, height)

    def _free(self, scene: Scene) -> list[str]:
        """Return the places where something may go: unused ones on a level with one thing per place, else all."""
        used_places = set()
        if self.level.one_a_place:
            used_places |= {nearest_place(item.x, item.y) for item in scene.items}
            used_places |= {nearest_place(x, y) for x, y, _ in scene.smudges}
        return [place for place in PLACES if place not in used_places] or list(PLACES)

    def _elsewhere(self, place: str, width: float, height: float, scene: Scene) -> str:
        """Return a place far enough from the right one to be a mistake; the right one if there is no such place."""
        x, y = place_centre(place, width, height)
        other_places = []
        for name in self._free(scene):
            other_x, other_y = place_centre(name, width, height)
            if max(abs(other_x - x), abs(other_y - y)) > 0.2:
                other_places.append(name)
        return self.rng.choice(other_places) if other_places else place

    def _maybe_damage(self, scene: Scene, before: Scene) -> Scene:
        rate = self.slips.careful_damage if self.careful else self.slips.damage
        items_before = before.by_ident()
        victims = [item for item in scene.items if items_before.get(item.ident) == item]
        if not victims or self.rng.random() >= rate:
            return scene
        victim = self.rng.choice(victims)
        harm = self.rng.choice(("lost", "recoloured", "shifted"))
        replacement: list[SceneItem] = []
        if harm == "recoloured":
            replacement = [
                replace(victim, colour=self.rng.choice([c for c in self.level.colours if c != victim.colour]))
            ]
        elif harm == "shifted":
            replacement = [self._shift(victim, scene)]
        at = scene.items.index(victim)
        return replace(scene, items=(*scene.items[:at], *replacement, *scene.items[at + 1 :]))

    def _shift(self, victim: SceneItem, scene: Scene) -> SceneItem:
        if not self.level.one_a_place:
            return replace(victim, x=round(victim.x + self.rng.choice((-0.08, 0.08)), 4))
        x, y = place_centre(self.rng.choice(self._free(scene)), victim.size, victim.size)
        return replace(victim, x=round(x, 4), y=round(y, 4))
