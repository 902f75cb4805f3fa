"""The protocols of planner, reviser, critic and judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from interleaver.pictures import Picture
from interleaver.types import Plan, Scores, Step, Verdict


class Planner(Protocol):
    """A planner, which writes the complete plan before any picture is drawn."""

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan the document.

        Args:
            request: the user's request, with an `<image>` tag at the position of each picture.
            images: the pictures of the request, in the order of their tags.

        Raises:
            BackendError: the request cannot be planned.
            BackendUnavailable: the planner could not be reached.
        """
        ...


@runtime_checkable
class Reviser(Protocol):
    """A planner that can also revise its plan when a chat continues; others plan every message from scratch."""

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Revise a plan whose pictures are already drawn.

        Args:
            request: the user's new message.
            images: the pictures of that message, in the order of their tags.
            plan: the current plan of the document. Steps before the first changed one keep their pictures.

        Returns:
            The complete new plan, or a plan without steps if the request calls for a new document.

        Raises:
            BackendError: the change cannot be planned, for example because the step to change does not exist.
            BackendUnavailable: the planner could not be reached.
        """
        ...


class Critic(Protocol):
    """A critic, which reviews the picture of a step against the picture before it and gives a verdict."""

    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        """Decide whether `after` is what `step.goal` asks for, given `before`.

        Args:
            step: the step that was drawn.
            before: the picture that the step started from; a white canvas if there was none.
            after: the picture that the generator drew.
            prompt: the prompt that `after` was drawn with.
            references: further pictures that the step must be consistent with; the graph does not pass any yet.

        Raises:
            UnreadableAnswer: the critic's answer is not a verdict.
            BackendUnavailable: the critic could not be reached.
        """
        ...


class Judge(Protocol):
    """A judge, which scores drawn steps for training and evaluation; runs do not use it."""

    async def score(self, step: Step, before: Picture, after: Picture) -> Scores:
        """Score a drawn step.

        Args:
            step: the step that was drawn.
            before: the picture that the step started from; a white canvas if there was none.
            after: the picture that was drawn.

        Raises:
            UnreadableAnswer: the judge's answer has no scores.
            BackendUnavailable: the judge could not be reached.
            BackendError: the judge cannot score this picture.
        """
        ...
