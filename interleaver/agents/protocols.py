"""What the graph asks of a planner and of a critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from interleaver.pictures import Picture
from interleaver.types import Judgement, Plan, Step, Verdict


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


@runtime_checkable
class Reviser(Protocol):
    """A planner that can also change a plan when a chat goes on; one that cannot plans every message anew."""

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Change a plan whose pictures are drawn.

        Args:
            request: what the user now asks for.
            images: pictures that came with it.
            plan: the plan of the document so far. Steps that stay as they are keep their pictures, up to the first one
                that changes.

        Returns:
            The whole new plan; one without steps when the request wants a document of its own.

        Raises:
            BackendError: the change cannot be planned, for instance because there is no such step.
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


class Judge(Protocol):
    """Scores a step that was drawn, for training and for measuring; no run depends on it."""

    async def score(self, step: Step, before: Picture, after: Picture) -> Judgement:
        """Score a step.

        Args:
            step: the step that was drawn.
            before: the picture the step started from; a white canvas where there was none.
            after: what was drawn.

        Raises:
            UnreadableAnswer: the judge's answer holds no scores.
            BackendUnavailable: the judge could not be reached.
            BackendError: it cannot judge this picture.
        """
        ...
