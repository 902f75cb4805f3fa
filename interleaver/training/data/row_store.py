"""Temporary storage of the rows of a dataset during selection.

Rows are kept in a temporary SQLite database, so memory does not grow with their number. Deduplicating, balancing and
splitting are done there.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from interleaver.choices import Balance
from interleaver.traces.near_duplicates import SimilarTexts
from interleaver.training.data.rows import TrainingRow

Split = Literal["train", "validation"]
MAX_GROUP_SHARE = 2.0
"""Maximum size of a group, as a multiple of the average group size."""

_TABLES = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, source INTEGER, request INTEGER, bucket TEXT, category TEXT, priority INTEGER,
    shuffle INTEGER, dropped TEXT, split TEXT, data BLOB
);
CREATE TABLE requests (request INTEGER PRIMARY KEY, grouped INTEGER, shuffle INTEGER);
CREATE TABLE signatures (signature BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class RowStore:
    """The candidate rows of a dataset, and their selection."""

    def __init__(self, file: Path, similarity: float, seed: int):
        """Create the temporary database.

        Args:
            file: path of the database; it must not exist.
            similarity: similarity, 0 to 1, from which requests count as near-duplicates, see `SimilarTexts`.
            seed: seed of the random order and of the split.
        """
        self._database = sqlite3.connect(file, check_same_thread=False)  # used by several threads, one at a time
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;")
        self._database.executescript(_TABLES)
        self._requests = SimilarTexts(self._database, similarity)
        self._seed = seed
        self._count = 0

    def add(self, row: TrainingRow, source: int) -> bool:
        """Add a row unless it is a duplicate, and return whether it was added.

        Args:
            row: row to add.
            source: index of the trace source that it comes from.
        """
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
        """Merge near-duplicate requests, so that they count as one. Call it once, after all rows have been added."""
        numbers = [number for (number,) in self._database.execute("SELECT request FROM requests")]
        pairs = ((self._requests.group(number), number) for number in numbers)
        self._database.executemany("UPDATE requests SET grouped = ? WHERE request = ?", pairs)
        self._database.execute(
            "UPDATE rows SET request = (SELECT grouped FROM requests WHERE requests.request = rows.request)"
        )

    def limit_requests(self, limit: int) -> None:
        """Keep at most `limit` rows per request, near-duplicate requests counting as one."""
        self._cap("request", limit, f"near-duplicate request (more than {limit} rows)")

    def balance(self, groupings: Iterable[Balance]) -> None:
        """Drop rows of groups that are too large.

        Failure kinds and categories are capped at `MAX_GROUP_SHARE` times their average group size; accepted and
        rejected rows are reduced to equal numbers.
        """
        for grouping in groupings:
            if grouping == "kinds":
                self._cap_at_average("bucket", "bucket LIKE 'rejected%'", "balance of failure kinds")
            elif grouping == "categories":
                self._cap_at_average("category", "1", "balance of categories")
            else:
                self._even_verdicts()

    def limit_rows(self, limit: int) -> None:
        """Keep at most `limit` rows, preferring those with the highest priority."""
        self._drop(
            "SELECT id FROM rows WHERE dropped IS NULL ORDER BY priority DESC, shuffle, id LIMIT -1 OFFSET ?",
            (limit,),
            f"more than {limit} rows",
        )

    def split(self, validation: float) -> None:
        """Assign a share of the requests, with all their rows, to the validation split and the others to training.

        If `validation` is above 0 and there are at least two requests, at least one goes to the validation split.
        """
        self._database.execute("UPDATE rows SET split = 'train' WHERE dropped IS NULL")
        (requests,) = self._fetch_one("SELECT COUNT(DISTINCT request) FROM rows WHERE dropped IS NULL")
        validation_count = 0 if validation == 0 or requests < 2 else max(1, round(validation * requests))
        self._database.execute(
            "UPDATE rows SET split = 'validation' WHERE dropped IS NULL AND request IN ("
            "SELECT request FROM requests WHERE request IN (SELECT request FROM rows WHERE dropped IS NULL) "
            "ORDER BY shuffle, request LIMIT ?)",
            (validation_count,),
        )
        self._database.execute("CREATE INDEX by_split ON rows (split, shuffle, id)")

    def rows(self, split: Split) -> Iterator[tuple[TrainingRow, int]]:
        """Yield the rows of a split in random order, each with the index of its trace source."""
        cursor = self._database.execute("SELECT data, source FROM rows WHERE split = ? ORDER BY shuffle, id", (split,))
        for data, source in cursor:
            yield TrainingRow.model_validate_json(zlib.decompress(data)), source

    def count(self) -> int:
        """Return the number of rows that were added."""
        return self._count

    def drop_counts(self) -> Counter[str]:
        """Return the number of rows that the selection dropped, by reason."""
        return Counter(
            dict(self._database.execute("SELECT dropped, COUNT(*) FROM rows WHERE dropped NOTNULL GROUP BY 1"))
        )

    def groups(self, split: Split | None = None) -> dict[str, int]:
        """Return the number of rows per group, among all added rows or in one split."""
        condition, values = ("split = ?", (split,)) if split else ("1", ())
        cursor = self._database.execute(
            f"SELECT bucket, COUNT(*) FROM rows WHERE {condition} GROUP BY 1 ORDER BY 1", values
        )
        return dict(cursor)

    def requests(self, split: Split) -> int:
        """Return the number of requests in a split, near-duplicates counting as one."""
        return int(self._fetch_one("SELECT COUNT(DISTINCT request) FROM rows WHERE split = ?", (split,))[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _fetch_one(self, query: str, values: tuple[object, ...] = ()) -> tuple[int, ...]:
        row: tuple[int, ...] = self._database.execute(query, values).fetchone()
        return row

    def _drop(self, query: str, values: tuple[object, ...], reason: str) -> None:
        self._database.execute(f"UPDATE rows SET dropped = ? WHERE id IN ({query})", (reason, *values))

    def _cap(self, column: str, limit: float, reason: str, condition: str = "1") -> None:
        ranking_query = (
            f"SELECT id, ROW_NUMBER() OVER (PARTITION BY {column} ORDER BY priority DESC, shuffle, id) AS place "
            f"FROM rows WHERE dropped IS NULL AND {condition}"
        )
        self._drop(f"SELECT id FROM ({ranking_query}) WHERE place > ?", (limit,), reason)

    def _cap_at_average(self, column: str, condition: str, reason: str) -> None:
        count, groups = self._fetch_one(
            f"SELECT COUNT(*), COUNT(DISTINCT {column}) FROM rows WHERE dropped IS NULL AND {condition}"
        )
        if groups > 1:
            self._cap(column, max(1, round(MAX_GROUP_SHARE * count / groups)), reason, condition)

    def _even_verdicts(self) -> None:
        counts = self._fetch_one(
            "SELECT SUM(bucket = 'accepted'), SUM(bucket LIKE 'rejected%') FROM rows WHERE dropped IS NULL"
        )
        accepted, rejected = (count or 0 for count in counts)
        if accepted and rejected:
            self._cap("bucket LIKE 'rejected%'", min(accepted, rejected), "balance of accepted and rejected")

    def _random(self, text: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._seed} {text}".encode(), digest_size=7).digest(), "big")

    def _request(self, row: TrainingRow) -> int:
        """Return the ID of a row's request, adding the request if it is new."""
        number, _ = self._requests.number(row.request)
        place = (number, self._random(f"request {row.request}"))
        self._database.execute("INSERT OR IGNORE INTO requests (request, shuffle) VALUES (?, ?)", place)
        return number
