"""Rewards for reinforcement learning, as pure functions of an answer and the judge's scores.

The reward of the critic is that of the paper (InterleaveThinker, arXiv 2606.13679), for single steps:

    reward = 0.5 F + 0.5 (0.2 A + 0.6 S + 0.2 Q)

where F is the format, A is whether the verdict is correct, and S and Q are the improvements in semantics and quality
when the step is redrawn with the critic's prompt. All parts lie between 0 and 1, and so does their weighted sum.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.literals import read_literal
from interleaver.choices import FormatRule
from interleaver.errors import UnreadableAnswer
from interleaver.training.official_reward import official_accuracy, official_format, official_prompt

NEUTRAL = 0.5
"""Value of a part of the reward that could not be scored; the same as for no improvement."""
CRITIC_WEIGHTS = {"format": 0.5, "accuracy": 0.1, "semantics": 0.3, "quality": 0.1}
PLANNER_WEIGHTS = {"format": 0.5, "steps": 0.15, "document": 0.35}
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAGGED = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@dataclass(frozen=True)
class CriticReward:
    """The parts of a critic's reward, each 0 to 1.

    Attributes:
        format: 1 if the answer is well-formed, else 0.
        accuracy: 1 if the verdict is correct, else 0.
        semantics: improvement of the semantics score by the critic's prompt: 0.5 for none, 1 from 0 to 10, 0 from 10
            to 0.
        quality: improvement of the quality score by the critic's prompt, on the same scale.
    """

    format: float
    accuracy: float
    semantics: float
    quality: float

    @property
    def total(self) -> float:
        """Weighted sum of the parts, 0 to 1."""
        return sum(weight * float(getattr(self, name)) for name, weight in CRITIC_WEIGHTS.items())


@dataclass(frozen=True)
class PlannerReward:
    """The parts of a planner's reward, each 0 to 1.

    Attributes:
        format: 1 if the answer is well-formed, else 0.
        steps: 1 if the plan has the expected number of steps, less the more it deviates.
        document: how well the last picture fulfils the request.
    """

    format: float
    steps: float
    document: float

    @property
    def total(self) -> float:
        """Weighted sum of the parts, 0 to 1."""
        return sum(weight * float(getattr(self, name)) for name, weight in PLANNER_WEIGHTS.items())


def critic_reward(
    completion: str,
    *,
    success: bool,
    semantics_before: float,
    quality_before: float,
    semantics_after: float | None,
    quality_after: float | None,
    rule: FormatRule = "strict",
) -> CriticReward:
    """Return the reward of a critic's answer about one step.

    Args:
        completion: text of the answer.
        success: whether the step succeeded, according to the judge.
        semantics_before: the judge's semantics score, 0 to 10, of the picture that the critic reviewed.
        quality_before: the judge's quality score, 0 to 10, of the picture that the critic reviewed.
        semantics_after: the judge's semantics score, 0 to 10, of the picture redrawn with the critic's prompt; None if
            the step was not redrawn (because it had succeeded) or could not be scored.
        quality_after: the judge's quality score, 0 to 10, of the redrawn picture; None in the same cases.
        rule: which answers count as well-formed, see `Scoring.format`.
    """
    is_official = rule == "official"
    return CriticReward(
        format=official_format(completion) if is_official else verdict_format(completion),
        accuracy=official_accuracy(completion, success) if is_official else accuracy(completion, success),
        semantics=improvement(semantics_before, None if success else semantics_after),
        quality=improvement(quality_before, None if success else quality_after),
    )


def planner_reward(completion: str, *, steps: int, document: float | None) -> PlannerReward:
    """Return the reward of a planner's answer.

    Args:
        completion: text of the answer.
        steps: expected number of steps in the plan.
        document: the judge's overall score, 0 to 10, of the last picture against the request; None if it could not be
            scored.
    """
    return PlannerReward(
        format=plan_format(completion),
        steps=step_count(completion, steps),
        document=document_worth(completion, document),
    )


def verdict_format(completion: str) -> float:
    """Return 1 if an answer is reasoning followed by a verdict whose two keys have a boolean and a string, else 0."""
    answer = _tagged_object(completion, "previous_step_success")
    is_well_formed = isinstance(answer.get("previous_step_success"), bool) and isinstance(
        answer.get("refine_prompt"), str
    )
    return float(is_well_formed)


def plan_format(completion: str) -> float:
    """Return 1 if an answer is reasoning followed by an object with a plan that can be parsed, else 0."""
    if not _tagged_object(completion, "execution_plan"):
        return 0.0
    try:
        parse_plan(completion)
    except UnreadableAnswer:
        return 0.0
    return 1.0


def accuracy(completion: str, success: bool) -> float:
    """Return 1 if the verdict can be parsed and agrees with the judge on whether the step succeeded, else 0."""
    try:
        return float(parse_verdict(completion).accepted == success)
    except UnreadableAnswer:
        return 0.0


def improvement(before: float, after: float | None) -> float:
    """Return the change between two scores of 0 to 10, scaled to 0 to 1; 0.5 for no change or an unknown score."""
    return NEUTRAL if after is None else ((after - before) / 10 + 1) / 2


def step_count(completion: str, steps: int) -> float:
    """Return 1 minus the relative deviation from the expected number of steps, at least 0; 0 for an unreadable plan."""
    try:
        planned_count = len(parse_plan(completion).steps)
    except UnreadableAnswer:
        return 0.0
    return max(0.0, 1 - abs(planned_count - steps) / steps)


def document_worth(completion: str, document: float | None) -> float:
    """Return a document's score of 0 to 10 scaled to 0 to 1; 0.5 if there is no score, 0 if there is no plan."""
    try:
        parse_plan(completion)
    except UnreadableAnswer:
        return 0.0
    return NEUTRAL if document is None else document / 10


def refined_prompt(completion: str, previous: str, rule: FormatRule = "strict") -> str:
    """Return the prompt to redraw a step with: the one in the critic's answer, or else the previous prompt."""
    if rule == "official":
        return official_prompt(completion, previous)
    try:
        return parse_verdict(completion).refined_prompt or previous
    except UnreadableAnswer:
        return previous


def _tagged_object(completion: str, key: str) -> dict[str, object]:
    """Return the object inside `<answer>`.

    Empty unless the completion is exactly one `<think>` and one `<answer>` block, and the object has the key.
    """
    tagged = _TAGGED.fullmatch(completion)
    if not tagged or any(tag in part for part in tagged.groups() for tag in _TAGS):
        return {}
    answer = tagged[2].strip()
    try:
        value, length = read_literal(answer)
    except UnreadableAnswer:
        return {}
    return value if length == len(answer) and isinstance(value, dict) and key in value else {}
