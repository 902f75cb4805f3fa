"""Keeping what was said to models and by them, whoever calls the backend that speaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from interleaver.types import Exchange

_kept: ContextVar[list[Exchange] | None] = ContextVar("kept", default=None)


@contextmanager
def recording() -> Iterator[list[Exchange]]:
    """Collect every exchange that is recorded within the block, in tasks started there too, failed ones included."""
    exchanges: list[Exchange] = []
    token = _kept.set(exchanges)
    try:
        yield exchanges
    finally:
        _kept.reset(token)


def record(exchange: Exchange) -> None:
    """Hand one call of a model to whoever is recording; nobody may be."""
    exchanges = _kept.get()
    if exchanges is not None:
        exchanges.append(exchange)
