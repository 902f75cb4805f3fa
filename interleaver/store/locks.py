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

RENEW_SECONDS = 10.0
"""Seconds between two renewals of a lease."""
SETTLE_SECONDS = 0.2
EXPIRE_SECONDS = 40.0
"""Seconds without a renewal after which another process may take over the lease."""
WATCH_SECONDS = 1.0
"""Seconds between two looks at a lease that may have expired."""
CLOSING_SECONDS = 2.0
"""Seconds that a file lock may take to be released by a holder in this process that has just been left."""


class RunLocked(BadInput):
    """Another process holds the lock of the run."""


@asynccontextmanager
async def hold_lock(
    folder: Folder, name: str, owner: str | None = None, patience: float = CLOSING_SECONDS
) -> AsyncGenerator[None]:
    """Hold the lock of a run for this process alone.

    On a local filesystem the lock is a file lock, which the operating system releases when the process dies. In a
    remote folder it is a lease: a file that names the owner and changes at each renewal. Who finds the lease of another
    owner watches it: if it changes, the run is locked; if it stays as it is for `EXPIRE_SECONDS`, its holder is dead.
    So no clocks are compared. A holder that could not renew its lease for almost as long stops by itself.

    Args:
        folder: folder of the locks.
        name: name of the run.
        owner: identity of the holder, for processes that share it; an owner may take its own lease again. Random by
            default.
        patience: seconds to wait for a file lock that another holder may be about to release.

    Raises:
        RunLocked: another process holds the lock.
    """
    if folder.local:
        folder.local.mkdir(parents=True, exist_ok=True)
        async with _hold_file(FileLock(folder.local / f"{name}.lock", timeout=0, thread_local=False), name, patience):
            yield
        return
    lease = _Lease(folder, f"{name}.json", owner or secrets.token_hex(8))
    if not await lease.claim():
        raise RunLocked(_message(name))
    holder = asyncio.current_task()
    assert holder is not None
    renewing = asyncio.create_task(lease.renew(holder))
    try:
        yield
    except asyncio.CancelledError:
        if lease.loss:
            holder.uncancel()
            raise RunLocked(f"{_message(name)} ({lease.loss})") from None
        raise
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        with suppress(OSError):  # then it expires
            await asyncio.to_thread(lease.release)


def held_names(folder: Folder) -> set[str]:
    """Return the names of the locks in a folder that somebody holds; of leases, also those that have expired."""
    if folder.local is None:
        return {file.path.removesuffix(".json") for file in folder.files()}
    names = set()
    for path in folder.local.glob("*.lock"):
        lock = FileLock(path, timeout=0)
        try:
            with lock:
                pass
        except Timeout:
            names.add(path.stem)
    return names


def _message(name: str) -> str:
    return f"run {name} is being worked on by another process; wait for it or stop it"


@asynccontextmanager
async def _hold_file(lock: FileLock, name: str, patience: float) -> AsyncGenerator[None]:
    """Hold a file lock; it may take a moment until a holder that was left in the middle has released it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            lock.acquire()
            break
        except Timeout:
            if time.monotonic() > deadline:
                raise RunLocked(_message(name)) from None
            await asyncio.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Lease:
    """A file that says who holds a run, and that changes with each renewal.

    Attributes:
        folder: folder of the file.
        file: name of the file.
        owner: identity of this holder.
        loss: why the lease was lost; "" while it is held.
    """

    folder: Folder
    file: str
    owner: str
    loss: str = ""

    async def claim(self) -> bool:
        """Try to take the lease, and return whether it was taken.

        The claim is checked again after a pause in which competing processes may have written theirs.
        """
        claim = await asyncio.to_thread(self._claim_of_another)
        deadline = time.monotonic() + EXPIRE_SECONDS
        while claim:
            await asyncio.sleep(min(WATCH_SECONDS, EXPIRE_SECONDS / 4))
            newer_claim = await asyncio.to_thread(self._claim_of_another)
            if newer_claim and newer_claim != claim:
                return False
            if time.monotonic() >= deadline:
                break
            claim = newer_claim
        await asyncio.to_thread(self._write)
        # Object stores have no common way to create a file only if it is missing: the last writer in this pause wins.
        await asyncio.sleep(SETTLE_SECONDS)
        return not await asyncio.to_thread(self._claim_of_another)

    async def renew(self, holder: asyncio.Task[Any]) -> None:
        """Renew the lease until cancelled; if it is lost, or could not be renewed in time, cancel the task `holder`."""
        renewed_at = time.monotonic()
        while not self.loss:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if await asyncio.to_thread(self._claim_of_another):
                    self.loss = "it took the lease over"
                else:
                    await asyncio.to_thread(self._write)
                    renewed_at = time.monotonic()
            except OSError as error:  # the next renewal may get through
                if time.monotonic() - renewed_at > EXPIRE_SECONDS - 2 * RENEW_SECONDS:
                    self.loss = f"or may be: the lease could not be renewed in time: {error}"
        holder.cancel()

    def release(self) -> None:
        """Remove the claim, unless another process has taken the lease over."""
        if not self._claim_of_another():
            self.folder.remove(self.file)

    def _claim_of_another(self) -> bytes:
        """Return the claim of another owner; b"" if there is none, or none that can be understood."""
        try:
            claim = self.folder.read(self.file)
            return claim if json.loads(claim)["owner"] != self.owner else b""
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return b""

    def _write(self) -> None:
        claim = {"owner": self.owner, "renewal": secrets.token_hex(8)}
        self.folder.write(self.file, json.dumps(claim).encode())
