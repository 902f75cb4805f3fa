"""Masks, which mark the part of a picture that an edit may paint."""

from __future__ import annotations

import io
from pathlib import Path

from interleaver.errors import BadInput
from interleaver.pictures import Picture
from interleaver.tools.protocols import Size


def read_mask(path: str) -> Picture:
    """Read the mask of a profile: a picture that is white where the generator may paint and black where it must not.

    Raises:
        BadInput: the file cannot be read or is not a picture.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise BadInput(f"the mask {path!r} cannot be read: {error.strerror}") from None
    return Picture.decode(data, f"the mask {path!r}")


def fit_mask(mask: Picture, size: Size, *, transparent: bool) -> Picture:
    """Resize a mask to the size of the picture that it applies to.

    Args:
        mask: picture that is white where the generator may paint.
        size: width and height in pixels of the picture to edit.
        transparent: whether the part to paint becomes transparent, as OpenAI requires, instead of white.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(mask.data)) as image:
        fitted_mask = image.convert("L").resize(size)
    if transparent:
        alpha, fitted_mask = ImageOps.invert(fitted_mask), Image.new("RGBA", size, "black")
        fitted_mask.putalpha(alpha)
    return Picture.encode(fitted_mask)
