"""Sources of traces: each kind has its own form of address, and all of them yield the same type, `Trace`.

| address | source |
|---|---|
| a folder or URL with runs | the run store |
| a folder with `execution_record.json` files | records of the reference implementation |
| `FILE.jsonl`, `FILE.jsonl.gz` | the output of `interleaver traces export` |
| `sqlite:FILE` | a LangGraph checkpointer's SQLite database |
| `postgresql://user@host/database` | a LangGraph checkpointer's PostgreSQL database |
| `http://host:port` | a LangGraph server |
| `langsmith:PROJECT?filter=...&since=...&until=...` | a LangSmith project |
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from interleaver.errors import BadInput
from interleaver.store.images import ImageStore
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import SkippedRecord, Trace

CompileGraph = Callable[[BaseCheckpointSaver[Any]], Pregel[Any, Any, Any, Any]]
"""Compiles the graph with a checkpointer: only the graph can read its own checkpoints."""


class TraceSource(Protocol):
    """A source of traces.

    Attributes:
        images: image store that has the pictures of a trace once the trace has been read.
    """

    images: ImageStore

    def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """Yield every trace, with a `SkippedRecord` in place of one that cannot be read."""
        ...


async def find_trace(source: TraceSource, run_id: str, address: str) -> Trace:
    """Return the trace of a run.

    Args:
        source: source to search.
        run_id: id of the run.
        address: address of the source, for error messages.

    Raises:
        BadInput: the source has no such trace.
    """
    from interleaver.traces.sources.files import RunSource

    if isinstance(source, RunSource):  # it finds a trace by its run id
        source.runs.record(run_id)
        stored_trace = source.runs.trace(run_id)
        if isinstance(stored_trace, Trace):
            return stored_trace
        raise BadInput(f"run {run_id} has no trace: {stored_trace.detail if stored_trace else 'it has not ended'}")
    async with aclosing(source.read()) as traces:
        async for trace in traces:
            if isinstance(trace, Trace) and trace.run_id == run_id:
                return trace
    raise BadInput(f"there is no trace {run_id!r} in {address!r}; `interleaver traces list` shows them")


def open_source(address: str, stores: Callable[[str | None], RunStore], compile_graph: CompileGraph) -> TraceSource:
    """Open a source by its address.

    Args:
        address: address of the source, see the table in the module docstring.
        stores: opens the run store at an address, or the default one for None. Sources other than run stores use the
            image store of the default one, and add the pictures that they bring to it.
        compile_graph: compiles the graph that reads checkpoints.

    Raises:
        BadInput: there is no such source at this address.
    """
    from interleaver.traces.sources.checkpoints import PostgresSource, SqliteSource
    from interleaver.traces.sources.files import ExportSource, RunSource
    from interleaver.traces.sources.langsmith import LangSmithSource
    from interleaver.traces.sources.records import RecordSource, holds_records
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
