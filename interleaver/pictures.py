"""Encoded pictures in memory: validated once on input, then passed around as bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from interleaver.errors import BadInput
from interleaver.types import ImageRef

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 40_000_000
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
ORIENTATION = 0x0112
"""The EXIF tag of a picture's orientation."""
EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}


@dataclass(frozen=True)
class Picture:
    """An encoded picture whose bytes are known to decode.

    Attributes:
        data: the encoded bytes (PNG, JPEG, WebP or GIF).
        media_type: MIME type, for example image/png.
        width: width in pixels.
        height: height in pixels.
    """

    data: bytes
    media_type: str
    width: int
    height: int

    @classmethod
    def decode(cls, data: bytes, name: str = "the picture") -> Picture:
        """Validate encoded bytes and read their size.

        A picture with an EXIF orientation is rotated accordingly and encoded again, as PNG.

        Args:
            data: PNG, JPEG, WebP or GIF, at most 32 MiB and 40 megapixels.
            name: name of the picture in error messages.

        Raises:
            BadInput: the bytes are not a picture, are damaged, or exceed a limit.
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        if len(data) > MAX_BYTES:
            raise BadInput(f"{name} is {len(data) / 2**20:.0f} MiB large; at most {MAX_BYTES // 2**20} MiB are allowed")
        try:
            with Image.open(io.BytesIO(data), formats=list(MEDIA_TYPES)) as image:
                width, height = image.width, image.height
                kind = "JPEG" if image.format == "MPO" else image.format  # MPO: several JPEGs in one, from phones
                if width * height > MAX_PIXELS:
                    raise BadInput(
                        f"{name} has {width}x{height} pixels; at most {MAX_PIXELS // 10**6} megapixels are allowed"
                    )
                image.load()
                if image.getexif().get(ORIENTATION, 1) != 1:
                    # Cameras store unrotated pixels and this tag; rotate here, so that no other code has to.
                    return Picture.encode(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise BadInput(f"{name} is not a picture; give a PNG, JPEG, WebP or GIF file") from None
        except BadInput:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadInput(f"{name} is a damaged picture ({error}); save it again or give another") from None
        return cls(data, MEDIA_TYPES[str(kind)], width, height)

    @classmethod
    def encode(cls, image: Image.Image, kind: Literal["PNG", "JPEG", "WEBP"] = "PNG") -> Picture:
        """Encode a Pillow image."""
        buffer = io.BytesIO()
        image.save(buffer, kind)
        return cls(buffer.getvalue(), MEDIA_TYPES[kind], image.width, image.height)

    @cached_property
    def ref(self) -> ImageRef:
        """The reference under which an `ImageStore` keeps this picture."""
        return ImageRef(
            sha256=hashlib.sha256(self.data).hexdigest(),
            media_type=self.media_type,
            width=self.width,
            height=self.height,
        )


def decode_data_url(url: str, name: str = "the picture") -> Picture:
    """Decode the picture in a `data:` URL.

    The base64 may have line breaks, lack its padding, use the letters of the URL-safe alphabet, or be a `data:` URL
    itself: clients send all of these.

    Args:
        url: the URL.
        name: name of the picture in error messages.

    Raises:
        BadInput: it is not base64, not a picture, or too large.
    """
    encoded = re.sub(r"\s+", "", url).translate(str.maketrans("-_", "+/"))
    while encoded.lower().startswith("data:"):
        encoded = encoded.partition(",")[2]
    encoded = unquote(encoded).rstrip("=")
    if len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise BadInput(f"{name} is not valid base64") from None
    return Picture.decode(data, name)


def flatten(image: Image.Image) -> Image.Image:
    """Return an image in RGB, with a white background where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def white_canvas(width: int, height: int) -> Picture:
    """Return a blank white picture, used as the "before" of a step that is drawn from scratch."""
    from PIL import Image

    return Picture.encode(Image.new("RGB", (width, height), "white"))


def convert_picture(picture: Picture, kind: Literal["PNG", "JPEG", "WEBP"]) -> Picture:
    """Return the picture in another encoding; the picture itself if it already has that encoding."""
    if picture.media_type == MEDIA_TYPES[kind]:
        return picture
    return shrink_picture(picture, max(picture.width, picture.height), kind)


def shrink_picture(picture: Picture, side: int, kind: Literal["PNG", "JPEG", "WEBP"]) -> Picture:
    """Return the picture on a white background, scaled down to at most `side` pixels in width and height."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        small = flatten(image)
    small.thumbnail((side, side))
    return Picture.encode(small, kind)


def resize_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """Return the picture on a white background, scaled to `size` (width and height in pixels)."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return Picture.encode(flatten(image).resize(size, Image.Resampling.LANCZOS))
