"""Pictures of the miniature level with a name for everything in them, for models that learn to see."""

from __future__ import annotations

import io
from random import Random
from typing import Any

from PIL import Image

from interleaver.sandbox.grid import POINTS
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.world import PAPER, PLACES, SIZES, Item, Scene, paint, place_centre

FILLED = 0.6
"""The share of places that hold something."""


def busy_picture(rng: Random, side: int = 96) -> tuple[Any, list[list[str]]]:
    """A picture full of shapes.

    Args:
        rng: decides on everything.
        side: pixels.

    Returns:
        The picture in RGB, and for each of the nine places, in reading order, the words for what stands there and for
        where it is: `["blue", "star", "nw"]`.
    """
    level = level_of("miniature")
    items, words = [], []
    for ident, place in enumerate(PLACES, start=1):
        if rng.random() >= FILLED:
            words.append(["empty", POINTS[place]])
            continue
        size = SIZES[level.size or "small"] * rng.uniform(0.95, 1.05)
        x, y = place_centre(place, size, size)
        kind, colour = rng.choice(level.kinds), rng.choice(level.colours)
        items.append(
            Item(ident, kind, None, colour, x + rng.uniform(-0.025, 0.025), y + rng.uniform(-0.025, 0.025), size)
        )
        words.append([colour, kind, POINTS[place]])
    picture = paint(Scene(PAPER, tuple(items)), side, side)
    with Image.open(io.BytesIO(picture.data)) as image:
        return image.convert("RGB"), words
