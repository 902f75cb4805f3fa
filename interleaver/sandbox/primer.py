"""What the sandbox knows: the SVG files in `drawings`.

A *subject* is one SVG file with a `viewBox` of 100 x 100; each group directly below the root is a *part*, in painting
order, with its name as `id` and the reader's text as `<desc>`. `currentColor` stands for the subject's main colour.
The root says what is usual for it: `color`, `data-habitat`, `data-setting`, and other names in `data-also`.
A *shape* is a subject with a single part. A *background* is an SVG file that is stretched over the canvas.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Part:
    """A part of a subject: what a step of a drawing tutorial adds.

    Attributes:
        name: for example "front legs".
        text: what a reader is told while it is drawn; "" for shapes.
        markup: SVG elements in the subject's box of 100 x 100.
        coloured: whether it shows the subject's main colour.
    """

    name: str
    text: str
    markup: str
    coloured: bool


@dataclass(frozen=True)
class Subject:
    """A thing that can be drawn.

    Attributes:
        names: singular names, the proper one first.
        plural: of the proper name.
        colour: its usual main colour.
        habitat: where it belongs: ground, sky, water or any.
        setting: the background that suits it, where white paper does not.
    """

    names: tuple[str, ...]
    plural: str
    colour: str
    habitat: str
    setting: str | None
    parts: tuple[Part, ...]
    is_shape: bool

    @property
    def name(self) -> str:
        """The proper name."""
        return self.names[0]

    def part(self, name: str) -> Part:
        """The part of that name (KeyError when there is none)."""
        return {part.name: part for part in self.parts}[name]


@dataclass(frozen=True)
class Background:
    """A setting: its phrase in the language ("a night sky"), the words that suggest it, and its markup."""

    name: str
    phrases: tuple[str, ...]
    markup: str


@cache
def subjects() -> dict[str, Subject]:
    """All subjects and shapes by their proper name."""
    found = [_subject(text, folder == "shapes") for folder in ("subjects", "shapes") for text in _read(folder)]
    return {subject.name: subject for subject in sorted(found, key=lambda subject: subject.name)}


@cache
def backgrounds() -> dict[str, Background]:
    """All backgrounds by name."""
    found = {}
    for text in _read("backgrounds"):
        root = ET.fromstring(text)
        name = root.findtext(f"{SVG}title", "")
        also = tuple(filter(None, root.get("data-also", "").split(", ")))
        found[name] = Background(name, (name, *also), "".join(_markup(child) for child in _shapes(root)))
    return dict(sorted(found.items()))


def _read(folder: str) -> list[str]:
    return [
        entry.read_text(encoding="utf-8")
        for entry in sorted(files(__package__).joinpath("drawings", folder).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".svg")
    ]


def _subject(text: str, is_shape: bool) -> Subject:
    root = ET.fromstring(text)
    name = root.findtext(f"{SVG}title", "")
    also = tuple(filter(None, root.get("data-also", "").split(", ")))
    return Subject(
        names=(name, *also),
        plural=root.get("data-plural", f"{name}s"),
        colour=root.get("color", "red"),
        habitat=root.get("data-habitat", "any"),
        setting=root.get("data-setting"),
        parts=tuple(_part(group) for group in root.findall(f"{SVG}g")),
        is_shape=is_shape,
    )


def _part(group: ET.Element) -> Part:
    markup = "".join(_markup(shape) for shape in _shapes(group))
    text = " ".join(group.findtext(f"{SVG}desc", "").split())
    # A shape without a fill of its own inherits the main colour from the root.
    coloured = any(shape.get("fill", "currentColor") == "currentColor" for shape in _shapes(group))
    return Part(group.get("id", "").replace("-", " "), text, markup, coloured)


def _shapes(element: ET.Element) -> list[ET.Element]:
    return [child for child in element if child.tag not in (f"{SVG}title", f"{SVG}desc")]


def _markup(element: ET.Element) -> str:
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    return ET.tostring(element, encoding="unicode").strip().replace(' xmlns="http://www.w3.org/2000/svg"', "")
