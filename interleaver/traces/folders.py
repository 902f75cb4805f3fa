"""A folder on any fsspec filesystem: local, object storage, memory."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interleaver.errors import BadInput, shown


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder.

    Attributes:
        path: relative to the folder.
        size: bytes.
        changed_at: seconds since the epoch; None where the filesystem doesn't say.
    """

    path: str
    size: int
    changed_at: float | None


class Folder:
    """A folder by its URL. Paths are relative to it and use `/`; failures of the filesystem are `OSError`s."""

    def __init__(self, url: str | Path, what: str = "folder"):
        """Name a folder; nothing is opened yet.

        Args:
            url: a local path, or any URL that fsspec knows (`s3://...`, `gs://...`, `memory://...`).
            what: what to call it in an error message.
        """
        text = str(url)
        self.url = text if text.endswith("://") else text.rstrip("/") or "/"
        self.what = what

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}", self.what)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        import fsspec

        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise BadInput(f"the {self.what} {shown(self.url)!r} cannot be opened: {error}") from None
        return filesystem, root.rstrip("/")

    def check(self) -> None:
        """Open the filesystem.

        Raises:
            BadInput: the URL names a filesystem that is unknown or not installed.
        """
        _ = self._place

    @cached_property
    def local(self) -> Path | None:
        """The folder as a path of this machine; None when it lies elsewhere."""
        from fsspec.implementations.local import LocalFileSystem

        filesystem, root = self._place
        if not isinstance(filesystem, LocalFileSystem):
            return None
        return Path(root) if "://" in self.url else Path(self.url)

    def path(self, name: str) -> str:
        """Where a file lies within the filesystem."""
        return f"{self._place[1]}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        data: bytes = self._place[0].cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a reader, or a crash, never sees half of it."""
        path = self.path(name)
        if self.local is None:
            self._place[0].pipe_file(path, data)  # object stores publish a whole object at once
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        folder, _, last = path.rpartition("/")
        draft = f"{folder}/.{last}.{uuid.uuid4().hex}"
        with open(draft, "wb") as file:
            file.write(data)
        os.replace(draft, path)

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._place[0].exists(self.path(name)))

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        try:
            self._place[0].rm_file(self.path(name))
        except FileNotFoundError:
            return

    def names(self) -> Iterator[str]:
        """The names of the folders in it, sorted; none when it isn't there."""
        filesystem, root = self._place
        filesystem.invalidate_cache(root)  # others write here too
        try:
            found = filesystem.ls(root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in sorted(found, key=lambda entry: str(entry["name"])):
            if entry["type"] == "directory":
                yield entry["name"].rstrip("/").rpartition("/")[2]

    def files(self) -> Iterator[StoredFile]:
        """All files below it, however deep; none when it isn't there."""
        filesystem, root = self._place
        filesystem.invalidate_cache(root)
        for path, info in filesystem.find(root, detail=True).items():
            stamps = [info[key] for key in ("mtime", "LastModified", "created") if info.get(key) is not None]
            stamp = next((s.timestamp() if hasattr(s, "timestamp") else float(s) for s in stamps), None)
            yield StoredFile(path[len(root) + 1 :], info.get("size") or 0, stamp)
