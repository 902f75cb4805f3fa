"""Encoded pictures in memory: normalised once on input, then passed around as bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from interleaver.containers import bare_file, png_bit_depth
from interleaver.errors import BadInput, InterleaverError
from interleaver.heif import is_heif, read_heif
from interleaver.types import ImageRef, PicturePolicy

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 32 * 2**20
MAX_INPUT_PIXELS = 80_000_000
"""Pixels of a picture that is read; phones take up to 64 million."""
MAX_PIXELS = 40_000_000
"""Pixels of a normalised picture; a larger one is scaled down."""
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""The encodings of normalised pictures."""
INPUT_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "AVIF")
READABLE = "PNG, JPEG, WebP, GIF, AVIF or HEIC"
"""What pictures may be, for messages."""
ORIENTATION = 0x0112
"""The EXIF tag of a picture's orientation."""
EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}
"""File extensions in image stores, some of which have GIFs from former versions."""
PLAIN_MODES = {"PNG": ("L", "LA", "RGB", "RGBA"), "JPEG": ("L", "RGB"), "WEBP": ("RGB", "RGBA")}
"""Pillow's modes of pictures whose pixels every model reads alike."""
PHOTOGRAPHS = ("JPEG", "MPO", "WEBP", "AVIF")
"""Formats with lossy compression, which are encoded again as JPEG."""
QUALITY = 95
"""JPEG quality of a picture whose former quality is unknown."""
REDRAWERS = {
    "interleaver-scene": "interleaver.sandbox.world:redraw",
    "svg": "interleaver.tools.svg_rendering:redraw",
}
"""Text chunks of a PNG that say how it was drawn, and the functions that draw it again, which are loaded by name."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture whose bytes are known to decode.

    Attributes:
        data: the encoded bytes (PNG, JPEG or WebP).
        media_type: MIME type, for example image/png.
        width: width in pixels.
        height: height in pixels.
    """

    data: bytes
    media_type: str
    width: int
    height: int

    @classmethod
    def decode(cls, data: bytes, name: str = "the picture", *, redraws: bool = True) -> Picture:
        """Validate encoded bytes from outside, and normalise them.

        The result is a still, upright PNG, JPEG or WebP in sRGB with eight bits per sample and without metadata. Bytes
        that are so already are returned as they are; what only has too many parts is not compressed again.

        Args:
            data: PNG, JPEG, WebP, GIF, AVIF or HEIC, at most 32 MiB and 80 megapixels.
            name: name of the picture in error messages.
            redraws: whether a picture that says how it was drawn is drawn again, to see whether that is true.

        Raises:
            BadInput: the bytes are not a picture, are damaged, or exceed a limit.
        """
        from PIL import Image, UnidentifiedImageError

        if len(data) > MAX_BYTES:
            raise BadInput(f"{name} is {len(data) / 2**20:.0f} MiB large; at most {MAX_BYTES // 2**20} MiB are allowed")
        try:
            if is_heif(data):
                return _encode_plain(_plain_image(read_heif(data, name, MAX_INPUT_PIXELS)), True, {"quality": QUALITY})
            with Image.open(io.BytesIO(data), formats=_available_formats()) as image:
                if image.width * image.height > MAX_INPUT_PIXELS:
                    raise _too_large(name, f"{image.width}x{image.height}")
                image.load()
                return _normalise(image, data, redraws)
        except UnidentifiedImageError:
            raise BadInput(f"{name} is not a picture; give a {READABLE} file") from None
        except Image.DecompressionBombError:
            raise _too_large(name, "too many") from None
        except InterleaverError:
            raise
        except (OSError, SyntaxError, ValueError, RuntimeError, struct.error) as error:
            raise BadInput(f"{name} is a damaged picture ({error}); save it again or give another") from None

    @classmethod
    def stored(cls, data: bytes) -> Picture:
        """Return the picture of bytes that an image store had; only their header is read.

        Raises:
            BadInput: the bytes are not a picture.
        """
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=[*MEDIA_TYPES, "GIF"]) as image:
                return cls(data, str(image.get_format_mimetype()), image.width, image.height)
        except OSError:
            raise BadInput("the stored picture is damaged; draw it again") from None

    @classmethod
    def encode(cls, image: Image.Image, kind: Literal["PNG", "JPEG", "WEBP"] = "PNG", **options: Any) -> Picture:
        """Encode a Pillow image; the options are those of Pillow's encoder."""
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
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


def _available_formats() -> list[str]:
    from PIL import Image

    Image.init()  # some builds of Pillow lack AVIF
    return [name for name in INPUT_FORMATS if name in Image.OPEN]


def _too_large(name: str, size: str) -> BadInput:
    return BadInput(f"{name} has {size} pixels; at most {MAX_INPUT_PIXELS // 10**6} megapixels are allowed")


def _normalise(image: Image.Image, data: bytes, redraws: bool) -> Picture:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: several JPEGs in one, from phones
    if kind in MEDIA_TYPES and _is_plain(image, kind, data):
        redrawn = _redraw(image, data) if redraws and kind == "PNG" else None
        bare = redrawn.data if redrawn else bare_file(data, kind)
        if bare:
            return Picture(bare, MEDIA_TYPES[kind], image.width, image.height)
    options: dict[str, Any] = {"quality": QUALITY}
    if kind == "JPEG" and image.mode in PLAIN_MODES["JPEG"]:
        from PIL import JpegImagePlugin

        # The camera's own tables keep both quality and size.
        tables = image.quantization  # type: ignore[attr-defined]
        options = {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(image)}
    return _encode_plain(_plain_image(image), kind in PHOTOGRAPHS, options)


def _is_plain(image: Image.Image, kind: str, data: bytes) -> bool:
    """Return whether the pixels can stay as they are encoded."""
    profile = image.info.get("icc_profile")
    return (
        image.mode in PLAIN_MODES[kind]
        and (kind != "PNG" or png_bit_depth(data) == 8)
        and (kind != "WEBP" or getattr(image, "n_frames", 1) == 1)
        and image.getexif().get(ORIENTATION, 1) == 1
        and (not profile or _is_srgb(profile))
        and image.width * image.height <= MAX_PIXELS
    )


def _redraw(image: Image.Image, data: bytes) -> Picture | None:
    """Return a picture that says how it was drawn, drawn again; None if it says nothing, or not the truth."""
    from PIL import Image, ImageChops

    redrawer = next((REDRAWERS[key] for key in getattr(image, "text", {}) if key in REDRAWERS), None)
    picture = Picture(data, MEDIA_TYPES["PNG"], image.width, image.height)
    try:
        redrawn: Picture | None = resolve_name(redrawer)(picture) if redrawer else None
    except Exception:  # a stranger may have written anything into the chunk
        return None
    if redrawn is None:
        return None
    with Image.open(io.BytesIO(redrawn.data)) as other:
        if (other.mode, other.size) != (image.mode, image.size) or ImageChops.difference(other, image).getbbox():
            return None
    return redrawn


def _plain_image(image: Image.Image) -> Image.Image:
    """Return the first frame upright, in sRGB, with eight bits per sample and at most `MAX_PIXELS`."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    plain = upright if upright.mode == "CMYK" else _with_eight_bits(upright)
    profile = image.info.get("icc_profile")
    if profile and not _is_srgb(profile):
        plain = _to_srgb(plain, profile)
    plain = _with_eight_bits(plain)
    pixels = plain.width * plain.height
    if pixels > MAX_PIXELS:
        factor = (MAX_PIXELS / pixels) ** 0.5
        plain = plain.resize((max(int(plain.width * factor), 1), max(int(plain.height * factor), 1)))
    return plain


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """Return the image in one of the modes L, RGB and RGBA."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _is_srgb(profile: bytes) -> bool:
    from PIL import ImageCms

    try:
        return "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (OSError, ImageCms.PyCMSError):
        return True  # a profile that cannot be read cannot be applied


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    mode = image.mode if image.mode in ("RGB", "RGBA") else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (OSError, ImageCms.PyCMSError):
        return image  # the profile belongs to another kind of picture
    assert converted is not None  # it is None only for conversions in place
    return converted


def _encode_plain(image: Image.Image, is_photograph: bool, options: dict[str, Any]) -> Picture:
    """Encode an image as a JPEG if it is an opaque photograph, else as a PNG; halved while that exceeds `MAX_BYTES`."""
    image.info.clear()  # the encoders write comments and profiles from here
    while True:
        if is_photograph and image.mode != "RGBA":
            picture = Picture.encode(image, "JPEG", **options)
        else:
            picture = Picture.encode(image, "PNG")
        if len(picture.data) <= MAX_BYTES:
            return picture
        image = image.reduce(2)


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
    except ValueError:  # letters that are none of base64's, or not even ASCII
        raise BadInput(f"{name} is not valid base64") from None
    return Picture.decode(data, name)


def flatten(image: Image.Image) -> Image.Image:
    """Return an image in RGB, with a white background where it is transparent."""
    from PIL import Image

    plain = image if image.mode == "CMYK" else _with_eight_bits(image)
    if plain.mode != "RGBA":
        return plain.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain).convert("RGB")


def apply_policy(picture: Picture, policy: PicturePolicy) -> Picture:
    """Return the picture as a policy wants it; the picture itself if it is so already.

    A picture that has to be encoded again becomes a JPEG if it was one or if a PNG would have too many bytes.
    """
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:  # reads the header only
        size = policy.fitting_size(picture.width, picture.height)
        is_fit = size == image.size and len(picture.data) <= policy.max_bytes
        if is_fit and picture.media_type in policy.formats and not image.has_transparency_data:
            return picture
        flat = flatten(image)
    is_lossless = picture.media_type == "image/png" and "image/png" in policy.formats
    while True:
        scaled = flat if flat.size == size else flat.resize(size, Image.Resampling.LANCZOS)
        if is_lossless and len((result := Picture.encode(scaled)).data) <= policy.max_bytes:
            return result
        result = Picture.encode(scaled, "JPEG", quality=90)
        if len(result.data) <= policy.max_bytes:
            return result
        size = max(size[0] // 2, 1), max(size[1] // 2, 1)


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
