"""Removal of files that no run needs any more."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from interleaver.store.folders import Folder
from interleaver.traces.runs import STORE_FOLDER, RunStore
from interleaver.traces.trace import Trace


@dataclass
class Garbage:
    """Files that are no longer needed.

    Attributes:
        files: folder and path of each file.
        pictures: number of pictures that nothing refers to.
        checkpoints: number of checkpoint files of complete runs.
        leftovers: number of partial files of crashed writers.
        bytes: total size of all files.
    """

    files: list[tuple[Folder, str]] = field(default_factory=list)
    pictures: int = 0
    checkpoints: int = 0
    leftovers: int = 0
    bytes: int = 0

    def remove(self) -> None:
        """Remove the files."""
        for folder, name in self.files:
            folder.remove(name)


def find_garbage(runs: RunStore, needed_hashes: Collection[str], older_than: float) -> Garbage:
    """Find pictures that nothing refers to, checkpoints of complete runs, and partial files of crashed writers.

    Args:
        runs: run store to search.
        needed_hashes: SHA-256 of every picture that is referred to.
        older_than: minimum age of a file in seconds; younger files may belong to a run in progress.
    """
    garbage, newest_time = Garbage(), time.time() - older_than
    for file in runs.images.folder.files():
        name = file.path.rpartition("/")[2]
        is_partial = name.startswith(".") or "." in name.partition(".")[2]
        if file.changed_at is None or file.changed_at > newest_time or name.partition(".")[0] in needed_hashes:
            continue
        garbage.files.append((runs.images.folder, file.path))
        garbage.bytes += file.size
        garbage.leftovers += is_partial
        garbage.pictures += not is_partial
    folder = runs.root / STORE_FOLDER / "checkpoints"
    for file in folder.files():
        run_id = file.path.partition(".sqlite")[0]
        if file.changed_at is None or file.changed_at > newest_time:
            continue
        trace = runs.trace(run_id)
        if isinstance(trace, Trace) and trace.status == "complete":  # other runs may be resumed
            garbage.files.append((folder, file.path))
            garbage.bytes += file.size
            garbage.checkpoints += 1
    return garbage
