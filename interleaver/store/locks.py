"""Locks of runs: one writer per run, across processes and machines."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from interleaver.errors import BadInput
from interleaver.store.folders import Folder

RENEW_SECONDS = 15.0
"""Seconds between two renewals of a lease."""
SETTLE_SECONDS = 0.2
EXPIRE_SECONDS = 60.0
"""Seconds without a renewal after which another process may take over the lease."""


class RunLocked(BadInput):
    """Another process holds the lock of the run."""


@asynccontextmanager
async def hold_lock(folder: Folder, name: str, owner: str | None = None) -> AsyncGenerator[None]:
    """Hold the lock of a run for this process alone.

    On a local filesystem the lock is a file lock, which the operating system releases when the process dies. In a
    remote folder it is a lease: a file that names the owner and is renewed regularly, and that expires when the
    renewals stop. The clocks of all machines must agree to within half a minute.

    Args:
        folder: folder of the locks.
        name: name of the run.
        owner: identity of the holder, for processes that share it; an owner may take its own lease again. Random by
            default.

    Raises:
        RunLocked: another process holds the lock.
    """
    message = f"run {name} is being worked on by another process; wait for it or stop it"
    if folder.local:
        folder.local.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.local / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise RunLocked(message) from None
        try:
            yield
        finally:
            lock.release()
        return
    lease = _Lease(folder, f"{name}.json", owner or secrets.token_hex(8))
    if not await asyncio.to_thread(lease.claim):
        raise RunLocked(message)
    holder = asyncio.current_task()
    assert holder is not None
    renewing = asyncio.create_task(lease.renew(holder))
    try:
        yield
    except asyncio.CancelledError:
        if lease.is_lost:
            holder.uncancel()
            raise RunLocked(message) from None
        raise
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await asyncio.to_thread(lease.release)


@dataclass
class _Lease:
    """A file that says who holds a run, and when the lease was last renewed."""

    folder: Folder
    file: str
    owner: str
    is_lost: bool = False

    def claim(self) -> bool:
        """Try to take the lease, and return whether it was taken.

        The claim is checked again after a pause in which competing processes may have written theirs.
        """
        if self._held_by_another():
            return False
        self._write()
        # Object stores have no common way to create a file only if it is missing: the last writer in this pause wins.
        time.sleep(SETTLE_SECONDS)
        return not self._held_by_another()

    async def renew(self, holder: asyncio.Task[Any]) -> None:
        """Renew the lease until cancelled; if another process has taken it over, cancel the task `holder`."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(OSError):  # the next renewal may get through
                if await asyncio.to_thread(self._held_by_another):
                    self.is_lost = True
                    holder.cancel()
                    return
                await asyncio.to_thread(self._write)

    def release(self) -> None:
        """Remove the claim, unless another process has taken the lease over."""
        if not self._held_by_another():
            self.folder.remove(self.file)

    def _held_by_another(self) -> bool:
        try:
            claim = json.loads(self.folder.read(self.file))
            return bool(claim["owner"] != self.owner and time.time() - claim["at"] < EXPIRE_SECONDS)
        except (OSError, ValueError, KeyError, TypeError):
            return False  # there is no claim, or it cannot be read

    def _write(self) -> None:
        self.folder.write(self.file, json.dumps({"owner": self.owner, "at": time.time()}).encode())
