"""Requests that are nearly the same, found without comparing each with each and without keeping them in memory."""

from __future__ import annotations

import hashlib
import sqlite3

from interleaver.extras import need

PERMUTATIONS = 64
RECALL = 0.995
"""The share of the pairs at the limit of similarity that are to be found."""
CANDIDATES = 64
"""How many texts one is compared with at most, so that a list made from one template takes no quadratic time."""
SHINGLE = 4

_TABLES = """
CREATE TABLE texts (hash BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE kept (number INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE bands (band INTEGER, number INTEGER);
CREATE INDEX by_band ON bands (band);
"""


class SimilarTexts:
    """Numbers texts, and groups those that are nearly the same, directly or through others between them."""

    def __init__(self, database: sqlite3.Connection, similarity: float):
        """Make the tables.

        Args:
            database: where to remember the texts.
            similarity: 0 to 1; texts at least as similar as that (Jaccard index of their 4-letter shingles; candidates
                are found by MinHash) are nearly the same. 1 groups only those that differ in case and spacing alone.

        Raises:
            BadInput: the package for it is not installed.
        """
        need("datasketch", "data")
        database.executescript(_TABLES)
        self._database = database
        self._similarity = similarity
        self._bands, self._rows = _shape(similarity)
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
        shingles = _shingles(text)
        bands = self._bands_of(shingles)
        near = f"SELECT number FROM bands WHERE band IN ({','.join('?' * len(bands))}) LIMIT {CANDIDATES}"
        query = f"SELECT number, text FROM kept WHERE number IN ({near})"
        found = self._database.execute(query, bands).fetchall()
        self._database.execute("INSERT INTO kept VALUES (?, ?)", (number, text))
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, number) for band in bands])
        same = [(other, _shingles(theirs)) for other, theirs in found]
        return [other for other, theirs in same if len(shingles & theirs) >= self._similarity * len(shingles | theirs)]

    def _bands_of(self, shingles: set[str]) -> list[int]:
        """One number a band, which says both which band it is and what stands in it."""
        from datasketch import MinHash

        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        values = sketch.hashvalues.astype("<u8")
        parts = [values[band * self._rows : (band + 1) * self._rows].tobytes() for band in range(self._bands)]
        return [
            int.from_bytes(hashlib.blake2b(b"%d " % band + part, digest_size=8).digest(), "big", signed=True)
            for band, part in enumerate(parts)
        ]


def _shape(similarity: float) -> tuple[int, int]:
    """How many bands of how many values: the longest bands that still find `RECALL` of the pairs at the limit.

    Two texts of similarity s agree in at least one of b bands of r values with the probability 1 - (1 - s^r)^b
    (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
    """
    fitting = [
        rows for rows in range(1, PERMUTATIONS + 1) if 1 - (1 - similarity**rows) ** (PERMUTATIONS // rows) >= RECALL
    ]
    rows = max(fitting, default=1)
    return PERMUTATIONS // rows, rows


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}
