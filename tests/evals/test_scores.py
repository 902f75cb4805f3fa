"""How benchmarks turn judgements into numbers, on cases worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from interleaver.errors import BadInput
from interleaver.evals.scores import bootstrap, cohens_kappa, mean_of_parts, missing_ids, weighted_mean


def test_many_missing_ids_are_counted():
    with pytest.raises(BadInput, match=r"30 of 30 items have no score \(0, 1, 2, .*, 9 and 20 more\)"):
        missing_ids([str(n) for n in range(30)], [])


def test_the_interval_of_parts_keeps_items_together():
    # text and pictures of an item are the same here, so half of each is as sure as either alone
    rates = [(0.0, 0.0)] * 20 + [(1.0, 1.0)] * 20
    both, alone = mean_of_parts([rates]), mean_of_parts([[rate[:1] for rate in rates]])
    assert both == alone and both.value == 0.5 and both.high - both.low > 0.25
    assert mean_of_parts([[(None, 1.0), (None, None)]]).value == 1 and mean_of_parts([[(None,)]]).value is None


def test_agreement_of_judges():
    assert cohens_kappa(["y", "y", "n", "n"], ["y", "y", "n", "n"]) == 1.0
    # 45 both yes, 15 and 25 apart, 15 both no: observed 0.6, by chance 0.54
    first = ["y"] * 60 + ["n"] * 40
    second = ["y"] * 45 + ["n"] * 15 + ["y"] * 25 + ["n"] * 15
    assert cohens_kappa(first, second) == pytest.approx((0.6 - 0.54) / 0.46)
    assert cohens_kappa(["y"] * 3, ["y"] * 3) is None and cohens_kappa([], []) is None


def test_an_interval_by_hand():
    """Groups of unequal size count by their weight; bits have the width that the binomial distribution has."""
    assert bootstrap([[0.2] * 9, [0.8]], [0.25, 0.75]) == (pytest.approx(0.65), pytest.approx(0.65))
    low, high = bootstrap([[0.0, 1.0] * 200], [1.0])
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.025, abs=0.004), pytest.approx(0.5 + 1.96 * 0.025, abs=0.004))
    assert weighted_mean([[0.0, 1.0, 1.0], [1.0]], [0.4, 0.6]).value == pytest.approx(0.4 * 2 / 3 + 0.6)


@given(some.lists(some.lists(some.floats(0, 1), min_size=1, max_size=8), min_size=1, max_size=4))
def test_an_interval_holds_what_it_is_about(values):
    weights = [1 / len(values)] * len(values)
    low, high = bootstrap(values, weights, samples=200)
    assert min(map(min, values)) - 1e-9 <= low <= high <= max(map(max, values)) + 1e-9
