"""Statistics that all benchmarks share: means, bootstrap confidence intervals, agreement, completeness."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from interleaver.errors import BadInput

SAMPLES = 2000
"""Number of bootstrap samples of a confidence interval."""
MAX_IDS_NAMED = 10
"""Maximum number of ids listed in an error message."""


@dataclass(frozen=True)
class Score:
    """A score with its confidence interval.

    Attributes:
        value: value of the score; None if nothing was scored.
        low: lower end of the 95 % confidence interval; None if there is no interval.
        high: upper end of the 95 % confidence interval; None if there is no interval.
        items: number of items that the score is computed from.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    items: int = 0


@dataclass(frozen=True)
class Table:
    """The scores of one system on one benchmark.

    Attributes:
        overall: overall scores by name.
        groups: scores by category or task, then by name.
        missing: ids of the items without a score; a table with any is partial.
        subgroups: scores by part of a category ("temporal: life progression"), then by name.
    """

    overall: dict[str, Score]
    groups: Mapping[str, Mapping[str, Score]]
    missing: Sequence[str] = field(default_factory=tuple)
    subgroups: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)


def format_interval(score: Score) -> str:
    """Format a score and its interval with three decimals; the score must have an interval."""
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def scale_table(table: Table, factor: float) -> Table:
    """Return the table with all scores and intervals multiplied by a factor."""

    def times(score: Score) -> Score:
        low, value, high = (
            None if number is None else factor * number for number in (score.low, score.value, score.high)
        )
        return Score(value, low, high, score.items)

    def scale(groups: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, Score]]:
        return {group: {name: times(score) for name, score in scores.items()} for group, scores in groups.items()}

    return Table(
        overall={name: times(score) for name, score in table.overall.items()},
        groups=scale(table.groups),
        missing=table.missing,
        subgroups=scale(table.subgroups),
    )


def missing_ids(expected: Collection[str], scored_ids: Collection[str], allow_partial: bool = False) -> list[str]:
    """Return the ids of the items without a score, in the order of the benchmark.

    Args:
        expected: ids of all selected items.
        scored_ids: ids of the items with a score.
        allow_partial: whether to accept items without a score.

    Raises:
        BadInput: items have no score and `allow_partial` is false.
    """
    scored_set = set(scored_ids)
    missing = [item_id for item_id in expected if item_id not in scored_set]
    if missing and not allow_partial:
        id_text = ", ".join(missing[:MAX_IDS_NAMED]) + (
            f" and {len(missing) - MAX_IDS_NAMED:,} more" if len(missing) > MAX_IDS_NAMED else ""
        )
        raise BadInput(
            f"{len(missing):,} of {len(expected):,} items have no score ({id_text}); run the same command again to "
            "continue, or add --allow-partial for a table that is marked as partial"
        )
    return missing


def bootstrap(
    values: Sequence[Sequence[float]], weights: Sequence[float], *, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap confidence interval of a weighted sum of group means.

    Items are resampled with replacement within their group.

    Args:
        values: values of the items, by group; no group may be empty.
        weights: weight of each group.
        samples: number of bootstrap samples.
        seed: seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(samples)
    for group, weight in zip(values, weights, strict=True):
        numbers = np.asarray(group, float)
        total += weight * numbers[rng.integers(len(numbers), size=(samples, len(numbers)))].mean(axis=1)
    low, high = np.percentile(total, [2.5, 97.5])
    return float(low), float(high)


def weighted_mean(values: Sequence[Sequence[float]], weights: Sequence[float]) -> Score:
    """Return a weighted sum of group means with its confidence interval; its value is None if a group is empty."""
    count = sum(len(group) for group in values)
    if not values or any(not group for group in values):
        return Score(None, items=count)
    value = sum(weight * sum(group) / len(group) for group, weight in zip(values, weights, strict=True))
    return Score(value, *bootstrap(values, weights), items=count)


def mean_of_parts(groups: Sequence[Sequence[Sequence[float | None]]]) -> Score:
    """Return the mean over groups of the mean over parts of the mean over items, with its confidence interval.

    Items are resampled with replacement within their group; the parts of an item, such as its text and its pictures,
    stay together.

    Args:
        groups: values by group, item and part; None where an item lacks a part. All items have the same parts.

    Returns:
        The mean; its value is None if a group has no values at all.
    """
    tables = [np.array([[np.nan if rate is None else rate for rate in item] for item in items]) for items in groups]
    count = sum(int((~np.isnan(table)).any(axis=-1).sum()) for table in tables if len(table))
    if not tables or any(not len(table) or np.isnan(table).all() for table in tables):
        return Score(None, items=count)
    rng = np.random.default_rng(0)
    value = float(np.mean([_mean_of_parts(table[None])[0] for table in tables]))
    resampled_means = [_mean_of_parts(table[rng.integers(len(table), size=(SAMPLES, len(table)))]) for table in tables]
    low, high = np.nanpercentile(np.mean(resampled_means, axis=0), [2.5, 97.5])
    return Score(value, float(low), float(high), items=count)


def _mean_of_parts(tables: np.ndarray) -> np.ndarray:
    """Return the mean over parts of the mean over items for each sample, ignoring NaN.

    Args:
        tables: array of shape (samples, items, parts).

    Returns:
        Array of shape (samples,).
    """
    is_known = ~np.isnan(tables)
    counts = is_known.sum(axis=1)
    means = np.where(is_known, tables, 0).sum(axis=1) / np.maximum(counts, 1)
    has_values = counts > 0
    return np.where(
        has_values.any(axis=1), (means * has_values).sum(axis=1) / np.maximum(has_values.sum(axis=1), 1), np.nan
    )


def cohens_kappa(first: Sequence[object], second: Sequence[object]) -> float | None:
    """Return Cohen's kappa (1960), the agreement of two judges beyond chance.

    Args:
        first: answers of one judge.
        second: answers of the other judge to the same questions, in the same order.

    Returns:
        Kappa, -1 to 1; None if there are no answers, or if both judges always gave the same single answer, for which
        kappa is undefined.
    """
    if not first:
        return None
    labels = sorted({*first, *second}, key=repr)
    count = len(first)
    observed_agreement = sum(label_pair == other for label_pair, other in zip(first, second, strict=True)) / count
    chance = sum(list(first).count(label) * list(second).count(label) for label in labels) / count**2
    return None if chance == 1 else (observed_agreement - chance) / (1 - chance)
