"""A planner and a critic that take no model: one step that is the request, and every picture accepted.

With them a pipeline is measured without the one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from interleaver.pictures import Picture
from interleaver.types import Plan, Step, Verdict


class OneStepPlanner:
    """A `Planner` that has the request drawn as it is."""

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan a single step."""
        prompt = " ".join(request.replace("<image>", " ").split())
        return Plan(steps=[Step(number=1, name="The picture", instruction=prompt, prompt=prompt)])


class AcceptingCritic:
    """A `Critic` that accepts every picture without looking."""

    async def judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        """Accept."""
        return Verdict(accepted=True)
