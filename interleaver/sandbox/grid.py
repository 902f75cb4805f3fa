"""Saying what a picture shows, place by place: for the miniature level, where a place holds one shape at most.

What is said is read from pixels alone, so a model that sees the same pixels can learn to say it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from interleaver.errors import BackendError
from interleaver.pictures import Picture, flatten
from interleaver.sandbox import sight
from interleaver.sandbox.faults import Fault
from interleaver.sandbox.language import Add, Instructions, Operation, describe
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.sight import Box, Mask, Pixels
from interleaver.sandbox.world import PLACES, nearest_place, rasterise, subject_markup

POINTS = dict(zip(PLACES, ("nw", "n", "ne", "w", "middle", "e", "sw", "s", "se"), strict=True))
"""The nine places as points of the compass: one word each, by which a model finds the place it is to look at."""
EMPTY = "empty"
BLOT = "blot"
SIDE = 24
"""Pixels of the square in which silhouettes are compared."""
ALIKE = 0.6
"""Intersection over union from which on a silhouette counts as a shape."""
Grid = dict[str, str]
"""What stands in each of the nine places: "red circle", "empty" or "blot"."""


def read_grid(picture: Picture) -> Grid:
    """Read a picture of the miniature level."""
    with Image.open(io.BytesIO(picture.data)) as image:
        pixels = np.asarray(flatten(image)).astype(np.int16)
    height, width = pixels.shape[:2]
    shown: Mask = sight.largest(np.abs(pixels - 255)) >= sight.SAME
    grid = dict.fromkeys(PLACES, EMPTY)
    for box in sight.regions(shown):
        if box.width < 3 or box.height < 3:
            continue
        place = nearest_place((box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height)
        grid[place] = _name(pixels, shown, box)
    return grid


def _name(pixels: Pixels, shown: Mask, box: Box) -> str:
    rows, columns = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
    mask = shown[rows, columns]
    shape = _resized(mask)
    alike = {kind: (shape & other).sum() / (shape | other).sum() for kind, other in _silhouettes().items()}
    best = max(alike, key=lambda kind: alike[kind])
    colour = sight.nearest_colour(pixels[rows, columns][mask])
    known = colour in level_of("miniature").colours and alike[best] >= ALIKE
    return f"{colour} {best}" if known else BLOT


@cache
def _silhouettes() -> dict[str, Mask]:
    """The shapes of the level, each cut to its own box."""
    found = {}
    for kind in level_of("miniature").kinds:
        data = rasterise(subject_markup(kind, (), "#000000", 48, 48, 90), 96, 96)
        mask = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] > 127
        rows, columns = np.nonzero(mask)
        found[kind] = _resized(mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    return found


def _resized(mask: Mask) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image) > 127


def tell(before: Grid, after: Grid) -> str:
    """What is seen in each place: what stands there, or what became of what stood there."""
    places = [
        f"{code} {after[place]}" if before[place] == after[place] else f"{code} {before[place]} becomes {after[place]}"
        for place, code in POINTS.items()
    ]
    return f"I see {' '.join(places)}."


def think(operations: Sequence[Operation], before: Grid, after: Grid, faults: Sequence[Fault]) -> str:
    """A verdict's reasoning: what is seen in each place, what was asked for and what came, and what is wrong.

    What was asked for and what came stand side by side, attribute by attribute: a small model that has them apart
    learns what instructions usually go wrong instead of comparing.

    Args:
        operations: of the instruction: one thing to draw, with its place and colour.
        before: the grid before the step.
        after: likewise.
        faults: what is wrong.

    Raises:
        BackendError: the instruction is of another kind.
    """
    asked = operations[0] if len(operations) == 1 else None
    if not (isinstance(asked, Add) and asked.place and asked.colour):
        said = describe(Instructions(tuple(operations)))
        raise BackendError(
            f'the grid tells of one thing with a colour and a place, not of {said!r}; set reasoning = "findings"'
        )
    wanted = (POINTS[asked.place], asked.colour, asked.kind)
    changed = [f"{code} {after[place]}" for place, code in POINTS.items() if before[place] != after[place]]
    things = [said for said in changed if len(said.split()) == len(wanted)]
    came = max(things, key=lambda said: _alike(wanted, said), default="nothing")
    others = [said for said in changed if said != came]
    pairs = [
        f"{want} {got} {'right' if want == got else 'wrong'}" for want, got in zip(wanted, came.split(), strict=False)
    ]
    wrong = list(dict.fromkeys(fault.attribute for fault in faults))
    return (
        f"{tell(before, after)} Asked: {' '.join(wanted)}. Came: {came}. {', '.join(pairs)}. "
        f"Else: {' and '.join(others) or 'nothing'}. Wrong: {' and '.join(wrong) or 'nothing'}."
    )


def _alike(wanted: tuple[str, ...], said: str) -> int:
    return sum(want == got for want, got in zip(wanted, said.split(), strict=True))
