"""Everything that the sandbox can draw: the SVG files in `drawings`.

A *subject* is one SVG file with a `viewBox` of 100 x 100; each group directly below the root is a *part*, in painting
order, with its name as `id` and the text for the reader as `<desc>`. `currentColor` stands for the subject's main
colour. The root states its usual colour (`color`), where it belongs (`data-habitat`), the background that suits it
(`data-setting`), an irregular plural (`data-plural`) and other names (`data-also`). Names with hyphens, with spaces and
as one word are the same to a reader, so only one of them is listed. A *shape* is a subject with a single part. A
*background* is an SVG file that is stretched over the canvas.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class SubjectPart:
    """A part of a subject: what a step of a drawing tutorial adds.

    Attributes:
        name: name of the part, such as "front legs".
        text: text for the reader while the part is drawn; "" for shapes.
        markup: SVG elements, in the subject's box of 100 x 100 units.
        shows_colour: whether the part shows the subject's main colour.
    """

    name: str
    text: str
    markup: str
    shows_colour: bool


@dataclass(frozen=True)
class Subject:
    """A thing that can be drawn.

    Attributes:
        names: singular names, the proper name first.
        plural: plural of the proper name.
        colour: usual main colour.
        habitat: where the subject belongs: ground, sky, water or any.
        setting: name of the background that suits the subject; None for white paper.
        parts: parts in painting order.
        is_shape: whether the subject is a shape.
    """

    names: tuple[str, ...]
    plural: str
    colour: str
    habitat: str
    setting: str | None
    parts: tuple[SubjectPart, ...]
    is_shape: bool

    @property
    def name(self) -> str:
        """The proper name."""
        return self.names[0]

    def part(self, name: str) -> SubjectPart:
        """Return the part with a name; raise KeyError if there is none."""
        return {part.name: part for part in self.parts}[name]


@dataclass(frozen=True)
class Background:
    """A background: its name ("a night sky"), the phrases that refer to it, and its SVG markup."""

    name: str
    phrases: tuple[str, ...]
    markup: str


@cache
def subjects() -> dict[str, Subject]:
    """Return all subjects and shapes by their proper name."""
    subject_list = [_subject(text, folder == "shapes") for folder in ("subjects", "shapes") for text in _read(folder)]
    return {subject.name: subject for subject in sorted(subject_list, key=lambda subject: subject.name)}


@cache
def backgrounds() -> dict[str, Background]:
    """Return all backgrounds by name."""
    by_name = {}
    for text in _read("backgrounds"):
        root = ET.fromstring(text)
        name = root.findtext(f"{SVG}title", "")
        other_names = tuple(filter(None, root.get("data-also", "").split(", ")))
        by_name[name] = Background(name, (name, *other_names), "".join(_markup(child) for child in _shapes(root)))
    return dict(sorted(by_name.items()))


def plural_of(noun: str) -> str:
    """Return the regular plural of a noun."""
    if re.search("[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def _read(folder: str) -> list[str]:
    return [
        entry.read_text(encoding="utf-8")
        for entry in sorted(files(__package__).joinpath("drawings", folder).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".svg")
    ]


def _subject(text: str, is_shape: bool) -> Subject:
    root = ET.fromstring(text)
    name = root.findtext(f"{SVG}title", "")
    other_names = tuple(filter(None, root.get("data-also", "").split(", ")))
    return Subject(
        names=(name, *other_names),
        plural=root.get("data-plural", plural_of(name)),
        colour=root.get("color", "red"),
        habitat=root.get("data-habitat", "any"),
        setting=root.get("data-setting"),
        parts=tuple(_part(group) for group in root.findall(f"{SVG}g")),
        is_shape=is_shape,
    )


def _part(group: ET.Element) -> SubjectPart:
    markup = "".join(_markup(shape) for shape in _shapes(group))
    text = " ".join(group.findtext(f"{SVG}desc", "").split())
    # A shape without a fill of its own inherits the main colour from the root.
    shows_colour = any(shape.get("fill", "currentColor") == "currentColor" for shape in _shapes(group))
    return SubjectPart(group.get("id", "").replace("-", " "), text, markup, shows_colour)


def _shapes(element: ET.Element) -> list[ET.Element]:
    return [child for child in element if child.tag not in (f"{SVG}title", f"{SVG}desc")]


def _markup(element: ET.Element) -> str:
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    return ET.tostring(element, encoding="unicode").strip().replace(' xmlns="http://www.w3.org/2000/svg"', "")
