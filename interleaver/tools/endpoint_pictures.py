"""Reading the pictures that endpoints return."""

from __future__ import annotations

import asyncio
from urllib.parse import urljoin

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.net.endpoints import Endpoint, host_of
from interleaver.net.fetching import fetch_image_bytes
from interleaver.pictures import Picture, decode_data_url

MAX_ADDRESS = 8_192
"""Longest text that is taken for an address; the base64 of a JPEG begins with a slash, too."""


async def read_picture(text: str, endpoint: Endpoint) -> Picture:
    """Return the picture that an endpoint returned as base64, as a `data:` URL, or as an address.

    An address is fetched, which may be on the endpoint's own host even if that is private.

    Raises:
        UnreadableAnswer: there is no picture, or it is damaged, or too large; the message begins with the endpoint.
    """
    name = "its picture"
    try:
        if text.startswith(("http://", "https://", "/")) and len(text) < MAX_ADDRESS:
            address = urljoin(endpoint.base_url or "", text)
            data = await fetch_image_bytes(address, name, {host_of(endpoint.base_url)})
            return await asyncio.to_thread(Picture.decode, data, name)
        return await asyncio.to_thread(decode_data_url, text, name)
    except BadInput as error:
        raise UnreadableAnswer(f"{endpoint.name} sent no picture that can be used: {error}") from None
