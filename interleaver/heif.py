"""Reading HEIC pictures, the photographs of phones, in a process of its own.

libheif ends the whole process on some damaged files, and a file may come from anybody.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from interleaver.errors import BadInput

if TYPE_CHECKING:
    from PIL import Image

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SECONDS = 60.0
MAX_MEMORY = 4 * 2**30
"""Bytes of memory that the process may use; a picture of 80 megapixels needs about 1.5 GiB."""
# Writes a line with the mode, the size and the length of the colour profile, then the profile and the pixels.
_PROGRAM = """
import io, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import pi_heif
from PIL import Image
pi_heif.register_heif_opener(thumbnails=False)
with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=["HEIF"]) as image:
    if image.width * image.height > int(sys.argv[2]):
        sys.exit(f"{image.width}x{image.height} pixels")
    profile = image.info.get("icc_profile") or b""
    mode = image.mode if image.mode in ("RGB", "RGBA") else "RGB"
    sys.stdout.buffer.write(f"{mode} {image.width} {image.height} {len(profile)}\\n".encode() + profile)
    sys.stdout.buffer.write(image.convert(mode).tobytes())
"""


def is_heif(data: bytes) -> bool:
    """Return whether a file says that it is a HEIC picture."""
    return data[4:8] == b"ftyp" and data[8:12] in BRANDS


def read_heif(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Decode a HEIC picture.

    Args:
        data: the file.
        name: name of the picture in error messages.
        max_pixels: number of pixels above which a picture is refused.

    Returns:
        The first picture, upright, as RGB or RGBA, with its colour profile in `info`.

    Raises:
        BadInput: the decoder is not installed, or the picture is damaged or too large.
    """
    from PIL import Image

    if find_spec("pi_heif") is None:
        hint = 'save it as JPEG, or: pip install "interleaver[heic]"'
        raise BadInput(f"{name} is a HEIC picture, which cannot be read here; {hint}")
    command = [sys.executable, "-c", _PROGRAM, str(MAX_MEMORY), str(max_pixels)]
    try:
        process = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BadInput(f"{name} takes more than {SECONDS:g} s to decode; save it again or give another") from None
    if process.returncode:
        reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BadInput(f"{name} is a damaged or too large picture ({reason[:200]}); save it as JPEG or give another")
    head, _, content = process.stdout.partition(b"\n")
    mode, width, height, profile_length = head.decode().split()
    image = Image.frombytes(mode, (int(width), int(height)), content[int(profile_length) :])
    if int(profile_length):
        image.info["icc_profile"] = content[: int(profile_length)]
    return image
