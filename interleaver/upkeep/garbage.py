"""Removal of files that no run needs any more."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from interleaver.store.folders import Folder, StoredFile
from interleaver.traces.runs import STORE_FOLDER, RunStore
from interleaver.traces.trace import Trace

LEFTOVER = r"(.*/)?(\..+\.[0-9a-f]{32}|probe-[0-9a-f]{8})"
"""Path of a file that was being written when its writer died, or of a trial whether a folder can be written to."""


@dataclass
class Garbage:
    """Files that are no longer needed.

    Attributes:
        files: folder of each file, and the file as it was when it was found.
        pictures: number of pictures that nothing refers to.
        checkpoints: number of checkpoint files of runs that are complete or deleted.
        leftovers: number of partial files of crashed writers.
        bytes: total size of all files.
    """

    files: list[tuple[Folder, StoredFile]] = field(default_factory=list)
    pictures: int = 0
    checkpoints: int = 0
    leftovers: int = 0
    bytes: int = 0

    def remove(self) -> None:
        """Remove the files, except for those that somebody has written or stored again since they were found."""
        for folder, file in self.files:
            if folder.find(file.path) == file:
                folder.remove(file.path)

    def _add(self, folder: Folder, file: StoredFile) -> None:
        self.files.append((folder, file))
        self.bytes += file.size


def find_garbage(runs: RunStore, needed_hashes: Collection[str], older_than: float) -> Garbage:
    """Find pictures that nothing refers to, checkpoints of complete runs, and partial files of crashed writers.

    Args:
        runs: run store to search.
        needed_hashes: SHA-256 of every picture that is referred to.
        older_than: minimum age of a file in seconds; younger files may belong to a run in progress.
    """
    garbage, newest_time = Garbage(), time.time() - older_than
    images, checkpoints = runs.images.folder, runs.root / STORE_FOLDER / "checkpoints"
    for folder in _separate_folders(runs):
        for file in folder.files():  # those of tenants as well
            if file.changed_at is not None and file.changed_at <= newest_time and re.fullmatch(LEFTOVER, file.path):
                garbage._add(folder, file)
                garbage.leftovers += 1
    for file in runs.images.files():
        name = file.path.rpartition("/")[2]
        if file.changed_at is None or file.changed_at > newest_time or name.partition(".")[0] in needed_hashes:
            continue
        if not name.startswith("."):
            garbage._add(images, file)
            garbage.pictures += 1
    for file in checkpoints.files():
        run_id = file.path.partition(".sqlite")[0]
        if file.changed_at is None or file.changed_at > newest_time or re.fullmatch(LEFTOVER, file.path):
            continue
        trace = runs.trace(run_id)
        if (isinstance(trace, Trace) and trace.status == "complete") or not runs.has_run(run_id):
            garbage._add(checkpoints, file)  # other runs may be resumed
            garbage.checkpoints += 1
    return garbage


def _separate_folders(runs: RunStore) -> list[Folder]:
    """Return the folder of the runs, and that of the pictures unless it lies below."""
    root, images = runs.root, runs.images.folder
    return [root] if images.url.startswith(f"{root.url}/") else [root, images]
