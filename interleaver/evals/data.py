"""A benchmark's data: from the hub, a folder or a file, checked and counted."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from interleaver.errors import BadInput, did_you_mean
from interleaver.evals.benchmarks.base import Benchmark, Item, MissingPicture, Row
from interleaver.extras import need


@dataclass(frozen=True)
class Data:
    """What a run is about.

    Attributes:
        items: those that were asked for.
        source: where they came from.
        sha256: of all rows, in their order, whatever part of them was asked for.
        count: of all rows.
        complete: whether these are all the items that the benchmark has.
        lost: rows that are left out, since a picture of theirs is not there.
    """

    items: Sequence[Item]
    source: str
    sha256: str
    count: int
    complete: bool
    lost: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """Which items are asked for.

    Attributes:
        groups: categories or tasks; all by default.
        limit: at most as many, the first ones.
        shard: which of how many equal parts, from 1; every `of`-th item.
        of: parts.
    """

    groups: Sequence[str] = ()
    limit: int | None = None
    shard: int = 1
    of: int = 1

    def choose(self, items: Sequence[Item]) -> list[Item]:
        """The items of this part.

        Raises:
            BadInput: there is no such group.
        """
        known = list(dict.fromkeys(item.group for item in items))
        for name in self.groups:
            if name not in known:
                raise BadInput(f"--only is {name!r}{did_you_mean(name, known)}; the data has: {', '.join(known)}")
        chosen = [item for item in items if not self.groups or item.group in self.groups]
        return chosen[: self.limit][self.shard - 1 :: self.of]


def load(benchmark: Benchmark, source: str | None, part: Part, allow_lost: bool = False) -> Data:
    """Load the items of a benchmark.

    Args:
        benchmark: which one.
        source: a file, a folder, or the id of a dataset on the hub; the benchmark's own by default.
        part: which items are asked for.
        allow_lost: leave out rows whose pictures are not there.

    Raises:
        BadInput: there is nothing of that name, or something in it is wrong.
    """
    chosen = source or benchmark.source
    path = Path(chosen).expanduser()
    if not path.exists():
        path = _download(benchmark, chosen)
    files = [path] if path.is_file() else _find(benchmark, path)
    rows = [(row, file, number) for file in files for number, row in enumerate(_rows(file), start=1)]
    lost: list[str] = []
    items = list(_items(benchmark, rows, lost))
    if lost and not allow_lost:
        more = f", and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise BadInput(f"{lost[0]}{more}; download what is missing, or add --allow-partial to leave such rows out")
    if not items:
        raise BadInput(f"{chosen!r} has no items")
    digest = hashlib.sha256()
    for row, *_ in rows:
        digest.update(json.dumps(row, sort_keys=True, default=_digest).encode())
    return Data(
        items=part.choose(items),
        source=chosen,
        sha256=digest.hexdigest(),
        count=len(rows),
        complete=part == Part() and not lost and benchmark.count in (None, len(items)),
        lost=lost,
    )


def _items(benchmark: Benchmark, rows: Sequence[tuple[Row, Path, int]], lost: list[str]) -> Iterator[Item]:
    """The items of rows; says of those whose pictures are not there what is missing."""
    seen: dict[str, str] = {}
    for row, file, number in rows:
        where = f"row {number} of {file.name}"
        try:
            item = benchmark.item(row, file.parent)
        except MissingPicture as error:
            lost.append(f"{where}: {error}")
            continue
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        if item.id in seen:
            raise BadInput(f"{where} has the id {item.id!r}, which {seen[item.id]} has too; ids must differ")
        seen[item.id] = where
        yield item


def _find(benchmark: Benchmark, folder: Path) -> list[Path]:
    """The data files of a folder."""
    _unpack(folder)
    for patterns in benchmark.files:
        found = [sorted(folder.glob(f"**/{pattern}")) for pattern in patterns]
        if all(found):
            return [file for files in found for file in files]
    raise BadInput(
        f"the folder {str(folder)!r} has no {_wanted(benchmark)}, as published at {benchmark.source} on the hub"
    )


def _wanted(benchmark: Benchmark) -> str:
    wanted = " or ".join(" and ".join(patterns) for patterns in benchmark.files)
    return f"{wanted}, and {benchmark.beside}" if benchmark.beside else wanted


def _unpack(folder: Path) -> None:
    """Unpack the pictures that some datasets publish as one archive: beside it, once, and whole or not at all."""
    archive, unpacked = folder / "data.zip", folder / "data"
    if not archive.is_file() or unpacked.exists():
        return
    with FileLock(folder / ".unpacking.lock"), TemporaryDirectory(dir=folder) as beside:
        try:
            with zipfile.ZipFile(archive) as file:
                inside = any(name.startswith("data/") for name in file.namelist())
                file.extractall(beside if inside else Path(beside) / "data")
        except zipfile.BadZipFile as error:
            raise BadInput(f"the archive {str(archive)!r} cannot be read: {error}; download it again") from None
        if not unpacked.exists():
            (Path(beside) / "data").replace(unpacked)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            parquet = need("pyarrow.parquet", "data")
            rows = parquet.read_table(file).to_pylist()
        elif file.suffix == ".pth":
            rows = need("torch", "evals").load(file, weights_only=True)
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        else:
            rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, EOFError, RuntimeError, UnpicklingError) as error:
        raise BadInput(f"the data {str(file)!r} cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"the data {str(file)!r} must be a list of objects")
    return rows


def _download(benchmark: Benchmark, name: str) -> Path:
    """Get a dataset from the hub, or its copy on this machine."""
    hub = need("huggingface_hub", "data")
    try:
        return Path(hub.snapshot_download(name, repo_type="dataset"))
    except Exception as error:  # the hub's client raises many kinds, of several packages
        raise BadInput(
            f"{name!r} is neither a file nor a folder, and could not be had from the hub ({type(error).__name__}); "
            f"download {benchmark.source} elsewhere and give its folder with --data: it must hold {_wanted(benchmark)}"
        ) from None


def _digest(value: object) -> str:
    """Bytes in a row, such as pictures, stand in its checksum by their own."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
