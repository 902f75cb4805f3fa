"""Removing what no run needs any more."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from interleaver.traces.folders import Folder
from interleaver.traces.runs import STORE_FOLDER, RunStore
from interleaver.traces.trace import Trace


@dataclass
class Garbage:
    """Files that nothing needs, by folder, and how many bytes they have."""

    files: list[tuple[Folder, str]] = field(default_factory=list)
    pictures: int = 0
    checkpoints: int = 0
    leftovers: int = 0
    bytes: int = 0

    def remove(self) -> None:
        """Remove them."""
        for folder, name in self.files:
            folder.remove(name)


def find_garbage(runs: RunStore, needed: Collection[str], older_than: float) -> Garbage:
    """Find what can go: pictures that nothing refers to, checkpoints of complete runs, and drafts of crashed writers.

    Args:
        runs: the store.
        needed: the SHA-256 of every picture that something refers to.
        older_than: seconds; younger files may belong to a run that is being made and stay.
    """
    found, before = Garbage(), time.time() - older_than
    for file in runs.images.folder.files():
        name = file.path.rpartition("/")[2]
        draft = name.startswith(".") or "." in name.partition(".")[2]
        if file.changed_at is None or file.changed_at > before or name.partition(".")[0] in needed:
            continue
        found.files.append((runs.images.folder, file.path))
        found.bytes += file.size
        found.leftovers += draft
        found.pictures += not draft
    folder = runs.root / STORE_FOLDER / "checkpoints"
    for file in folder.files():
        run_id = file.path.partition(".sqlite")[0]
        if file.changed_at is None or file.changed_at > before:
            continue
        trace = runs.trace(run_id)
        if isinstance(trace, Trace) and trace.status == "complete":  # others may be carried on
            found.files.append((folder, file.path))
            found.bytes += file.size
            found.checkpoints += 1
    return found
