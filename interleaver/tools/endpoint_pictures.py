"""Decoding of the pictures that endpoints return."""

from __future__ import annotations

import asyncio
import base64
import binascii

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.pictures import Picture


async def decode_base64(encoded: str, name: str) -> Picture:
    """Decode a base64 picture that an endpoint returned.

    Raises:
        UnreadableAnswer: the data is not a picture, is damaged, or is too large; the message begins with `name`.
    """

    def decode() -> Picture:
        try:
            return Picture.decode(base64.b64decode(encoded, validate=True), "its picture")
        except (BadInput, binascii.Error) as error:
            raise UnreadableAnswer(f"{name} sent no picture that can be used: {error}") from None

    return await asyncio.to_thread(decode)
