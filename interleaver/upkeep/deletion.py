"""Deletion of runs, with the pictures that nothing else needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from interleaver.errors import BadInput
from interleaver.profile import Profile
from interleaver.runner import open_sources
from interleaver.store.folders import StoredFile
from interleaver.store.locks import RunLocked
from interleaver.traces.runs import RunStore
from interleaver.traces.sources import TraceSource
from interleaver.traces.trace import Trace
from interleaver.upkeep.references import hashes_of_runs, hashes_of_sources

GRACE_SECONDS = 3600.0
"""Age of a picture up to which a run in progress may have stored it without referring to it yet."""
CLOCK_SECONDS = 300.0
"""How far the clock of an object store may differ from ours."""
LOCKS_AT_ONCE = 100


@dataclass
class Deletion:
    """What was deleted.

    Attributes:
        run_ids: the runs.
        pictures: number of pictures that were deleted.
        bytes: total size of these pictures.
        kept_pictures: number of pictures of the runs that were kept although no finished run needs them.
        reason: why they were kept.
    """

    run_ids: list[str] = field(default_factory=list)
    pictures: int = 0
    bytes: int = 0
    kept_pictures: int = 0
    reason: str = ""


async def delete_runs(
    runs: RunStore, run_ids: Sequence[str], other_users: Sequence[TraceSource] | None, skip_locked: bool = False
) -> Deletion:
    """Delete runs, with their checkpoints, labels and documents, and with the pictures that nothing else needs.

    Other runs may be in progress meanwhile.

    Args:
        runs: run store that has the runs.
        run_ids: the runs.
        other_users: sources of the other traces that use the image store; None if they are not known: then the
            pictures are kept.
        skip_locked: whether to leave out runs that are being worked on.

    Raises:
        BadInput: there is no such run.
        RunLocked: a run is being worked on, and `skip_locked` is false; runs before it have been deleted.
    """
    for run_id in run_ids:
        if not await asyncio.to_thread(runs.has_run, run_id):
            await asyncio.to_thread(runs.record, run_id)  # raises, and names similar runs
    deletion = Deletion()
    for first in range(0, len(run_ids), LOCKS_AT_ONCE):
        await _delete_some(runs, run_ids[first : first + LOCKS_AT_ONCE], other_users, skip_locked, deletion)
    return deletion


async def _delete_some(
    runs: RunStore,
    run_ids: Sequence[str],
    other_users: Sequence[TraceSource] | None,
    skip_locked: bool,
    deletion: Deletion,
) -> None:
    async with AsyncExitStack() as locks:
        locked_ids = []
        for run_id in run_ids:
            try:
                await locks.enter_async_context(runs.lock(run_id, patience=0))
                locked_ids.append(run_id)
            except RunLocked:
                if not skip_locked:
                    raise
        start = time.time()
        try:
            own_hashes = await hashes_of_runs(runs, locked_ids)
            needed_hashes, deletion.reason = await _hashes_of_others(runs, locked_ids, other_users), ""
        except BadInput as error:
            own_hashes, needed_hashes, deletion.reason = set(), set(), str(error)
        for run_id in locked_ids:
            await runs.delete(run_id)
        deletion.run_ids += locked_ids
        await _delete_pictures(runs, own_hashes - needed_hashes, locked_ids, start, deletion)


async def _hashes_of_others(
    runs: RunStore, run_ids: Collection[str], other_users: Sequence[TraceSource] | None
) -> set[str]:
    if other_users is None:
        raise BadInput(
            f"the image store {runs.images.url} may have other users; name them in the profile's store.other_users, or "
            "with --keep"
        )
    others = [run_id for run_id in await asyncio.to_thread(lambda: list(runs.run_ids())) if run_id not in run_ids]
    return await hashes_of_runs(runs, others) | await hashes_of_sources(other_users)


async def _delete_pictures(
    runs: RunStore, hashes: set[str], run_ids: Collection[str], start: float, deletion: Deletion
) -> None:
    """Delete pictures, but none that a run which is in progress, or has begun since `start`, may have stored."""
    runs_in_progress = await asyncio.to_thread(runs.locked_run_ids) - set(run_ids)
    newest_time = start - (GRACE_SECONDS if runs_in_progress else 0 if runs.images.folder.local else CLOCK_SECONDS)

    def is_old(file: StoredFile) -> bool:
        return file.changed_at is not None and file.changed_at < newest_time

    for sha256 in hashes:
        for file in await asyncio.to_thread(runs.images.files_of, sha256):
            if is_old(file):
                await asyncio.to_thread(runs.images.folder.remove, file.path)
                deletion.pictures += 1
                deletion.bytes += file.size
            else:
                deletion.kept_pictures += 1
                deletion.reason = "runs in progress may need them; later, interleaver traces gc --delete removes them"


async def delete_expired_runs(profile: Profile, runs: RunStore) -> Deletion:
    """Delete the runs of a store that are older than the profile's `store.keep_days`; without it, none.

    Runs that are being worked on are left out.
    """
    days = profile.store.keep_days
    if days is None:
        return Deletion()
    run_ids = await expired_runs(runs, days)
    return await delete_runs(runs, run_ids, open_other_users(profile) if run_ids else None, skip_locked=True)


def open_other_users(
    profile: Profile, addresses: Sequence[str] = (), not_shared: bool = False
) -> list[TraceSource] | None:
    """Open the other users of a profile's image store.

    Args:
        profile: the profile, whose `store.other_users` names them.
        addresses: addresses of further ones.
        not_shared: whether there are none if the profile does not say so.

    Returns:
        Their sources; None if there may be others that nobody has named.
    """
    store = profile.store
    if store.images and store.other_users is None and not addresses and not not_shared:
        return None
    named_addresses = [*(store.other_users or ()), *addresses]
    return open_sources(profile, named_addresses) if named_addresses else []


async def expired_runs(runs: RunStore, days: float) -> list[str]:
    """Return the runs that ended, or if they have not ended began, more than some days ago."""
    limit = datetime.now(UTC) - timedelta(days=days)

    def search() -> list[str]:
        run_ids = []
        for run_id in runs.run_ids():
            record, trace = runs.find(run_id), runs.trace(run_id)
            ended_at = trace.ended_at if isinstance(trace, Trace) else None
            time_of_run = ended_at or (record.started_at if record else None)
            if time_of_run and time_of_run < limit:
                run_ids.append(run_id)
        return run_ids

    return await asyncio.to_thread(search)
