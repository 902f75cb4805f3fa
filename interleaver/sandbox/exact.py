"""A critic that knows the truth: the sandbox judge with a critic's voice.

It is the upper bound for critics that only see pixels, and a teacher for those that learn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Literal

from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox.faults import ATTRIBUTES, STATED, refined
from interleaver.sandbox.grid import read_grid, think
from interleaver.sandbox.judge import judge
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import scene_behind
from interleaver.types import Step, Verdict


class ExactCritic:
    """A `Critic` that compares the scenes behind the pictures."""

    def __init__(
        self,
        reasoning: Literal["findings", "grid"] = "findings",
        insistence: float = 0.0,
        lenience: Mapping[str, float] | None = None,
    ):
        """Make a critic.

        Args:
            reasoning: *findings* names what is wrong; *grid* says first what stands in each of the nine places before
                and after, read from the pixels, which is what a model can learn to say.
            insistence: how often a refined prompt insists on an attribute that was right, too, 0 to 1. A teacher that
                does so at times shows a model that there is a choice; whether it pays is for GRPO to find out.
            lenience: how often it lets a fault pass, 0 to 1, by the fault's attribute, such as `{"place": 0.5}`. A
                teacher that does so is no longer exact; who imitates it is as lenient.
        """
        if reasoning not in ("findings", "grid"):
            raise ValueError(f"reasoning is {reasoning!r}; it must be findings or grid")
        if not 0 <= insistence <= 1:
            raise ValueError(f"insistence is {insistence!r}; it must lie between 0 and 1")
        lenience = dict(lenience or {})
        if unknown := sorted(lenience.keys() - ATTRIBUTES):
            raise ValueError(f"lenience names {unknown[0]!r}; choose from: {', '.join(sorted(ATTRIBUTES))}")
        if any(not 0 <= share <= 1 for share in lenience.values()):
            raise ValueError(f"lenience is {lenience!r}; its values must lie between 0 and 1")
        self._reasoning = reasoning
        self._lenience = lenience
        self._insistence = insistence

    async def judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        """Judge a step; see `interleaver.agents.Critic`."""
        return await asyncio.to_thread(self._judge, step, before, after, prompt)

    def _judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        scene, operations = scene_behind(after), parse(step.goal).operations
        if scene is None:
            raise BackendError(
                "the exact critic knows the truth of the sandbox's own pictures only; set another [critic]"
            )
        found = judge(step.goal, scene_behind(before), scene)
        chance = Random(prompt.encode() + after.data)
        also = frozenset(name for name in sorted(STATED) if chance.random() < self._insistence)
        passed = {name for name in sorted(self._lenience) if chance.random() < self._lenience[name]}
        faults = [fault for fault in found.faults if fault.attribute not in passed]
        said = "; ".join(fault.said for fault in faults) or "That is what was asked for."
        if self._reasoning == "grid":
            said = think(operations, read_grid(before), read_grid(after), faults)
        return Verdict(
            accepted=not faults,
            refined_prompt=refined(operations, faults, prompt, also) if faults else "",
            reasoning=said,
            score=round(found.overall / 10, 3),
        )
