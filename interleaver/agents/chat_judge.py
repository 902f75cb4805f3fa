"""A judge backed by any vision-capable chat model: four scores as in VIEScore, with this package's own prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.answers import read_literal_in
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill, join_texts, load_judge_prompts, template_text
from interleaver.agents.schemas import SCORES_SCHEMA
from interleaver.errors import UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.types import Scores, Step


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatJudge(ChatModel):
    """A judge that scores steps with a chat model; see `ChatModel` for its other settings.

    Attributes:
        prompts: Python file with the prompts of the released reward function (`vie_prompts.py`), which is parsed but
            never executed; None for the built-in ones.
        success_from: score from 0 to 10 that both semantics and quality must reach for a step to count as successful.
    """

    temperature: float | None = Field(default=0.0, ge=0, le=2)
    prompts: str | None = None
    success_from: float = Field(default=7.0, ge=0, le=10)

    def __post_init__(self) -> None:
        self._conversation = Conversation(self, "judge")
        self._templates = load_judge_prompts(self.prompts)
        _ = template_text("scores")  # cached here, so that no event loop has to wait for the disk

    async def check(self) -> str:
        """Check that the model can be reached; see `Endpoint.check`."""
        return await self._conversation.check()

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self._conversation.resource

    async def score(self, step: Step, before: Picture, after: Picture) -> Scores:
        """Score a step with one question about the change and one about the new picture; see `Judge.score`."""
        prompt = step.prompt or step.goal
        goal = prompt if self._templates.is_official else step.goal
        fields = {"instruction": goal, "original_instruction": prompt}
        (editing, preserving, change_reasoning), (naturalness, soundness, picture_reasoning) = await asyncio.gather(
            self._ask(self._templates.semantics, [before, after], **fields),
            self._ask(self._templates.quality, [after]),
        )
        scores = Scores(
            editing=editing,
            preserving=preserving,
            naturalness=naturalness,
            soundness=soundness,
            success=False,
            reasoning=" ".join(part for part in (change_reasoning, picture_reasoning) if part),
        )
        return scores.model_copy(update={"success": min(scores.semantics, scores.quality) >= self.success_from})

    async def _ask(self, template: str, pictures: list[Picture], **fields: str) -> tuple[float, float, str]:
        parts = fill(template, **fields, answer_format=template_text("scores"))
        question = [*parts, *pictures] if self._templates.is_official else [*pictures, "\n", *parts]
        ask = Ask(join_texts(question), schema=SCORES_SCHEMA)
        scores, _ = await self._conversation.ask(ask, parse_scores)
        return scores


def parse_scores(text: str) -> tuple[float, float, str]:
    """Read a judge's answer: two scores from 0 to 10, and the reasoning.

    Raises:
        UnreadableAnswer: the answer does not have two valid scores; scores are never guessed.
    """
    if not text.strip():
        raise UnreadableAnswer("the answer is empty")
    answer = read_literal_in(text.rpartition("</think>")[2], "score")
    scores = answer["score"]
    if not (isinstance(scores, list) and len(scores) == 2 and all(_is_score(score) for score in scores)):
        raise UnreadableAnswer(f"score is {scores!r:.80}; it must be a list of two numbers from 0 to 10")
    reasoning = answer.get("reasoning")
    return float(scores[0]), float(scores[1]), reasoning if isinstance(reasoning, str) else ""


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 10
