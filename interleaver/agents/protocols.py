"""What the graph asks of a planner and of a critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from interleaver.pictures import Picture
from interleaver.types import Plan, Step, Verdict


class Planner(Protocol):
    """Writes the whole plan before any picture exists."""

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan the document.

        Args:
            request: what the user asked for; an `<image>` tag stands where each picture belongs.
            images: the pictures of the request, in the order of their tags.

        Raises:
            BackendError: the request cannot be planned.
            BackendUnavailable: the planner could not be reached.
        """
        ...


class Critic(Protocol):
    """Looks at a picture before and after a step."""

    async def judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        """Decide whether `after` is what `step.goal` asks for, given `before`.

        Args:
            step: the step that was drawn.
            before: the picture the step started from; a white canvas where there was none.
            after: what the generator drew.
            prompt: the prompt it was drawn with.

        Raises:
            UnreadableAnswer: the critic answered something that is not a verdict.
            BackendUnavailable: the critic could not be reached.
        """
        ...
