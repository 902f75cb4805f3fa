"""From drafts of steps to a plan: their number, and the prompts as a language model would write them."""

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

CASUAL = 0.5
"""How often the first prompt leaves an attribute open that the instruction states."""
FILLERS = ("sun", "flower", "cloud", "butterfly", "bird", "mushroom", "bee", "tulip", "star", "apple")
RING = ("top left", "top right", "bottom left", "bottom right", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Draft:
    """A step before it gets its number: its name, what it draws and what the reader is told beside the instruction."""

    name: str
    operations: tuple[Operation, ...]
    text: str | None


def title(add: Add) -> str:
    """The name of a step that draws something."""
    return noun_phrase(replace(add, size=None, place=None)).capitalize()


def edit_draft(edit: Operation) -> Draft:
    """A step that does one thing to the picture before."""
    match edit:
        case Recolour(kind=kind, colour=colour):
            return Draft(f"A {colour} {kind}", (edit,), f"A fresh coat of paint: the {kind} turns {colour}.")
        case Remove(kind=kind):
            return Draft(f"Without the {kind}", (edit,), f"The {kind} has had its time and leaves the picture.")
        case Backdrop(background=background):
            return Draft(background.capitalize(), (edit,), f"The world behind it all becomes {background}.")
        case Add():
            return Draft(title(edit), (edit,), f"{title(edit)} joins the picture.")


def finish(request: str, wish: Wish, drafts: list[Draft], first: int, opening: list[Operation]) -> Plan:
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
        return drafts + [replace(edit_draft(add), text=f"Company arrives: {noun_phrase(add)}.") for add in extra]
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
    texts = [draft.text for draft in drafts if draft.text]
    return Draft(", ".join(names), operations, " ".join(texts) or None)


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
