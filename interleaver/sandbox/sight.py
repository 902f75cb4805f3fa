"""Seeing: what pixels alone tell about a picture of the sandbox world.

Pictures are looked at with their shorter side at `ACUITY` pixels (less for very long ones), and boxes are in pixels of
that size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from interleaver.pictures import Picture, flatten
from interleaver.sandbox.primer import backgrounds
from interleaver.sandbox.world import COLOURS, background_markup, rasterise

ACUITY = 256
CELL = 4
"""Changed pixels closer than a cell belong together."""
SAME = 48
"""Two pixels whose largest channel difference is below this look the same (of 255)."""
Pixels = NDArray[np.int16]
Mask = NDArray[np.bool_]
PALETTE = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in COLOURS.values()], np.int16)
PALETTE_NAMES = list(COLOURS)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left, top (inclusive), right, bottom (exclusive)."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels."""
        return self.bottom - self.top

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def union(self, other: Box) -> Box:
        """The smallest box round both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def look(picture: Picture) -> Pixels:
    """Decode a picture to height x width x 3 values, 0 to 255, its shorter side at `ACUITY`."""
    with Image.open(io.BytesIO(picture.data)) as image:
        scale = min(ACUITY / min(image.width, image.height), 4 * ACUITY / max(image.width, image.height))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        rgb = flatten(image)
        # Averaging keeps edges where they are when a picture shrinks; when it grows they need to be smooth.
        filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        return np.asarray(rgb.resize(size, filter_) if rgb.size != size else rgb).astype(np.int16)


def differs(one: Pixels, other: Pixels) -> Mask:
    """Where two pictures look different."""
    return largest(np.abs(one - other)) >= SAME


def largest(values: NDArray[Any]) -> NDArray[Any]:
    """The largest of the three channels; several times faster than `max(axis=2)`."""
    return np.asarray(np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2]))


def matches(one: Pixels, other: Pixels) -> Mask:
    """Where two pictures are as good as identical; pixels that an edge shares with the background are not."""
    return largest(np.abs(one - other)) < SAME / 4


def differs_clearly(one: Pixels, other: Pixels) -> Mask:
    """Where two pictures differ in more than fine detail: outlines that are half a pixel off cancel out."""
    padded = np.pad(one - other, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    mean = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return largest(np.abs(mean)) >= SAME


def regions(mask: Mask) -> list[Box]:
    """The boxes of what hangs together in a mask; boxes that overlap are one, so an outline holds what is inside."""
    height, width = mask.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.zeros((rows * CELL, columns * CELL), bool)
    padded[:height, :width] = mask
    cells: Mask = np.asarray(padded.reshape(rows, CELL, columns, CELL).any(axis=(1, 3)))
    boxes: list[Box] = []
    for row, column in zip(*np.nonzero(cells), strict=True):
        if cells[row, column]:
            boxes.append(_tight(mask, _flood(cells, int(row), int(column))))
    return _merge(boxes)


def _flood(cells: Mask, row: int, column: int) -> Box:
    """Clear the cells connected to one and return their box in pixels."""
    waiting, box = [(row, column)], Box(column, row, column + 1, row + 1)
    cells[row, column] = False
    while waiting:
        row, column = waiting.pop()
        box = box.union(Box(column, row, column + 1, row + 1))
        for near_row in (row - 1, row, row + 1):
            for near_column in (column - 1, column, column + 1):
                inside = 0 <= near_row < cells.shape[0] and 0 <= near_column < cells.shape[1]
                if inside and cells[near_row, near_column]:
                    cells[near_row, near_column] = False
                    waiting.append((near_row, near_column))
    return Box(box.left * CELL, box.top * CELL, box.right * CELL, box.bottom * CELL)


def _tight(mask: Mask, box: Box) -> Box:
    top, left = int(box.top), int(box.left)
    rows, columns = np.nonzero(mask[top : int(box.bottom), left : int(box.right)])
    return Box(
        left + int(columns.min()),
        top + int(rows.min()),
        left + int(columns.max()) + 1,
        top + int(rows.max()) + 1,
    )


def _merge(boxes: list[Box]) -> list[Box]:
    merged: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.width * box.height):
        touching = [other for other in merged if other.overlaps(box)]
        for other in touching:
            merged.remove(other)
            box = box.union(other)
        merged.append(box)
    return merged if len(merged) == len(boxes) else _merge(merged)


@lru_cache(maxsize=64)
def _backdrop(name: str, width: int, height: int) -> Pixels:
    data = rasterise(background_markup(name, width, height), width, height)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)


def backdrop(name: str, like: Pixels) -> Pixels:
    """A background as it looks on a canvas of the same size."""
    return _backdrop(name, like.shape[1], like.shape[0])


def recognise_background(pixels: Pixels) -> str | None:
    """The background that explains most of a picture; None when none explains at least a tenth."""
    coarse = pixels[::CELL, ::CELL]
    shares = {name: float(1 - differs(coarse, backdrop(name, pixels)[::CELL, ::CELL]).mean()) for name in backgrounds()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.1 else None


def nearest_colour(pixels: Pixels) -> str:
    """The palette colour nearest to the median of some pixels."""
    median = np.median(pixels.reshape(-1, 3), axis=0)
    return PALETTE_NAMES[int(np.abs(PALETTE - median).sum(axis=1).argmin())]


def grown(mask: Mask, by: int = 2) -> Mask:
    """A mask widened by some pixels on every side."""
    wide = mask.copy()
    for _ in range(by):
        wide[1:] |= wide[:-1].copy()
        wide[:-1] |= wide[1:].copy()
        wide[:, 1:] |= wide[:, :-1].copy()
        wide[:, :-1] |= wide[:, 1:].copy()
    return wide


def solid(mask: Mask) -> Mask:
    """What is left of a mask without everything thinner than five pixels, such as edges that are slightly off."""
    return ~grown(~mask, 2)


def detail(pixels: Pixels) -> Mask:
    """Where a picture has edges: what is busy in a picture whose background is not known."""
    edges = np.zeros(pixels.shape[:2], bool)
    edges[1:] |= largest(np.abs(pixels[1:] - pixels[:-1])) > SAME / 2
    edges[:, 1:] |= largest(np.abs(pixels[:, 1:] - pixels[:, :-1])) > SAME / 2
    return edges


def colour_shares(pixels: Pixels) -> list[tuple[str, float]]:
    """The palette colours and the share of the picture that is nearest to each, the largest first."""
    flat = pixels[::CELL, ::CELL].reshape(-1, 1, 3)
    nearest = np.abs(flat - PALETTE[None]).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(PALETTE_NAMES)) / len(nearest)
    return sorted(zip(PALETTE_NAMES, (float(share) for share in shares), strict=True), key=lambda pair: -pair[1])
