"""Near-duplicate detection with MinHash, without comparing all pairs and without keeping the texts in memory."""

from __future__ import annotations

import hashlib
import sqlite3

from interleaver.extras import require_extra

PERMUTATIONS = 64
RECALL = 0.995
"""Target share of pairs exactly at the similarity threshold that are found."""
CANDIDATES = 64
"""Maximum number of comparisons per text, so that a list made from one template does not take quadratic time."""
SHINGLE = 4

_TABLES = """
CREATE TABLE texts (hash BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE kept (number INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE bands (band INTEGER, number INTEGER);
CREATE INDEX by_band ON bands (band);
"""


class SimilarTexts:
    """An index that numbers texts and groups near-duplicates, including those connected through other texts."""

    def __init__(self, database: sqlite3.Connection, similarity: float):
        """Create the tables.

        Args:
            database: database that stores the texts.
            similarity: threshold, 0 to 1, from which two texts are near-duplicates: the Jaccard index of their
                4-character shingles. Candidates are found with MinHash. 1 groups only texts that differ in nothing but
                case and spacing.

        Raises:
            BadInput: the package `datasketch` is not installed.
        """
        require_extra("datasketch", "data")
        database.executescript(_TABLES)
        self._database = database
        self._similarity = similarity
        self._bands, self._rows = _band_shape(similarity)
        self._parents: list[int] = []

    def number(self, text: str) -> tuple[int, bool]:
        """Return the number of a text, from 0, and whether it is new: no near-duplicate of an earlier text."""
        plain = " ".join(text.casefold().split())
        key = hashlib.blake2b(plain.encode(), digest_size=16).digest()
        row = self._database.execute("SELECT number FROM texts WHERE hash = ?", (key,)).fetchone()
        if row:
            return int(row[0]), False
        number = len(self._parents)
        self._parents.append(number)
        self._database.execute("INSERT INTO texts VALUES (?, ?)", (key, number))
        similar_numbers = self._add_text(number, plain) if self._similarity < 1 else []
        for other in similar_numbers:
            self._parents[self.group(other)] = self.group(number)
        return number, not similar_numbers

    def group(self, number: int) -> int:
        """Return the group of a text by its number; it may change until the last text is numbered."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _add_text(self, number: int, text: str) -> list[int]:
        """Store a text, and return the numbers of its near-duplicates among the earlier texts."""
        shingles = _shingles(text)
        bands = self._bands_of(shingles)
        band_query = f"SELECT number FROM bands WHERE band IN ({','.join('?' * len(bands))}) LIMIT {CANDIDATES}"
        query = f"SELECT number, text FROM kept WHERE number IN ({band_query})"
        candidates = self._database.execute(query, bands).fetchall()
        self._database.execute("INSERT INTO kept VALUES (?, ?)", (number, text))
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, number) for band in bands])
        shingled_candidates = [(other, _shingles(other_shingles)) for other, other_shingles in candidates]
        return [
            other
            for other, other_shingles in shingled_candidates
            if len(shingles & other_shingles) >= self._similarity * len(shingles | other_shingles)
        ]

    def _bands_of(self, shingles: set[str]) -> list[int]:
        """Return one hash per band, computed from the index of the band and its MinHash values."""
        from datasketch import MinHash

        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        values = sketch.hashvalues.astype("<u8")
        parts = [values[band * self._rows : (band + 1) * self._rows].tobytes() for band in range(self._bands)]
        return [
            int.from_bytes(hashlib.blake2b(b"%d " % band + part, digest_size=8).digest(), "big", signed=True)
            for band, part in enumerate(parts)
        ]


def _band_shape(similarity: float) -> tuple[int, int]:
    """Return the number of bands and of values per band: the longest bands that reach `RECALL` at the threshold.

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
