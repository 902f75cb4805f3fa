"""Rewards of reinforcement learning, as pure functions of an answer and of what judges said.

The critic's is the paper's (InterleaveThinker, arXiv 2606.13679), for single steps:

    reward = 0.5 F + 0.5 (0.2 A + 0.6 S + 0.2 Q)

with F the format, A whether the verdict is right, and S and Q how much better the picture got when the step was drawn
again with the critic's prompt. All parts lie between 0 and 1, and so does their weighted sum.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.literals import read_literal
from interleaver.errors import UnreadableAnswer

NEUTRAL = 0.5
"""What a part is worth that nobody could score: neither a reward nor a punishment."""
CRITIC_WEIGHTS = {"format": 0.5, "accuracy": 0.1, "semantics": 0.3, "quality": 0.1}
PLANNER_WEIGHTS = {"format": 0.5, "steps": 0.15, "document": 0.35}
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAGGED = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@dataclass(frozen=True)
class CriticReward:
    """The parts of a critic's reward, each 0 to 1.

    Attributes:
        format: 1 when the answer is well formed.
        accuracy: 1 when the verdict is right.
        semantics: 0.5 when the picture drawn with the critic's prompt does what was asked as well as the one before,
            1 when it went from not at all to fully, 0 the other way round.
        quality: likewise.
    """

    format: float
    accuracy: float
    semantics: float
    quality: float

    @property
    def total(self) -> float:
        """0 to 1: the weighted sum."""
        return sum(weight * float(getattr(self, name)) for name, weight in CRITIC_WEIGHTS.items())


@dataclass(frozen=True)
class PlannerReward:
    """The parts of a planner's reward, each 0 to 1.

    Attributes:
        format: 1 when the answer is well formed.
        steps: 1 when the plan has as many steps as it should.
        document: how well the last picture does what the request asked for.
    """

    format: float
    steps: float
    document: float

    @property
    def total(self) -> float:
        """0 to 1: the weighted sum."""
        return sum(weight * float(getattr(self, name)) for name, weight in PLANNER_WEIGHTS.items())


def critic_reward(
    completion: str,
    *,
    success: bool,
    semantics_before: float,
    quality_before: float,
    semantics_after: float | None,
    quality_after: float | None,
) -> CriticReward:
    """The reward of a critic's answer about one step.

    Args:
        completion: the answer.
        success: whether the step had succeeded, by the judge.
        semantics_before: of the picture that the critic looked at, 0 to 10, by the judge.
        quality_before: likewise.
        semantics_after: of the picture that was drawn with the critic's prompt; None when nothing was drawn (since
            the step had succeeded) or nobody could score it.
        quality_after: likewise.
    """
    return CriticReward(
        format=verdict_format(completion),
        accuracy=accuracy(completion, success),
        semantics=improvement(semantics_before, None if success else semantics_after),
        quality=improvement(quality_before, None if success else quality_after),
    )


def planner_reward(completion: str, *, steps: int, document: float | None) -> PlannerReward:
    """The reward of a planner's answer.

    Args:
        completion: the answer.
        steps: how many the plan should have.
        document: 0 to 10, how well the last picture does what the request asked for; None when nobody could score it.
    """
    return PlannerReward(
        format=plan_format(completion),
        steps=step_count(completion, steps),
        document=document_worth(completion, document),
    )


def verdict_format(completion: str) -> float:
    """1 when an answer is reasoning, then a verdict's two keys with a boolean and a text, else 0."""
    found = _tagged_object(completion, "previous_step_success")
    well = isinstance(found.get("previous_step_success"), bool) and isinstance(found.get("refine_prompt"), str)
    return float(well)


def plan_format(completion: str) -> float:
    """1 when an answer is reasoning, then an object with a plan that can be read, else 0."""
    if not _tagged_object(completion, "execution_plan"):
        return 0.0
    try:
        parse_plan(completion)
    except UnreadableAnswer:
        return 0.0
    return 1.0


def accuracy(completion: str, success: bool) -> float:
    """1 when the verdict can be read and says whether the step had succeeded, else 0."""
    try:
        return float(parse_verdict(completion).accepted == success)
    except UnreadableAnswer:
        return 0.0


def improvement(before: float, after: float | None) -> float:
    """How much better a score of 0 to 10 got, from 0 to 1; 0.5 where it stayed the same or is not known."""
    return NEUTRAL if after is None else ((after - before) / 10 + 1) / 2


def step_count(completion: str, steps: int) -> float:
    """1 when a plan can be read and has that many steps; less in proportion to how many it has too many or too few."""
    try:
        planned = len(parse_plan(completion).steps)
    except UnreadableAnswer:
        return 0.0
    return max(0.0, 1 - abs(planned - steps) / steps)


def document_worth(completion: str, document: float | None) -> float:
    """A document's score of 0 to 10 from 0 to 1: 0.5 where nobody could score it, 0 where there is no plan."""
    try:
        parse_plan(completion)
    except UnreadableAnswer:
        return 0.0
    return NEUTRAL if document is None else document / 10


def refined_prompt(completion: str, previous: str) -> str:
    """The prompt that a critic's answer would have the step drawn with: its own, or the previous one if it has none."""
    try:
        return parse_verdict(completion).refined_prompt or previous
    except UnreadableAnswer:
        return previous


def _tagged_object(completion: str, key: str) -> dict[str, object]:
    """The object of an answer that is exactly reasoning and answer; empty when it is anything else."""
    tagged = _TAGGED.fullmatch(completion)
    if not tagged or any(tag in part for part in tagged.groups() for tag in _TAGS):
        return {}
    answer = tagged[2].strip()
    try:
        found, length = read_literal(answer)
    except UnreadableAnswer:
        return {}
    return found if length == len(answer) and isinstance(found, dict) and key in found else {}
