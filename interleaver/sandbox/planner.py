"""The sandbox planner: from a request in plain English to a plan in the drawing language.

One subject becomes a drawing lesson, part by part; several become a scene, thing by thing; pictures that come with
the request are continued, or described when that is what is asked for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox import sight
from interleaver.sandbox.describe import describe_picture
from interleaver.sandbox.language import (
    COUNTS,
    MAX_COUNT,
    PLACE_PHRASES,
    Add,
    Backdrop,
    Instructions,
    Operation,
    Recolour,
    Remove,
    describe,
    noun_phrase,
)
from interleaver.sandbox.primer import Subject, subjects
from interleaver.sandbox.reading import Mark, Noun, parse, phrases, read_scene, sentences, unknown_things
from interleaver.sandbox.world import PAPER, PLACES, scene_behind
from interleaver.types import Plan, Step

CASUAL = 0.5
"""How often the first prompt leaves an attribute open that the instruction states."""
DESCRIBING = re.compile(r"\b(describe|caption|explain|what|which|tell me about|name|identify|compare)\b", re.IGNORECASE)
STEPS = re.compile(
    r"\bin\s+(?:exactly\s+)?(\d+|" + "|".join(COUNTS) + r"|seven|eight|nine|ten)\s+steps?\b", re.IGNORECASE
)
NUMBERS = {word: number for number, word in enumerate((*COUNTS, "seven", "eight", "nine", "ten"))}
ORDINALS = {
    word: number
    for number, word in enumerate(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), start=1
    )
}
_WHICH = "|".join(["last", *ORDINALS, r"\d+(?:st|nd|rd|th)?"])
WHICH = re.compile(
    rf"\b(?:the\s+)?(?P<before>{_WHICH})\s+(?:picture|image|drawing|step|one)\b"
    rf"|\b(?:picture|image|(?P<step>step))\s+(?P<after>\d+|{'|'.join(NUMBERS)})\b",
    re.IGNORECASE,
)
"""A phrase that names a step of the document so far."""
CHANGING = re.compile(
    r"\s*(?:(?:please|now|and|then|also|but|can you|could you)\b,?\s*)*"
    r"(?:add|put|paint|colou?r|make\s+(?:it|the|that)|turn|change|remove|delete|erase|take|replace|swap|set)\b",
    re.IGNORECASE,
)
"""How a message begins that goes on with the document so far."""
FILLERS = ("sun", "flower", "cloud", "butterfly", "bird", "mushroom", "bee", "tulip", "star", "apple")
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
RING = ("top left", "top right", "bottom left", "bottom right", "left", "right", "top", "bottom")


class SandboxPlanner:
    """A `Planner` that reads requests about what the primer knows."""

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan a document; see `interleaver.agents.Planner`."""
        return await asyncio.to_thread(self._plan, request.replace("<image>", " "), images)

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Change a plan; see `interleaver.agents.Reviser`."""
        if images:
            return Plan(steps=[])  # pictures begin a document of their own
        return await asyncio.to_thread(_revise, request, plan)

    def _plan(self, request: str, images: Sequence[Picture]) -> Plan:
        if images and DESCRIBING.search(request):
            return _description(images)
        wish = read_wish(request)
        if images:
            return _continuation(request, wish, images)
        lesson = _lesson_subject(wish)
        drafts = _lesson(wish, lesson) if lesson else _scene(wish)
        if not drafts:
            return _finish(request, wish, [_edit_draft(Backdrop(wish.background(None)))], first=1, opening=[])
        return _finish(request, wish, drafts, first=1, opening=[Backdrop(wish.background(lesson))])


# --- reading the request --------------------------------------------------------------------------------------


@dataclass
class Wish:
    """What a request asks for.

    Attributes:
        things: in the order they are named.
        edits: changes to what is there already.
        backdrop: the background that was asked for.
        links: (first, relation, second) between things, by position.
        steps: the number of steps that was asked for.
    """

    things: list[Add] = field(default_factory=list)
    edits: list[Operation] = field(default_factory=list)
    backdrop: str | None = None
    links: list[tuple[int, str, int]] = field(default_factory=list)
    steps: int | None = None

    def background(self, subject: Subject | None) -> str:
        """The background to draw on."""
        settings = [add.subject.setting for add in self.things if add.subject.setting]
        if self.backdrop:
            return self.backdrop
        if subject:
            return subject.setting or PAPER
        return settings[0] if settings else PAPER


def read_wish(request: str) -> Wish:
    """Read a request.

    Raises:
        BackendError: it asks for something the sandbox does not know, or for nothing that can be drawn.
    """
    wish = Wish()
    steps = STEPS.search(request)
    if steps:
        said = steps[1].lower()
        wish.steps = int(said) if said.isdigit() else NUMBERS[said]
        request = request.replace(steps[0], " ")
    for sentence in sentences(request):
        found = list(phrases(sentence))
        operations = parse(sentence).operations
        if operations and isinstance(operations[0], Recolour | Remove):
            wish.edits += operations
        else:
            _read_things(found, wish)
    strange = unknown_things(request)
    if strange or not (wish.things or wish.edits or wish.backdrop):
        what = " and ".join(repr(name) for name in strange) or "anything to draw in this request"
        known = ", ".join(name for name, subject in subjects().items() if not subject.is_shape)
        raise BackendError(
            f"the sandbox does not know {what}. It knows: {known}. For anything else connect a real model: "
            "set [planner], [critic] and [generator] in interleaver.toml (see docs/configuration.md)"
        )
    return wish


def _read_things(found: list[Noun | Mark], wish: Wish) -> None:
    """Add a sentence's things to the wish, with the relations between them."""
    relation: str | None = None
    varied = any(isinstance(item, Mark) and item.role == "variety" for item in found)
    for item in found:
        if isinstance(item, Mark):
            if item.role == "relation":
                relation = item.value
            elif item.role == "background":
                wish.backdrop = item.value
            elif item.role == "place" and wish.things:
                wish.things[-1] = replace(wish.things[-1], place=item.value)
            continue
        if item.count > MAX_COUNT:
            raise BackendError(f"the sandbox draws at most {COUNTS[MAX_COUNT]} of a kind; ask for fewer {item.kind}s")
        add = next(operation for operation in read_scene([item]) if isinstance(operation, Add))
        if relation and wish.things and not item.definite:
            wish.links.append((len(wish.things) - 1, relation, len(wish.things)))
        if relation and wish.things and item.definite:
            known = [number for number, thing in enumerate(wish.things[:-1]) if thing.kind == add.kind]
            if known:
                wish.links.append((len(wish.things) - 1, relation, known[-1]))
            else:
                side = "right of" if relation == "beside" else relation
                wish.things[-1] = replace(wish.things[-1], relation=side, anchor=add.kind)
        else:
            wish.things += _varied(add) if varied else [add]
        relation = None


def _varied(add: Add) -> list[Add]:
    """Several things in different colours, one by one."""
    colours = ("red", "blue", "yellow", "green", "purple", "orange")
    return [replace(add, count=1, colour=colours[number]) for number in range(add.count)]


# --- drafting the steps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A step before it gets its number: its name, what it draws and what the reader is told."""

    name: str
    operations: tuple[Operation, ...]
    text: str


def _lesson_subject(wish: Wish) -> Subject | None:
    """The subject of a drawing lesson, when the request is about a single thing made of parts."""
    if len(wish.things) != 1 or wish.edits:
        return None
    add = wish.things[0]
    alone = add.count == 1 and not add.part and len(add.subject.parts) > 1
    return add.subject if alone else None


def _lesson(wish: Wish, subject: Subject) -> list[Draft]:
    asked = wish.things[0]
    spare = (wish.steps or 0) - len(subject.parts)
    whole = replace(
        asked,
        size=asked.size or ("large" if spare > 0 else "huge"),
        colour=asked.colour or subject.colour,
        place=asked.place or "middle",
    )
    return [Draft(part.name.capitalize(), (replace(whole, part=part.name),), part.text) for part in subject.parts]


def _scene(wish: Wish) -> list[Draft]:
    placed = lay_out(wish)
    drafts = [Draft(_title(add), (add,), _tell(add, number, len(placed))) for number, add in enumerate(placed)]
    return drafts + [_edit_draft(edit) for edit in wish.edits]


def lay_out(wish: Wish) -> list[Add]:
    """Give every thing a place, a size and a colour, so that relations hold and nothing covers anything else."""
    places: dict[int, str] = {n: add.place for n, add in enumerate(wish.things) if add.place}
    for first, relation, second in wish.links:
        here, there = {
            "left of": ("left", "right"),
            "right of": ("right", "left"),
            "beside": ("left", "right"),
            "above": ("top", "middle"),
            "below": ("bottom", "middle"),
        }[relation]
        places.setdefault(first, here)
        places.setdefault(second, there if there not in places.values() else "middle")
    for number, add in enumerate(wish.things):
        if number not in places and not add.anchor:
            taken = set(places.values())
            places[number] = next((place for place in _preferred(add, wish) if place not in taken), "middle")
    return [
        replace(
            add,
            place=places.get(number),
            size=add.size or _scene_size(add, places.get(number), sum(place in ROW for place in places.values())),
            colour=add.colour or add.subject.colour,
        )
        for number, add in enumerate(wish.things)
    ]


def _preferred(add: Add, wish: Wish) -> tuple[str, ...]:
    """Places for a thing, the best first."""
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
    """Large where there is room: `in_a_row` things stand side by side in the middle of the picture."""
    if add.count > 1:
        return "small" if add.count <= 3 else "tiny"
    if place in ROW and in_a_row <= 2:
        return "large"
    return "medium" if place in ROW else "small"


def _title(add: Add) -> str:
    return noun_phrase(replace(add, size=None, place=None)).capitalize()


def _tell(add: Add, number: int, total: int) -> str:
    """What the reader is told about a thing in a scene."""
    what = noun_phrase(replace(add, size=None))
    where = PLACE_PHRASES[add.place] if add.place else f"{add.relation} the {add.anchor}"
    does = VERBS[add.subject.habitat][add.count > 1]
    if number == 0:
        return f"It begins with {what}, {where}, waiting for company."
    if number == total - 1:
        return f"One last look {where}, and there it is, what was missing: {what}."
    return MIDDLES[number % len(MIDDLES)].format(what=what, where=where, does=does)


def _edit_draft(edit: Operation) -> Draft:
    match edit:
        case Recolour(kind=kind, colour=colour):
            return Draft(f"A {colour} {kind}", (edit,), f"A fresh coat of paint: the {kind} turns {colour}.")
        case Remove(kind=kind):
            return Draft(f"Without the {kind}", (edit,), f"The {kind} has had its time and leaves the picture.")
        case Backdrop(background=background):
            return Draft(background.capitalize(), (edit,), f"The world behind it all becomes {background}.")
        case Add():
            return Draft(_title(edit), (edit,), f"{_title(edit)} joins the picture.")


def _continuation(request: str, wish: Wish, images: Sequence[Picture]) -> Plan:
    """Go on from the last picture; numbering starts where the pictures left off."""
    picture = images[-1]
    backdrop: list[Operation] = [Backdrop(wish.backdrop)] if wish.backdrop else []
    if (wish.edits or backdrop) and scene_behind(picture) is None:
        raise BackendError(
            "the sandbox can only add things to a picture that it did not draw itself; "
            "connect a real image editor to change what is in it (see docs/configuration.md)"
        )
    free = _free_places(picture)
    drafts = [_edit_draft(edit) for edit in (*backdrop, *wish.edits)]
    for add in wish.things:
        colour = add.colour or add.subject.colour
        size = add.size or ("tiny" if add.count > 1 else "small")
        asked = replace(add, colour=colour, size=size)
        if not add.place and not add.anchor:
            wanted = ("top right", "top left", "top") if add.subject.habitat == "sky" else ("left", "right", "bottom")
            place = next((name for name in free if name in wanted), free[0])
            free = [name for name in free if name != place] or list(PLACES)
            asked = replace(asked, place=place)
        drafts.append(_edit_draft(asked))
    return _finish(request, wish, drafts, first=len(images) + 1, opening=[])


def _revise(request: str, plan: Plan) -> Plan:
    """Change the step that is named, or go on after the last one."""
    named = WHICH.search(request)
    if not named and not CHANGING.match(request):
        return Plan(steps=[])
    if named:
        return _with_changed_step(request, plan, _position(named, plan), named[0])
    changes = _changes(request, plan)
    drafts = [_edit_draft(change) for change in changes]
    following = _finish(request, Wish(), drafts, first=plan.steps[-1].number + 1, opening=[])
    return Plan(steps=[*plan.steps, *following.steps], reasoning=following.reasoning)


def _position(named: re.Match[str], plan: Plan) -> int:
    """Which step is meant, by its place in the plan."""
    drawn = [position for position, step in enumerate(plan.steps) if step.draws]
    word = (named["before"] or named["after"]).lower()
    if word == "last":
        return drawn[-1]
    count = ORDINALS.get(word) or NUMBERS.get(word) or int(re.sub(r"\D", "", word))
    by_number = {plan.steps[position].number: position for position in drawn}
    if named["step"] and count in by_number:
        return by_number[count]
    if not 1 <= count <= len(drawn):
        raise BackendError(f"there is no picture {count}: the document has {len(drawn)} picture(s)")
    return drawn[count - 1]


def _added(wish: Wish, plan: Plan) -> list[Add]:
    """New things, each in a place that nothing in the plan has."""
    told = [parse(step.instruction or "").operations for step in plan.steps]
    taken = {op.place for operations in told for op in operations if isinstance(op, Add)}
    added = []
    for add in wish.things:
        sky = add.subject.habitat == "sky"
        free = [place for place in RING if place not in taken and place.startswith("top") == sky]
        place = add.place or (None if add.anchor else next(iter(free), "top" if sky else "bottom"))
        taken.add(place)
        size = add.size or ("tiny" if add.count > 1 else "small")
        added.append(replace(add, colour=add.colour or add.subject.colour, size=size, place=place))
    return added


def _changes(request: str, plan: Plan) -> list[Operation]:
    wish = read_wish(request)
    backdrop: list[Operation] = [Backdrop(wish.backdrop)] if wish.backdrop else []
    return [*backdrop, *wish.edits, *_added(wish, plan)]


def _with_changed_step(request: str, plan: Plan, position: int, named: str) -> Plan:
    step = plan.steps[position]
    kinds = [op.kind for op in parse(step.instruction or "").operations if not isinstance(op, Backdrop)]
    try:
        changes = _changes(request.replace(named, " it "), plan)
    except BackendError:  # "make step 2 red" says nothing about what; then it is what the step draws
        if not kinds:
            raise
        changes = _changes(request.replace(named, f" the {kinds[0]} "), plan)
    operations = list(parse(step.instruction or "").operations)
    for change in changes:
        operations = _changed(operations, change)
    text = " ".join([step.text, *(_edit_draft(change).text for change in changes)])
    name = ", ".join([step.name, *(_edit_draft(change).name.lower() for change in changes)])
    draft = Draft(name, tuple(operations), text)
    changed = _finish(request, Wish(), [draft] if operations else [], first=step.number, opening=[]).steps
    steps = [*plan.steps[:position], *changed, *plan.steps[position + 1 :]]
    return Plan(steps=steps, reasoning=f"Step {step.number} changes, and every picture after it.")


def _changed(operations: list[Operation], change: Operation) -> list[Operation]:
    """The operations of a step with one more wish: met by what the step does anyway, where that is possible."""
    match change:
        case Backdrop():
            return [change, *(op for op in operations if not isinstance(op, Backdrop))]
        case Recolour(kind=kind, colour=colour) if any(isinstance(op, Add) and op.kind == kind for op in operations):
            return [replace(op, colour=colour) if isinstance(op, Add) and op.kind == kind else op for op in operations]
        case Remove(kind=kind) if any(isinstance(op, Add) and op.kind == kind for op in operations):
            return [op for op in operations if not (isinstance(op, Add) and op.kind == kind)]
        case _:
            return [*operations, change]


def _free_places(picture: Picture) -> list[str]:
    """The nine places of a picture, the emptiest first."""
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
    """Answer with words alone: nothing is drawn."""
    steps = [
        Step(number=number, name=f"Picture {number}", auxiliary_text=describe_picture(image))
        for number, image in enumerate(images, start=1)
    ]
    return Plan(steps=steps, reasoning="The request asks about the given pictures, so every step is text.")


def _finish(request: str, wish: Wish, drafts: list[Draft], first: int, opening: list[Operation]) -> Plan:
    """Fit the drafts to the number of steps that was asked for and write the prompts."""
    if wish.steps is not None:
        drafts = _fit(drafts, wish.steps)
    rng = Random(request)
    steps = []
    for number, draft in enumerate(drafts, start=first):
        operations = (*opening, *draft.operations) if number == first else draft.operations
        prompt = describe(casual(Instructions(operations), rng))
        instruction = describe(Instructions(operations))
        steps.append(
            Step(
                number=number,
                name=draft.name,
                instruction=instruction,
                prompt=prompt,
                auxiliary_text=draft.text,
            )
        )
    kinds = list(dict.fromkeys(add.kind for draft in drafts for add in draft.operations if isinstance(add, Add)))
    return Plan(steps=steps, reasoning=f"{len(steps)} step(s), about: {', '.join(kinds) or 'changes to the picture'}.")


def _fit(drafts: list[Draft], steps: int) -> list[Draft]:
    """An explicit number of steps is binding: neighbours are joined, or small things added around the subject."""
    if steps < 1:
        raise BackendError("the request asks for 0 steps; ask for at least one")
    taken = {op.place for draft in drafts for op in draft.operations if isinstance(op, Add)}
    kinds = {op.kind for draft in drafts for op in draft.operations if isinstance(op, Add)}
    places = [place for place in RING if place not in taken]
    fillers = [kind for kind in FILLERS if kind not in kinds]
    spare = steps - len(drafts)
    if spare > min(len(places), len(fillers)):
        raise BackendError(
            f"the request asks for {steps} steps, but the sandbox can fill at most "
            f"{len(drafts) + min(len(places), len(fillers))} of them; ask for fewer"
        )
    if spare > 0:
        extra = [_filler(kind, places) for kind in fillers[:spare]]
        return drafts + [replace(_edit_draft(add), text=f"Company arrives: {noun_phrase(add)}.") for add in extra]
    bounds = [round(number * len(drafts) / steps) for number in range(steps + 1)]
    return [_join(drafts[low:high]) for low, high in pairwise(bounds)]


def _filler(kind: str, places: list[str]) -> Add:
    """A small thing in a place that suits it, which is taken out of `places`."""
    in_the_sky = subjects()[kind].habitat == "sky"
    place = next((name for name in places if name.startswith("top") == in_the_sky), places[0])
    places.remove(place)
    return Add(kind, size="small", colour=subjects()[kind].colour, place=place)


def _join(drafts: list[Draft]) -> Draft:
    operations = tuple(operation for draft in drafts for operation in draft.operations)
    names = [drafts[0].name, *(draft.name.lower() for draft in drafts[1:])]
    return Draft(", ".join(names), operations, " ".join(draft.text for draft in drafts))


def casual(instructions: Instructions, rng: Random) -> Instructions:
    """The same instructions as a planner would prompt them: attributes are left open now and then."""

    def open_up(operation: Operation) -> Operation:
        if not isinstance(operation, Add):
            return operation
        if rng.random() < CASUAL:
            operation = replace(operation, size=None)
        if rng.random() < CASUAL:
            operation = replace(operation, colour=None)
        if rng.random() < CASUAL / 2:
            operation = replace(operation, place=None, relation=None, anchor=None)
        return operation

    return replace(instructions, operations=tuple(open_up(operation) for operation in instructions.operations))
