"""Recognising by drawing: a region is a cat when a cat, drawn into its box, looks like what is there."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property, lru_cache

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
from interleaver.sandbox.world import rasterise, subject_markup

MISFIT = 0.2
"""The share of a silhouette that may differ from what is seen before it counts as something else."""
ROUNDS = 8
"""How many moves of a frame are tried before a thing counts as not recognised."""
FINEST = 0.5
"""Pixels by which a frame is moved at least; less has never made anything recognised."""
MOVES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
"""Directions in which a frame is changed: across, down, wider."""

KEY = (255, 0, 255)
"""The colour that stands for a subject's main colour while it is fitted."""


@dataclass(frozen=True)
class Frame:
    """The square box of a subject: centre and side in pixels."""

    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Sighting:
    """A subject, or some of its parts, as it was recognised.

    Attributes:
        frame: where its box is.
        colour: the palette colour nearest to what its main colour shows; None when it has no main colour.
        misfit: share of the silhouette that looks different, from 0 (identical) on.
    """

    kind: str
    parts: tuple[str, ...]
    frame: Frame
    colour: str | None
    misfit: float


@dataclass(frozen=True)
class _Layer:
    """A subject rendered for one window of the canvas: its pixels (height x width x 4) and where they belong."""

    pixels: Pixels
    rows: slice
    columns: slice

    @cached_property
    def silhouette(self) -> Mask:
        """Where the subject is opaque."""
        return np.asarray(self.pixels[..., 3] > 64)

    @cached_property
    def main(self) -> Mask:
        """Where it shows its main colour, keyed in magenta."""
        close = largest(np.abs(self.pixels[..., :3] - np.array(KEY, np.int16))) < 40
        return close & (self.pixels[..., 3] > 200)

    def over(self, below: Pixels, colour: str | None) -> Pixels:
        """The window of a picture with the subject drawn on top in a palette colour."""
        rgb = self.pixels[..., :3].astype(np.float32)
        if colour:
            # The key mixes with outlines and shine at its edges: replace its share, not only its pure pixels.
            share = np.sqrt((rgb[..., 0] - rgb[..., 1]).clip(0) * (rgb[..., 2] - rgb[..., 1]).clip(0)) / 255
            share = np.where(share > 0.3, share, 0)[..., None]
            rgb = rgb + share * (PALETTE[PALETTE_NAMES.index(colour)] - np.array(KEY, np.float32))
        alpha = self.pixels[..., 3:].astype(np.float32) / 255
        mixed = below[self.rows, self.columns] * (1 - alpha) + rgb.clip(0, 255) * alpha
        return np.asarray(mixed.astype(np.int16))


@lru_cache(maxsize=256)
def _layer(kind: str, parts: tuple[str, ...], frame: Frame, height: int, width: int) -> _Layer:
    """Render a subject in its frame; only the window round what it draws, since most of it is small.

    Many are asked for again soon: searches return to where they were, and attempts are searched alike.
    """
    shown, _ = _template(kind, parts)
    corner_x, corner_y = frame.x - frame.side / 2, frame.y - frame.side / 2
    left = min(max(0, int(corner_x + shown.left * frame.side) - 2), width - 1)
    top = min(max(0, int(corner_y + shown.top * frame.side) - 2), height - 1)
    right = max(min(width, int(corner_x + shown.right * frame.side) + 3), left + 1)
    bottom = max(min(height, int(corner_y + shown.bottom * frame.side) + 3), top + 1)
    pixels = _keyed(kind, parts, Frame(frame.x - left, frame.y - top, frame.side), right - left, bottom - top)
    return _Layer(pixels, slice(top, bottom), slice(left, right))


def _keyed(kind: str, parts: tuple[str, ...], frame: Frame, width: int, height: int) -> Pixels:
    """A subject on a transparent canvas, height x width x 4, its main colour keyed in magenta."""
    markup = subject_markup(kind, parts, "#ff00ff", frame.x, frame.y, frame.side)
    data = rasterise(markup, width, height)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(np.int16)


@lru_cache(maxsize=512)
def _template(kind: str, parts: tuple[str, ...]) -> tuple[Box, Box | None]:
    """The box of a subject's silhouette, and of its main colour, as fractions of its frame."""
    side = 400
    pixels = _keyed(kind, parts, Frame(side / 2, side / 2, side), side, side)
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
    """What a picture looks like with a sighting drawn on top, and the silhouette that was drawn."""
    height, width = below.shape[:2]
    layer = _layer(sighting.kind, sighting.parts, sighting.frame, height, width)
    drawn = below.copy()
    drawn[layer.rows, layer.columns] = layer.over(below, sighting.colour)
    silhouette = np.zeros((height, width), bool)
    silhouette[layer.rows, layer.columns] = layer.silhouette
    return drawn, silhouette


@dataclass
class Fitting:
    """The search for the frame in which a subject explains a region.

    Attributes:
        kind: the subject.
        parts: which of its parts, drawn together; none named stands for the whole.
        box: the region.
        below: what is taken to lie under the subject.
        seen: the picture with the subject.
        changed: where the two differ; what lies in the box but outside the silhouette counts as misfit.
    """

    kind: str
    parts: tuple[str, ...]
    box: Box
    below: Pixels
    seen: Pixels
    changed: Mask

    def best(self, main_only: bool = False, guess: Frame | None = None) -> Sighting | None:
        """The best fit, however bad.

        Args:
            main_only: the region shows the main colour alone (as after a recolouring), not the whole silhouette.
            guess: where the subject is expected, for a part that is too small or too hidden to tell by itself.

        Returns:
            None when `main_only` is asked of a subject without a main colour.
        """
        silhouette, main = _template(self.kind, self.parts)
        template = main if main_only else silhouette
        if template is None:
            return None
        best = self._first_fit(_frames(self.box, template))
        if MISFIT < best.misfit < 3 * MISFIT:
            best = self._refine(best, 1.0)
        if guess and best.misfit > MISFIT:
            guessed = self._refine(self._try(guess), 8.0)
            best = min(best, guessed, key=lambda sighting: sighting.misfit)
        return best

    def _first_fit(self, frames: list[Frame]) -> Sighting:
        """The first frame that fits well, else the best of them."""
        tried: list[Sighting] = []
        for frame in frames:
            tried.append(self._try(frame))
            if tried[-1].misfit <= MISFIT / 2:
                break
        return min(tried, key=lambda sighting: sighting.misfit)

    def sketch(self) -> Sighting | None:
        """A first fit without any search; None when the proportions of subject and region do not agree."""
        template, _ = _template(self.kind, self.parts)
        if not 0.88 < (self.box.width / template.width) / (self.box.height / template.height) < 1.14:
            return None
        return self._try(_frames(self.box, template)[0])

    def _refine(self, start: Sighting, stride: float) -> Sighting:
        """Move and scale the frame downhill, with smaller strides where nothing is gained, until it fits."""
        best = start
        for _ in range(ROUNDS):
            if best.misfit <= MISFIT or stride < FINEST:
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
        height, width = self.seen.shape[:2]
        layer = _layer(self.kind, self.parts, frame, height, width)
        window = self.seen[layer.rows, layer.columns]
        main, silhouette = layer.main, layer.silhouette
        colour = nearest_colour(window[main]) if main.any() else None
        wrong = int((differs_clearly(layer.over(self.below, colour), window) & silhouette).sum())
        covered = self.changed[layer.rows, layer.columns] & self._inside(layer) & grown(silhouette, 1)
        beyond = self._changed_inside - int(covered.sum())
        misfit = (wrong + beyond) / max(int(silhouette.sum()), 1)
        return Sighting(self.kind, self.parts, frame, colour, misfit)

    def __post_init__(self) -> None:
        box = self.box
        self._changed_inside = int(self.changed[int(box.top) : int(box.bottom), int(box.left) : int(box.right)].sum())

    def _inside(self, layer: _Layer) -> Mask:
        """Which pixels of a window lie in the region."""
        rows = np.arange(layer.rows.start, layer.rows.stop)
        columns = np.arange(layer.columns.start, layer.columns.stop)
        in_rows = (rows >= self.box.top) & (rows < self.box.bottom)
        in_columns = (columns >= self.box.left) & (columns < self.box.right)
        return np.asarray(in_rows[:, None] & in_columns[None, :])


def _frames(box: Box, template: Box) -> list[Frame]:
    """Frames that bring a template to a box, the likeliest first.

    What is hidden, or blends in with what it is drawn on, only ever makes the box smaller: so where width and height
    disagree the larger scale is right, and the box is aligned at one end of the other direction.
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
    """The frame of a side that aligns template and box at a fraction of their widths and heights."""
    left = box.left + across * box.width - side * (template.left + across * template.width)
    top = box.top + down * box.height - side * (template.top + down * template.height)
    return Frame(left + side / 2, top + side / 2, side)
