"""Scenes: what stands where, and how it is rendered.

Coordinates are fractions of the canvas: x to the right, y down, both 0 to 1. A size is the side of an item's square
box as a fraction of the shorter side of the canvas.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from interleaver.errors import BackendError
from interleaver.pictures import Picture, flatten
from interleaver.sandbox.primer import backgrounds, subjects

COLOURS = {
    "red": "#e0393e",
    "orange": "#f7931e",
    "yellow": "#ffd93b",
    "green": "#3fae49",
    "blue": "#2f7de1",
    "purple": "#8e44c9",
    "pink": "#ff8fc0",
    "brown": "#8b5a2b",
    "black": "#50505a",
    "white": "#ffffff",
    "grey": "#9aa0a6",
}
SIZES = {"tiny": 0.12, "small": 0.19, "medium": 0.30, "large": 0.46, "huge": 0.74}
PLACES = {
    "top left": (0.2, 0.2),
    "top": (0.5, 0.2),
    "top right": (0.8, 0.2),
    "left": (0.2, 0.53),
    "middle": (0.5, 0.53),
    "right": (0.8, 0.53),
    "bottom left": (0.2, 0.82),
    "bottom": (0.5, 0.82),
    "bottom right": (0.8, 0.82),
}
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
PAPER = "white paper"
OUTLINE = "#1b1b22"
SPACING = 1.3
MARGIN = 0.02
SCENE_KEY = "interleaver-scene"
BASE_CHUNK = b"ilBs"


MAX_NUMBERS = 2_000
"""How many numbers a scene that is read may have, and how large they may be: a stranger may have written it."""


@dataclass(frozen=True)
class SceneItem:
    """One thing in a scene: a whole subject, or one part of it.

    Attributes:
        ident: identifier of the item; it stays the same from picture to picture.
        kind: proper name of the subject.
        part: name of the part; None for the whole subject.
        colour: main colour, one of `COLOURS`.
        x: horizontal centre of the subject's box.
        y: vertical centre of the subject's box.
        size: side of the subject's box.
    """

    ident: int
    kind: str
    part: str | None
    colour: str
    x: float
    y: float
    size: float

    @property
    def title(self) -> str:
        """Phrase that names the item, such as "orange cat" or "ears of the orange cat"."""
        return f"{self.part} of the {self.colour} {self.kind}" if self.part else f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """The ground truth of a sandbox picture.

    Attributes:
        background: one of `backgrounds()`.
        items: in painting order.
        smudges: (x, y, size) of blots that a generator left by mistake.
        base: PNG bytes of a picture from elsewhere that the items are drawn on; None for the sandbox's own pictures.
    """

    background: str = PAPER
    items: tuple[SceneItem, ...] = ()
    smudges: tuple[tuple[float, float, float], ...] = ()
    base: bytes | None = None

    def by_ident(self) -> dict[int, SceneItem]:
        """Return the items by their identifier."""
        return {item.ident: item for item in self.items}

    def next_ident(self) -> int:
        """Return an identifier that no item has."""
        return max((item.ident for item in self.items), default=0) + 1

    def to_json(self) -> str:
        """Return the scene as JSON, without `base`."""
        return json.dumps(asdict(replace(self, base=None)), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, base: bytes | None = None) -> Scene:
        """Parse the output of `to_json`; raise ValueError, KeyError or TypeError if the text is anything else."""
        data: dict[str, Any] = json.loads(text)
        scene = cls(
            background=data["background"],
            items=tuple(SceneItem(**item) for item in data["items"]),
            smudges=tuple((float(x), float(y), float(s)) for x, y, s in data["smudges"]),
            base=base,
        )
        items_known = all(item.kind in subjects() and item.colour in COLOURS for item in scene.items)
        if not items_known or scene.background not in backgrounds():
            raise ValueError("the scene names something that the primer does not know")
        numbers = [n for item in scene.items for n in (item.ident, item.x, item.y, item.size)]
        numbers += [n for smudge in scene.smudges for n in smudge]
        if len(numbers) > MAX_NUMBERS or not all(abs(number) <= MAX_NUMBERS for number in numbers):
            raise ValueError("the scene is too large")
        return scene


def place_centre(place: str, width: float, height: float) -> tuple[float, float]:
    """Return the centre of a box at a place, moved if necessary so that the box stays on the canvas."""
    x, y = PLACES[place]
    return keep_inside(x, width), keep_inside(y, height)


def nearest_place(x: float, y: float) -> str:
    """Return the name of the place nearest to a point."""
    return min(PLACES, key=lambda name: (PLACES[name][0] - x) ** 2 + (PLACES[name][1] - y) ** 2)


def row_of(count: int, size: float) -> list[tuple[float, float]]:
    """Return the offsets of `count` equal things from their common centre, in rows as wide as the canvas allows."""
    per_row = max(1, min(count, int((1 - 2 * MARGIN + size * (SPACING - 1)) / (size * SPACING))))
    rows = -(-count // per_row)
    offsets = []
    for number in range(count):
        row, column = divmod(number, per_row)
        in_row = min(per_row, count - row * per_row)
        offsets.append(((column - (in_row - 1) / 2) * size * SPACING, (row - (rows - 1) / 2) * size * SPACING))
    return offsets


def extent(offsets: list[tuple[float, float]], size: float) -> tuple[float, float]:
    """Return the width and height of a group of equal things, given the offsets of their centres."""
    xs, ys = zip(*offsets, strict=True)
    return max(xs) - min(xs) + size, max(ys) - min(ys) + size


def keep_inside(centre: float, length: float) -> float:
    """Return the coordinate nearest to `centre` at which a box of the given length stays on the canvas."""
    low = length / 2 + MARGIN
    return min(max(centre, low), 1 - low) if low < 0.5 else 0.5


def subject_markup(kind: str, parts: tuple[str, ...], colour: str, x: float, y: float, side: float) -> str:
    """Return the SVG of a subject's parts (all if `parts` is empty), in a box centred at (x, y), all in pixels."""
    shown_parts = [part for part in subjects()[kind].parts if part.name in parts or not parts]
    inner = "".join(part.markup for part in shown_parts)
    return (
        f'<g transform="translate({x - side / 2:.3f} {y - side / 2:.3f}) scale({side / 100:.5f})" color="{colour}" '
        f'fill="{colour}" stroke="{OUTLINE}" stroke-width="2.1" stroke-linejoin="round" stroke-linecap="round">'
        f"{inner}</g>"
    )


def item_markup(item: SceneItem, width: int, height: int) -> str:
    """Return the SVG of an item on a canvas of the given size in pixels."""
    side = item.size * min(width, height)
    parts = (item.part,) if item.part else ()
    return subject_markup(item.kind, parts, COLOURS[item.colour], item.x * width, item.y * height, side)


def background_markup(name: str, width: int, height: int) -> str:
    """Return the SVG of a background, stretched over the canvas."""
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{backgrounds()[name].markup}</svg>"
    )


def rasterise(markup: str, width: int, height: int) -> bytes:
    """Render SVG elements to PNG bytes, transparent where nothing is drawn.

    Raises:
        BackendError: the renderer fails, for example on coordinates that are no numbers.
    """
    import resvg_py

    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{markup}</svg>'
    )
    try:
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height, skip_system_fonts=True))
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust, which is no Exception and would end the thread
            raise BackendError(f"the scene cannot be drawn: {error}") from None
        raise


def scene_markup(scene: Scene, width: int, height: int) -> str:
    """Return the SVG of a scene."""
    backdrop = "" if scene.base else background_markup(scene.background, width, height)
    items = "".join(item_markup(item, width, height) for item in scene.items)
    side = min(width, height)
    smudges = "".join(
        f'<ellipse cx="{x * width:.2f}" cy="{y * height:.2f}" rx="{size * side:.2f}" ry="{size * side * 0.6:.2f}" '
        'fill="#7a6a5a" fill-opacity="0.55"/>'
        for x, y, size in scene.smudges
    )
    return backdrop + items + smudges


def paint(scene: Scene, width: int, height: int) -> Picture:
    """Render a scene as a PNG that stores the scene in a text chunk.

    The generator, the judge and the exact critic read the scene from the chunk. The sandbox critic looks only at
    pixels, and so does the planner, except that it checks whether a picture is the sandbox's own.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    image: Image.Image = Image.open(io.BytesIO(rasterise(scene_markup(scene, width, height), width, height)))
    if scene.base:
        below = Image.open(io.BytesIO(scene.base)).convert("RGBA")
        image = Image.alpha_composite(below, image)
    info = PngInfo()
    info.add_itxt(SCENE_KEY, scene.to_json(), zip=True)
    if scene.base:
        info.add(BASE_CHUNK, scene.base)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", pnginfo=info)
    return Picture(buffer.getvalue(), "image/png", width, height)


@lru_cache(maxsize=64)
def scene_behind(picture: Picture) -> Scene | None:
    """Return the scene stored in a sandbox picture; None for a picture from elsewhere."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()
        text = image.info.get(SCENE_KEY)
        base = {chunk[0]: chunk[1] for chunk in getattr(image, "private_chunks", [])}.get(BASE_CHUNK)
    try:
        return Scene.from_json(text, base) if isinstance(text, str) else None
    except (ValueError, KeyError, TypeError):
        return None


def redraw(picture: Picture) -> Picture | None:
    """Return what the scene stored in a picture looks like, as `paint` writes it; None if it stores none."""
    from PIL import Image

    scene = scene_behind(picture)
    if scene and scene.base:
        with Image.open(io.BytesIO(scene.base)) as base:
            if base.size != (picture.width, picture.height):
                return None
    return paint(scene, picture.width, picture.height) if scene else None


def scene_over(picture: Picture) -> Scene:
    """Return the scene stored in a picture; for a picture from elsewhere, an empty scene on top of it."""
    from PIL import Image

    scene = scene_behind(picture)
    if scene:
        return scene
    buffer = io.BytesIO()
    flatten(Image.open(io.BytesIO(picture.data))).save(buffer, "PNG")
    return Scene(base=buffer.getvalue())
