"""Describe pictures of the miniature level place by place; each place holds at most one shape.

The descriptions are read from pixels alone, so a model that sees the same pixels can learn to write them.
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
"""Compass point of each of the nine places: a single word, so that a model can relate it to a place in a picture."""
EMPTY = "empty"
BLOT = "blot"
SIDE = 24
"""Side in pixels of the square in which silhouettes are compared."""
MIN_OVERLAP = 0.6
"""Minimum intersection over union for a silhouette to be recognised as a shape."""
Grid = dict[str, str]
"""What stands in each of the nine places: "red circle", "empty" or "blot"."""


def read_grid(picture: Picture) -> Grid:
    """Return what stands in each of the nine places of a picture of the miniature level."""
    with Image.open(io.BytesIO(picture.data)) as image:
        pixels = np.asarray(flatten(image)).astype(np.int16)
    height, width = pixels.shape[:2]
    foreground: Mask = sight.largest(np.abs(pixels - 255)) >= sight.DIFFERENCE_THRESHOLD
    grid = dict.fromkeys(PLACES, EMPTY)
    for box in sight.regions(foreground):
        if box.width < 3 or box.height < 3:
            continue
        place = nearest_place((box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height)
        grid[place] = _name(pixels, foreground, box)
    return grid


def _name(pixels: Pixels, foreground: Mask, box: Box) -> str:
    rows, columns = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
    mask = foreground[rows, columns]
    shape = _resize_mask(mask)
    alike = {kind: (shape & other).sum() / (shape | other).sum() for kind, other in _silhouettes().items()}
    best = max(alike, key=lambda kind: alike[kind])
    colour = sight.nearest_colour(pixels[rows, columns][mask])
    is_shape = colour in level_of("miniature").colours and alike[best] >= MIN_OVERLAP
    return f"{colour} {best}" if is_shape else BLOT


@cache
def _silhouettes() -> dict[str, Mask]:
    """Return the silhouettes of the level's shapes, each cropped to its bounding box and resized."""
    masks = {}
    for kind in level_of("miniature").kinds:
        data = rasterise(subject_markup(kind, (), "#000000", 48, 48, 90), 96, 96)
        mask = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3] > 127
        rows, columns = np.nonzero(mask)
        masks[kind] = _resize_mask(mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    return masks


def _resize_mask(mask: Mask) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image) > 127


def describe_grid(before: Grid, after: Grid) -> str:
    """Return a sentence that says for each place what stands there, or what was replaced by what."""
    places = [
        f"{code} {after[place]}" if before[place] == after[place] else f"{code} {before[place]} becomes {after[place]}"
        for place, code in POINTS.items()
    ]
    return f"I see {' '.join(places)}."


def write_reasoning(operations: Sequence[Operation], before: Grid, after: Grid, faults: Sequence[Fault]) -> str:
    """Return the reasoning of a verdict: what is seen in each place, what was asked for, what was drawn, what is wrong.

    Requested and drawn attributes are listed side by side. If they were apart, a small model would learn which
    instructions usually fail instead of comparing the two.

    Args:
        operations: operations of the instruction; must be a single `Add` with a place and a colour.
        before: grid before the step.
        after: grid after the step.
        faults: faults of the step.

    Raises:
        BackendError: `operations` is anything but one such `Add`.
    """
    operation = operations[0] if len(operations) == 1 else None
    if not (isinstance(operation, Add) and operation.place and operation.colour):
        text = describe(Instructions(tuple(operations)))
        raise BackendError(
            'reasoning = "grid" requires an instruction to draw one thing with a colour and a place, '
            f'but the instruction is {text!r}; set reasoning = "findings" in [critic]'
        )
    expected_words = (POINTS[operation.place], operation.colour, operation.kind)
    changes = [f"{code} {after[place]}" for place, code in POINTS.items() if before[place] != after[place]]
    thing_changes = [text for text in changes if len(text.split()) == len(expected_words)]
    closest_change = max(thing_changes, key=lambda text: _alike(expected_words, text), default="nothing")
    other_changes = [text for text in changes if text != closest_change]
    pairs = [
        f"{expected_word} {actual} {'right' if expected_word == actual else 'wrong'}"
        for expected_word, actual in zip(expected_words, closest_change.split(), strict=False)
    ]
    wrong = list(dict.fromkeys(fault.attribute for fault in faults))
    return (
        f"{describe_grid(before, after)} Asked: {' '.join(expected_words)}. Came: {closest_change}. "
        f"{', '.join(pairs)}. "
        f"Else: {' and '.join(other_changes) or 'nothing'}. Wrong: {' and '.join(wrong) or 'nothing'}."
    )


def _alike(expected_words: tuple[str, ...], text: str) -> int:
    return sum(expected_word == actual for expected_word, actual in zip(expected_words, text.split(), strict=True))
