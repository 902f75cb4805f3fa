"""Levels of the sandbox world: how much of it a planner and a generator make use of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from interleaver.errors import BadInput
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import COLOURS

LevelName = Literal["full", "miniature"]


@dataclass(frozen=True)
class Level:
    """A part of the world.

    Attributes:
        kinds: the subjects that there are.
        colours: likewise.
        backgrounds: likewise.
        size: the one size that things have where nothing is said; None where sizes differ.
        one_a_place: whether what goes astray, and every blot, goes to another of the nine places, a free one if there
            is any; otherwise things shift a little and may cover each other.
    """

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    size: str | None = None
    one_a_place: bool = False

    def alike(self, kind: str) -> list[str]:
        """The other kinds that one may be mistaken for: shapes for shapes, subjects for subjects."""
        is_shape = subjects()[kind].is_shape
        return [name for name in self.kinds if name != kind and subjects()[name].is_shape == is_shape]


def level_of(name: LevelName) -> Level:
    """A level by name.

    *full* is the whole world. *miniature* has five shapes in five colours, all of one size, on white paper, at most
    one in each of nine places: small enough for models of a few million parameters.

    Raises:
        BadInput: there is no such level.
    """
    if name == "full":
        return Level(tuple(subjects()), tuple(COLOURS), tuple(backgrounds()))
    if name != "miniature":
        raise BadInput(f"level {name!r} is unknown; choose one of: {', '.join(get_args(LevelName))}")
    return Level(
        kinds=("circle", "square", "triangle", "star", "heart"),
        colours=("red", "yellow", "green", "blue", "purple"),
        backgrounds=("white paper",),
        size="small",
        one_a_place=True,
    )
