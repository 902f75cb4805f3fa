"""Turn step outlines into a plan: fit their number to the request, and write prompts as a language model would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from interleaver.errors import BackendError
from interleaver.sandbox.language import (
    Add,
    Backdrop,
    Instructions,
    Operation,
    Recolour,
    Remove,
    describe,
    noun_phrase,
)
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.wish import Wish
from interleaver.types import Plan, Step

OPEN_SHARE = 0.5
"""Probability that the first prompt leaves open an attribute that the instruction states."""
FILLERS = ("sun", "flower", "cloud", "butterfly", "bird", "mushroom", "bee", "tulip", "star", "apple")
RING = ("top left", "top right", "bottom left", "bottom right", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class StepOutline:
    """A step that is not numbered yet: its name, its operations, and the text that the reader sees (None for none)."""

    name: str
    operations: tuple[Operation, ...]
    text: str | None


def outline_title(add: Add) -> str:
    """Return the name of a step that draws something."""
    return _name(add).capitalize()


def _name(add: Add) -> str:
    return noun_phrase(replace(add, size=None, place=None))


def outline_edit(edit: Operation) -> StepOutline:
    """Return the outline of a step that applies one operation to the previous picture."""
    match edit:
        case Recolour(kind=kind, colour=colour):
            painted = Add(kind, colour=colour)
            return StepOutline(outline_title(painted), (edit,), f"A fresh coat of paint: the {kind} turns {colour}.")
        case Remove(kind=kind):
            return StepOutline(f"Without the {kind}", (edit,), f"The {kind} has had its time and leaves the picture.")
        case Backdrop(background=background):
            return StepOutline(background.capitalize(), (edit,), f"The world behind it all becomes {background}.")
        case Add():
            return StepOutline(outline_title(edit), (edit,), f"New in the picture: {_name(edit)}.")


def make_plan(request: str, wish: Wish, outlines: list[StepOutline], first: int, opening: list[Operation]) -> Plan:
    """Return a plan: the outlines, fitted to the requested number of steps, with instructions and prompts.

    Args:
        request: text of the request; it seeds the random choices in the prompts.
        wish: parsed request.
        outlines: outlines of the steps, in order.
        first: number of the first step.
        opening: operations to do before those of the first step.

    Raises:
        BackendError: the requested number of steps is 0 or too large.
    """
    if wish.steps is not None:
        outlines = _fit(outlines, wish.steps)
    rng = Random(request)
    steps = []
    for number, outline in enumerate(outlines, start=first):
        operations = (*opening, *outline.operations) if number == first else outline.operations
        prompt = describe(leave_attributes_open(Instructions(operations), rng))
        instruction = describe(Instructions(operations))
        steps.append(
            Step(
                number=number,
                name=outline.name,
                instruction=instruction,
                prompt=prompt,
                auxiliary_text=outline.text,
            )
        )
    kinds = list(dict.fromkeys(add.kind for outline in outlines for add in outline.operations if isinstance(add, Add)))
    return Plan(steps=steps, reasoning=f"{len(steps)} step(s), about: {', '.join(kinds) or 'changes to the picture'}.")


def _fit(outlines: list[StepOutline], steps: int) -> list[StepOutline]:
    """Fit outlines to an explicit number of steps: join neighbours, or add small things around the subject."""
    if steps < 1:
        raise BackendError("the request asks for 0 steps; ask for at least one")
    used_places = {op.place for outline in outlines for op in outline.operations if isinstance(op, Add)}
    kinds = {op.kind for outline in outlines for op in outline.operations if isinstance(op, Add)}
    places = [place for place in RING if place not in used_places]
    fillers = [kind for kind in FILLERS if kind not in kinds]
    missing_steps = steps - len(outlines)
    if missing_steps > min(len(places), len(fillers)):
        raise BackendError(
            f"the request asks for {steps} steps, but the sandbox can fill at most "
            f"{len(outlines) + min(len(places), len(fillers))} of them; ask for fewer"
        )
    if missing_steps > 0:
        extra = [_filler(kind, places) for kind in fillers[:missing_steps]]
        return outlines + [replace(outline_edit(add), text=f"Company arrives: {noun_phrase(add)}.") for add in extra]
    bounds = [round(number * len(outlines) / steps) for number in range(steps + 1)]
    return [_join(outlines[low:high]) for low, high in pairwise(bounds)]


def _filler(kind: str, places: list[str]) -> Add:
    """Return the addition of a small thing in a place that suits it, and remove that place from `places`."""
    in_the_sky = subjects()[kind].habitat == "sky"
    place = next((name for name in places if name.startswith("top") == in_the_sky), places[0])
    places.remove(place)
    return Add(kind, size="small", colour=subjects()[kind].colour, place=place)


def _join(outlines: list[StepOutline]) -> StepOutline:
    operations = tuple(operation for outline in outlines for operation in outline.operations)
    names = [outlines[0].name, *(outline.name.lower() for outline in outlines[1:])]
    texts = [outline.text for outline in outlines if outline.text]
    return StepOutline(", ".join(names), operations, " ".join(texts) or None)


def leave_attributes_open(instructions: Instructions, rng: Random) -> Instructions:
    """Return instructions as a planner would write them in a prompt, with some attributes left open at random."""

    def open_up(operation: Operation) -> Operation:
        if not isinstance(operation, Add):
            return operation
        if rng.random() < OPEN_SHARE:
            operation = replace(operation, size=None)
        if rng.random() < OPEN_SHARE:
            operation = replace(operation, colour=None)
        if rng.random() < OPEN_SHARE / 2:
            operation = replace(operation, place=None, relation=None, anchor=None)
        return operation

    return replace(instructions, operations=tuple(open_up(operation) for operation in instructions.operations))
