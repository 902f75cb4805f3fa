"""What a power failure leaves: of everything that was not written through, the disk keeps any part, or nothing."""

import os
from collections import Counter
from pathlib import Path
from random import Random

from support.fakes import plain_picture

from interleaver.store import folders
from interleaver.store.folders import Folder
from interleaver.store.images import image_file_name


class Disk:
    """A model of a disk behind the operating system's cache, which records what `Folder.write` asks for.

    Files and names are written through by `fsync` of the file or of its folder. At a power failure, everything else is
    kept, lost, or cut off, in any order.
    """

    def __init__(self, monkeypatch):
        self.operations: list[tuple[str, str, object]] = []
        replace, fsync = os.replace, os.fsync

        def record_replace(source, target):
            self.operations.append(("data", source, Path(source).read_bytes()))
            replace(source, target)
            self.operations.append(("rename", source, target))

        def record_fsync(handle):
            path = os.readlink(f"/proc/self/fd/{handle}")
            if os.path.isdir(path):
                self.operations.append(("sync folder", path, None))
            else:
                self.operations += [("data", path, Path(path).read_bytes()), ("sync", path, None)]
            fsync(handle)

        monkeypatch.setattr(folders.os, "replace", record_replace)
        monkeypatch.setattr(folders.os, "fsync", record_fsync)

    def after_failure(self, moment: int, rng: Random) -> dict[str, bytes]:
        """Return the files that the disk may have after a failure before the operation `moment`."""
        files: dict[str, bytes] = {}
        contents: dict[str, bytes] = {}
        synced_files: set[str] = set()
        renames: list[tuple[str, str]] = []
        for kind, path, value in self.operations[:moment]:
            match kind:
                case "data":
                    contents[path] = value
                case "sync":
                    synced_files.add(path)
                case "rename":
                    renames.append((path, value))
                case "sync folder":
                    for source, target in renames:
                        if os.path.dirname(target) == path:
                            files[target] = self._kept(contents[source], source in synced_files, rng)
                    renames = [pair for pair in renames if os.path.dirname(pair[1]) != path]
        for source, target in rng.sample(renames, rng.randint(0, len(renames))):
            files[target] = self._kept(contents[source], source in synced_files, rng)
        return files

    @staticmethod
    def _kept(data: bytes, is_synced: bool, rng: Random) -> bytes:
        return data if is_synced else data[: rng.randint(0, len(data))]


def test_a_power_failure_leaves_whole_files_and_all_that_were_reported_as_written(tmp_path, monkeypatch):
    disk, folder = Disk(monkeypatch), Folder(tmp_path / "store")
    expected: dict[str, bytes] = {}
    written_by: list[tuple[int, str]] = []
    for number in range(30):
        picture = plain_picture((number, 5, 7), (8 + number, 8))
        name = image_file_name(picture.ref)
        folder.write(name, picture.data)
        expected[folder.path(name)] = picture.data
        written_by.append((len(disk.operations), folder.path(name)))
    seen = Counter()
    for number in range(300):
        rng = Random(number)
        moment = rng.randint(0, len(disk.operations))
        files = disk.after_failure(moment, rng)
        assert all(expected[path] == data for path, data in files.items())
        assert {path for end, path in written_by if end <= moment} <= set(files)
        seen[len(files)] += 1
    assert len(seen) > 10  # failures at many moments


def test_the_model_finds_a_missing_fsync(tmp_path, monkeypatch):
    """The test above can fail: without the flush of the data, the model cuts files off."""
    disk, folder = Disk(monkeypatch), Folder(tmp_path / "store")
    monkeypatch.setattr(folders.os, "fsync", lambda handle: None)
    data = b"x" * 1000
    folder.write("a", data)
    outcomes = [disk.after_failure(len(disk.operations), Random(number)) for number in range(50)]
    assert any(files.get(folder.path("a"), data) != data for files in outcomes)
    assert any(not files for files in outcomes)


def test_a_new_folder_is_written_through_to_its_parent(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    Folder(tmp_path / "a").write("b/c/file", b"1")
    synced = [path for kind, path, _ in disk.operations if kind == "sync folder"]
    assert [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b"), str(tmp_path / "a/b/c")] == synced


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write("a", b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)
    for _ in range(3):
        try:
            folder.write("a", b"new")
        except OSError as error:
            assert error.errno == 28
    assert [file.path for file in folder.files()] == ["a"] and folder.read("a") == b"old"
