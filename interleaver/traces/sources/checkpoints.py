"""Traces from LangGraph's checkpoints, in SQLite or PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel
from pydantic import ValidationError

from interleaver.errors import BadInput, explain
from interleaver.store import checkpointers, postgres
from interleaver.store.images import ImageStore
from interleaver.traces.sources import CompileGraph
from interleaver.traces.trace import SkippedRecord, Trace, run_name_from

FOREIGN_REASON = "not a run of this graph"
CHECKPOINTER_KEY = "__pregel_checkpointer"
"""Config key of the parent graph's checkpointer; with it, a graph can read the checkpoints it wrote as a subgraph."""


CheckpointHeads = AsyncGenerator[tuple[str, str, str, str | None, Any]]
"""Thread id, namespace, checkpoint id, parent checkpoint id and metadata of every checkpoint, without its state."""
HEADS_QUERY = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, metadata FROM checkpoints"


@dataclass
class _Thread:
    """The checkpoints of one thread in one namespace that traces are read from.

    Attributes:
        newest: id of the newest checkpoint.
        ends: ids of the checkpoints at which earlier turns ended.
    """

    newest: str = ""
    ends: set[str] = field(default_factory=set)


class SqliteSource:
    """A checkpointer's SQLite database, which is opened read-only."""

    def __init__(self, path: str, images: ImageStore, compile_graph: CompileGraph):
        if not Path(path).is_file():
            raise BadInput(f"there is no SQLite database {path!r}")
        self.path = Path(path)
        self.images = images
        self._compile = compile_graph

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        address = f"{self.path.resolve().as_uri()}?mode=ro"
        async with aiosqlite.connect(address, uri=True, timeout=60) as connection:
            saver = AsyncSqliteSaver(connection, serde=checkpointers.CheckpointSerializer())
            saver.is_setup = True  # otherwise it would create its tables
            async with aclosing(_read(saver, self._compile, self._heads(connection))) as traces:
                async for trace in traces:
                    yield trace

    async def _heads(self, connection: Any) -> CheckpointHeads:
        try:
            async with connection.execute(HEADS_QUERY) as cursor:
                async for *place, metadata in cursor:
                    yield (*place, json.loads(metadata or b"{}"))
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{str(self.path)!r} is not an SQLite database of checkpoints: {error}") from None


class PostgresSource:
    """A checkpointer's PostgreSQL database."""

    def __init__(self, address: str, images: ImageStore, compile_graph: CompileGraph):
        self.images = images
        self._address = address
        self._compile = compile_graph

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        async with (
            postgres.open_checkpointer(self._address, make_tables=False) as saver,
            saver.conn.connection() as connection,
            aclosing(_read(saver, self._compile, self._heads(connection))) as traces,
        ):
            async for trace in traces:
                yield trace

    async def _heads(self, connection: Any) -> CheckpointHeads:
        cursor = await connection.execute(HEADS_QUERY)
        async for row in cursor:
            yield tuple(row.values())


async def _read(
    saver: BaseCheckpointSaver[Any], compile_graph: CompileGraph, heads: CheckpointHeads
) -> AsyncGenerator[Trace | SkippedRecord]:
    """Yield a trace for the end of every turn of a thread: the state before each later turn, and the newest state.

    The graph may have run as a subgraph of another graph, in a namespace of that graph's thread.
    """
    graph = compile_graph(saver)
    threads: dict[str, dict[str, _Thread]] = {}
    async for thread_id, namespace, checkpoint, parent, metadata in heads:
        thread = threads.setdefault(thread_id, {}).setdefault(namespace, _Thread())
        thread.newest = max(thread.newest, checkpoint)
        if metadata.get("source") == "input" and parent:
            thread.ends.add(parent)
    for thread_id, namespaces in sorted(threads.items()):
        own_count = 0
        problem: SkippedRecord | None = None
        for namespace, thread in sorted(namespaces.items()):
            ends = sorted(thread.ends | {thread.newest})
            for number, checkpoint in enumerate(ends, start=1):
                name = _trace_name(thread_id, namespace, number, len(ends))
                place = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}
                trace = await _trace(graph, {"configurable": {**place, CHECKPOINTER_KEY: saver}}, name)
                if isinstance(trace, SkippedRecord) and trace.reason == FOREIGN_REASON:
                    problem = problem or trace.model_copy(update={"name": thread_id})
                    continue
                own_count += 1
                yield trace
        if problem and not own_count:  # the checkpoints of a parent graph are no problem
            yield problem


async def _trace(graph: Pregel[Any, Any, Any, Any], config: RunnableConfig, name: str) -> Trace | SkippedRecord:
    try:
        snapshot = await graph.aget_state(config)
        return Trace.from_state(snapshot.values, name, "checkpoint", ended_at=snapshot.created_at)
    except ValidationError as error:
        return SkippedRecord(name=name, reason="invalid trace", detail=explain(error))
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # what a foreign or damaged state raises
        return SkippedRecord(name=name, reason=FOREIGN_REASON, detail=str(error))


def _trace_name(thread_id: str, namespace: str, number: int, count: int) -> str:
    """Return the run id of a trace, made from its thread, its namespace, and its turn if there are several."""
    name = run_name_from(thread_id)
    if namespace:
        name += "-" + sha256(namespace.encode()).hexdigest()[:8]
    return f"{name}-{number}" if count > 1 else name
