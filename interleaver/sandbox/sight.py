"""Image analysis: what the pixels alone tell about a picture of the sandbox world.

Pictures are scaled to a shorter side of `ACUITY` pixels (less for very elongated ones) before they are analysed; boxes
are in pixels at that scale.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from interleaver.pictures import Picture, flatten
from interleaver.sandbox.primer import backgrounds
from interleaver.sandbox.world import COLOURS, background_markup, rasterise

ACUITY = 256
CELL = 4
"""Side in pixels of a grid cell; pixels in the same or in adjacent cells belong to one region."""
DIFFERENCE_THRESHOLD = 48
"""Largest channel difference (of 255) from which on two pixels look different."""
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
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top

    def overlaps(self, other: Box) -> bool:
        """Return whether the two boxes share any pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def union(self, other: Box) -> Box:
        """Return the smallest box that contains both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


def look(picture: Picture) -> Pixels:
    """Decode a picture to RGB values (height x width x 3, 0 to 255), scaled to a shorter side of `ACUITY` pixels."""
    with Image.open(io.BytesIO(picture.data)) as image:
        scale = min(ACUITY / min(image.width, image.height), 4 * ACUITY / max(image.width, image.height))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        rgb = flatten(image)
        # Averaging keeps edges in place when a picture is reduced; when it is enlarged, edges need to be smooth.
        filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        return np.asarray(rgb.resize(size, filter_) if rgb.size != size else rgb).astype(np.int16)


def differs(first: Pixels, second: Pixels) -> Mask:
    """Return where two pictures look different."""
    return largest(np.abs(first - second)) >= DIFFERENCE_THRESHOLD


def largest(values: NDArray[Any]) -> NDArray[Any]:
    """Return the largest of the three channels of each pixel; several times faster than `max(axis=2)`."""
    return np.asarray(np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2]))


def matches(first: Pixels, second: Pixels) -> Mask:
    """Return where two pictures are nearly identical; antialiased pixels at edges are not."""
    return largest(np.abs(first - second)) < DIFFERENCE_THRESHOLD / 4


def differs_clearly(first: Pixels, second: Pixels) -> Mask:
    """Return where two pictures differ in more than fine detail: outlines that are half a pixel off cancel out."""
    padded_difference = np.pad(first - second, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    rows = padded_difference[:-2] + padded_difference[1:-1] + padded_difference[2:]
    mean = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return largest(np.abs(mean)) >= DIFFERENCE_THRESHOLD


def regions(mask: Mask) -> list[Box]:
    """Return the bounding boxes of the connected regions of a mask.

    Overlapping boxes are merged, so an outline forms one region with what it encloses.
    """
    height, width = mask.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded_mask = np.zeros((rows * CELL, columns * CELL), bool)
    padded_mask[:height, :width] = mask
    cells: Mask = np.asarray(padded_mask.reshape(rows, CELL, columns, CELL).any(axis=(1, 3)))
    boxes: list[Box] = []
    for row, column in zip(*np.nonzero(cells), strict=True):
        if cells[row, column]:
            boxes.append(_tight(mask, _flood(cells, int(row), int(column))))
    return _merge(boxes)


def around(boxes: list[Box]) -> Box:
    """Return the smallest box that contains all boxes; there must be one at least."""
    return reduce(Box.union, boxes)


def _flood(cells: Mask, row: int, column: int) -> Box:
    """Clear a cell and all cells connected to it; return their bounding box in pixels."""
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
    merged_boxes: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.width * box.height):
        touching = [other for other in merged_boxes if other.overlaps(box)]
        for other in touching:
            merged_boxes.remove(other)
            box = box.union(other)
        merged_boxes.append(box)
    return merged_boxes if len(merged_boxes) == len(boxes) else _merge(merged_boxes)


@lru_cache(maxsize=64)
def _backdrop(name: str, width: int, height: int) -> Pixels:
    data = rasterise(background_markup(name, width, height), width, height)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)


def backdrop(name: str, like: Pixels) -> Pixels:
    """Return a background, rendered at the size of the picture `like`."""
    return _backdrop(name, like.shape[1], like.shape[0])


def recognise_background(pixels: Pixels) -> str | None:
    """Return the name of the background that matches most of a picture; None if none matches at least a tenth of it."""
    coarse = pixels[::CELL, ::CELL]
    shares = {name: float(1 - differs(coarse, backdrop(name, pixels)[::CELL, ::CELL]).mean()) for name in backgrounds()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.1 else None


def nearest_colour(pixels: Pixels) -> str:
    """Return the name of the palette colour nearest to the median of some pixels."""
    median = np.median(pixels.reshape(-1, 3), axis=0)
    return PALETTE_NAMES[int(np.abs(PALETTE - median).sum(axis=1).argmin())]


def grown(mask: Mask, by: int = 2) -> Mask:
    """Return a mask dilated by `by` pixels on every side."""
    wide = mask.copy()
    for _ in range(by):
        wide[1:] |= wide[:-1].copy()
        wide[:-1] |= wide[1:].copy()
        wide[:, 1:] |= wide[:, :-1].copy()
        wide[:, :-1] |= wide[:, 1:].copy()
    return wide


def solid(mask: Mask) -> Mask:
    """Return a mask without everything thinner than five pixels, such as edges that are slightly off."""
    return ~grown(~mask, 2)


def detail(pixels: Pixels) -> Mask:
    """Return where a picture has edges, which shows its busy parts when the background is not known."""
    edges = np.zeros(pixels.shape[:2], bool)
    edges[1:] |= largest(np.abs(pixels[1:] - pixels[:-1])) > DIFFERENCE_THRESHOLD / 2
    edges[:, 1:] |= largest(np.abs(pixels[:, 1:] - pixels[:, :-1])) > DIFFERENCE_THRESHOLD / 2
    return edges


def colour_shares(pixels: Pixels) -> list[tuple[str, float]]:
    """Return each palette colour with the share of pixels that are nearest to it, the largest share first."""
    flat = pixels[::CELL, ::CELL].reshape(-1, 1, 3)
    nearest = np.abs(flat - PALETTE[None]).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(PALETTE_NAMES)) / len(nearest)
    return sorted(zip(PALETTE_NAMES, (float(share) for share in shares), strict=True), key=lambda pair: -pair[1])
