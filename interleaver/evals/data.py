"""Loading of a benchmark's data from the hub, a folder or a file, with validation."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from interleaver.errors import BadInput, did_you_mean
from interleaver.evals.benchmarks.base import Benchmark, BenchmarkItem, BenchmarkRow, MissingPicture
from interleaver.extras import require_extra
from interleaver.text_files import read_text_file
from interleaver.weights import hub_is_reachable


@dataclass(frozen=True)
class BenchmarkData:
    """The data of an evaluation.

    Attributes:
        items: selected items.
        source: dataset id on the hub, file or folder that the rows come from.
        sha256: checksum of all rows in their order, independent of the selection.
        count: number of all rows.
        complete: whether the selected items are all items of the published benchmark.
        lost_rows: messages about rows that were left out because a picture is missing.
    """

    items: Sequence[BenchmarkItem]
    source: str
    sha256: str
    count: int
    complete: bool
    lost_rows: Sequence[str] = ()


@dataclass(frozen=True)
class Subset:
    """A selection of items.

    Attributes:
        groups: selected categories or tasks; empty selects all.
        limit: maximum number of items, taken from the start; None sets no limit.
        shard: number of the selected shard, from 1; a shard has every `shards`-th item.
        shards: number of shards.
    """

    groups: Sequence[str] = ()
    limit: int | None = None
    shard: int = 1
    shards: int = 1

    def select(self, items: Sequence[BenchmarkItem]) -> list[BenchmarkItem]:
        """Return the selected items.

        Raises:
            BadInput: no item has one of the groups.
        """
        group_names = list(dict.fromkeys(item.group for item in items))
        for name in self.groups:
            if name not in group_names:
                raise BadInput(
                    f"--only is {name!r}{did_you_mean(name, group_names)}; the data has: {', '.join(group_names)}"
                )
        group_items = [item for item in items if not self.groups or item.group in self.groups]
        return group_items[: self.limit][self.shard - 1 :: self.shards]


def load_data(benchmark: Benchmark, source: str | None, part: Subset, allow_lost: bool = False) -> BenchmarkData:
    """Load the items of a benchmark.

    Args:
        benchmark: benchmark that the data belongs to.
        source: a file, a folder, or the id of a dataset on the hub; None uses the published dataset.
        part: selection of items.
        allow_lost: whether to leave out rows whose pictures are missing instead of raising an error.

    Raises:
        BadInput: the source does not exist, cannot be downloaded or contains invalid rows.
    """
    source_name = source or benchmark.source
    path = Path(source_name).expanduser()
    if not path.exists():
        path = _download(benchmark, source_name)
    files = [path] if path.is_file() else _find_files(benchmark, path)
    rows = [(row, file, number) for file in files for number, row in enumerate(_read_rows(file), start=1)]
    lost_rows: list[str] = []
    items = list(_read_items(benchmark, rows, lost_rows))
    if lost_rows and not allow_lost:
        more_text = f", and {len(lost_rows) - 1:,} more" if len(lost_rows) > 1 else ""
        raise BadInput(
            f"{lost_rows[0]}{more_text}; download the missing pictures, or add --allow-partial to leave out such rows"
        )
    if not items:
        raise BadInput(f"{source_name!r} has no items")
    digest = hashlib.sha256()
    for row, *_ in rows:
        digest.update(json.dumps(row, sort_keys=True, default=_digest).encode())
    return BenchmarkData(
        items=part.select(items),
        source=source_name,
        sha256=digest.hexdigest(),
        count=len(rows),
        complete=part == Subset() and not lost_rows and benchmark.count in (None, len(items)),
        lost_rows=lost_rows,
    )


def _read_items(
    benchmark: Benchmark, rows: Sequence[tuple[BenchmarkRow, Path, int]], lost_rows: list[str]
) -> Iterator[BenchmarkItem]:
    """Yield the items of rows; append a message to `lost_rows` for each row whose picture is missing."""
    places_by_id: dict[str, str] = {}
    for row, file, number in rows:
        place = f"row {number} of {file.name}"
        try:
            item = benchmark.item(row, file.parent)
        except MissingPicture as error:
            lost_rows.append(f"{place}: {error}")
            continue
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from None
        if item.id in places_by_id:
            raise BadInput(f"{place} repeats the id {item.id!r} of {places_by_id[item.id]}; ids must be unique")
        places_by_id[item.id] = place
        yield item


def _find_files(benchmark: Benchmark, folder: Path) -> list[Path]:
    """Return the benchmark's data files in a folder; unpack its pictures first if need be."""
    _unpack(folder)
    for patterns in benchmark.files:
        matches = [sorted(folder.glob(f"**/{pattern}")) for pattern in patterns]
        if all(matches):
            return [file for files in matches for file in files]
    raise BadInput(
        f"the folder {str(folder)!r} has no {_describe_files(benchmark)}; the dataset is published as "
        f"{benchmark.source} on the hub"
    )


def _describe_files(benchmark: Benchmark) -> str:
    file_names = " or ".join(" and ".join(patterns) for patterns in benchmark.files)
    return f"{file_names}, and {benchmark.companions}" if benchmark.companions else file_names


MAX_EXPANSION = 20
"""How many times larger than a benchmark's archive its pictures may be, which are compressed themselves."""


def _unpack(folder: Path) -> None:
    """Unpack `data.zip`, in which some datasets publish their pictures, to the folder `data` once and atomically."""
    archive, target = folder / "data.zip", folder / "data"
    if not archive.is_file() or target.exists():
        return
    with FileLock(folder / ".unpacking.lock"), TemporaryDirectory(dir=folder) as scratch:
        try:
            with zipfile.ZipFile(archive) as file:
                _check_archive(file, archive)
                has_data_folder = any(name.startswith("data/") for name in file.namelist())
                file.extractall(scratch if has_data_folder else Path(scratch) / "data")
        except zipfile.BadZipFile as error:
            raise BadInput(f"the archive {str(archive)!r} cannot be read: {error}; download it again") from None
        if not target.exists():
            (Path(scratch) / "data").replace(target)


def _check_archive(file: zipfile.ZipFile, path: Path) -> None:
    """Check that an archive can be unpacked; its entries never unpack to more than they declare.

    Raises:
        BadInput: it would grow more than pictures can, or the disk has no room for it.
    """
    size, packed_size = sum(entry.file_size for entry in file.infolist()), path.stat().st_size
    if size > MAX_EXPANSION * packed_size + 2**20:
        raise BadInput(
            f"the archive {str(path)!r} would unpack from {packed_size / 2**20:,.1f} to {size / 2**20:,.1f} MiB, which "
            "pictures never do; download it again from the benchmark's authors"
        )
    if size > shutil.disk_usage(path.parent).free:
        raise BadInput(f"there is no room to unpack {str(path)!r}, which needs {size / 2**30:,.1f} GiB")


def _read_rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            parquet = require_extra("pyarrow.parquet", "data")
            rows = parquet.read_table(file).to_pylist()
        elif file.suffix == ".pth":
            rows = require_extra("torch", "evals").load(file, weights_only=True)
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in read_text_file(file).split("\n") if line.strip()]
        else:
            rows = json.loads(read_text_file(file))
    except (OSError, ValueError, EOFError, RuntimeError, UnpicklingError) as error:
        raise BadInput(f"the data {str(file)!r} cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"the data {str(file)!r} must be a list of objects")
    return rows


def _download(benchmark: Benchmark, name: str) -> Path:
    """Return the folder of a dataset from the hub, downloaded unless it is in the local cache."""
    hub = require_extra("huggingface_hub", "data")
    try:
        if not hub_is_reachable():
            hub.constants.HF_HUB_OFFLINE = True  # else its client retries for minutes before it looks into its cache
        return Path(hub.snapshot_download(name, repo_type="dataset"))
    except Exception as error:  # the hub's client raises exceptions of several packages
        raise BadInput(
            f"{name!r} is neither a file nor a folder, and could not be downloaded from the hub "
            f"({type(error).__name__}); download {benchmark.source} on another machine and give its folder with "
            f"--data; the folder must contain {_describe_files(benchmark)}"
        ) from None


def _digest(value: object) -> str:
    """Return a text that stands for a non-JSON value of a row in the checksum: the SHA-256 of bytes, else `str`."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
