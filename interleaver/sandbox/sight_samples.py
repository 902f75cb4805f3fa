"""Random pictures of the miniature level with their descriptions, for training a model's vision."""

from __future__ import annotations

from random import Random

from interleaver.pictures import Picture
from interleaver.sandbox.grid import BLOT, EMPTY, POINTS, Grid, describe_grid
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.world import PAPER, PLACES, SIZES, Scene, SceneItem, paint, place_centre

BLOT_SHARE = 0.3
"""Probability that the second picture has a blot that the first does not have."""
FILLED_SHARE = 0.6
"""Probability that a place in the first picture holds something."""
CHANGED_SHARE = 0.3
"""Probability that a place changes from the first picture to the second."""
Things = dict[str, SceneItem]


def busy_pair(rng: Random, side: int = 96) -> tuple[Picture, Picture, str, list[list[str]]]:
    """Return two pictures full of shapes, the second a changed version of the first.

    Args:
        rng: source of all random choices.
        side: side of the pictures in pixels.

    Returns:
        The first picture; the second picture; the description of both by `interleaver.sandbox.grid.describe_grid`; and
        for each of the nine places of the second picture, in reading order, the words for what stands there and where,
        such as `["blue", "star", "nw"]`.
    """
    before = {place: _thing(rng, place) for place in PLACES if rng.random() < FILLED_SHARE}
    after = dict(before)
    for place in PLACES:
        if rng.random() < CHANGED_SHARE:
            if place in after and rng.random() < 0.5:
                del after[place]
            else:
                after[place] = _thing(rng, place)
    free = [place for place in PLACES if place not in after]
    blots = rng.sample(free, 1) if free and rng.random() < BLOT_SHARE else []
    smudges = tuple((*PLACES[place], rng.uniform(0.05, 0.09)) for place in blots)
    first, second = _grid(before), _grid(after) | dict.fromkeys(blots, BLOT)
    words = [[*second[place].split(), code] for place, code in POINTS.items()]
    return _paint_things(before, side), _paint_things(after, side, smudges), describe_grid(first, second), words


def _thing(rng: Random, place: str) -> SceneItem:
    level = level_of("miniature")
    size = SIZES[level.size or "small"] * rng.uniform(0.95, 1.05)
    x, y = place_centre(place, size, size)
    kind, colour = rng.choice(level.kinds), rng.choice(level.colours)
    return SceneItem(
        list(PLACES).index(place),
        kind,
        None,
        colour,
        x + rng.uniform(-0.025, 0.025),
        y + rng.uniform(-0.025, 0.025),
        size,
    )


def _grid(things: Things) -> Grid:
    return {place: f"{things[place].colour} {things[place].kind}" if place in things else EMPTY for place in PLACES}


def _paint_things(things: Things, side: int, smudges: tuple[tuple[float, float, float], ...] = ()) -> Picture:
    return paint(Scene(PAPER, tuple(things.values()), smudges), side, side)
