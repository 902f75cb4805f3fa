"""Reading text files that people wrote: UTF-8, with or without a byte order mark, or UTF-16 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks that the shells and editors of Windows put before a text in UTF-16."""


def decode_text(data: bytes) -> str:
    """Return the text of a file, without its byte order mark and with line feeds at the ends of its lines.

    Raises:
        UnicodeDecodeError: the bytes are neither UTF-8 nor UTF-16 with a byte order mark.
    """
    text = data.decode("utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig")
    return text.replace("\r\n", "\n")


def read_text_file(path: Path) -> str:
    """Return the text of a file; see `decode_text`.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: as for `decode_text`.
    """
    return decode_text(path.read_bytes())
