"""A judge over any chat model that sees pictures: four scores after VIEScore, in this package's own words."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.answers import read_literal_in
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill, joined, text_of
from interleaver.agents.schemas import SCORES_SCHEMA
from interleaver.errors import UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.types import Judgement, Step


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatJudge(ChatModel):
    """Scores steps with a chat model; see `ChatModel` for its settings.

    Attributes:
        success_from: a step counts as done when its semantics and its quality both reach this score.
    """

    temperature: float | None = Field(default=0.0, ge=0, le=2)
    success_from: float = Field(default=7.0, ge=0, le=10)

    def __post_init__(self) -> None:
        self._conversation = Conversation(self, "judge")
        _ = [text_of(name) for name in ("judge.semantics", "judge.quality", "scores")]

    async def check(self) -> str:
        """Say that the model can be reached, or raise; see `Endpoint.check`."""
        return await self._conversation.check()

    async def score(self, step: Step, before: Picture, after: Picture) -> Judgement:
        """Score a step; see `Judge.score`. The model is asked twice: about the change, and about the picture alone."""
        told = {"instruction": step.goal, "original_instruction": step.prompt or step.goal}
        (editing, preserving, said), (naturalness, soundness, seen) = await asyncio.gather(
            self._ask("judge.semantics", [before, after], **told), self._ask("judge.quality", [after])
        )
        scored = Judgement(
            editing=editing,
            preserving=preserving,
            naturalness=naturalness,
            soundness=soundness,
            success=False,
            reasoning=" ".join(part for part in (said, seen) if part),
        )
        return scored.model_copy(update={"success": min(scored.semantics, scored.quality) >= self.success_from})

    async def _ask(self, template: str, pictures: list[Picture], **told: str) -> tuple[float, float, str]:
        parts = fill(text_of(template), **told, answer_format=text_of("scores"))
        ask = Ask(joined([*pictures, "\n", *parts]), schema=SCORES_SCHEMA)
        scores, _ = await self._conversation.ask(ask, parse_scores)
        return scores


def parse_scores(text: str) -> tuple[float, float, str]:
    """Read a judge's answer: two scores from 0 to 10, and the reasoning.

    Raises:
        UnreadableAnswer: there is no such pair in it; a score is never guessed.
    """
    if not text.strip():
        raise UnreadableAnswer("the answer is empty")
    found = read_literal_in(text.rpartition("</think>")[2], "score")
    scores = found["score"]
    if not (isinstance(scores, list) and len(scores) == 2 and all(_is_score(score) for score in scores)):
        raise UnreadableAnswer(f"score is {scores!r:.80}; it must be a list of two numbers from 0 to 10")
    reasoning = found.get("reasoning")
    return float(scores[0]), float(scores[1]), reasoning if isinstance(reasoning, str) else ""


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 10
