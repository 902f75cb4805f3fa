"""Checkpointers of runs in SQLite files, and the serializer of all checkpointers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from interleaver.errors import BadInput
from interleaver.store.folders import Folder


class CheckpointSerializer(JsonPlusSerializer):
    """LangGraph's serializer for databases that may come from a stranger: it calls nothing that the data names.

    Only LangGraph's own list of harmless types is restored (messages, dates and the like); the data of any other type
    is returned as it is. Serializations that no saver writes any more are refused.
    """

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return a stored value.

        Args:
            data: name of the serialization, and the serialized value.

        Raises:
            BadInput: the value is damaged, or has another serialization.
        """
        if data[0] not in ("msgpack", "null", "bytes", "bytearray"):
            raise BadInput(f"a checkpoint has the serialization {str(data[0])[:40]!r}, which is not read")
        try:
            return super().loads_typed(data)
        except Exception as error:  # whatever damaged data raises
            raise BadInput(f"a checkpoint cannot be read: {type(error).__name__}") from None


@asynccontextmanager
async def sqlite(folder: Folder, file: str) -> AsyncGenerator[AsyncSqliteSaver]:
    """Open the checkpointer of one run, with an SQLite file of its own, so that runs never wait for each other.

    In a remote folder the file is downloaded first and uploaded after each checkpoint.

    Args:
        folder: folder of the checkpoints.
        file: name of the run's file in the folder.
    """
    import aiosqlite

    if folder.local:
        folder.local.mkdir(parents=True, exist_ok=True)
        async with aiosqlite.connect(folder.local / file, timeout=60) as connection:
            saver = AsyncSqliteSaver(connection, serde=CheckpointSerializer())
            try:
                yield saver
            finally:
                # A cancelled graph leaves a write at work. If the connection closed in the middle of it, the file would
                # stay locked for as long as somebody holds the exception, and with it the write's cursor.
                async with saver.lock:
                    await connection.close()
        return
    database = sqlite3.connect(":memory:", check_same_thread=False)
    with suppress(FileNotFoundError):
        database.deserialize(await asyncio.to_thread(folder.read, file))
    async with aiosqlite.Connection(lambda: database, 64) as connection:
        yield _RemoteSqlite(connection, database, folder, file)


class _RemoteSqlite(AsyncSqliteSaver):
    """An SQLite database in memory that is saved to a remote file after each checkpoint."""

    def __init__(self, connection: Any, database: sqlite3.Connection, folder: Folder, file: str):
        super().__init__(connection, serde=CheckpointSerializer())
        self._database, self._folder, self._file = database, folder, file

    async def aput(self, *arguments: Any, **options: Any) -> Any:
        """Store a checkpoint and save the database, see `BaseCheckpointSaver.aput`."""
        config = await super().aput(*arguments, **options)
        async with self.lock:
            data = await asyncio.to_thread(self._database.serialize)
        await asyncio.to_thread(self._folder.write, self._file, data)
        return config
