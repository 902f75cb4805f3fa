"""How benchmarks turn judgements into numbers, on cases worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from interleaver.errors import BadInput
from interleaver.evals.benchmarks import risebench, ueval, wise
from interleaver.evals.scores import bootstrap, cohens_kappa, complete, mean_of_parts, weighted


@pytest.mark.parametrize(
    ("said", "score"),
    [((2, 2, 2), 1.0), ((0, 0, 0), 0.0), ((2, 0, 0), 0.7), ((0, 2, 0), 0.2), ((0, 0, 2), 0.1), ((1, 2, 1), 0.6)],
)
def test_wiscore(said, score):
    told = dict(zip(("consistency", "realism", "aesthetic_quality"), said, strict=True))
    assert wise.item_score("wise-legacy", told) == pytest.approx(score)


@pytest.mark.parametrize("value", [3, -1, None, True, 0.5, math.nan, "2"])
def test_wise_takes_whole_numbers_in_range_alone(value):
    with pytest.raises(BadInput, match="realism is .*; wise-legacy knows whole numbers from 0 to 2"):
        wise.item_score("wise-legacy", {"consistency": 2, "realism": value, "aesthetic_quality": 2})
    with pytest.raises(BadInput, match="correct is 2; wise-verified knows whole numbers from 0 to 1"):
        wise.item_score("wise-verified", {"correct": 2})


def one_each():
    return {f"{name}-{n}": name for name in wise.CATEGORIES for n in range(2)}


@pytest.mark.parametrize(
    ("protocol", "overall"),
    # culture 1 and 0, time 1 and 1, the others 0: half of culture's weight and all of time's
    [("wise-legacy", 0.2 + 0.167), ("wise-verified", 0.2 + 0.12)],
)
def test_wise_weighs_categories_as_its_protocol_says(protocol, overall):
    scores = dict.fromkeys(one_each(), 0.0) | {"culture-0": 1.0, "time-0": 1.0, "time-1": 1.0}
    found = wise.table(protocol, one_each(), scores)
    assert found.overall["overall"].value == pytest.approx(overall)
    assert found.groups["culture"]["score"].value == 0.5 and found.groups["time"]["score"].items == 2
    assert sum(wise.RULES[protocol].weights.values()) == pytest.approx(1)
    assert sum(wise.RULES[protocol].prompts.values()) == 1000


def test_an_incomplete_set_is_refused_by_name_or_marked():
    scores = dict.fromkeys(list(one_each())[1:], 1.0)
    with pytest.raises(BadInput, match=r"1 of 12 items have no score \(culture-0\)"):
        wise.table("wise-verified", one_each(), scores)
    found = wise.table("wise-verified", one_each(), scores, allow_partial=True)
    assert found.missing == ["culture-0"] and found.overall["overall"].value == pytest.approx(1)


def test_a_part_of_wise_has_no_overall_score():
    found = wise.table("wise-verified", {"a": "time"}, {"a": 1.0})
    assert found.overall["overall"].value is None and found.groups["time"]["score"].value == 1.0
    with pytest.raises(BadInput, match="category 'sport' is unknown to wise-verified"):
        wise.table("wise-verified", {"a": "sport"}, {"a": 1.0})


def test_many_missing_ids_are_counted():
    with pytest.raises(BadInput, match=r"30 of 30 items have no score \(0, 1, 2, .*, 9 and 20 more\)"):
        complete([str(n) for n in range(30)], [])


def test_ueval_by_hand():
    items = {task: ueval.Rubrics(task, 2, 4) for task in ueval.TASKS} | {"second": ueval.Rubrics("space", 4, 0)}
    said = {task: {"text": ["met", "unmet"], "image": ["met"] * 4} for task in ueval.TASKS}
    said["space"] = {"text": ["met", "not sure"], "image": ["not sure", "met", "met", "unmet"]}
    said["second"] = {"text": ["met"] * 4, "image": []}
    found = ueval.table(items, said)
    # space: text (1/2 + 4/4) / 2 = 0.75; pictures 2/4, the second item has no rubrics for them
    space = found.groups["space"]
    assert (space["text"].value, space["image"].value, space["score"].value) == (0.75, 0.5, 0.625)
    assert space["image"].items == 1 and found.groups["art"]["score"].value == 0.75
    assert found.overall["overall"].value == pytest.approx((0.625 + 7 * 0.75) / 8)


def test_the_interval_of_parts_keeps_items_together():
    # text and pictures of an item are the same here, so half of each is as sure as either alone
    rates = [(0.0, 0.0)] * 20 + [(1.0, 1.0)] * 20
    both, alone = mean_of_parts([rates]), mean_of_parts([[rate[:1] for rate in rates]])
    assert both == alone and both.value == 0.5 and both.high - both.low > 0.25
    assert mean_of_parts([[(None, 1.0), (None, None)]]).value == 1 and mean_of_parts([[(None,)]]).value is None


def test_ueval_wants_every_rubric_judged():
    with pytest.raises(BadInput, match="1 answers for 2 rubrics; every rubric must be judged"):
        ueval.table({"a": ueval.Rubrics("art", 2, 0)}, {"a": {"text": ["met"], "image": []}})
    with pytest.raises(BadInput, match="task 'music' is unknown to UEval"):
        ueval.table({"a": ueval.Rubrics("music", 1, 0)}, {"a": {"text": ["met"]}})
    found = ueval.table({"a": ueval.Rubrics("art", 0, 0)}, {"a": {}})
    assert found.groups["art"]["score"].value is None and found.overall["overall"].value is None


PLAIN, FREE, LOGICAL = risebench.Kind("causal"), risebench.Kind("temporal", True), risebench.Kind("logical")


@pytest.mark.parametrize(
    ("item", "said", "percent"),
    [
        (PLAIN, (5, 5, 5), 100.0),
        (PLAIN, (4, 3, 2), 25 * (1.2 + 1.5 + 0.4 - 1)),
        (PLAIN, (5, 1, 5), 25 * ((1.5 + 0.5 + 1.0) / 2 - 1)),
        (PLAIN, (1, 1, 1), 0.0),  # half of one would be below the floor
        (FREE, (None, 4, 5), 25 * (3.2 + 1.0 - 1)),
        (FREE, (1, 5, 5), 100.0),  # its consistency, even if judged, does not count
        (LOGICAL, (5, 5, None), 100.0),
        (LOGICAL, (3, 5, 1), 25 * (0.9 + 3.5 - 1)),
        (LOGICAL, (5, 1, None), 25 * (2.2 / 2 - 1)),
    ],
)
def test_risebench_scores(item, said, percent):
    told = {
        name: value for name, value in zip(("consistency", "reasoning", "plausibility"), said, strict=True) if value
    }
    assert risebench.item_score(item, told) == pytest.approx(percent)
    assert risebench.is_accurate(item, told) == (percent == 100)


@pytest.mark.parametrize("value", [0, 6, None, math.nan, 4.5, True])
def test_risebench_takes_whole_numbers_in_range_alone(value):
    with pytest.raises(BadInput, match="plausibility is .*; RISEBench knows whole numbers from 1 to 5"):
        risebench.item_score(PLAIN, {"consistency": 5, "reasoning": 5, "plausibility": value})


def test_risebench_table():
    items = {"a": PLAIN, "b": FREE, "c": LOGICAL, "d": PLAIN}
    said = {
        "a": {"consistency": 5, "reasoning": 5, "plausibility": 5},
        "b": {"reasoning": 4, "plausibility": 5},
        "c": {"consistency": 5, "reasoning": 1},
        "d": {"consistency": 4, "reasoning": 5, "plausibility": 5},
    }
    found = risebench.table(items, said)
    assert found.overall["accuracy"].value == 25.0
    assert found.groups["causal"]["accuracy"].value == 50.0
    assert found.overall["score"].value == pytest.approx((100 + 80 + 2.5 + 92.5) / 4)
    assert list(found.groups) == ["temporal", "causal", "logical"]


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
    assert weighted([[0.0, 1.0, 1.0], [1.0]], [0.4, 0.6]).value == pytest.approx(0.4 * 2 / 3 + 0.6)


@given(some.lists(some.lists(some.floats(0, 1), min_size=1, max_size=8), min_size=1, max_size=4))
def test_an_interval_holds_what_it_is_about(values):
    weights = [1 / len(values)] * len(values)
    low, high = bootstrap(values, weights, samples=200)
    assert min(map(min, values)) - 1e-9 <= low <= high <= max(map(max, values)) + 1e-9
