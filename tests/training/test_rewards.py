import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answers import NONSENSE, PLAN, RIGHT, WRONG

from interleaver.training.rewards import (
    CRITIC_WEIGHTS,
    PLANNER_WEIGHTS,
    critic_reward,
    planner_reward,
    refined_prompt,
    verdict_format,
)


def reward(completion, success=False, after=(None, None), before=(4.0, 10.0)):
    return critic_reward(
        completion,
        success=success,
        semantics_before=before[0],
        quality_before=before[1],
        semantics_after=after[0],
        quality_after=after[1],
    )


@pytest.mark.parametrize(
    ("completion", "success", "after", "parts"),
    [
        # by hand, from the formulas of the paper
        (WRONG, False, (10.0, 10.0), (1, 1, 0.8, 0.5)),
        (WRONG, False, (0.0, 4.0), (1, 1, 0.3, 0.2)),
        (RIGHT, False, (10.0, 10.0), (1, 0, 0.8, 0.5)),
        (RIGHT, True, (10.0, 0.0), (1, 1, 0.5, 0.5)),  # a step that had succeeded is not drawn again
        (WRONG, True, (None, None), (1, 0, 0.5, 0.5)),
        (WRONG, False, (None, None), (1, 1, 0.5, 0.5)),  # nobody could score it
        (NONSENSE, False, (4.0, 10.0), (0, 0, 0.5, 0.5)),
        (NONSENSE, True, (None, None), (0, 0, 0.5, 0.5)),
    ],
)
def test_the_parts_of_a_critics_reward(completion, success, after, parts):
    got = reward(completion, success, after)
    assert (got.format, got.accuracy, got.semantics, got.quality) == pytest.approx(parts)
    form, right, semantics, quality = parts
    assert got.total == pytest.approx(0.5 * form + 0.5 * (0.2 * right + 0.6 * semantics + 0.2 * quality))


def test_the_weights_are_those_of_the_paper_and_add_up_to_one():
    half = Fraction(1, 2)
    paper = {
        "format": half,
        "accuracy": half * Fraction(2, 10),
        "semantics": half * Fraction(6, 10),
        "quality": half * Fraction(2, 10),
    }
    assert {name: Fraction(str(weight)) for name, weight in CRITIC_WEIGHTS.items()} == paper
    assert sum(Fraction(str(weight)) for weight in PLANNER_WEIGHTS.values()) == 1


@given(
    st.sampled_from([RIGHT, WRONG, NONSENSE]),
    st.booleans(),
    st.lists(st.floats(0, 10), min_size=4, max_size=4),
)
def test_rewards_lie_between_0_and_1(completion, success, scores):
    got = reward(completion, success, tuple(scores[:2]), tuple(scores[2:]))
    assert 0 <= got.total <= 1
    better = reward(completion, success, (10.0, 10.0), tuple(scores[2:]))
    assert got.total <= better.total + 1e-9


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT.replace("</think>", ""),
        RIGHT.replace("<answer>", ""),
        "Well. " + RIGHT,
        RIGHT + " Done.",
        RIGHT.replace('"p"', "null"),
        RIGHT.replace("true", '"true"'),
        RIGHT.replace(', "refine_prompt": "p"', ""),
        RIGHT.replace("previous_step_success", "success"),
        RIGHT + RIGHT,
        RIGHT + " Done.</answer>",
        RIGHT.replace("<answer>", "<answer>well "),
        RIGHT.replace("}", "} well"),
        RIGHT.replace("<think>", "<think>x</answer>"),
        "",
    ],
)
def test_what_is_not_well_formed(completion):
    assert verdict_format(completion) == 0.0
    assert verdict_format(RIGHT) == verdict_format(WRONG) == 1.0


def test_the_prompt_that_a_step_is_drawn_again_with():
    assert refined_prompt(WRONG, "before") == "red!"
    assert refined_prompt(WRONG.replace("red!", ""), "before") == "before"
    assert refined_prompt(NONSENSE, "before") == "before"


def test_the_parts_of_a_planners_reward():
    answer = f"<think>three steps</think>\n<answer>{json.dumps(PLAN)}</answer>"
    got = planner_reward(answer, steps=3, document=8.0)
    assert (got.format, got.steps, got.document) == (1, 1, 0.8)
    assert got.total == pytest.approx(0.5 + 0.15 + 0.35 * 0.8)
    assert planner_reward(answer, steps=4, document=None).steps == 0.75
    assert planner_reward(answer, steps=1, document=None).steps == 0
    assert planner_reward(answer, steps=3, document=None).document == 0.5
    broken = planner_reward(answer.replace("</answer>", ""), steps=3, document=10.0)
    assert (broken.format, broken.steps) == (0, 1)  # it can be read, though it is not as it should be
    assert planner_reward("no plan", steps=3, document=None).total == 0
