"""What every benchmark has in common when answers become numbers: shares, intervals, agreement, completeness."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from interleaver.errors import BadInput

SAMPLES = 2000
"""Bootstrap samples behind an interval."""
NAMED = 10
"""Ids that a message names before it only counts."""


@dataclass(frozen=True)
class Score:
    """A number and how sure it is.

    Attributes:
        value: the number; None where nothing was scored.
        low: lower end of its 95 % interval.
        high: upper end.
        items: how many items it is made of.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    items: int = 0


@dataclass(frozen=True)
class Table:
    """The scores of one system on one benchmark.

    Attributes:
        overall: the headline scores by name.
        groups: scores by category or task, then by name.
        missing: ids that have no score; a table with any is partial.
    """

    overall: dict[str, Score]
    groups: Mapping[str, Mapping[str, Score]]
    missing: Sequence[str] = field(default_factory=tuple)


def scaled(table: Table, factor: float) -> Table:
    """The same table in other units."""

    def times(score: Score) -> Score:
        low, value, high = (None if one is None else factor * one for one in (score.low, score.value, score.high))
        return Score(value, low, high, score.items)

    return Table(
        overall={name: times(score) for name, score in table.overall.items()},
        groups={
            group: {name: times(score) for name, score in scores.items()} for group, scores in table.groups.items()
        },
        missing=table.missing,
    )


def complete(expected: Collection[str], scored: Collection[str], allow_partial: bool = False) -> list[str]:
    """The ids that have no score, in the order of the benchmark.

    Args:
        expected: all ids of the benchmark, or of the part that was asked for.
        scored: the ids with a score.
        allow_partial: do not refuse an incomplete set.

    Raises:
        BadInput: some are missing and that is not allowed.
    """
    known = set(scored)
    missing = [one for one in expected if one not in known]
    if missing and not allow_partial:
        named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else "")
        raise BadInput(
            f"{len(missing):,} of {len(expected):,} items have no score ({named}); run the same command again to go "
            "on, or add --allow-partial for a table that says it is partial"
        )
    return missing


def bootstrap(
    values: Sequence[Sequence[float]], weights: Sequence[float], *, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of a weighted sum of group means; items are drawn with replacement within their group.

    Args:
        values: the items' numbers, by group; no group is empty.
        weights: of the groups.
        samples: how many times.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(samples)
    for group, weight in zip(values, weights, strict=True):
        numbers = np.asarray(group, float)
        total += weight * numbers[rng.integers(len(numbers), size=(samples, len(numbers)))].mean(axis=1)
    low, high = np.percentile(total, [2.5, 97.5])
    return float(low), float(high)


def weighted(values: Sequence[Sequence[float]], weights: Sequence[float]) -> Score:
    """A weighted sum of group means with its interval; without a value when a group is empty."""
    count = sum(len(group) for group in values)
    if not values or any(not group for group in values):
        return Score(None, items=count)
    value = sum(weight * sum(group) / len(group) for group, weight in zip(values, weights, strict=True))
    return Score(value, *bootstrap(values, weights), items=count)


def mean_of_parts(groups: Sequence[Sequence[Sequence[float | None]]]) -> Score:
    """The mean over groups of the mean over parts of the mean over items, with its interval.

    Items are drawn with replacement within their group, each with all its parts, since the parts of an item belong
    together.

    Args:
        groups: of items, each with the same parts; None where an item has no such part.

    Returns:
        No value when a group has no numbers at all.
    """
    tables = [np.array([[np.nan if one is None else one for one in item] for item in items]) for items in groups]
    count = sum(int((~np.isnan(table)).any(axis=-1).sum()) for table in tables if len(table))
    if not tables or any(not len(table) or np.isnan(table).all() for table in tables):
        return Score(None, items=count)
    rng = np.random.default_rng(0)
    value = float(np.mean([_mean_of_parts(table[None])[0] for table in tables]))
    drawn = [_mean_of_parts(table[rng.integers(len(table), size=(SAMPLES, len(table)))]) for table in tables]
    low, high = np.nanpercentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Score(value, float(low), float(high), items=count)


def _mean_of_parts(tables: np.ndarray) -> np.ndarray:
    """Of tables of items and parts, shape (samples, items, parts), the means of their parts' means."""
    there = ~np.isnan(tables)
    counts = there.sum(axis=1)
    means = np.where(there, tables, 0).sum(axis=1) / np.maximum(counts, 1)
    known = counts > 0
    return np.where(known.any(axis=1), (means * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


def cohens_kappa(first: Sequence[object], second: Sequence[object]) -> float | None:
    """Agreement of two judges beyond chance (Cohen, 1960), -1 to 1.

    Args:
        first: what one said of each item.
        second: what the other said of the same items.

    Returns:
        None where chance alone agrees always, since both said one and the same thing of everything, or of nothing.
    """
    if not first:
        return None
    labels = sorted({*first, *second}, key=repr)
    count = len(first)
    observed = sum(one == other for one, other in zip(first, second, strict=True)) / count
    chance = sum(list(first).count(label) * list(second).count(label) for label in labels) / count**2
    return None if chance == 1 else (observed - chance) / (1 - chance)
