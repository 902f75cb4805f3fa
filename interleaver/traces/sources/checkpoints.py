"""Traces from LangGraph's checkpoints, in SQLite or PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import ValidationError

from interleaver.errors import BadInput, explain
from interleaver.traces import checkpointers
from interleaver.traces.images import ImageStore
from interleaver.traces.sources import Compile
from interleaver.traces.trace import Skipped, Trace

READER = "__pregel_checkpointer"
"""Where a graph looks for the checkpointer it runs under; with it a graph reads what it left as a subgraph."""


@dataclass
class _Thread:
    """The checkpoints of one thread in one namespace, by id: whether each is our graph's, and which ones are ends."""

    newest: str = ""
    ours: bool = False
    ends: set[str] = field(default_factory=set)


class SqliteSource:
    """A checkpointer's SQLite database."""

    def __init__(self, path: str, images: ImageStore, compile_graph: Compile):
        if not Path(path).is_file():
            raise BadInput(f"there is no SQLite database {path!r}")
        self.path = Path(path)
        self.images = images
        self._compile = compile_graph

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        async with self._open() as saver:
            async for found in _read(saver, self._compile):
                yield found

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[BaseCheckpointSaver[Any]]:
        import sqlite3

        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with aiosqlite.connect(self.path, timeout=60) as connection:
            saver = AsyncSqliteSaver(connection)
            try:
                await saver.setup()
            except sqlite3.DatabaseError as error:
                raise BadInput(f"{str(self.path)!r} is not an SQLite database of checkpoints: {error}") from None
            yield saver


class PostgresSource:
    """A checkpointer's PostgreSQL database."""

    def __init__(self, address: str, images: ImageStore, compile_graph: Compile):
        self.images = images
        self._address = address
        self._compile = compile_graph

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        opened: AbstractAsyncContextManager[BaseCheckpointSaver[Any]] = checkpointers.postgres(self._address)
        async with opened as saver:
            async for found in _read(saver, self._compile):
                yield found


async def _read(saver: BaseCheckpointSaver[Any], compile_graph: Compile) -> AsyncIterator[Trace | Skipped]:
    """A trace for each end that a thread has come to: its newest state, and what stood before each further turn.

    The graph may have run as a subgraph of another one, in a namespace of the other one's thread.
    """
    graph = compile_graph(saver)
    threads: dict[tuple[str, str], _Thread] = {}
    async for entry in saver.alist(None):
        place = entry.config["configurable"]
        thread = threads.setdefault((place["thread_id"], place.get("checkpoint_ns", "")), _Thread())
        thread.newest = max(thread.newest, place["checkpoint_id"])
        thread.ours |= "plan" in entry.checkpoint["channel_versions"]
        if entry.metadata.get("source") == "input" and entry.parent_config:
            thread.ends.add(entry.parent_config["configurable"]["checkpoint_id"])
    parents = {thread_id for (thread_id, namespace), thread in threads.items() if namespace and thread.ours}
    for (thread_id, namespace), thread in sorted(threads.items()):
        if not thread.ours:
            if not namespace and thread_id not in parents:
                yield Skipped(what=thread_id, reason="not a run of this graph", detail="it has no plan")
            continue
        ends = sorted(thread.ends | {thread.newest})
        for number, checkpoint in enumerate(ends, start=1):
            name = _name(thread_id, namespace, number, len(ends))
            config: RunnableConfig = {
                "configurable": {
                    "thread_id": thread_id,
                    "checkpoint_ns": namespace,
                    "checkpoint_id": checkpoint,
                    READER: saver,
                }
            }
            try:
                snapshot = await graph.aget_state(config)
                yield Trace.from_state(snapshot.values, name, "checkpoint", ended_at=snapshot.created_at)
            except ValidationError as error:
                yield Skipped(what=name, reason="invalid trace", detail=explain(error))
            except ValueError as error:
                yield Skipped(what=name, reason="not a run of this graph", detail=str(error))


def _name(thread_id: str, namespace: str, number: int, count: int) -> str:
    """What a trace is called: after its thread, and after the subgraph and the turn where there are several."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", thread_id).strip("-.") or "thread"
    if namespace:
        name += "-" + sha256(namespace.encode()).hexdigest()[:8]
    return f"{name}-{number}" if count > 1 else name
