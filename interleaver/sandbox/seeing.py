"""Pictures of the miniature level and what is to be seen in them, for models that learn to see."""

from __future__ import annotations

from random import Random

from interleaver.pictures import Picture
from interleaver.sandbox.grid import BLOT, EMPTY, POINTS, Grid, tell
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.world import PAPER, PLACES, SIZES, Item, Scene, paint, place_centre

BLOTTED = 0.3
"""How often the second picture has a blot that the first had not."""
FILLED = 0.6
"""The share of places that hold something."""
CHANGED = 0.3
"""The share of places that change from one picture to the next."""
Things = dict[str, Item]


def busy_pair(rng: Random, side: int = 96) -> tuple[Picture, Picture, str, list[list[str]]]:
    """Two pictures full of shapes, the second one the first with changes.

    Args:
        rng: decides on everything.
        side: pixels.

    Returns:
        The pictures; what is to be seen in them, as `interleaver.sandbox.grid.tell` says it; and for each of the nine
        places of the second picture, in reading order, the words for what stands there and where: `["blue", "star",
        "nw"]`.
    """
    before = {place: _thing(rng, place) for place in PLACES if rng.random() < FILLED}
    after = dict(before)
    for place in PLACES:
        if rng.random() < CHANGED:
            if place in after and rng.random() < 0.5:
                del after[place]
            else:
                after[place] = _thing(rng, place)
    free = [place for place in PLACES if place not in after]
    blots = rng.sample(free, 1) if free and rng.random() < BLOTTED else []
    smudges = tuple((*PLACES[place], rng.uniform(0.05, 0.09)) for place in blots)
    first, second = _grid(before), _grid(after) | dict.fromkeys(blots, BLOT)
    words = [[*second[place].split(), code] for place, code in POINTS.items()]
    return _painted(before, side), _painted(after, side, smudges), tell(first, second), words


def _thing(rng: Random, place: str) -> Item:
    level = level_of("miniature")
    size = SIZES[level.size or "small"] * rng.uniform(0.95, 1.05)
    x, y = place_centre(place, size, size)
    kind, colour = rng.choice(level.kinds), rng.choice(level.colours)
    return Item(
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


def _painted(things: Things, side: int, smudges: tuple[tuple[float, float, float], ...] = ()) -> Picture:
    return paint(Scene(PAPER, tuple(things.values()), smudges), side, side)
