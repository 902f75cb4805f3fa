"""Traces from LangGraph's checkpoints, in SQLite or PostgreSQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel
from pydantic import ValidationError

from interleaver.errors import BadInput, explain
from interleaver.traces import checkpointers
from interleaver.traces.images import ImageStore
from interleaver.traces.sources import Compile
from interleaver.traces.trace import Skipped, Trace, name_from

FOREIGN = "not a run of this graph"
READER = "__pregel_checkpointer"
"""Where a graph looks for the checkpointer it runs under; with it a graph reads what it left as a subgraph."""


Heads = AsyncIterator[tuple[str, str, str, str | None, Any]]
"""Thread, namespace, checkpoint, the one before it and the metadata, of every checkpoint; not its contents."""
LISTING = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, metadata FROM checkpoints"


@dataclass
class _Thread:
    """The checkpoints of one thread in one namespace that a trace is read from."""

    newest: str = ""
    ends: set[str] = field(default_factory=set)


class SqliteSource:
    """A checkpointer's SQLite database, which is not written to."""

    def __init__(self, path: str, images: ImageStore, compile_graph: Compile):
        if not Path(path).is_file():
            raise BadInput(f"there is no SQLite database {path!r}")
        self.path = Path(path)
        self.images = images
        self._compile = compile_graph

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        address = f"{self.path.resolve().as_uri()}?mode=ro"
        async with aiosqlite.connect(address, uri=True, timeout=60) as connection:
            saver = AsyncSqliteSaver(connection)
            saver.is_setup = True  # it would make its tables
            async for found in _read(saver, self._compile, self._heads(connection)):
                yield found

    async def _heads(self, connection: Any) -> Heads:
        try:
            async with connection.execute(LISTING) as cursor:
                async for *place, metadata in cursor:
                    yield (*place, json.loads(metadata or b"{}"))
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{str(self.path)!r} is not an SQLite database of checkpoints: {error}") from None


class PostgresSource:
    """A checkpointer's PostgreSQL database."""

    def __init__(self, address: str, images: ImageStore, compile_graph: Compile):
        self.images = images
        self._address = address
        self._compile = compile_graph

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        async with checkpointers.postgres(self._address, make_tables=False) as saver:
            async for found in _read(saver, self._compile, self._heads(saver.conn)):
                yield found

    async def _heads(self, connection: Any) -> Heads:
        cursor = await connection.execute(LISTING)
        async for row in cursor:
            yield tuple(row.values())


async def _read(
    saver: BaseCheckpointSaver[Any], compile_graph: Compile, heads: Heads
) -> AsyncIterator[Trace | Skipped]:
    """A trace for each end that a thread has come to: its newest state, and what stood before each further turn.

    The graph may have run as a subgraph of another one, in a namespace of the other one's thread.
    """
    graph = compile_graph(saver)
    threads: dict[str, dict[str, _Thread]] = {}
    async for thread_id, namespace, checkpoint, parent, metadata in heads:
        thread = threads.setdefault(thread_id, {}).setdefault(namespace, _Thread())
        thread.newest = max(thread.newest, checkpoint)
        if metadata.get("source") == "input" and parent:
            thread.ends.add(parent)
    for thread_id, namespaces in sorted(threads.items()):
        ours = 0
        problem: Skipped | None = None
        for namespace, thread in sorted(namespaces.items()):
            ends = sorted(thread.ends | {thread.newest})
            for number, checkpoint in enumerate(ends, start=1):
                name = _name(thread_id, namespace, number, len(ends))
                place = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}
                found = await _trace(graph, {"configurable": {**place, READER: saver}}, name)
                if isinstance(found, Skipped) and found.reason == FOREIGN:
                    problem = problem or found.model_copy(update={"what": thread_id})
                    continue
                ours += 1
                yield found
        if problem and not ours:  # around a run of ours stands its caller's graph, which is no problem
            yield problem


async def _trace(graph: Pregel[Any, Any, Any, Any], config: RunnableConfig, name: str) -> Trace | Skipped:
    try:
        snapshot = await graph.aget_state(config)
        return Trace.from_state(snapshot.values, name, "checkpoint", ended_at=snapshot.created_at)
    except ValidationError as error:
        return Skipped(what=name, reason="invalid trace", detail=explain(error))
    except ValueError as error:
        return Skipped(what=name, reason=FOREIGN, detail=str(error))


def _name(thread_id: str, namespace: str, number: int, count: int) -> str:
    """What a trace is called: after its thread, and after the subgraph and the turn where there are several."""
    name = name_from(thread_id)
    if namespace:
        name += "-" + sha256(namespace.encode()).hexdigest()[:8]
    return f"{name}-{number}" if count > 1 else name
