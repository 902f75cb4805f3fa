"""HTTP clients for servers that need not be trusted: answers are bounded, and what is sent stays with the server."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Collection
from typing import Any

from interleaver.net.redaction import redact

MAX_ANSWER_BYTES = 64 * 2**20
"""Size of an answer, decompressed; a picture of the largest size takes 43 MiB in base64."""


class UnexpectedResponse(Exception):
    """A response that does not come from the expected API."""


def bounded_client(http: Any, timeout: float, secrets: Collection[str]) -> Any:
    """Return an asynchronous HTTP client, for a model's endpoint or another server.

    Secrets that the endpoint repeats are taken out before anybody sees its answer, SDKs and tracing included.

    Its calls raise `UnexpectedResponse` for an answer above `MAX_ANSWER_BYTES`, whatever its compression, and for a
    redirect to another origin, which would get the key, the prompt and the pictures.

    Args:
        http: the module `httpx`, or `httpx2`, which has the same interface and is what the SDKs take.
        timeout: seconds that connecting, and waiting for the next bytes, may take.
        secrets: strings that no answer may contain, such as the API key.
    """

    class BoundedStream(http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, encoding: str):
            self._stream, self._encoding = stream, encoding

        async def __aiter__(self) -> AsyncIterator[bytes]:
            data = bytearray()
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if self._encoding else None  # gzip or deflate
            async for packed in self._stream:
                data += unpacker.decompress(packed, MAX_ANSWER_BYTES + 1) if unpacker else packed
                if len(data) > MAX_ANSWER_BYTES:
                    raise UnexpectedResponse(f"sent an answer of more than {MAX_ANSWER_BYTES // 2**20} MiB")
            yield await asyncio.to_thread(redact, bytes(data), secrets)

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def check(response: Any) -> None:
        if response.has_redirect_location:
            _check_redirect(response)
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise UnexpectedResponse(f"sent an answer compressed with {encoding[:20]!r}, unrequested")
        if encoding != "identity":
            del response.headers["content-encoding"]  # it is unpacked here, within the limit
        response.stream = BoundedStream(response.stream, encoding if encoding != "identity" else "")

    # One connection per call: connecting is fast compared to a model call, and a client without open connections can
    # be used from several event loops and never needs closing.
    return http.AsyncClient(
        event_hooks={"response": [check]},
        timeout=timeout,
        limits=http.Limits(max_keepalive_connections=0, max_connections=1000),
        follow_redirects=True,
        headers={"Accept-Encoding": "identity"},
    )


def _check_redirect(response: Any) -> None:
    source = response.request.url
    target = source.join(response.headers["location"])
    is_upgrade = (source.scheme, target.scheme) == ("http", "https") and (source.port, target.port) == (None, None)
    same_origin = (source.scheme, source.port) == (target.scheme, target.port) or is_upgrade
    if source.host != target.host or not same_origin:
        raise UnexpectedResponse(f"redirects to another server, {target.scheme}://{target.host}, which is not followed")
