"""Recognise things by drawing them: a region shows a cat if a cat drawn into its box looks like the region."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import inf

import numpy as np
from PIL import Image

from interleaver.sandbox.sight import (
    PALETTE,
    PALETTE_NAMES,
    Box,
    Mask,
    Pixels,
    differs_clearly,
    grown,
    largest,
    nearest_colour,
)
from interleaver.sandbox.world import SIZES, rasterise, subject_markup

MISFIT = 0.2
"""Largest share of a silhouette that may differ from the picture for a subject to count as recognised."""
SMALLEST, LARGEST = SIZES["tiny"] / 2, 1.0
"""Bounds of a frame's side, as fractions of the shorter side of the canvas; there is nothing beyond them."""
EXACT = 0.03
"""Misfit below which the frame of a subject is not searched any further."""
HOPELESS = 3 * MISFIT
"""Misfit from which on a fit is not worth refining."""
ROUNDS = 12
"""Maximum number of rounds in which a frame is moved to improve the fit."""
FINEST = 0.5
"""Smallest stride of a frame in pixels; smaller ones have never made a difference to recognition."""
SHIFTS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
"""Directions (right, down) in which a frame is shifted."""
ANCHORS = ((0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))
"""Shifts (right, down) for each pixel by which a frame grows: it keeps its centre or the middle of an edge in place."""
MOVES = (
    *((across, down, 0.0) for across, down in SHIFTS),
    *((across * wider, down * wider, wider) for wider in (1.0, -1.0) for across, down in ANCHORS),
)
"""Ways in which a frame is changed: (right, down, wider)."""

KEY = (255, 0, 255)
"""Key colour (RGB) that stands for a subject's main colour while it is fitted."""


@dataclass(frozen=True)
class Frame:
    """The square box of a subject: centre and side in pixels."""

    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Sighting:
    """A subject, or some of its parts, as recognised in a picture.

    Attributes:
        kind: proper name of the subject.
        parts: names of the parts; empty for the whole subject.
        frame: box of the whole subject.
        colour: palette colour nearest to the main colour in the picture; None if no main colour is visible.
        misfit: number of pixels that look different, as a fraction of the silhouette; 0 for a perfect match.
    """

    kind: str
    parts: tuple[str, ...]
    frame: Frame
    colour: str | None
    misfit: float


@dataclass(frozen=True)
class _Layer:
    """A subject rendered in a window of the canvas: RGBA values (height x width x 4) and the window's position."""

    pixels: Pixels
    rows: slice
    columns: slice

    @cached_property
    def silhouette(self) -> Mask:
        """Where the subject is opaque."""
        return np.asarray(self.pixels[..., 3] > 64)

    @cached_property
    def main(self) -> Mask:
        """Where the subject shows its main colour, which is rendered in the key colour."""
        close = largest(np.abs(self.pixels[..., :3] - np.array(KEY, np.int16))) < 40
        return close & (self.pixels[..., 3] > 200)

    def over(self, below: Pixels, colour: str | None) -> Pixels:
        """Return the window of a picture with the subject drawn on top in a palette colour."""
        rgb = self.pixels[..., :3].astype(np.float32)
        if colour:
            # The key colour blends with outlines and highlights at its edges: replace its share in such pixels as well.
            share = np.sqrt((rgb[..., 0] - rgb[..., 1]).clip(0) * (rgb[..., 2] - rgb[..., 1]).clip(0)) / 255
            share = np.where(share > 0.3, share, 0)[..., None]
            rgb = rgb + share * (PALETTE[PALETTE_NAMES.index(colour)] - np.array(KEY, np.float32))
        alpha = self.pixels[..., 3:].astype(np.float32) / 255
        pixels = below[self.rows, self.columns] * (1 - alpha) + rgb.clip(0, 255) * alpha
        return np.asarray(pixels.astype(np.int16))


@lru_cache(maxsize=256)
def _layer(kind: str, parts: tuple[str, ...], frame: Frame, height: int, width: int) -> _Layer:
    """Render a subject in its frame, cropped to a window around what it draws.

    Results are cached, since searches return to the same frames and further attempts are searched in the same way.
    """
    silhouette_box, _ = _template(kind, parts)
    corner_x, corner_y = frame.x - frame.side / 2, frame.y - frame.side / 2
    left = min(max(0, int(corner_x + silhouette_box.left * frame.side) - 2), width - 1)
    top = min(max(0, int(corner_y + silhouette_box.top * frame.side) - 2), height - 1)
    right = max(min(width, int(corner_x + silhouette_box.right * frame.side) + 3), left + 1)
    bottom = max(min(height, int(corner_y + silhouette_box.bottom * frame.side) + 3), top + 1)
    pixels = _render_keyed(kind, parts, Frame(frame.x - left, frame.y - top, frame.side), right - left, bottom - top)
    return _Layer(pixels, slice(top, bottom), slice(left, right))


def _render_keyed(kind: str, parts: tuple[str, ...], frame: Frame, width: int, height: int) -> Pixels:
    """Return a subject on a transparent canvas (RGBA, height x width x 4), its main colour rendered in magenta."""
    markup = subject_markup(kind, parts, "#ff00ff", frame.x, frame.y, frame.side)
    data = rasterise(markup, width, height)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(np.int16)


@lru_cache(maxsize=512)
def _template(kind: str, parts: tuple[str, ...]) -> tuple[Box, Box | None]:
    """Return the boxes of a subject's silhouette and main colour (None if not visible), as fractions of its frame."""
    side = 400
    pixels = _render_keyed(kind, parts, Frame(side / 2, side / 2, side), side, side)
    layer = _Layer(pixels, slice(0, side), slice(0, side))

    def fraction(mask: Mask) -> Box | None:
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return None
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        return Box(*(float(edge) / side for edge in edges))

    silhouette = fraction(layer.silhouette)
    assert silhouette is not None  # every part of the primer draws something
    return silhouette, fraction(layer.main)


def draw_over(below: Pixels, sighting: Sighting) -> tuple[Pixels, Mask]:
    """Draw a sighting on top of a picture; return the result and the silhouette that was drawn."""
    height, width = below.shape[:2]
    layer = _layer(sighting.kind, sighting.parts, sighting.frame, height, width)
    result = below.copy()
    result[layer.rows, layer.columns] = layer.over(below, sighting.colour)
    silhouette = np.zeros((height, width), bool)
    silhouette[layer.rows, layer.columns] = layer.silhouette
    return result, silhouette


@dataclass
class Fitting:
    """A search for the frame in which a subject explains a region of a picture.

    Attributes:
        kind: proper name of the subject.
        parts: names of the parts to draw together; empty for the whole subject.
        box: box of the region.
        below: pixels assumed to lie under the subject.
        picture: pixels of the picture with the subject.
        change_mask: where `below` and `picture` differ; changes in the box but outside the silhouette count as misfit.
    """

    kind: str
    parts: tuple[str, ...]
    box: Box
    below: Pixels
    picture: Pixels
    change_mask: Mask

    def best(self, main_only: bool = False, guess: Frame | None = None, enough: float = MISFIT) -> Sighting | None:
        """Return the best fit, however bad, after moving the frame to improve it.

        Args:
            main_only: see `glance`.
            guess: expected frame of the subject, from which a second search begins if the first one does not do; it
                finds a part of which the region shows too little.
            enough: misfit at which the search ends.

        Returns:
            The sighting; None as for `glance`.
        """
        best = self.glance(main_only)
        if best and best.misfit < HOPELESS:
            best = self._refine(best, 2.0, enough)
        if best and guess and best.misfit > enough:
            best = min(best, self._refine(self._try(guess), 8.0, enough), key=lambda sighting: sighting.misfit)
        return best

    def glance(self, main_only: bool = False) -> Sighting | None:
        """Return the sighting in the first likely frame that fits well, else the best of the likely frames.

        Args:
            main_only: whether the region shows only the main colour (as after a recolouring), not the whole silhouette.

        Returns:
            The sighting; None if `main_only` is set and the subject has no visible main colour.
        """
        silhouette, main = _template(self.kind, self.parts)
        template = main if main_only else silhouette
        if template is None:
            return None
        sightings: list[Sighting] = []
        for frame in _frames(self.box, template):
            sightings.append(self._try(frame))
            if sightings[-1].misfit <= MISFIT / 2:
                break
        return min(sightings, key=lambda sighting: sighting.misfit)

    def sketch(self) -> Sighting | None:
        """Return a rough fit without any search; None if the proportions of subject and region do not agree."""
        template, _ = _template(self.kind, self.parts)
        if not 0.88 < (self.box.width / template.width) / (self.box.height / template.height) < 1.14:
            return None
        return self._try(_frames(self.box, template)[0])

    def _refine(self, start: Sighting, stride: float, enough: float) -> Sighting:
        """Move and scale the frame until the misfit is small enough, halving the stride when no move helps."""
        best = start
        for _ in range(ROUNDS):
            if best.misfit <= enough or stride < FINEST:
                break
            frame = best.frame
            moves = [
                Frame(frame.x + across * stride, frame.y + down * stride, frame.side + wider * stride)
                for across, down, wider in MOVES
            ]
            better = min((self._try(move) for move in moves), key=lambda sighting: sighting.misfit)
            if better.misfit < best.misfit:
                best = better
            else:
                stride /= 2
        return best

    def _try(self, frame: Frame) -> Sighting:
        height, width = self.picture.shape[:2]
        if not SMALLEST < frame.side / min(height, width) < LARGEST:
            return Sighting(self.kind, self.parts, frame, None, inf)
        layer = _layer(self.kind, self.parts, frame, height, width)
        window = self.picture[layer.rows, layer.columns]
        main, silhouette = layer.main, layer.silhouette
        colour = nearest_colour(window[main]) if main.any() else None
        wrong = int((differs_clearly(layer.over(self.below, colour), window) & silhouette).sum())
        covered_change = self.change_mask[layer.rows, layer.columns] & self._inside(layer) & grown(silhouette, 1)
        beyond = self._changed_inside - int(covered_change.sum())
        misfit = (wrong + beyond) / max(int(silhouette.sum()), 1)
        return Sighting(self.kind, self.parts, frame, colour, misfit)

    def __post_init__(self) -> None:
        box = self.box
        self._changed_inside = int(
            self.change_mask[int(box.top) : int(box.bottom), int(box.left) : int(box.right)].sum()
        )

    def _inside(self, layer: _Layer) -> Mask:
        """Return which pixels of a window lie in the region."""
        rows = np.arange(layer.rows.start, layer.rows.stop)
        columns = np.arange(layer.columns.start, layer.columns.stop)
        in_rows = (rows >= self.box.top) & (rows < self.box.bottom)
        in_columns = (columns >= self.box.left) & (columns < self.box.right)
        return np.asarray(in_rows[:, None] & in_columns[None, :])


def _frames(box: Box, template: Box) -> list[Frame]:
    """Return candidate frames that map a template onto a box, the likeliest first.

    Occlusion and low contrast can only make a box smaller. So if width and height imply different scales, the larger
    scale is right, and along the other axis the template is aligned with either end of the box.
    """
    by_width, by_height = box.width / template.width, box.height / template.height
    side = max(by_width, by_height)
    if by_width > by_height:
        cut_off = [_frame(box, template, side, 0.5, 0), _frame(box, template, side, 0.5, 1)]
    else:
        cut_off = [_frame(box, template, side, 0, 0.5), _frame(box, template, side, 1, 0.5)]
    whole = _frame(box, template, (by_width + by_height) / 2, 0.5, 0.5)
    agree = abs(by_width / by_height - 1) < 0.12 or abs(box.width - template.width * by_height) < 3
    return [whole, *cut_off] if agree else cut_off


def _frame(box: Box, template: Box, side: float, across: float, down: float) -> Frame:
    """Return the frame with the given side that aligns template and box at a fraction of their widths and heights."""
    left = box.left + across * box.width - side * (template.left + across * template.width)
    top = box.top + down * box.height - side * (template.top + down * template.height)
    return Frame(left + side / 2, top + side / 2, side)
