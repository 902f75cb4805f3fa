"""Sanitising and rendering of SVG written by a model.

The SVG must not run code, load external resources, or take long to render: elements that are not in `ELEMENTS` and
unsafe attributes are removed, and the rest is rendered in a separate process with limits on time and memory.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
import re
import subprocess
import sys
from html.entities import html5
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from interleaver.errors import BackendError, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.types import clean_text

SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"
MAX_CHARACTERS = 200_000
MAX_ELEMENTS = 5_000
MAX_USES = 500
MAX_DEPTH = 50
RENDER_SECONDS = 20.0
RENDER_BYTES = 2 * 2**30
DRAWING_CHUNK = "svg"
"""Key of the PNG text chunk that holds the SVG source, so that the drawing can be edited."""
PHOTOGRAPH_CHUNK = b"ilPh"
"""Type of the private PNG chunk that holds the photograph in the drawing; it may be too large for a text chunk."""
SOURCE = "source"
"""The `href` that stands for the user's photograph in a drawing."""

ELEMENTS = {
    *("svg", "g", "defs", "style", "symbol", "use", "title", "desc", "image", "marker", "pattern", "clipPath", "mask"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "textPath"),
    *("linearGradient", "radialGradient", "stop", "filter", "feGaussianBlur", "feOffset", "feBlend", "feMerge"),
    *("feMergeNode", "feColorMatrix", "feComposite", "feFlood", "feDropShadow"),
}
GROUPS = {"a", "switch"}
"""Elements that only group others, and are drawn as groups."""
INVISIBLE = {"script", "metadata", "animate", "animateTransform", "animateMotion", "set", "view", "cursor", "font-face"}
"""Elements whose absence changes nothing in a still picture."""
# `style` may hold declarations; if one of them refers to an external address, the whole attribute is removed.
_OUTSIDE = re.compile(r"url\(\s*+['\"]?+(?!#)|@import|expression|javascript:|data:|\\", re.IGNORECASE)
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});)(?:(\w{1,32});)?")
_AT_RULE = re.compile(r"@[^;{}@]*+(?:;|\{(?:[^{}]*+\{[^{}]*+\})*+[^{}]*+\})")
_FENCE = re.compile(r"<svg\b.*</svg\s*>", re.IGNORECASE | re.DOTALL)
_RENDER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import resvg_py
text = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(bytes(resvg_py.svg_to_bytes(svg_string=text, width=int(sys.argv[2]), height=int(sys.argv[3]))))
"""


def read_drawing(answer: str, *, photograph: bool = False, strict: bool = False) -> str:
    """Return the sanitised SVG in a model's answer.

    Args:
        answer: the raw answer.
        photograph: whether there is a photograph that `<image href="source">` stands for; if not, `<image>` elements
            are removed.
        strict: whether to refuse an SVG whose visible parts would have to be removed, so that the model can be told.

    Raises:
        UnreadableAnswer: the answer has no SVG, or its SVG is not well-formed, too large, or empty.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    match = _FENCE.search(clean_text(answer))
    if not match:
        raise UnreadableAnswer("the answer has no complete <svg> element")
    if len(match[0]) > MAX_CHARACTERS:
        raise UnreadableAnswer(f"the SVG has {len(match[0]):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    try:
        root = fromstring(_with_namespaces(_mend_markup(match[0])), forbid_dtd=True)
    except DefusedXmlException:
        raise UnreadableAnswer("the SVG declares entities or a document type, which is not allowed") from None
    except ElementTree.ParseError as error:
        raise UnreadableAnswer(f"the SVG is not well-formed: {error}") from None
    _check_limits(root)
    removed_parts: set[str] = set()
    _remove_unsafe(root, ELEMENTS if photograph else ELEMENTS - {"image"}, removed_parts)
    if strict and removed_parts:
        raise UnreadableAnswer(
            f"these parts cannot be drawn: {', '.join(sorted(removed_parts))}; draw them in another way"
        )
    if not any(True for child in root if _name(child) not in ("title", "desc", "defs", "style")):
        raise UnreadableAnswer("the SVG draws nothing")
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _mend_markup(text: str) -> str:
    """Return SVG whose comments are gone and whose ampersands are those of XML, which knows few of HTML's names."""
    return _AMPERSAND.sub(_mend_entity, _without_comments(text, "<!--", "-->"))


def _without_comments(text: str, begin: str, end: str) -> str:
    """Return a text without comments; a last one that is not closed stays."""
    kept, position = [], 0
    while (start := text.find(begin, position)) >= 0 and (close := text.find(end, start + len(begin))) >= 0:
        kept.append(text[position:start])
        position = close + len(end)
    return "".join([*kept, text[position:]])


def _mend_entity(match: re.Match[str]) -> str:
    name = match[1]
    return escape(html.unescape(match[0])) if name and f"{name};" in html5 else f"&amp;{match[0][1:]}"


def _with_namespaces(text: str) -> str:
    """Add the namespace declarations that models often omit."""
    head, tag_end, remainder = text.partition(">")
    if "xmlns=" not in head:
        head = head.replace("<svg", f'<svg xmlns="{SVG}"', 1)
    if "xlink:" in text and "xmlns:xlink" not in head:
        head = head.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1)
    return head + tag_end + remainder


def _check_limits(root: Any) -> None:
    names = [_name(element) for element in root.iter()]
    if names[0] != "svg":
        raise UnreadableAnswer(f"the drawing begins with <{names[0]}> instead of <svg>")
    if len(names) > MAX_ELEMENTS:
        raise UnreadableAnswer(f"the SVG has {len(names):,} elements; at most {MAX_ELEMENTS:,} are allowed")
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > MAX_DEPTH:
            raise UnreadableAnswer(f"the SVG is nested more than {MAX_DEPTH} levels deep")
    uses = sum(name in ("use", "pattern") for name in names)
    if uses > MAX_USES:
        raise UnreadableAnswer(f"the SVG repeats parts {uses:,} times; at most {MAX_USES} are allowed")


def _remove_unsafe(element: Any, elements: set[str], removed_parts: set[str]) -> None:
    """Remove unsafe attributes and all descendants that are not in `elements`.

    Args:
        element: the element whose descendants are looked at; links become groups.
        elements: names of the elements that may stay.
        removed_parts: receives the descriptions of removed parts that a reader of the picture would miss.
    """
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        if _is_allowed(_name(element), name, value):
            element.set("href" if name == XLINK else name, value)
    for child in list(element):
        foreign = not str(child.tag).startswith(f"{{{SVG}}}")
        elsewhere = _name(child) == "image" and SOURCE not in (child.get("href"), child.get(XLINK))
        if _name(child) in GROUPS and not foreign:
            child.tag = f"{{{SVG}}}g"
        if foreign or elsewhere or _name(child) not in elements:
            element.remove(child)
            if _name(child) not in INVISIBLE:
                removed_parts.add(f"the {_name(child)} element")
            continue
        if _name(child) == "style":
            child.text = _clean_styles(child.text or "", removed_parts)
        _remove_unsafe(child, elements, removed_parts)


def _clean_styles(text: str, removed_parts: set[str]) -> str:
    """Return the rules of a style sheet that stay inside the drawing."""
    rules = []
    for rule in _AT_RULE.sub("", _without_comments(text, "/*", "*/")).split("}")[:-1]:
        selector, _, declarations = rule.rpartition("{")
        if not selector.strip():
            continue
        if _OUTSIDE.search(declarations):
            removed_parts.add(f"the style of {selector.strip()[:40]}")
        else:
            rules.append(f"{' '.join(selector.split())}{{{' '.join(declarations.split())}}}")
    return "\n".join(rules)


def _is_allowed(element: str, name: str, value: str) -> bool:
    if name in ("href", XLINK):
        return value == SOURCE if element == "image" else value.startswith("#")
    # The serialiser could write a name in another namespace as a different name than the one checked here.
    return "}" not in name and not name.lower().startswith("on") and not _OUTSIDE.search(value)


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


async def render_drawing(drawing: str, photograph: Picture | None, width: int, height: int) -> Picture:
    """Render an SVG to a PNG that has the SVG embedded.

    Args:
        drawing: sanitised SVG from `read_drawing`.
        photograph: picture that `SOURCE` stands for in the drawing, if any.
        width: width of the PNG in pixels.
        height: height of the PNG in pixels.

    Raises:
        BackendError: the SVG cannot be rendered within the limits.
    """
    text = _with_photograph(drawing, photograph) if photograph else drawing
    pipe = asyncio.subprocess.PIPE
    command = _render_command(width, height)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            png, error_output = await process.communicate(text.encode())
    except TimeoutError:
        raise BackendError(f"the SVG takes more than {RENDER_SECONDS:g} s to draw; ask for a simpler picture") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = error_output.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackendError(f"the SVG cannot be drawn: {last[:200] or 'it takes too much memory'}")
    return await asyncio.to_thread(_embed_drawing, png, (width, height), drawing, photograph)


def _render_command(width: int, height: int) -> list[str]:
    return [sys.executable, "-I", "-c", _RENDER, str(RENDER_BYTES), str(width), str(height)]


def redraw(picture: Picture) -> Picture | None:
    """Return what the SVG embedded in a picture looks like, as `render_drawing` writes it; None if there is none.

    Raises:
        UnreadableAnswer: the SVG is not one that `read_drawing` returns.
        CalledProcessError: it cannot be rendered within the limits.
        TimeoutExpired: as for CalledProcessError.
    """
    drawing, photograph = embedded_drawing(picture)
    if drawing is None or read_drawing(drawing, photograph=photograph is not None) != drawing:
        return None
    text = _with_photograph(drawing, photograph) if photograph else drawing
    command = _render_command(picture.width, picture.height)
    png = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=RENDER_SECONDS).stdout
    return _embed_drawing(png, (picture.width, picture.height), drawing, photograph)


def _embed_drawing(png: bytes, size: tuple[int, int], drawing: str, photograph: Picture | None) -> Picture:
    """Return the PNG centred on a white canvas of the given size, with its drawing and photograph embedded."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from interleaver.pictures import flatten

    notes = PngInfo()
    notes.add_itxt(DRAWING_CHUNK, drawing, zip=True)
    if photograph:
        notes.add(PHOTOGRAPH_CHUNK, photograph.data)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        canvas = Image.new("RGB", size, "white")
        canvas.paste(flatten(image), ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    canvas.save(buffer, "PNG", pnginfo=notes)
    return Picture(buffer.getvalue(), "image/png", *size)


def embedded_drawing(picture: Picture) -> tuple[str | None, Picture | None]:
    """Return the SVG that is embedded in a picture and the photograph it uses; None for each that is missing."""
    from PIL import Image

    if picture.media_type != "image/png":
        return None, None
    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()  # text chunks may follow the pixels
        drawing = getattr(image, "text", {}).get(DRAWING_CHUNK)
        photographs = [chunk[1] for chunk in getattr(image, "private_chunks", []) if chunk[0] == PHOTOGRAPH_CHUNK]
    if drawing is None:
        return None, None
    return str(drawing), _read_photograph(photographs)


def _read_photograph(chunks: list[bytes]) -> Picture | None:
    """Return the photograph in a drawing; what it says of itself is dropped, or drawings could be nested for ever."""
    return Picture.decode(chunks[0], "the photograph in the drawing", redraws=False) if chunks else None


def _with_photograph(drawing: str, photograph: Picture) -> str:
    address = f"data:{photograph.media_type};base64,{base64.b64encode(photograph.data).decode()}"
    root = ElementTree.fromstring(drawing)
    for image in root.iter(f"{{{SVG}}}image"):
        image.set("href", address)
    return ElementTree.tostring(root, encoding="unicode")
