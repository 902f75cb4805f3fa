"""What the graph asks of an image generator, and what the generators here share."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.pictures import Picture, encoded

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Capabilities:
    """What a generator can do, so that the graph never asks for more.

    Attributes:
        max_sources: how many pictures one edit may look at; 0 for a generator that only draws anew.
    """

    max_sources: int


class ImageGenerator(Protocol):
    """Draws a picture from a prompt, or edits given pictures.

    A generator may have an attribute `timeout`, the seconds that one call may take: the graph tries a failed call
    again only while they last.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw one picture.

        Args:
            prompt: what to draw or change.
            sources: the pictures to edit, oldest first, at most `capabilities.max_sources`; empty draws anew.
            seed: 0 to 2**31 - 1.
            size: width and height in pixels of a picture drawn anew; an edit keeps the size of its last source.

        Raises:
            BackendError: this prompt cannot be drawn.
            BackendUnavailable: the generator could not be reached.
        """
        ...


def nearest(size: Size, sizes: Sequence[Size]) -> Size:
    """The size of a list whose aspect ratio is nearest to the wanted one, and of several such the nearest in area."""
    wanted = size[0] / size[1]

    def distance(one: Size) -> tuple[float, int]:
        ratio = one[0] / one[1] / wanted
        return max(ratio, 1 / ratio), abs(one[0] * one[1] - size[0] * size[1])

    return min(sizes, key=distance)


async def from_base64(encoded: str, name: str) -> Picture:
    """The picture that an endpoint sent.

    Raises:
        UnreadableAnswer: it is none, is damaged, or is too large; the message begins with `name`.
    """

    def decode() -> Picture:
        try:
            return Picture.decode(base64.b64decode(encoded, validate=True), "its picture")
        except (BadInput, binascii.Error) as error:
            raise UnreadableAnswer(f"{name} sent no picture that can be used: {error}") from None

    return await asyncio.to_thread(decode)


def read_mask(path: str) -> Picture:
    """The mask of a profile: a picture that is white where the generator may paint and black where it must not.

    Raises:
        BadInput: it cannot be read or is no picture.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise BadInput(f"the mask {path!r} cannot be read: {error.strerror}") from None
    return Picture.decode(data, f"the mask {path!r}")


def mask_for(mask: Picture, size: Size, *, transparent: bool) -> Picture:
    """A mask at the size of the picture that it belongs to.

    Args:
        mask: white where the generator may paint.
        size: of that picture.
        transparent: as OpenAI wants it, transparent where the generator may paint; otherwise white there.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(mask.data)) as image:
        fitted = image.convert("L").resize(size)
    if transparent:
        alpha, fitted = ImageOps.invert(fitted), Image.new("RGBA", size, "black")
        fitted.putalpha(alpha)
    return encoded(fitted)
