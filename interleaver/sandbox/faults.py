"""Faults of a picture, and the refined prompt that asks for it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interleaver.sandbox.language import Add, Instructions, Operation, describe
from interleaver.sandbox.reading import parse

ATTRIBUTES = frozenset({"kind", "count", "size", "colour", "place", "done", "harm"})
"""Attributes that a fault can concern."""
STATABLE_ATTRIBUTES = frozenset({"kind", "size", "colour", "place"})
"""Attributes that an instruction can state of a single thing."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a picture.

    Attributes:
        operation: position of the operation that went wrong; None for a change that no operation asked for.
        attribute: attribute that is wrong, one of `ATTRIBUTES`; a change that no operation asked for is "harm" (from
            the judge) or "rest" (from the critic).
        description: phrase that says what is wrong.
    """

    operation: int | None
    attribute: str
    description: str


def write_refined_prompt(
    operations: Sequence[Operation],
    faults: Sequence[Fault],
    prompt: str,
    extra_attributes: frozenset[str] = frozenset(),
) -> str:
    """Return the full instruction, with emphasis on everything that went wrong in this attempt or an earlier one.

    For a thing that is missing altogether, every stated attribute is emphasised.

    Args:
        operations: operations of the instruction.
        faults: faults of the picture.
        prompt: prompt that the picture was drawn with; its emphasis is kept.
        extra_attributes: attributes to emphasise in any case, wherever the instruction states them.
    """
    before = parse(prompt).operations
    earlier_emphasis = [operation.emphasis for operation in before] if len(before) == len(operations) else []
    emphasised_operations: list[Operation] = []
    for number, operation in enumerate(operations):
        wrong = {fault.attribute for fault in faults if fault.operation == number}
        if isinstance(operation, Add):
            wrong |= {
                name
                for name in (STATABLE_ATTRIBUTES if "kind" in wrong else extra_attributes)
                if getattr(operation, name)
            }
        wrong |= earlier_emphasis[number] if earlier_emphasis else set()
        emphasised_operations.append(replace(operation, emphasis=frozenset(wrong)))
    return describe(Instructions(tuple(emphasised_operations), careful=True))
