"""Checkpointers of runs: SQLite files beside the runs, or a PostgreSQL database."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from interleaver.errors import BackendUnavailable, BadInput, redact_password
from interleaver.extras import require_extra
from interleaver.store.folders import Folder

SETUP_LOCK = 0x696E746C
"""PostgreSQL advisory lock that is held while the tables are created, so that programs can start at the same time."""


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


@asynccontextmanager
async def postgres(address: str, make_tables: bool = True) -> AsyncGenerator[Any]:
    """Open a checkpointer on a PostgreSQL database.

    Args:
        address: a connection string such as postgresql://user@host/database; libpq takes the password from PGPASSWORD
            or from its password file.
        make_tables: whether to create missing tables.

    Raises:
        BadInput: the extra `postgres` is not installed, the address is invalid, or the database has no checkpoints.
        BackendUnavailable: the server cannot be reached, or refuses the connection.
    """
    require_extra("langgraph.checkpoint.postgres.aio", "postgres")
    import psycopg
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    try:
        async with AsyncPostgresSaver.from_conn_string(address, serde=CheckpointSerializer()) as saver:
            if make_tables and address not in _prepared_addresses:
                await _make_tables(saver)
                _prepared_addresses.add(address)
            yield saver
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendUnavailable(f"the database {redact_password(address)} cannot be used: {reason}") from None
    except psycopg.ProgrammingError as error:  # its text may contain the password
        reason = "has no checkpoints" if error.sqlstate else "is not a valid address"
        raise BadInput(f"the database {redact_password(address)} {reason}") from None


_prepared_addresses: set[str] = set()


async def _make_tables(saver: Any) -> None:
    # Poll for the lock: a statement that waits for it would block CREATE INDEX CONCURRENTLY in the other process.
    await AsyncRetrying(retry=retry_if_result(lambda is_locked: not is_locked), wait=wait_fixed(0.1))(
        _take_lock, saver.conn
    )
    try:
        await saver.setup()
    finally:
        await saver.conn.execute("SELECT pg_advisory_unlock(%s)", (SETUP_LOCK,))


async def _take_lock(connection: Any) -> bool:
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS taken", (SETUP_LOCK,))
    return bool((await cursor.fetchone())["taken"])


def check_address(address: str) -> str:
    """Check that a connection string may be used in a profile, and return it.

    Raises:
        ValueError: it is not a PostgreSQL address, or contains a password.
    """
    if not re.match(r"postgres(ql)?://", address):
        raise ValueError(
            f"{redact_password(address)!r} is not a PostgreSQL address; give postgresql://user@host/database"
        )
    if redact_password(address) != address:
        raise ValueError("a profile must not contain secrets: leave the password out and set PGPASSWORD")
    return address
