"""Requests that are nearly the same, found without comparing each with each and without keeping them in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

from interleaver.extras import need

if TYPE_CHECKING:
    from datasketch import MinHash

PERMUTATIONS = 64
CANDIDATES = 256
"""How many texts one is compared with at most, so that a list made from one template takes no quadratic time."""
SHINGLE = 4

_TABLES = """
CREATE TABLE texts (hash BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE sketches (number INTEGER PRIMARY KEY, sketch BLOB);
CREATE TABLE bands (band INTEGER, number INTEGER);
CREATE INDEX by_band ON bands (band);
"""


class SimilarTexts:
    """Numbers texts, and groups those that are nearly the same, directly or through others between them."""

    def __init__(self, database: sqlite3.Connection, similarity: float):
        """Make the tables.

        Args:
            database: where to remember the texts.
            similarity: 0 to 1; texts at least as similar as that (Jaccard index of their 4-letter shingles, estimated
                by MinHash) are nearly the same. 1 groups only those that differ in case and spacing alone.

        Raises:
            BadInput: the package for it is not installed.
        """
        datasketch = need("datasketch", "data")
        database.executescript(_TABLES)
        self._database = database
        self._similarity = similarity
        # Missing a pair costs more than comparing one in vain.
        index = datasketch.MinHashLSH(threshold=min(similarity, 0.99), num_perm=PERMUTATIONS, weights=(0.1, 0.9))
        self._bands, self._rows = index.b, index.r
        self._parents: list[int] = []

    def number(self, text: str) -> tuple[int, bool]:
        """The number of a text, from 0, and whether no text so far is nearly the same."""
        plain = " ".join(text.casefold().split())
        key = hashlib.blake2b(plain.encode(), digest_size=16).digest()
        known = self._database.execute("SELECT number FROM texts WHERE hash = ?", (key,)).fetchone()
        if known:
            return int(known[0]), False
        number = len(self._parents)
        self._parents.append(number)
        self._database.execute("INSERT INTO texts VALUES (?, ?)", (key, number))
        alike = self._take_in(number, plain) if self._similarity < 1 else []
        for other in alike:
            self._parents[self.group(other)] = self.group(number)
        return number, not alike

    def group(self, number: int) -> int:
        """The group of a text by its number; it may change until the last text is numbered."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _take_in(self, number: int, text: str) -> list[int]:
        """Remember a text; the earlier ones that are nearly the same."""
        import numpy

        sketch = _sketch(text)
        bands = self._bands_of(sketch)
        near = f"SELECT number FROM bands WHERE band IN ({','.join('?' * len(bands))}) LIMIT {CANDIDATES}"
        found = self._database.execute(
            f"SELECT number, sketch FROM sketches WHERE number IN ({near})", bands
        ).fetchall()
        data = sketch.hashvalues.astype("<u8").tobytes()
        self._database.execute("INSERT INTO sketches VALUES (?, ?)", (number, data))
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, number) for band in bands])
        same = [(other, (numpy.frombuffer(theirs, "<u8") == sketch.hashvalues).mean()) for other, theirs in found]
        return [other for other, share in same if share >= self._similarity]

    def _bands_of(self, sketch: MinHash) -> list[int]:
        """One number a band, which says both which band it is and what stands in it."""
        values = sketch.hashvalues.astype("<u8")
        parts = [values[band * self._rows : (band + 1) * self._rows].tobytes() for band in range(self._bands)]
        return [
            int.from_bytes(hashlib.blake2b(b"%d " % band + part, digest_size=8).digest(), "big", signed=True)
            for band, part in enumerate(parts)
        ]


def _sketch(text: str) -> MinHash:
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    shingles = {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}
    sketch.update_batch([shingle.encode() for shingle in shingles])
    return sketch
