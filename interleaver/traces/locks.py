"""One writer a run, on one machine or many."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from filelock import FileLock, Timeout

from interleaver.errors import BadInput
from interleaver.traces.folders import Folder

RENEW = 15.0
"""Seconds between two signs of life of whoever holds a run in a store that is not local."""
EXPIRE = 60.0
"""Seconds without a sign of life after which others may take the run."""


class Taken(BadInput):
    """Somebody else holds it."""


@asynccontextmanager
async def hold(folder: Folder, name: str, owner: str | None = None) -> AsyncIterator[None]:
    """Hold a name for this process alone.

    On a local filesystem the operating system keeps the lock and lets go of it when the process dies. Elsewhere a
    file says who holds it and is renewed; it expires when that stops. Machines are expected to agree on the time to
    within half a minute.

    Args:
        folder: where the locks are.
        name: what is held.
        owner: who holds it, where several processes stand for one; whoever holds a lease may take it again.

    Raises:
        Taken: somebody else holds it.
    """
    taken = f"run {name} is being worked on by another process; wait for it or stop it"
    if folder.local:
        folder.local.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.local / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise Taken(taken) from None
        try:
            yield
        finally:
            lock.release()
        return
    owner = owner or secrets.token_hex(8)
    if not await asyncio.to_thread(_claim, folder, f"{name}.json", owner):
        raise Taken(taken)
    renewing = asyncio.create_task(_renew(folder, f"{name}.json", owner))
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await asyncio.to_thread(folder.remove, f"{name}.json")


def _claim(folder: Folder, file: str, owner: str) -> bool:
    """Write a claim, unless somebody else's stands; whether it stood when others had had time to write theirs."""
    if _held_by_another(folder, file, owner):
        return False
    _write(folder, file, owner)
    # Object stores share no way to create a file only if it is missing: the last to write within this pause wins.
    time.sleep(0.2)
    return not _held_by_another(folder, file, owner)


def _held_by_another(folder: Folder, file: str, owner: str) -> bool:
    try:
        claim = json.loads(folder.read(file))
        return bool(claim["owner"] != owner and time.time() - claim["at"] < EXPIRE)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # there is none, or none that can be read


def _write(folder: Folder, file: str, owner: str) -> None:
    folder.write(file, json.dumps({"owner": owner, "at": time.time()}).encode())


async def _renew(folder: Folder, file: str, owner: str) -> None:
    while True:
        await asyncio.sleep(RENEW)
        with suppress(OSError):  # the next sign of life may get through
            await asyncio.to_thread(_write, folder, file, owner)
