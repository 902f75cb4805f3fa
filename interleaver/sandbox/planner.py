"""The sandbox planner: from a request in plain English to a plan in the drawing language.

A single subject becomes a drawing lesson, part by part; several become a scene, thing by thing. If the request comes
with images, the plan continues the last one, or describes them if the request asks for that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from interleaver.choices import SandboxLevel
from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox import sight
from interleaver.sandbox.describe import describe_picture
from interleaver.sandbox.language import (
    PLACE_PHRASES,
    RELATION_PHRASES,
    Add,
    Backdrop,
    Operation,
    noun_phrase,
)
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.outlining import StepOutline, make_plan, outline_edit, outline_title
from interleaver.sandbox.primer import Subject
from interleaver.sandbox.reading import squeeze
from interleaver.sandbox.revising import revise
from interleaver.sandbox.wish import Wish, read_wish
from interleaver.sandbox.world import PLACES, scene_behind
from interleaver.types import Plan, Step

DESCRIBING = re.compile(r"\b(describe|caption|explain|what|which|tell me about|name|identify|compare)\b", re.IGNORECASE)
VERBS = {
    "sky": ("floats", "float"),
    "water": ("drifts", "drift"),
    "ground": ("stands", "stand"),
    "any": ("waits", "wait"),
}
MIDDLES = (
    "Then the eye wanders, and {where} there {does} {what}.",
    "Nobody noticed at first, but {where} there {does} {what}.",
    "The page fills up: {what}, {where}.",
)
ROW = ("left", "middle", "right")
GAPS = tuple(
    (relation, place)
    for relation, edge in (("below", "bottom"), ("right of", "right"))
    for place in PLACES
    if edge not in place
)
"""Where things go once every place is taken: the relation to another thing, and the place of that thing."""


class SandboxPlanner:
    """A `Planner` for requests about the subjects of the primer."""

    def __init__(self, level: SandboxLevel = "full"):
        """Make a planner.

        Args:
            level: level of the sandbox world; on a level with a single size, plans do not mention sizes.
        """
        self._level = level_of(level)

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan a document; see `interleaver.agents.Planner`."""
        return await asyncio.to_thread(self._plan, squeeze(request.replace("<image>", " ")), images)

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Change a plan; see `interleaver.agents.Reviser`."""
        if images:
            return Plan(steps=[])  # a message with images starts a new document
        return await asyncio.to_thread(revise, squeeze(request), plan)

    def _plan(self, request: str, images: Sequence[Picture]) -> Plan:
        if images and DESCRIBING.search(request):
            return _description(images)
        wish = read_wish(request)
        if images:
            return _continuation(request, wish, images)
        if self._level.size:
            return make_plan(request, wish, _plain_scene(wish), first=1, opening=[])
        lesson = _lesson_subject(wish)
        outlines = _lesson(wish, lesson) if lesson else _scene(wish)
        if not outlines:
            return make_plan(request, wish, [outline_edit(Backdrop(wish.background(None)))], first=1, opening=[])
        return make_plan(request, wish, outlines, first=1, opening=[Backdrop(wish.background(lesson))])


def _lesson_subject(wish: Wish) -> Subject | None:
    """Return the subject of a drawing lesson; None unless the request is about a single thing made of parts."""
    if len(wish.things) != 1 or wish.edits:
        return None
    add = wish.things[0]
    alone = add.count == 1 and not add.part and len(add.subject.parts) > 1
    return add.subject if alone else None


def _lesson(wish: Wish, subject: Subject) -> list[StepOutline]:
    thing = wish.things[0]
    extra_steps = (wish.steps or 0) - len(subject.parts)
    whole = replace(
        thing,
        size=thing.size or ("large" if extra_steps > 0 else "huge"),
        colour=thing.colour or subject.colour,
        place=thing.place or "middle",
    )
    return [StepOutline(part.name.capitalize(), (replace(whole, part=part.name),), part.text) for part in subject.parts]


def _scene(wish: Wish) -> list[StepOutline]:
    placed_things = lay_out(wish)
    outlines = [
        StepOutline(outline_title(add), (add,), _narrate(add, number, len(placed_things)))
        for number, add in enumerate(placed_things)
    ]
    return outlines + [outline_edit(edit) for edit in wish.edits]


def _plain_scene(wish: Wish) -> list[StepOutline]:
    """Return one outline per thing, without sizes and without texts for the reader."""
    outlines = [StepOutline(outline_title(add), (replace(add, size=None),), None) for add in lay_out(wish)]
    return outlines + [outline_edit(edit) for edit in wish.edits]


def lay_out(wish: Wish) -> list[Add]:
    """Return every thing with a place, a size and a colour, chosen so that relations hold and things do not overlap."""
    places: dict[int, str] = {n: add.place for n, add in enumerate(wish.things) if add.place}
    for first, relation, second in wish.links:
        first_place, second_place = {
            "left of": ("left", "right"),
            "right of": ("right", "left"),
            "beside": ("left", "right"),
            "above": ("top", "middle"),
            "below": ("bottom", "middle"),
        }[relation]
        places.setdefault(first, first_place)
        places.setdefault(second, second_place if second_place not in places.values() else "middle")
    things = list(wish.things)
    for number, add in enumerate(things):
        if number not in places and not add.anchor:
            free = (place for place in (*_preferred_places(add, wish), *PLACES) if place not in places.values())
            place = next(free, None)
            if place:
                places[number] = place
            else:
                relation, anchor = _gap(things[:number], places)
                things[number] = replace(add, relation=relation, anchor=anchor)
    crowded = len(things) > len(PLACES)
    in_a_row = sum(place in ROW for place in places.values())
    return [
        replace(
            add,
            place=places.get(number),
            size=add.size or ("tiny" if crowded else _scene_size(add, places.get(number), in_a_row)),
            colour=add.colour or add.subject.colour,
        )
        for number, add in enumerate(things)
    ]


def _gap(things: list[Add], places: dict[int, str]) -> tuple[str, str]:
    """Return the relation to one of the things before, and its kind, where there is room for another thing.

    Raises:
        BackendError: there is no room left.
    """
    kinds = [add.kind for add in things]
    taken_gaps = {(add.relation, add.anchor) for add in things}
    for relation, gap_place in GAPS:
        for number, kind in enumerate(kinds):
            if places.get(number) == gap_place and kinds.count(kind) == 1 and (relation, kind) not in taken_gaps:
                return relation, kind
    raise BackendError(f"the sandbox finds room for at most {len(things)} of these things; ask for fewer")


def _preferred_places(add: Add, wish: Wish) -> tuple[str, ...]:
    """Return the preferred places of a thing, the best first."""
    if len(wish.things) == 1:
        return ("middle",)
    if add.subject.habitat == "sky" and any(thing.subject.habitat != "sky" for thing in wish.things):
        return ("top right", "top left", "top", "right", "left", "middle")
    if len(wish.things) == 2:
        return ("left", "right", "middle")
    return (
        "left",
        "right",
        "middle",
        "bottom",
        "top",
        "bottom left",
        "bottom right",
        "top left",
        "top right",
    )


def _scene_size(add: Add, place: str | None, in_a_row: int) -> str:
    """Return the size of a thing: large if there is room.

    Args:
        add: addition of the thing.
        place: place of the thing; None if it stands in relation to another one.
        in_a_row: number of things side by side in the middle row of the picture.
    """
    if add.count > 1:
        return "small" if add.count <= 3 else "tiny"
    if place in ROW and in_a_row <= 2:
        return "large"
    return "medium" if place in ROW else "small"


def _narrate(add: Add, number: int, total: int) -> str:
    """Return the text for the reader about a thing in a scene."""
    phrase = noun_phrase(replace(add, size=None))
    place_phrase = PLACE_PHRASES[add.place] if add.place else f"{RELATION_PHRASES[add.relation or '']} the {add.anchor}"
    verb = VERBS[add.subject.habitat][add.count > 1]
    if total == 1:
        return f"There {verb} {phrase}, {place_phrase}, and that is all it takes."
    if number == 0:
        return f"It begins with {phrase}, {place_phrase}, waiting for company."
    if number == total - 1:
        return f"One last look {place_phrase}, and there it is, what was missing: {phrase}."
    return MIDDLES[number % len(MIDDLES)].format(what=phrase, where=place_phrase, does=verb)


def _continuation(request: str, wish: Wish, images: Sequence[Picture]) -> Plan:
    """Return a plan that continues from the last image; step numbers follow those of the images."""
    picture = images[-1]
    backdrop: list[Operation] = [Backdrop(wish.backdrop)] if wish.backdrop else []
    if (wish.edits or backdrop) and scene_behind(picture) is None:
        raise BackendError(
            "the sandbox can only add things to a picture that it did not draw itself; "
            "connect a real image editor to change what is in it (see docs/configuration.md)"
        )
    free = _free_places(picture)
    outlines = [outline_edit(edit) for edit in (*backdrop, *wish.edits)]
    for add in wish.things:
        colour = add.colour or add.subject.colour
        size = add.size or ("tiny" if add.count > 1 else "small")
        placed_thing = replace(add, colour=colour, size=size)
        if not add.place and not add.anchor:
            preferred_places = (
                ("top right", "top left", "top") if add.subject.habitat == "sky" else ("left", "right", "bottom")
            )
            place = next((name for name in free if name in preferred_places), free[0])
            free = [name for name in free if name != place] or list(PLACES)
            placed_thing = replace(placed_thing, place=place)
        outlines.append(outline_edit(placed_thing))
    return make_plan(request, wish, outlines, first=len(images) + 1, opening=[])


def _free_places(picture: Picture) -> list[str]:
    """Return the nine places of a picture, the emptiest first."""
    pixels = sight.look(picture)
    height, width = pixels.shape[:2]
    name = sight.recognise_background(pixels)
    busy = sight.differs(pixels, sight.backdrop(name, pixels)) if name else sight.detail(pixels)

    def load(place: str) -> float:
        x, y = PLACES[place]
        rows = slice(int((y - 0.12) * height), int((y + 0.12) * height) + 1)
        columns = slice(int((x - 0.12) * width), int((x + 0.12) * width) + 1)
        return round(float(busy[rows, columns].mean()), 2)

    return sorted(PLACES, key=load)


def _description(images: Sequence[Picture]) -> Plan:
    """Return a plan that describes the images in text, one step each; nothing is drawn."""
    steps = [
        Step(number=number, name=f"Picture {number}", auxiliary_text=describe_picture(image))
        for number, image in enumerate(images, start=1)
    ]
    return Plan(steps=steps, reasoning="The request asks about the given pictures, so every step is text.")
