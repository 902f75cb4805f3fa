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
TRANSLATED = [ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")]
"""IPv6 networks whose addresses end in the IPv4 address that they stand for."""
LOCAL = [ipaddress.ip_network(net) for net in ("64:ff9b:1::/48", "fec0::/10", "192.88.99.0/24")]
"""Networks that are private or have no proper end, though Python counts them as public."""


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

    try:
        address = httpx.URL(url)
        if not address.host:
            raise BadInput(f"{name} is given as {url[:40]!r}, which names no host")
        # Pictures are compressed already; an answer that is packed again may unpack to anything.
        async with (
            asyncio.timeout(TIMEOUT),
            httpx.AsyncClient(
                transport=_transport(name, hosts),
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                timeout=TIMEOUT,
                headers={"Accept-Encoding": "identity"},
                trust_env=False,  # a proxy would resolve names itself, past the check
            ) as client,
            client.stream("GET", address) as response,
        ):
            return await _body(response, name)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
        # Query and user of an address may be secrets, so neither is repeated.
        told = url.partition("?")[0].rpartition("@")[2]
        raise BadInput(f"{name} cannot be fetched from {told}: {type(error).__name__}") from None


async def _body(response: httpx.Response, name: str) -> bytes:
    if not response.is_success:
        raise BadInput(f"{name} cannot be fetched: {response.url.host} answers with status {response.status_code}")
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise BadInput(f"{name} cannot be fetched: {response.url.host} sends it packed as {packed}, unasked")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_BYTES:
            raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    return bytes(data)


def _transport(name: str, hosts: Collection[str]) -> httpx.AsyncBaseTransport:
    """A transport that looks every host up itself, on redirects too, and connects to the very address it checked."""
    import httpx

    class Guarded(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            host = request.url.host
            if request.url.scheme not in ("http", "https"):
                raise BadInput(f"{name} leads to a {request.url.scheme}: address; only http: and https: are fetched")
            if host in hosts:
                return await super().handle_async_request(request)
            # The request itself stays as it is: redirects are relative to it. The certificate must be that of the name.
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=await _public_address(host, name)),
                headers=request.headers,
                extensions={**request.extensions, "sni_hostname": host},
            )
            return await super().handle_async_request(pinned)

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
        ending = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if any(ip in net for net in TRANSLATED) else None
        wrapped = ip.ipv4_mapped or ip.sixtofour or ending
        if wrapped:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast and not any(ip.version == net.version and ip in net for net in LOCAL)
