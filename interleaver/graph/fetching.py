"""Fetching a picture that a request names by its address, without becoming a door into a private network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING

from interleaver.errors import BadInput
from interleaver.pictures import MAX_BYTES

if TYPE_CHECKING:
    import httpx

TIMEOUT = 20.0
"""Seconds that a whole fetch may take."""
MAX_REDIRECTS = 3


async def fetch(url: str, name: str, hosts: Collection[str] = ()) -> bytes:
    """Fetch a picture over HTTP.

    Args:
        url: its address, `http://` or `https://`.
        name: what to call the picture in an error message.
        hosts: hosts that may be asked although their addresses are private.

    Returns:
        At most `MAX_BYTES` bytes, whatever they are.

    Raises:
        BadInput: the address is private, does not answer with a picture in time, or the picture is too large.
    """
    import httpx

    client = httpx.AsyncClient(
        transport=_transport(name, hosts),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=TIMEOUT,
        trust_env=False,  # a proxy would resolve names itself, past the check
    )
    try:
        async with asyncio.timeout(TIMEOUT), client, client.stream("GET", url) as response:
            if not response.is_success:
                raise BadInput(f"{name} cannot be fetched: {url} answers with status {response.status_code}")
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > MAX_BYTES:
                    raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
            return bytes(data)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
        raise BadInput(f"{name} cannot be fetched: {url}: {error or type(error).__name__}") from None


def _transport(name: str, hosts: Collection[str]) -> httpx.AsyncBaseTransport:
    """A transport that looks every host up itself, on redirects too, and connects to the very address it checked."""
    import httpx

    class Guarded(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            host = request.url.host
            if request.url.scheme not in ("http", "https"):
                raise BadInput(f"{name} is given as {request.url.scheme}:, only http: and https: are fetched")
            if host not in hosts:
                address = await _public_address(host, name)
                # The Host header is set already; the certificate must still be that of the name.
                request.extensions = {**request.extensions, "sni_hostname": host}
                request.url = request.url.copy_with(host=address)
            return await super().handle_async_request(request)

    return Guarded()


async def _public_address(host: str, name: str) -> str:
    addresses = await _look_up(host)
    if not addresses:
        raise BadInput(f"{name} cannot be fetched: the host {host!r} is unknown")
    if not all(map(is_public, addresses)):
        raise BadInput(
            f"{name} is not fetched: {host!r} is a private address; send the picture itself as a data: URL, "
            "or allow the host (image_hosts)"
        )
    return addresses[0]


async def _look_up(host: str) -> list[str]:
    """The addresses of a host; [] when it has none."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when an IPv6 address wraps an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64: a gateway turns it into the IPv4 address at its end
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if wrapped:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast
