"""Revise the plan of a document that has been drawn."""

from __future__ import annotations

import re
from dataclasses import replace

from interleaver.errors import BackendError
from interleaver.sandbox.language import Add, Backdrop, Operation, Recolour, Remove
from interleaver.sandbox.outlining import RING, StepOutline, make_plan, outline_edit
from interleaver.sandbox.reading import parse
from interleaver.sandbox.wish import NUMBERS, Wish, read_wish
from interleaver.types import Plan

ORDINALS = {
    word: number
    for number, word in enumerate(
        ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), start=1
    )
}
_STEP_NAMES = "|".join(["last", *ORDINALS, r"\d+(?:st|nd|rd|th)?"])
STEP_REFERENCE = re.compile(
    rf"\b(?:the\s+)?(?P<before>{_STEP_NAMES})\s+(?:picture|image|drawing|step|one)\b"
    rf"|\b(?:picture|image|(?P<step>step))\s+(?P<after>\d+|{'|'.join(NUMBERS)})\b",
    re.IGNORECASE,
)
"""A phrase that names a step of the document so far."""
CHANGE_OPENING = re.compile(
    r"\s*(?:(?:please|now|and|then|also|but|can you|could you)\b,?\s*)*"
    r"(?:add|put|paint|colou?r|make\s+(?:it|the|that)|turn|change|remove|delete|erase|take|replace|swap|set)\b",
    re.IGNORECASE,
)
"""Beginning of a message that changes or continues the document so far."""


def revise(request: str, plan: Plan) -> Plan:
    """Return the plan with the named step changed, or with steps added if the request names none.

    A plan without steps means that the request asks for a new document.

    Raises:
        BackendError: the change is not understood, or there is no such step.
    """
    reference = STEP_REFERENCE.search(request)
    if not reference and not CHANGE_OPENING.match(request):
        return Plan(steps=[])
    if reference:
        return _change_step(request, plan, _position(reference, plan), reference[0])
    changes = _changes(request, plan)
    outlines = [outline_edit(change) for change in changes]
    following = make_plan(request, Wish(), outlines, first=plan.steps[-1].number + 1, opening=[])
    return Plan(steps=[*plan.steps, *following.steps], reasoning=following.reasoning)


def _position(reference: re.Match[str], plan: Plan) -> int:
    """Return the position in the plan of the step that is meant."""
    drawing_positions = [position for position, step in enumerate(plan.steps) if step.draws]
    if not drawing_positions:
        raise BackendError(f"there is no {reference[0]!r}: the document has no pictures")
    word = (reference["before"] or reference["after"]).lower()
    if word == "last":
        return drawing_positions[-1]
    count = ORDINALS.get(word) or NUMBERS.get(word) or int(re.sub(r"\D", "", word))
    by_number = {plan.steps[position].number: position for position in drawing_positions}
    if reference["step"] and count in by_number:
        return by_number[count]
    if not 1 <= count <= len(drawing_positions):
        raise BackendError(f"there is no picture {count}: the document has {len(drawing_positions)} picture(s)")
    return drawing_positions[count - 1]


def _place_additions(wish: Wish, plan: Plan) -> list[Add]:
    """Return the things to add, each in a place that nothing in the plan uses, as long as there is one."""
    operations_by_step = [parse(step.instruction or "").operations for step in plan.steps]
    used_places = {op.place for operations in operations_by_step for op in operations if isinstance(op, Add)}
    additions = []
    for add in wish.things:
        sky = add.subject.habitat == "sky"
        free = [place for place in RING if place not in used_places and place.startswith("top") == sky]
        place = add.place or (None if add.anchor else next(iter(free), "top" if sky else "bottom"))
        used_places.add(place)
        size = add.size or ("tiny" if add.count > 1 else "small")
        additions.append(replace(add, colour=add.colour or add.subject.colour, size=size, place=place))
    return additions


def _changes(request: str, plan: Plan) -> list[Operation]:
    wish = read_wish(request)
    backdrop: list[Operation] = [Backdrop(wish.backdrop)] if wish.backdrop else []
    return [*backdrop, *wish.edits, *_place_additions(wish, plan)]


def _change_step(request: str, plan: Plan, position: int, reference: str) -> Plan:
    step = plan.steps[position]
    kinds = [op.kind for op in parse(step.instruction or "").operations if not isinstance(op, Backdrop)]
    try:
        changes = _changes(request.replace(reference, " it "), plan)
    except BackendError:  # "make step 2 red" does not say what: assume the first thing that the step is about
        if not kinds:
            raise
        changes = _changes(request.replace(reference, f" the {kinds[0]} "), plan)
    operations = list(parse(step.instruction or "").operations)
    for change in changes:
        operations = _apply_change(operations, change)
    text = " ".join([step.text, *(outline_edit(change).text or "" for change in changes)])
    name = ", ".join([step.name, *(outline_edit(change).name.lower() for change in changes)])
    outline = StepOutline(name, tuple(operations), text)
    changed_steps = make_plan(request, Wish(), [outline] if operations else [], first=step.number, opening=[]).steps
    steps = [*plan.steps[:position], *changed_steps, *plan.steps[position + 1 :]]
    return Plan(steps=steps, reasoning=f"Step {step.number} changes, and every picture after it.")


def _apply_change(operations: list[Operation], change: Operation) -> list[Operation]:
    """Return the operations of a step with one change applied, merged into existing operations where possible."""
    match change:
        case Backdrop():
            return [change, *(op for op in operations if not isinstance(op, Backdrop))]
        case Recolour(kind=kind, colour=colour) if any(isinstance(op, Add) and op.kind == kind for op in operations):
            return [replace(op, colour=colour) if isinstance(op, Add) and op.kind == kind else op for op in operations]
        case Remove(kind=kind) if any(isinstance(op, Add) and op.kind == kind for op in operations):
            return [op for op in operations if not (isinstance(op, Add) and op.kind == kind)]
        case _:
            return [*operations, change]
