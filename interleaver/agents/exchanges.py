"""Recording of the exchanges with models, independent of who calls the backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from interleaver.types import Exchange

_exchanges: ContextVar[list[Exchange] | None] = ContextVar("kept", default=None)


@contextmanager
def record_exchanges() -> Iterator[list[Exchange]]:
    """Collect all exchanges recorded in the `with` block and in tasks started there, including failed ones."""
    exchanges: list[Exchange] = []
    token = _exchanges.set(exchanges)
    try:
        yield exchanges
    finally:
        _exchanges.reset(token)


def record_exchange(exchange: Exchange) -> None:
    """Add one model call to the active recording, if there is one."""
    exchanges = _exchanges.get()
    if exchanges is not None:
        exchanges.append(exchange)
