"""Folders on any fsspec filesystem: local disk, object storage or memory."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interleaver.errors import BadInput, redact_password

REFRESH_SECONDS = 3600.0
"""Age from which on a file in a remote folder is written again to make it look new."""


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
        """Write a file atomically and durably: neither readers nor a power failure ever see half of it."""
        path = self.path(name)
        if self.local is None:
            self._filesystem_and_root[0].pipe_file(path, data)  # object stores publish a whole object at once
            return
        _make_folders(os.path.dirname(path))
        folder, _, last = path.rpartition("/")
        partial = f"{folder}/.{last}.{uuid.uuid4().hex}"
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            with suppress(OSError):
                os.remove(partial)  # a full disk has no room for leftovers
            raise
        _sync_folder(folder)

    def refresh(self, name: str, data: bytes) -> bool:
        """Make a file look new that already holds `data`, so that no cleaning by age removes it.

        Returns:
            Whether it is there and as new as a file that is written now. In a remote folder, whose files cannot be
            touched, only the size is compared, and an old file is not refreshed.
        """
        path = self.path(name)
        if self.local is None:
            filesystem = self._filesystem_and_root[0]
            try:
                existing_file = _stored_file(path, filesystem.info(path))
            except FileNotFoundError:
                return False
            return existing_file.size == len(data) and time.time() - (existing_file.changed_at or 0.0) < REFRESH_SECONDS
        try:
            with open(path, "rb") as file:
                if file.read(len(data) + 1) != data:
                    return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def find(self, name: str) -> StoredFile | None:
        """Return a file's size and age; None if there is no such file."""
        filesystem, path = self._filesystem_and_root[0], self.path(name)
        try:
            return _stored_file(name, filesystem.info(path))
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether a file or folder exists."""
        return bool(self._filesystem_and_root[0].exists(self.path(name)))

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        try:
            self._filesystem_and_root[0].rm_file(self.path(name))
        except FileNotFoundError:
            return

    def remove_all(self) -> None:
        """Remove the folder with all that is in it, if it exists."""
        try:
            self._filesystem_and_root[0].rm(self._filesystem_and_root[1], recursive=True)
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
            yield _stored_file(path[len(root) + 1 :], info)


def _stored_file(path: str, info: dict[str, Any]) -> StoredFile:
    stamps = [info[key] for key in ("mtime", "LastModified", "created") if info.get(key) is not None]
    stamp = next((s.timestamp() if hasattr(s, "timestamp") else float(s) for s in stamps), None)
    return StoredFile(path, info.get("size") or 0, stamp)


def _make_folders(path: str) -> None:
    missing_folders = []
    while path and not os.path.isdir(path):
        missing_folders.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing_folders):
        os.makedirs(folder, exist_ok=True)
        _sync_folder(os.path.dirname(folder) or ".")


def _sync_folder(path: str) -> None:
    """Have the operating system write a folder's entries to disk: without it, a power failure undoes a rename."""
    if os.name == "nt":
        return  # Windows cannot open folders, and writes their entries itself
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
