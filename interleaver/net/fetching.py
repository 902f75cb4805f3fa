"""Fetching the pictures that a request names by URL, without giving access to private networks (SSRF)."""

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

FETCH_SECONDS = 20.0
"""Timeout of a whole fetch, in seconds."""
MAX_REDIRECTS = 3
IPV4_IN_IPV6_NETWORKS = [ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")]
"""IPv6 networks whose addresses contain an IPv4 address in their last 32 bits."""
PRIVATE_NETWORKS = [ipaddress.ip_network(net) for net in ("64:ff9b:1::/48", "fec0::/10", "192.88.99.0/24")]
"""Networks that Python counts as public although they are private or deprecated."""


async def fetch_image_bytes(url: str, name: str, hosts: Collection[str] = ()) -> bytes:
    """Fetch a picture over HTTP.

    Args:
        url: `http://` or `https://` URL of the picture.
        name: name of the picture in error messages.
        hosts: hosts that may be contacted although their addresses are private.

    Returns:
        The body of the response, at most `MAX_BYTES` bytes; it may be anything.

    Raises:
        BadInput: the host's address is private, the fetch fails or times out, or the response is too large.
    """
    import httpx

    try:
        address = httpx.URL(url)
        if not address.host:
            raise BadInput(f"{name} is given as {url[:40]!r}, which has no host name")
        # Pictures are compressed already, and a compressed response could expand to any size.
        async with (
            asyncio.timeout(FETCH_SECONDS),
            httpx.AsyncClient(
                transport=_transport(name, hosts),
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                timeout=FETCH_SECONDS,
                headers={"Accept-Encoding": "identity"},
                trust_env=False,  # a proxy would resolve names itself, without the check
            ) as client,
            client.stream("GET", address) as response,
        ):
            return await _read_body(response, name)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
        # The query and the credentials in a URL may be secret, so neither is repeated.
        public_address = url.partition("?")[0].rpartition("@")[2]
        raise BadInput(f"{name} cannot be fetched from {public_address}: {type(error).__name__}") from None


async def _read_body(response: httpx.Response, name: str) -> bytes:
    if not response.is_success:
        raise BadInput(f"{name} cannot be fetched: {response.url.host} answers with status {response.status_code}")
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise BadInput(f"{name} cannot be fetched: {response.url.host} sends it compressed ({encoding}), unrequested")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_BYTES:
            raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    return bytes(data)


def _transport(name: str, hosts: Collection[str]) -> httpx.AsyncBaseTransport:
    """Return a transport that resolves every host itself, also on redirects, and connects to the address it checked."""
    import httpx

    class GuardedTransport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            host = request.url.host
            if request.url.scheme not in ("http", "https"):
                raise BadInput(f"{name} leads to a {request.url.scheme}: address; only http: and https: are fetched")
            if host in hosts:
                return await super().handle_async_request(request)
            # The original request is not changed, since redirects are relative to it. TLS still checks the host name.
            pinned_request = httpx.Request(
                request.method,
                request.url.copy_with(host=await _public_address(host, name)),
                headers=request.headers,
                extensions={**request.extensions, "sni_hostname": host},
            )
            return await super().handle_async_request(pinned_request)

    return GuardedTransport()


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
    """Return the IP addresses of a host; [] if it cannot be resolved."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in entries]


def is_public(address: str) -> bool:
    """Return whether an IP address is public; an IPv6 address that contains an IPv4 one is as public as that one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        last_32_bits = (
            ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if any(ip in net for net in IPV4_IN_IPV6_NETWORKS) else None
        )
        inner_address = ip.ipv4_mapped or ip.sixtofour or last_32_bits
        if inner_address:
            return is_public(str(inner_address))
    return (
        ip.is_global
        and not ip.is_multicast
        and not any(ip.version == net.version and ip in net for net in PRIVATE_NETWORKS)
    )
