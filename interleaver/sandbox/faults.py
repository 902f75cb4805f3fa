"""What is wrong with a picture, and how to ask for it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interleaver.sandbox.language import Add, Instructions, Operation, describe
from interleaver.sandbox.reading import parse

ATTRIBUTES = frozenset({"kind", "count", "size", "colour", "place", "done", "harm"})
"""What faults are about."""
STATED = frozenset({"kind", "size", "colour", "place"})
"""The attributes that an instruction may state of a single thing."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        operation: position of the operation that it concerns; None for something that nobody asked for.
        attribute: what of it, one of `ATTRIBUTES`; "harm" is something that nobody asked for.
        said: in words.
    """

    operation: int | None
    attribute: str
    said: str


def refined(
    operations: Sequence[Operation], faults: Sequence[Fault], prompt: str, also: frozenset[str] = frozenset()
) -> str:
    """The instruction in full, insisting on what went wrong, this time or before.

    Of a thing that was not to be seen at all it insists on every attribute.

    Args:
        operations: of the instruction.
        faults: of the picture.
        prompt: that it was drawn with.
        also: attributes to insist on in any case, wherever the instruction states them.
    """
    before = parse(prompt).operations
    insisted = [operation.emphasis for operation in before] if len(before) == len(operations) else []
    stressed: list[Operation] = []
    for number, operation in enumerate(operations):
        wrong = {fault.attribute for fault in faults if fault.operation == number}
        if isinstance(operation, Add):
            wrong |= {name for name in (STATED if "kind" in wrong else also) if getattr(operation, name)}
        wrong |= insisted[number] if insisted else set()
        stressed.append(replace(operation, emphasis=frozenset(wrong)))
    return describe(Instructions(tuple(stressed), careful=True))
