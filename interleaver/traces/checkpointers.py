"""What keeps the checkpoints of runs: SQLite beside the runs, or a PostgreSQL server."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from interleaver.errors import BackendUnavailable, BadInput, shown
from interleaver.extras import need
from interleaver.traces.folders import Folder

SETUP_LOCK = 0x696E746C
"""PostgreSQL's advisory lock while the tables are made, so that two programs may begin at once."""


@asynccontextmanager
async def sqlite(folder: Folder, file: str) -> AsyncIterator[AsyncSqliteSaver]:
    """The checkpoints of one run in an SQLite file of its own, so that runs never wait for each other.

    In a folder that is not local the file is fetched at the beginning and put back after each checkpoint.
    """
    import aiosqlite

    if folder.local:
        folder.local.mkdir(parents=True, exist_ok=True)
        async with aiosqlite.connect(folder.local / file, timeout=60) as connection:
            yield AsyncSqliteSaver(connection)
        return
    database = sqlite3.connect(":memory:", check_same_thread=False)
    with suppress(FileNotFoundError):
        database.deserialize(await asyncio.to_thread(folder.read, file))
    async with aiosqlite.Connection(lambda: database, 64) as connection:
        yield _RemoteSqlite(connection, database, folder, file)


class _RemoteSqlite(AsyncSqliteSaver):
    """An SQLite database in memory whose every checkpoint is also written to a file elsewhere."""

    def __init__(self, connection: Any, database: sqlite3.Connection, folder: Folder, file: str):
        super().__init__(connection)
        self._database, self._folder, self._file = database, folder, file

    async def aput(self, *arguments: Any, **options: Any) -> Any:
        """Keep a checkpoint; see `BaseCheckpointSaver.aput`."""
        kept = await super().aput(*arguments, **options)
        async with self.lock:
            data = await asyncio.to_thread(self._database.serialize)
        await asyncio.to_thread(self._folder.write, self._file, data)
        return kept


@asynccontextmanager
async def postgres(address: str, make_tables: bool = True) -> AsyncIterator[Any]:
    """A PostgreSQL server.

    Args:
        address: a connection string such as postgresql://user@host/database; the password comes from PGPASSWORD or
            from the password file of libpq.
        make_tables: make the tables when they are missing.

    Raises:
        BadInput: the package for it is not installed, or the address cannot be used.
        BackendUnavailable: the server cannot be reached, or refuses.
    """
    need("langgraph.checkpoint.postgres.aio", "postgres")
    import psycopg
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    try:
        async with AsyncPostgresSaver.from_conn_string(address) as saver:
            if make_tables and address not in _ready:
                await _set_up(saver)
                _ready.add(address)
            yield saver
    except psycopg.OperationalError as error:
        said = str(error).strip().splitlines()[0]
        raise BackendUnavailable(f"the database {shown(address)} cannot be used: {said}") from None
    except psycopg.ProgrammingError as error:  # its text may repeat the address
        said = "has no checkpoints" if error.sqlstate else "is no valid address"
        raise BadInput(f"the database {shown(address)} {said}") from None


_ready: set[str] = set()


async def _set_up(saver: Any) -> None:
    # Not by a statement that waits: indexes are made concurrently, which waits for every statement at work in turn.
    await AsyncRetrying(retry=retry_if_result(lambda taken: not taken), wait=wait_fixed(0.1))(_take_lock, saver.conn)
    try:
        await saver.setup()
    finally:
        await saver.conn.execute("SELECT pg_advisory_unlock(%s)", (SETUP_LOCK,))


async def _take_lock(connection: Any) -> bool:
    found = await connection.execute("SELECT pg_try_advisory_lock(%s) AS taken", (SETUP_LOCK,))
    return bool((await found.fetchone())["taken"])


def check_address(address: str) -> str:
    """A connection string for a profile: as it is, if it can be used there.

    Raises:
        ValueError: it is not PostgreSQL's, or has a password in it.
    """
    if not re.match(r"postgres(ql)?://", address):
        raise ValueError(f"{shown(address)!r} is no PostgreSQL address; give postgresql://user@host/database")
    if shown(address) != address:
        raise ValueError("secrets have no place in a profile: leave the password out and set PGPASSWORD")
    return address
