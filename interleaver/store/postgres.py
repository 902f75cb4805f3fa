"""Checkpointers of runs in a PostgreSQL database, whose connections the runs of this process share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from tenacity import AsyncRetrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from interleaver.errors import BackendUnavailable, BadInput, redact_password
from interleaver.extras import require_extra
from interleaver.store.checkpointers import CheckpointSerializer

SETUP_LOCK = 0x696E746C
"""PostgreSQL advisory lock that is held while the tables are created, so that programs can start at the same time."""
MAX_CONNECTIONS = 10
"""Connections of this process to one database, whatever the number of runs; servers allow 100 by default."""
PATIENCE_SECONDS = 120.0
"""Seconds for which a run waits for a database that has gone away, before it stops where it is."""


@dataclass
class _Pool:
    """Connections to one database, and the number of checkpointers that use them."""

    connections: Any
    users: int = 0


@dataclass
class _Databases:
    """The databases that an event loop uses, by address."""

    pools: dict[str, _Pool] = field(default_factory=dict)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


_databases: WeakKeyDictionary[asyncio.AbstractEventLoop, _Databases] = WeakKeyDictionary()
_prepared_addresses: set[str] = set()


@asynccontextmanager
async def open_checkpointer(address: str, make_tables: bool = True) -> AsyncGenerator[Any]:
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

    try:
        async with _shared_connections(address, make_tables) as connections:
            yield _make_saver(connections)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendUnavailable(f"the database {redact_password(address)} cannot be used: {reason}") from None
    except psycopg.ProgrammingError as error:  # its text may contain the password
        reason = "has no checkpoints" if error.sqlstate else "is not a valid address"
        raise BadInput(f"the database {redact_password(address)} {reason}") from None


@asynccontextmanager
async def _shared_connections(address: str, make_tables: bool) -> AsyncGenerator[Any]:
    """Open this event loop's connections to a database, or share those that are open; the last user closes them."""
    databases = _databases.setdefault(asyncio.get_running_loop(), _Databases())
    async with databases.opening:
        if make_tables and address not in _prepared_addresses:
            await _make_tables(address)
            _prepared_addresses.add(address)
        if address not in databases.pools:
            databases.pools[address] = await _open_pool(address)
        pool = databases.pools[address]
        pool.users += 1
    try:
        yield pool.connections
    finally:
        pool.users -= 1
        if not pool.users:
            del databases.pools[address]
            await pool.connections.close()


async def _open_pool(address: str) -> _Pool:
    import psycopg
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    # A connection outside of the pool says at once, and in words, why the database cannot be used.
    await (await psycopg.AsyncConnection.connect(address)).close()
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    check = AsyncConnectionPool.check_connection
    connections = AsyncConnectionPool(
        address, kwargs=settings, min_size=0, max_size=MAX_CONNECTIONS, open=False, check=check
    )
    await connections.open()
    return _Pool(connections)


def _make_saver(connections: Any) -> Any:
    """Return LangGraph's saver, which waits for a database that has gone away."""
    import psycopg
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    def retrying() -> AsyncRetrying:
        is_gone = retry_if_exception_type(psycopg.OperationalError)
        return AsyncRetrying(retry=is_gone, wait=wait_fixed(1), stop=stop_after_delay(PATIENCE_SECONDS), reraise=True)

    class PatientSaver(AsyncPostgresSaver):  # what it repeats has the same effect twice as once
        async def aget_tuple(self, *arguments: Any, **options: Any) -> Any:
            return await retrying()(super().aget_tuple, *arguments, **options)

        async def aput(self, *arguments: Any, **options: Any) -> Any:
            return await retrying()(super().aput, *arguments, **options)

        async def aput_writes(self, *arguments: Any, **options: Any) -> None:
            await retrying()(super().aput_writes, *arguments, **options)

    return PatientSaver(connections, serde=CheckpointSerializer())


async def _make_tables(address: str) -> None:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with AsyncPostgresSaver.from_conn_string(address) as saver:
        connection: Any = saver.conn
        # Poll for the lock: a statement that waits for it would block CREATE INDEX CONCURRENTLY in the other process.
        await AsyncRetrying(retry=retry_if_result(lambda is_locked: not is_locked), wait=wait_fixed(0.1))(
            _take_lock, connection
        )
        try:
            await saver.setup()
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (SETUP_LOCK,))


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
