"""Encoded pictures in memory: checked once where they come in, passed around as bytes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from interleaver.errors import BadInput
from interleaver.types import ImageRef

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 40_000_000
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""
EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}


@dataclass(frozen=True)
class Picture:
    """An encoded picture whose bytes are known to decode.

    Attributes:
        data: the encoded bytes (PNG, JPEG, WebP or GIF).
        media_type: for example image/png.
        width: pixels.
        height: pixels.
    """

    data: bytes
    media_type: str
    width: int
    height: int

    @classmethod
    def decode(cls, data: bytes, name: str = "the picture") -> Picture:
        """Check encoded bytes and read their size.

        Args:
            data: PNG, JPEG, WebP or GIF, at most 32 MiB and 40 megapixels.
            name: what to call the picture in an error message.

        Raises:
            BadInput: the bytes are no picture, are truncated, or are too large.
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        if len(data) > MAX_BYTES:
            raise BadInput(f"{name} has {len(data) / 2**20:.0f} MiB; at most {MAX_BYTES // 2**20} MiB are allowed")
        try:
            with Image.open(io.BytesIO(data), formats=list(MEDIA_TYPES)) as image:
                width, height = image.width, image.height
                kind = "JPEG" if image.format == "MPO" else image.format  # what telephones write
                if width * height > MAX_PIXELS:
                    raise BadInput(
                        f"{name} has {width}x{height} pixels; at most {MAX_PIXELS // 10**6} megapixels are allowed"
                    )
                image.load()
                if image.getexif().get(ORIENTATION, 1) != 1:
                    # Cameras store the sensor's view and a note to turn it; nobody downstream should have to know.
                    return encoded(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise BadInput(f"{name} is not a picture; give a PNG, JPEG, WebP or GIF file") from None
        except BadInput:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadInput(f"{name} is a damaged picture ({error}); save it again or give another") from None
        return cls(data, MEDIA_TYPES[str(kind)], width, height)

    @cached_property
    def ref(self) -> ImageRef:
        """The reference under which an `ImageStore` keeps this picture."""
        return ImageRef(
            sha256=hashlib.sha256(self.data).hexdigest(),
            media_type=self.media_type,
            width=self.width,
            height=self.height,
        )


def flatten(image: Image.Image) -> Image.Image:
    """A picture in RGB, on white where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def white_canvas(width: int, height: int) -> Picture:
    """An empty white picture, the "before" of a step that starts from nothing."""
    from PIL import Image

    return encoded(Image.new("RGB", (width, height), "white"))


def encoded(image: Image.Image, kind: Literal["PNG", "JPEG", "WEBP"] = "PNG") -> Picture:
    """An image of Pillow's as a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return Picture(buffer.getvalue(), MEDIA_TYPES[kind], image.width, image.height)


def encoded_as(picture: Picture, kind: Literal["PNG", "JPEG", "WEBP"]) -> Picture:
    """The same picture in a format: itself where it has that format already."""
    if picture.media_type == MEDIA_TYPES[kind]:
        return picture
    return shrunk(picture, max(picture.width, picture.height), kind)


def shrunk(picture: Picture, side: int, kind: Literal["PNG", "JPEG", "WEBP"]) -> Picture:
    """The same picture on white, at most `side` pixels wide and high."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        small = flatten(image)
    small.thumbnail((side, side))
    return encoded(small, kind)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """The same picture on white at another size."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return encoded(flatten(image).resize(size, Image.Resampling.LANCZOS))
