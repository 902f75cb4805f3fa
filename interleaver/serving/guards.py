"""What protects the HTTP servers of this package: keys, limits on rates, and deadlines for slow clients."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 20.0
"""Time that a client may take to send the header of a request."""
MAX_CONNECTIONS = 800
"""Connections at once, below the usual limit of 1,024 open files; further ones get HTTP 503."""


class KeyMiddleware:
    """ASGI middleware that refuses requests without the API key before anything of their bodies is read."""

    def __init__(self, app: ASGIApp, api_key: str, open_paths: Collection[str] = ()):
        self.app = app
        self.api_key = api_key
        self.open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        if scope["type"] != "http" or scope["path"] in self.open_paths or self._has_key(scope):
            return await self.app(scope, receive, send)
        message = "the API key is missing or wrong; send it as a bearer token"
        response = error_response(401, message, "invalid_request_error", {"WWW-Authenticate": "Bearer"})
        await response(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self.api_key.encode())


class RateMiddleware:
    """ASGI middleware that refuses the requests of a client beyond a number a minute.

    Clients are told apart by their address. Behind a proxy that is the proxy's, unless uvicorn trusts its headers
    (`FORWARDED_ALLOW_IPS`).
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int, open_paths: Collection[str] = ()):
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        self.app = app
        self.open_paths = open_paths
        self.limit = RateLimitItemPerMinute(requests_per_minute)
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        client = (scope.get("client") or ("",))[0]
        if scope["type"] != "http" or scope["path"] in self.open_paths or self.limiter.hit(self.limit, client):
            return await self.app(scope, receive, send)
        message = f"more than {self.limit.amount} requests a minute; try again later"
        await error_response(429, message, "rate_limit_error", {"Retry-After": "5"})(scope, receive, send)


class _ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose client does not send a request's header in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._deadline = self.loop.call_later(HEADER_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waits_for_header = self.cycle is None or self.cycle.response_complete
        if self._deadline and not waits_for_header:
            self._deadline.cancel()
            self._deadline = None
        elif waits_for_header and not self._deadline:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)


def guarded_config(app: Any, host: str, port: int) -> Config:
    """Return uvicorn's configuration of a server that slow or many clients do not stop."""
    return Config(
        app, host=host, port=port, log_level="warning", http=_ImpatientProtocol, limit_concurrency=MAX_CONNECTIONS
    )


def add_guards(
    app: Any, api_key: str | None, requests_per_minute: int | None, open_paths: Collection[str] = ()
) -> None:
    """Add a key and a rate limit to a Starlette application.

    Args:
        app: the application.
        api_key: key that clients must send as a bearer token; None for none.
        requests_per_minute: maximum number of requests of one client address; None for no limit.
        open_paths: paths that need no key and do not count.
    """
    if api_key is not None:
        app.add_middleware(KeyMiddleware, api_key=api_key, open_paths=open_paths)
    if requests_per_minute is not None:  # outside, so that keys cannot be guessed quickly
        app.add_middleware(RateMiddleware, requests_per_minute=requests_per_minute, open_paths=open_paths)


def error_response(status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error in the format that the `openai` SDK expects."""
    return JSONResponse({"error": {"message": message, "type": kind, "code": None}}, status, headers)
