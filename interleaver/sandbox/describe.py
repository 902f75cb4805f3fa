"""Describe pictures in words, from their pixels alone."""

from __future__ import annotations

from interleaver.pictures import Picture
from interleaver.sandbox import sight
from interleaver.sandbox.fitting import MISFIT, Fitting, Sighting
from interleaver.sandbox.language import COUNTS, PLACE_PHRASES, Add, noun_phrase
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.sight import Box, Mask, Pixels
from interleaver.sandbox.world import SIZES, nearest_place


def describe_picture(picture: Picture) -> str:
    """Return a sentence or two about what a picture shows."""
    pixels = sight.look(picture)
    size = f"{picture.width} x {picture.height} pixels"
    background = sight.recognise_background(pixels)
    if background is None:
        return f"This picture ({size}) is not from the world I know. Its main colours are {_colours(pixels)}."
    empty = sight.backdrop(background, pixels)
    foreground = sight.differs(pixels, empty)
    things = [_name(box, empty, pixels, foreground) for box in sight.regions(foreground)]
    on = f"{'against' if 'sky' in background or 'space' in background else 'on'} {background}"
    if not things:
        return f"This picture ({size}) is empty: nothing but {background}."
    return f"This picture ({size}) shows {_enumerate(things)}, {on}."


def _name(box: Box, empty: Pixels, pixels: Pixels, foreground: Mask) -> str:
    """Return a phrase for the thing in a region.

    The thing is recognised by drawing every subject of matching proportions into the region.
    """
    place = _place(box, pixels)
    fits = []
    for kind in subjects():
        fitting = Fitting(kind, (), box, empty, pixels, foreground)
        sketch = fitting.sketch()
        if sketch:
            fits.append((sketch.misfit, kind, fitting))
    best: Sighting | None = None
    for _, _, fitting in sorted(fits, key=lambda fit: fit[:2])[:3]:
        sighting = fitting.best()
        if sighting and (best is None or sighting.misfit < best.misfit):
            best = sighting
    if best is None or best.misfit > 2 * MISFIT:
        region = pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
        return f"something {sight.nearest_colour(region)} that I cannot name {place}"
    side = best.frame.side / min(pixels.shape[:2])
    size = min(SIZES, key=lambda name: abs(SIZES[name] / side - 1))
    return f"{noun_phrase(Add(best.kind, size=size, colour=best.colour))} {place}"


def _place(box: Box, pixels: Pixels) -> str:
    height, width = pixels.shape[:2]
    x, y = (box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height
    return PLACE_PHRASES[nearest_place(x, y)]


def _colours(pixels: Pixels) -> str:
    shares = sight.colour_shares(pixels)
    return _enumerate([name for name, share in shares[:3] if share > 0.1] or [shares[0][0]])


def _enumerate(things: list[str]) -> str:
    if len(things) == 1:
        return things[0]
    if len(things) > len(COUNTS) * 2:
        return f"{', '.join(things[:6])} and {len(things) - 6} more things"
    return f"{', '.join(things[:-1])} and {things[-1]}"
