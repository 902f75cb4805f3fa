"""Baselines without a model: a planner whose only step is the request, and a critic that accepts every picture.

They serve to evaluate a pipeline without its planner or without its critic.
"""

from __future__ import annotations

from collections.abc import Sequence

from interleaver.pictures import Picture
from interleaver.types import Plan, Step, Verdict


class OneStepPlanner:
    """A `Planner` whose only step draws the request as it is."""

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan a single step."""
        prompt = " ".join(request.replace("<image>", " ").split())
        return Plan(steps=[Step(number=1, name="The picture", instruction=prompt, prompt=prompt)])


class AcceptingCritic:
    """A `Critic` that accepts every picture without looking."""

    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        """Accept the picture."""
        return Verdict(accepted=True)
