"""SVG that a model wrote, made safe and drawn.

Nothing in it may run, reach outside, or take long: elements and attributes that are not on the list below are left
out, and the rest is drawn in a process of its own with limits on time and memory.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import sys
from typing import Any
from xml.etree import ElementTree

from interleaver.errors import BackendError, UnreadableAnswer
from interleaver.pictures import Picture

SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"
MAX_CHARACTERS = 200_000
MAX_ELEMENTS = 5_000
MAX_USES = 500
MAX_DEPTH = 50
RENDER_SECONDS = 20.0
RENDER_BYTES = 2 * 2**30
CHUNK = "svg"
"""The text chunk of a PNG that keeps the drawing it was made from, so that it can be edited."""
PHOTOGRAPH = b"ilPh"
"""The private chunk that keeps the photograph in the drawing; a text chunk may not be as large."""
SOURCE = "source"
"""What stands in a drawing for the reader's photograph."""

ELEMENTS = {
    *("svg", "g", "defs", "symbol", "use", "title", "desc", "image", "marker", "pattern", "clipPath", "mask"),
    *("path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "textPath"),
    *("linearGradient", "radialGradient", "stop", "filter", "feGaussianBlur", "feOffset", "feBlend", "feMerge"),
    *("feMergeNode", "feColorMatrix", "feComposite", "feFlood", "feDropShadow"),
}
# `style` may hold declarations; whatever names an address in it is refused with the attribute.
_OUTSIDE = re.compile(r"url\(\s*+['\"]?+(?!#)|@import|expression|javascript:|data:|\\", re.IGNORECASE)
_FENCE = re.compile(r"<svg\b.*</svg\s*>", re.IGNORECASE | re.DOTALL)
_RENDER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import resvg_py
text = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(bytes(resvg_py.svg_to_bytes(svg_string=text, width=int(sys.argv[2]), height=int(sys.argv[3]))))
"""


def read_drawing(answer: str, *, photograph: bool = False) -> str:
    """The SVG in a model's answer, made safe.

    Args:
        answer: the raw answer.
        photograph: whether the drawing has one that `<image href="source">` stands for; without it images are left out.

    Raises:
        UnreadableAnswer: there is none, or it is not well-formed, too large, or empty.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    found = _FENCE.search(answer)
    if not found:
        raise UnreadableAnswer("the answer has no complete <svg> element")
    if len(found[0]) > MAX_CHARACTERS:
        raise UnreadableAnswer(f"the SVG has {len(found[0]):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    try:
        root = fromstring(_with_namespaces(found[0]), forbid_dtd=True)
    except DefusedXmlException:
        raise UnreadableAnswer("the SVG declares entities or a document type, which is not allowed") from None
    except ElementTree.ParseError as error:
        raise UnreadableAnswer(f"the SVG is not well-formed: {error}") from None
    _check(root)
    _clean(root, ELEMENTS if photograph else ELEMENTS - {"image"})
    if not any(True for child in root if _name(child) not in ("title", "desc", "defs")):
        raise UnreadableAnswer("the SVG draws nothing")
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _with_namespaces(text: str) -> str:
    """Declare what models forget to declare."""
    head, tag_end, rest = text.partition(">")
    if "xmlns=" not in head:
        head = head.replace("<svg", f'<svg xmlns="{SVG}"', 1)
    if "xlink:" in text and "xmlns:xlink" not in head:
        head = head.replace("<svg", '<svg xmlns:xlink="http://www.w3.org/1999/xlink"', 1)
    return head + tag_end + rest


def _check(root: Any) -> None:
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


def _clean(element: Any, allowed: set[str]) -> None:
    """Leave out, below an element, all that is not on the list."""
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        if _may_stay(_name(element), name, value):
            element.set("href" if name == XLINK else name, value)
    for child in list(element):
        foreign = not str(child.tag).startswith(f"{{{SVG}}}")
        elsewhere = _name(child) == "image" and SOURCE not in (child.get("href"), child.get(XLINK))
        if foreign or elsewhere or _name(child) not in allowed:
            element.remove(child)
        else:
            _clean(child, allowed)


def _may_stay(element: str, name: str, value: str) -> bool:
    if name in ("href", XLINK):
        return value == SOURCE if element == "image" else value.startswith("#")
    # A name in any other namespace could come out of the writer as another name than it went in.
    return "}" not in name and not name.lower().startswith("on") and not _OUTSIDE.search(value)


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


async def draw(drawing: str, photograph: Picture | None, width: int, height: int) -> Picture:
    """Draw an SVG as a PNG that keeps the drawing inside.

    Args:
        drawing: from `read_drawing`.
        photograph: what stands for `SOURCE` in it.
        width: pixels.
        height: pixels.

    Raises:
        BackendError: it cannot be drawn within the limits.
    """
    text = _with_photograph(drawing, photograph) if photograph else drawing
    command = [sys.executable, "-I", "-c", _RENDER, str(RENDER_BYTES), str(width), str(height)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            drawn, complaint = await process.communicate(text.encode())
    except TimeoutError:
        raise BackendError(f"the SVG takes more than {RENDER_SECONDS:g} s to draw; ask for a simpler picture") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackendError(f"the SVG cannot be drawn: {last[:200] or 'it takes too much memory'}")
    return await asyncio.to_thread(_keep, drawn, (width, height), drawing, photograph)


def _keep(png: bytes, size: tuple[int, int], drawing: str, photograph: Picture | None) -> Picture:
    """The PNG with its drawing and photograph inside, on a white canvas of the wanted size."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from interleaver.pictures import flatten

    notes = PngInfo()
    notes.add_itxt(CHUNK, drawing, zip=True)
    if photograph:
        notes.add(PHOTOGRAPH, photograph.data)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        canvas = Image.new("RGB", size, "white")
        canvas.paste(flatten(image), ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    canvas.save(buffer, "PNG", pnginfo=notes)
    return Picture(buffer.getvalue(), "image/png", *size)


def drawing_of(picture: Picture) -> tuple[str | None, Picture | None]:
    """The SVG that a picture was drawn from, and the photograph in it; None for what there is not."""
    from PIL import Image

    if picture.media_type != "image/png":
        return None, None
    with Image.open(io.BytesIO(picture.data)) as image:
        image.load()  # text chunks may follow the pixels
        drawing = getattr(image, "text", {}).get(CHUNK)
        kept = [chunk[1] for chunk in getattr(image, "private_chunks", []) if chunk[0] == PHOTOGRAPH]
    if drawing is None:
        return None, None
    return str(drawing), Picture.decode(kept[0], "the photograph in the drawing") if kept else None


def _with_photograph(drawing: str, photograph: Picture) -> str:
    address = f"data:{photograph.media_type};base64,{base64.b64encode(photograph.data).decode()}"
    root = ElementTree.fromstring(drawing)
    for image in root.iter(f"{{{SVG}}}image"):
        image.set("href", address)
    return ElementTree.tostring(root, encoding="unicode")
