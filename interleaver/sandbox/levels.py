"""Levels of the sandbox world: which part of it the planner and the generator use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from interleaver.choices import SandboxLevel
from interleaver.errors import BadInput
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import COLOURS


@dataclass(frozen=True)
class Level:
    """The part of the sandbox world that a level uses.

    Attributes:
        kinds: proper names of the available subjects.
        colours: names of the available colours.
        backgrounds: names of the available backgrounds.
        size: size of a thing for which no size is stated; None if such sizes vary.
        one_a_place: whether each of the nine places holds at most one thing. Misplaced things and blots then go to
            another place, a free one if there is any; otherwise things shift a little and may overlap.
    """

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    size: str | None = None
    one_a_place: bool = False

    def alike(self, kind: str) -> list[str]:
        """Return the kinds that may be drawn in place of a kind by mistake: shapes for a shape, else subjects."""
        is_shape = subjects()[kind].is_shape
        return [name for name in self.kinds if name != kind and subjects()[name].is_shape == is_shape]


def level_of(name: SandboxLevel) -> Level:
    """Return a level by name.

    *full* is the whole world. *miniature* has five shapes in five colours, all of one size, on white paper, at most one
    in each of nine places: small enough for models of a few million parameters.

    Raises:
        BadInput: the name is unknown.
    """
    if name == "full":
        return Level(tuple(subjects()), tuple(COLOURS), tuple(backgrounds()))
    if name != "miniature":
        raise BadInput(f"level {name!r} is unknown; choose one of: {', '.join(get_args(SandboxLevel))}")
    return Level(
        kinds=("circle", "square", "triangle", "star", "heart"),
        colours=("red", "yellow", "green", "blue", "purple"),
        backgrounds=("white paper",),
        size="small",
        one_a_place=True,
    )
