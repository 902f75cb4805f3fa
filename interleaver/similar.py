"""Requests that are nearly the same, found without comparing each with each and without keeping them in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

from interleaver.extras import need

if TYPE_CHECKING:
    from datasketch import MinHash

PERMUTATIONS = 64
BANDS = 8
"""MinHash signatures that agree in one of 8 bands of 8 are compared; at a similarity of 0.9 that finds 99 of 100."""
CANDIDATES = 64
"""How many of them are compared at most, so that a list made from one template takes no quadratic time."""
SHINGLE = 4

_TABLES = """
CREATE TABLE requests (hash BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE sketches (number INTEGER PRIMARY KEY, sketch BLOB);
CREATE TABLE bands (band INTEGER, number INTEGER);
CREATE INDEX by_band ON bands (band);
"""


class SimilarTexts:
    """Numbers texts so that texts which are nearly the same share a number."""

    def __init__(self, database: sqlite3.Connection, similarity: float):
        """Make the tables.

        Args:
            database: where to remember the texts.
            similarity: 0 to 1; texts at least as similar as that (Jaccard index of their 4-letter shingles, estimated
                by MinHash) share a number. 1 leaves only those together that differ in case and spacing alone.

        Raises:
            BadInput: the package for it is not installed.
        """
        need("datasketch", "data")
        database.executescript(_TABLES)
        self._database = database
        self._similarity = similarity
        self._count = 0

    def number(self, text: str) -> tuple[int, bool]:
        """The number of a text, from 0, and whether it is new."""
        plain = " ".join(text.casefold().split())
        key = hashlib.blake2b(plain.encode(), digest_size=16).digest()
        known = self._database.execute("SELECT number FROM requests WHERE hash = ?", (key,)).fetchone()
        if known:
            return int(known[0]), False
        sketch = _sketch(plain)
        number = self._similar(sketch) if self._similarity < 1 else None
        new = number is None
        if number is None:
            number, self._count = self._count, self._count + 1
            self._remember(number, sketch)
        self._database.execute("INSERT INTO requests VALUES (?, ?)", (key, number))
        return number, new

    def _remember(self, number: int, sketch: MinHash) -> None:
        data = sketch.hashvalues.astype("<u8").tobytes()
        self._database.execute("INSERT INTO sketches VALUES (?, ?)", (number, data))
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, number) for band in _bands(sketch)])

    def _similar(self, sketch: MinHash) -> int | None:
        """The most similar text so far, if it is similar enough."""
        import numpy

        alike = f"SELECT number FROM bands WHERE band IN ({','.join('?' * BANDS)}) LIMIT {CANDIDATES}"
        found = self._database.execute(f"SELECT number, sketch FROM sketches WHERE number IN ({alike})", _bands(sketch))
        best = max(
            ((float((numpy.frombuffer(data, "<u8") == sketch.hashvalues).mean()), -number) for number, data in found),
            default=(0.0, 0),
        )
        return -best[1] if best[0] >= self._similarity else None


def _sketch(text: str) -> MinHash:
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    shingles = {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}
    sketch.update_batch([shingle.encode() for shingle in shingles])
    return sketch


def _bands(sketch: MinHash) -> list[int]:
    """One number a band, which says both which band it is and what stands in it."""
    parts = sketch.hashvalues.astype("<u8").reshape(BANDS, -1)
    return [
        int.from_bytes(hashlib.blake2b(bytes([band]) + part.tobytes(), digest_size=8).digest(), "big", signed=True)
        for band, part in enumerate(parts)
    ]
