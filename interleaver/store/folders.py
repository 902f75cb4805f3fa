"""Folders on any fsspec filesystem: local disk, object storage or memory."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interleaver.errors import BadInput, redact_password


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder.

    Attributes:
        path: path relative to the folder.
        size: size in bytes.
        changed_at: modification time in seconds since the epoch; None if the filesystem does not report it.
    """

    path: str
    size: int
    changed_at: float | None


class Folder:
    """A folder on any filesystem, given by its URL.

    Paths are relative to the folder and use `/`; failures of the filesystem raise `OSError`.
    """

    def __init__(self, url: str | Path, role: str = "folder"):
        """Refer to a folder; its filesystem is opened on first use.

        Args:
            url: a local path, or any URL that fsspec supports (`s3://...`, `gs://...`, `memory://...`).
            role: name of the folder in error messages.
        """
        text = str(url)
        self.url = text if text.endswith("://") else text.rstrip("/") or "/"
        self.role = role

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}", self.role)

    @cached_property
    def _filesystem_and_root(self) -> tuple[Any, str]:
        import fsspec

        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise BadInput(f"the {self.role} {redact_password(self.url)!r} cannot be opened: {error}") from None
        return filesystem, root.rstrip("/")

    def check(self) -> None:
        """Open the filesystem.

        Raises:
            BadInput: the filesystem of the URL is unknown, or its package is not installed.
        """
        _ = self._filesystem_and_root

    @cached_property
    def local(self) -> Path | None:
        """The folder as a local path; None if it is remote."""
        from fsspec.implementations.local import LocalFileSystem

        filesystem, root = self._filesystem_and_root
        if not isinstance(filesystem, LocalFileSystem):
            return None
        return Path(root) if "://" in self.url else Path(self.url)

    def path(self, name: str) -> str:
        """Return the path of a file within the filesystem."""
        return f"{self._filesystem_and_root[1]}/{name}"

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        data: bytes = self._filesystem_and_root[0].cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: neither readers nor a crash ever see half of it."""
        path = self.path(name)
        if self.local is None:
            self._filesystem_and_root[0].pipe_file(path, data)  # object stores publish a whole object at once
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        folder, _, last = path.rpartition("/")
        partial = f"{folder}/.{last}.{uuid.uuid4().hex}"
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)

    def exists(self, name: str) -> bool:
        """Return whether a file or folder exists."""
        return bool(self._filesystem_and_root[0].exists(self.path(name)))

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        try:
            self._filesystem_and_root[0].rm_file(self.path(name))
        except FileNotFoundError:
            return

    def names(self) -> Iterator[str]:
        """Yield the names of the subfolders, sorted; none if the folder does not exist."""
        filesystem, root = self._filesystem_and_root
        filesystem.invalidate_cache(root)  # other processes write here too
        try:
            entries = filesystem.ls(root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            if entry["type"] == "directory":
                yield entry["name"].rstrip("/").rpartition("/")[2]

    def files(self) -> Iterator[StoredFile]:
        """Yield all files below the folder, recursively; none if the folder does not exist."""
        filesystem, root = self._filesystem_and_root
        filesystem.invalidate_cache(root)
        for path, info in filesystem.find(root, detail=True).items():
            stamps = [info[key] for key in ("mtime", "LastModified", "created") if info.get(key) is not None]
            stamp = next((s.timestamp() if hasattr(s, "timestamp") else float(s) for s in stamps), None)
            yield StoredFile(path[len(root) + 1 :], info.get("size") or 0, stamp)
