"""The rule named "official" against what the released function gave for 1,046 answers."""

import json

import pytest
from support import SUPPORT

from interleaver.training.official_reward import official_accuracy, official_format, official_prompt

pytest.importorskip("json_repair")
ANSWERS = json.loads((SUPPORT / "official_reward.json").read_text(encoding="utf-8"))
PREVIOUS = "PREVIOUS PROMPT"


def test_every_answer_has_the_format_reward_that_it_was_given():
    read = [row for row in ANSWERS if row["official"]["F"] is not None]  # the released function raises for two
    assert len(read) == 1044
    assert [official_format(row["completion"]) for row in read] == [row["official"]["F"] for row in read]


def test_every_prompt_is_the_one_that_was_drawn():
    read = [row for row in ANSWERS if isinstance(row["official"]["prompt"], str)]
    assert len(read) > 900
    assert [official_prompt(row["completion"], PREVIOUS) for row in read] == [row["official"]["prompt"] for row in read]


@pytest.mark.parametrize("row", [row for row in ANSWERS if row["official"]["F"] is None])
def test_answers_that_the_released_function_cannot_take_are_ill_formed(row):
    assert official_format(row["completion"]) == 0
    assert official_prompt(row["completion"], PREVIOUS) == PREVIOUS


@pytest.mark.parametrize(
    ("answer", "success", "accuracy"),
    [("true", True, 1), ("1", True, 1), ("0", False, 1), ('"true"', True, 0), ("false", True, 0), ("null", False, 0)],
)
def test_the_verdict_is_compared_as_it_stands(answer, success, accuracy):
    completion = f'<answer>{{"previous_step_success": {answer}}}</answer>'
    assert official_accuracy(completion, success) == accuracy
