"""Changing the plan of a document that is drawn."""

from __future__ import annotations

import re
from dataclasses import replace

from interleaver.errors import BackendError
from interleaver.sandbox.drafting import RING, Draft, edit_draft, finish
from interleaver.sandbox.language import Add, Backdrop, Operation, Recolour, Remove
from interleaver.sandbox.reading import parse
from interleaver.sandbox.wish import NUMBERS, Wish, read_wish
from interleaver.types import Plan

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


def revise(request: str, plan: Plan) -> Plan:
    """Change the step that is named, or go on after the last one."""
    named = WHICH.search(request)
    if not named and not CHANGING.match(request):
        return Plan(steps=[])
    if named:
        return _with_changed_step(request, plan, _position(named, plan), named[0])
    changes = _changes(request, plan)
    drafts = [edit_draft(change) for change in changes]
    following = finish(request, Wish(), drafts, first=plan.steps[-1].number + 1, opening=[])
    return Plan(steps=[*plan.steps, *following.steps], reasoning=following.reasoning)


def _position(named: re.Match[str], plan: Plan) -> int:
    """Which step is meant, by its place in the plan."""
    drawn = [position for position, step in enumerate(plan.steps) if step.draws]
    if not drawn:
        raise BackendError(f"there is no {named[0]!r}: the document has no pictures")
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
    text = " ".join([step.text, *(edit_draft(change).text or "" for change in changes)])
    name = ", ".join([step.name, *(edit_draft(change).name.lower() for change in changes)])
    draft = Draft(name, tuple(operations), text)
    changed = finish(request, Wish(), [draft] if operations else [], first=step.number, opening=[]).steps
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
