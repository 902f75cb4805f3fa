"""A critic with access to the ground truth: it turns the findings of the sandbox judge into verdicts.

It is the upper bound for critics that see only pixels, and a teacher for critics that are trained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from interleaver.errors import BackendError
from interleaver.pictures import Picture
from interleaver.sandbox.faults import ATTRIBUTES, STATABLE_ATTRIBUTES, write_refined_prompt
from interleaver.sandbox.grid import read_grid, write_reasoning
from interleaver.sandbox.judge import score_step
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import scene_behind
from interleaver.types import Step, Verdict


class ExactCritic:
    """A `Critic` that compares the scenes stored in the pictures."""

    def __init__(
        self,
        reasoning: Literal["findings", "grid"] = "findings",
        insistence: float = 0.0,
        lenience: Mapping[str, float] | None = None,
    ):
        """Make a critic.

        Args:
            reasoning: content of the verdict's reasoning. *findings* lists what is wrong; *grid* first states what
                stands in each of the nine places before and after the step, read from the pixels, so that a model can
                learn to write the same.
            insistence: probability, 0 to 1, that a refined prompt also insists on an attribute that was already right.
                With a value between 0 and 1, training data contains both kinds of prompt, and GRPO can find out which
                works better.
            lenience: probability, 0 to 1, that a fault is overlooked, by the attribute of the fault, such as
                `{"place": 0.5}`. A model trained on the verdicts of a lenient critic learns to be as lenient.

        Raises:
            ValueError: an argument is out of its range.
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

    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        """Review a step; see `interleaver.agents.Critic`."""
        return await asyncio.to_thread(self._review, step, before, after, prompt)

    def _review(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        scene, operations = scene_behind(after), parse(step.goal).operations
        if scene is None:
            raise BackendError(
                "the sandbox-exact critic reviews the sandbox's own pictures only, and this picture has no scene "
                "stored in it; set another backend in [critic]"
            )
        scores = score_step(step.goal, scene_behind(before), scene)
        chance = Random(prompt.encode() + after.data)
        insisted_attributes = frozenset(
            name for name in sorted(STATABLE_ATTRIBUTES) if chance.random() < self._insistence
        )
        forgiven_attributes = {name for name in sorted(self._lenience) if chance.random() < self._lenience[name]}
        faults = [fault for fault in scores.faults if fault.attribute not in forgiven_attributes]
        reasoning = "; ".join(fault.description for fault in faults) or "That is what was asked for."
        if self._reasoning == "grid":
            reasoning = write_reasoning(operations, read_grid(before), read_grid(after), faults)
        return Verdict(
            accepted=not faults,
            refined_prompt=write_refined_prompt(operations, faults, prompt, insisted_attributes) if faults else "",
            reasoning=reasoning,
            score=round(scores.overall / 10, 3),
        )
