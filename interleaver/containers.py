"""Picture files as sequences of parts, of which only those that draw the picture are copied.

What else a file carries is dropped without decoding the picture: metadata, thumbnails, comments, colour profiles,
further frames, and bytes after the end.

Sources of the formats: PNG, W3C Recommendation (third edition), chapter 5; JPEG, ITU-T T.81, annex B; WebP, RFC 9649.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
WEBP_ALPHA = 0x10
"""The only flag of a VP8X chunk that concerns a still picture without metadata."""
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
JFIF, ADOBE = b"JFIF\0", b"Adobe"
JFIF_BYTES = 12
"""Length of the fields of a JFIF segment before its thumbnail's width and height."""


def bare_file(data: bytes, kind: str) -> bytes | None:
    """Return a picture file that has only the parts that draw its (first) picture.

    Args:
        data: a file whose picture can be decoded.
        kind: its format: PNG, JPEG or WEBP.

    Returns:
        The file; None if it does not keep to its format, though its picture can be decoded.
    """
    try:
        return {"PNG": _bare_png, "JPEG": _bare_jpeg, "WEBP": _bare_webp}[kind](data)
    except (IndexError, ValueError, struct.error):
        return None


def png_bit_depth(data: bytes) -> int:
    """Return the bits per sample of a PNG file: 1, 2, 4, 8 or 16."""
    return data[24]


def _bare_png(data: bytes) -> bytes:
    parts = [PNG_SIGNATURE]
    for name, body in _png_chunks(data):
        if name in PNG_CHUNKS:
            checksum = zlib.crc32(name + body)
            parts.append(struct.pack(">I4s", len(body), name) + body + struct.pack(">I", checksum))
    return b"".join(parts)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position, name = len(PNG_SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        if len(body) != length:
            raise IndexError(position)
        yield name, body
        position += length + 12


def _bare_jpeg(data: bytes) -> bytes:
    parts, position = [data[:2]], 2
    while (marker := _jpeg_marker(data, position)) != END_OF_IMAGE:
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        segment = _bare_segment(marker, data[position:end])
        if marker == START_OF_SCAN:
            end = _end_of_scan(data, end)
            segment = data[position:end]
        parts.append(segment)
        position = end
    return b"".join([*parts, data[position : position + 2]])


def _jpeg_marker(data: bytes, position: int) -> int:
    if data[position] != 0xFF:
        raise ValueError("the JPEG file has bytes between its segments")
    return data[position + 1]


def _bare_segment(marker: int, segment: bytes) -> bytes:
    """Return a segment if it draws the picture, else nothing."""
    if marker == 0xE0 and segment[4:].startswith(JFIF):
        fields = segment[4 : 4 + JFIF_BYTES] + b"\0\0"  # no thumbnail
        return struct.pack(">BBH", 0xFF, marker, len(fields) + 2) + fields
    is_adobe = marker == 0xEE and segment[4:].startswith(ADOBE)  # says how colours are stored
    return segment if is_adobe or not (0xE0 <= marker <= 0xEF or marker == 0xFE) else b""


def _end_of_scan(data: bytes, position: int) -> int:
    """Return the position of the marker after a scan; within one, FF is followed by 00 or a restart marker."""
    while True:
        position = data.index(b"\xff", position)
        following = data[position + 1]
        if following == 0xFF:
            position += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            position += 2
        else:
            return position


def _bare_webp(data: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    parts, position = [], 12
    while position < min(size + 8, len(data)):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if len(body) != length:
            raise IndexError(position)
        if name == b"VP8X":
            body = bytes([body[0] & WEBP_ALPHA]) + body[1:]
        if name in WEBP_CHUNKS:
            parts.append(struct.pack("<4sI", name, length) + body + b"\0" * (length % 2))
        position += 8 + length + length % 2
    if not any(part.startswith((b"VP8 ", b"VP8L")) for part in parts):
        raise ValueError("the WebP file has no still picture")
    content = b"".join(parts)
    return struct.pack("<4sI4s", b"RIFF", len(content) + 4, b"WEBP") + content
