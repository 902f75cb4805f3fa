"""Where traces come from: one address for each kind of source, one `Trace` type for all.

| address | source |
|---|---|
| a folder or URL with runs | the run store |
| a folder with `execution_record.json` files | records of the reference implementation |
| `FILE.jsonl`, `FILE.jsonl.gz` | what `interleaver traces export` wrote |
| `sqlite:FILE` | a LangGraph checkpointer's SQLite database |
| `postgresql://user@host/database` | a LangGraph checkpointer's PostgreSQL database |
| `http://host:port` | a LangGraph server |
| `langsmith:PROJECT?filter=...&since=...&until=...` | a LangSmith project |
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from interleaver.traces.images import ImageStore
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import Skipped, Trace

Compile = Callable[[BaseCheckpointSaver[Any]], Pregel[Any, Any, Any, Any]]
"""Compiles the state machine with a checkpointer: only the graph can read its own checkpoints."""


class Source(Protocol):
    """Where traces come from.

    Attributes:
        images: the store that has the pictures of a trace by the time it is read.
    """

    images: ImageStore

    def read(self) -> AsyncIterator[Trace | Skipped]:
        """Every trace, one after another; what cannot be read is told in its place."""
        ...


def open_source(address: str, stores: Callable[[str | None], RunStore], compile_graph: Compile) -> Source:
    """Open a source by its address.

    Args:
        address: see the table above.
        stores: opens the run store at an address, or the default one for None. The default one's pictures are those of
            the sources that are no run stores; what such a source brings itself is put there.
        compile_graph: how to read checkpoints.

    Raises:
        BadInput: there is nothing of the kind at this address.
    """
    from interleaver.traces.sources.checkpoints import PostgresSource, SqliteSource
    from interleaver.traces.sources.files import ExportSource, RecordSource, RunSource, holds_records
    from interleaver.traces.sources.langsmith import LangSmithSource
    from interleaver.traces.sources.server import ServerSource

    if holds_records(address):
        return RecordSource(address, stores(None).images)
    kinds = r"(sqlite:|langsmith:|postgres(ql)?://|https?://)|.*\.jsonl(\.gz)?$"
    if not re.match(kinds, address):
        return RunSource(stores(address))
    images = stores(None).images
    if address.startswith("sqlite:"):
        return SqliteSource(address.removeprefix("sqlite:"), images, compile_graph)
    if re.match(r"postgres(ql)?://", address):
        return PostgresSource(address, images, compile_graph)
    if re.match(r"https?://", address):
        return ServerSource(address, images)
    if address.startswith("langsmith:"):
        return LangSmithSource(address.removeprefix("langsmith:"), images)
    return ExportSource(address, images)
