"""The rows of a dataset on disk while it is decided which of them stay.

Memory does not grow with the number of rows: they lie in a scratch SQLite database, where duplicates are found, groups
are balanced and the dataset is split.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from interleaver.similar import SimilarTexts
from interleaver.training.data.rows import Row

Split = Literal["train", "validation"]
Over = Literal["verdicts", "kinds", "categories"]
CAP = 2.0
"""A group may have this many times the average of the groups."""

_TABLES = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, source INTEGER, request INTEGER, bucket TEXT, category TEXT, priority INTEGER,
    shuffle INTEGER, dropped TEXT, split TEXT, data BLOB
);
CREATE TABLE requests (request INTEGER PRIMARY KEY, grouped INTEGER, shuffle INTEGER);
CREATE TABLE signatures (signature BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class Spool:
    """Rows that wait for the selection."""

    def __init__(self, file: Path, similarity: float, seed: int):
        """Open a scratch database.

        Args:
            file: where; it must not exist.
            similarity: 0 to 1; requests at least as similar as that count as one, see `SimilarTexts`.
            seed: of every random choice.
        """
        self._database = sqlite3.connect(file, check_same_thread=False)  # one thread after another uses it
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")
        self._database.executescript(_TABLES)
        self._requests = SimilarTexts(self._database, similarity)
        self._seed = seed
        self._count = 0

    def add(self, row: Row, source: int) -> bool:
        """Take a row in, unless an equal one is there; whether it was taken."""
        try:
            self._database.execute("INSERT INTO signatures VALUES (?)", (row.signature(),))
        except sqlite3.IntegrityError:
            return False
        self._count += 1
        data = zlib.compress(row.model_dump_json(exclude_defaults=True).encode(), 1)
        shuffle = self._random(f"row {row.run_id} {row.step} {row.attempt}")
        values = (source, self._request(row), row.group, row.tags.get("category", ""), row.priority, shuffle)
        self._database.execute(
            "INSERT INTO rows (source, request, bucket, category, priority, shuffle, data) VALUES (?,?,?,?,?,?,?)",
            (*values, data),
        )
        return True

    def group_requests(self) -> None:
        """From here on, requests that are nearly the same count as one; no row may be added any more."""
        numbers = [number for (number,) in self._database.execute("SELECT request FROM requests")]
        pairs = ((self._requests.group(number), number) for number in numbers)
        self._database.executemany("UPDATE requests SET grouped = ? WHERE request = ?", pairs)
        self._database.execute(
            "UPDATE rows SET request = (SELECT grouped FROM requests WHERE requests.request = rows.request)"
        )

    def limit_requests(self, most: int) -> None:
        """Keep at most so many rows of each request and those that are nearly the same."""
        self._cap("request", most, f"near-duplicate request (more than {most} rows)")

    def balance(self, over: Iterable[Over]) -> None:
        """Keep groups from crowding each other out.

        Kinds of failure and categories are capped at twice the average of their groups; of accepted and rejected rows
        as many stay as there are of the rarer sort.
        """
        for what in over:
            if what == "kinds":
                self._cap_at_average("bucket", "bucket LIKE 'rejected%'", "balance of failure kinds")
            elif what == "categories":
                self._cap_at_average("category", "1", "balance of categories")
            else:
                self._even_verdicts()

    def limit(self, most: int) -> None:
        """Keep at most so many rows, those with the highest priority first."""
        self._drop(
            "SELECT id FROM rows WHERE dropped IS NULL ORDER BY priority DESC, shuffle, id LIMIT -1 OFFSET ?",
            (most,),
            f"more than {most} rows",
        )

    def split(self, validation: float) -> None:
        """Put a share of the requests, with all their rows, into the validation split.

        At least one request goes there, as long as there are two.
        """
        self._database.execute("UPDATE rows SET split = 'train' WHERE dropped IS NULL")
        (requests,) = self._one("SELECT COUNT(DISTINCT request) FROM rows WHERE dropped IS NULL")
        wanted = 0 if validation == 0 or requests < 2 else max(1, round(validation * requests))
        self._database.execute(
            "UPDATE rows SET split = 'validation' WHERE dropped IS NULL AND request IN ("
            "SELECT request FROM requests WHERE request IN (SELECT request FROM rows WHERE dropped IS NULL) "
            "ORDER BY shuffle, request LIMIT ?)",
            (wanted,),
        )
        self._database.execute("CREATE INDEX by_split ON rows (split, shuffle, id)")

    def rows(self, split: Split) -> Iterator[tuple[Row, int]]:
        """The rows of a split in a random order, each with its source."""
        found = self._database.execute("SELECT data, source FROM rows WHERE split = ? ORDER BY shuffle, id", (split,))
        for data, source in found:
            yield Row.model_validate_json(zlib.decompress(data)), source

    def count(self) -> int:
        """Rows that were taken in."""
        return self._count

    def dropped(self) -> Counter[str]:
        """How many rows the selection left out, by reason."""
        return Counter(
            dict(self._database.execute("SELECT dropped, COUNT(*) FROM rows WHERE dropped NOTNULL GROUP BY 1"))
        )

    def groups(self, split: Split | None = None) -> dict[str, int]:
        """Rows by group: all that were taken in, or those of a split."""
        where, values = ("split = ?", (split,)) if split else ("1", ())
        found = self._database.execute(f"SELECT bucket, COUNT(*) FROM rows WHERE {where} GROUP BY 1 ORDER BY 1", values)
        return dict(found)

    def requests(self, split: Split) -> int:
        """How many requests a split has; nearly equal ones count as one."""
        return int(self._one("SELECT COUNT(DISTINCT request) FROM rows WHERE split = ?", (split,))[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _one(self, query: str, values: tuple[object, ...] = ()) -> tuple[int, ...]:
        found: tuple[int, ...] = self._database.execute(query, values).fetchone()
        return found

    def _drop(self, query: str, values: tuple[object, ...], reason: str) -> None:
        self._database.execute(f"UPDATE rows SET dropped = ? WHERE id IN ({query})", (reason, *values))

    def _cap(self, column: str, most: float, reason: str, where: str = "1") -> None:
        ranked = (
            f"SELECT id, ROW_NUMBER() OVER (PARTITION BY {column} ORDER BY priority DESC, shuffle, id) AS place "
            f"FROM rows WHERE dropped IS NULL AND {where}"
        )
        self._drop(f"SELECT id FROM ({ranked}) WHERE place > ?", (most,), reason)

    def _cap_at_average(self, column: str, where: str, reason: str) -> None:
        count, groups = self._one(
            f"SELECT COUNT(*), COUNT(DISTINCT {column}) FROM rows WHERE dropped IS NULL AND {where}"
        )
        if groups > 1:
            self._cap(column, max(1, round(CAP * count / groups)), reason, where)

    def _even_verdicts(self) -> None:
        counts = self._one(
            "SELECT SUM(bucket = 'accepted'), SUM(bucket LIKE 'rejected%') FROM rows WHERE dropped IS NULL"
        )
        accepted, rejected = (count or 0 for count in counts)
        if accepted and rejected:
            self._cap("bucket LIKE 'rejected%'", min(accepted, rejected), "balance of accepted and rejected")

    def _random(self, what: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._seed} {what}".encode(), digest_size=7).digest(), "big")

    def _request(self, row: Row) -> int:
        """The number of a row's request."""
        number, _ = self._requests.number(row.request)
        place = (number, self._random(f"request {row.request}"))
        self._database.execute("INSERT OR IGNORE INTO requests (request, shuffle) VALUES (?, ?)", place)
        return number
