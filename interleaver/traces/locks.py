"""One writer a run, on one machine or many."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

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
    lease = _Lease(folder, f"{name}.json", owner or secrets.token_hex(8))
    if not await asyncio.to_thread(lease.claim):
        raise Taken(taken)
    holder = asyncio.current_task()
    assert holder is not None
    renewing = asyncio.create_task(lease.renew(holder))
    try:
        yield
    except asyncio.CancelledError:
        if lease.lost:
            holder.uncancel()
            raise Taken(taken) from None
        raise
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await asyncio.to_thread(lease.release)


@dataclass
class _Lease:
    """A file that says who holds a run, and since when there was a sign of life."""

    folder: Folder
    file: str
    owner: str
    lost: bool = False

    def claim(self) -> bool:
        """Write a claim, unless somebody else's stands; whether it stood when others had had time to write theirs."""
        if self._held_by_another():
            return False
        self._write()
        # Object stores share no way to create a file only if it is missing: the last to write within this pause wins.
        time.sleep(0.2)
        return not self._held_by_another()

    async def renew(self, holder: asyncio.Task[Any]) -> None:
        """Give signs of life; when somebody else took the run meanwhile, stop whoever works on it here."""
        while True:
            await asyncio.sleep(RENEW)
            with suppress(OSError):  # the next sign of life may get through
                if await asyncio.to_thread(self._held_by_another):
                    self.lost = True
                    holder.cancel()
                    return
                await asyncio.to_thread(self._write)

    def release(self) -> None:
        """Take the claim back, if it is still this one."""
        if not self._held_by_another():
            self.folder.remove(self.file)

    def _held_by_another(self) -> bool:
        try:
            claim = json.loads(self.folder.read(self.file))
            return bool(claim["owner"] != self.owner and time.time() - claim["at"] < EXPIRE)
        except (OSError, ValueError, KeyError, TypeError):
            return False  # there is none, or none that can be read

    def _write(self) -> None:
        self.folder.write(self.file, json.dumps({"owner": self.owner, "at": time.time()}).encode())
