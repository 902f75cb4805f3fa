"""Planner and critic over any chat model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.answers import parse_plan, parse_revision, parse_verdict
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import Part, fill, load_prompts, text_of, with_pictures
from interleaver.agents.schemas import PLAN_SCHEMA, VERDICT_SCHEMA, tagged_grammar, write_plan
from interleaver.agents.tagged import Form, plan_parts, verdict_parts
from interleaver.pictures import Picture
from interleaver.types import Plan, Step, Verdict

TAGGED_TOKENS = 4096
"""The fine-tuned models' limit on an answer."""


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class _Agent(ChatModel):
    """What planner and critic share.

    Attributes:
        format: *tagged* for the fine-tuned checkpoints, *structured* (a JSON schema) for general models.
        guided: with *tagged* on vLLM, let a grammar see to it that the answer has the right form; the reasoning stays
            free.
        prompts: another set of prompts, see `load_prompts`.
    """

    format: Literal["tagged", "structured"] = "structured"
    guided: bool = False
    prompts: str | None = None
    _role: ClassVar[Literal["planner", "critic"]]

    def __post_init__(self) -> None:
        if self.format == "tagged" and self.max_tokens is None:
            self.max_tokens = TAGGED_TOKENS
        self._conversation = Conversation(self, self._role)
        self._templates = load_prompts(self.prompts)
        _ = text_of(f"plan.{self.format}"), text_of(f"verdict.{self.format}")

    async def check(self) -> str:
        """Say that the model can be reached, or raise; see `Endpoint.check`."""
        return await self._conversation.check()

    def _format(self, form: Form) -> str:
        """How the model is to answer."""
        return text_of(f"{form}.{self.format}")

    def _ask(self, parts: list[Part], schema: dict[str, Any]) -> Ask:
        if self.format == "structured":
            return Ask(parts, schema=schema)
        return Ask(parts, extra_body=tagged_grammar(schema) if self.guided else {})


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatPlanner(_Agent):
    """Plans with a chat model; see `ChatModel` and `_Agent` for its settings."""

    _role: ClassVar[Literal["planner", "critic"]] = "planner"

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan the document; see `Planner.plan`."""
        return await self._plan(parse_plan, plan_parts(self._templates, request, images, self._format("plan")))

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Change a plan; see `Reviser.revise`."""
        told, so_far = with_pictures(request, images), write_plan(plan)
        parts = fill(self._templates.revising, text_input=told, plan=so_far, answer_format=self._format("plan"))
        return await self._plan(parse_revision, parts)

    async def _plan(self, read: Callable[[str], Plan], parts: list[Part]) -> Plan:
        plan, reasoning = await self._conversation.ask(self._ask(parts, PLAN_SCHEMA), read)
        return plan if plan.reasoning else plan.model_copy(update={"reasoning": reasoning})


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatCritic(_Agent):
    """Judges with a chat model that sees pictures; see `ChatModel` and `_Agent` for its settings."""

    _role: ClassVar[Literal["planner", "critic"]] = "critic"

    async def judge(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        """Judge a picture; see `Critic.judge`."""
        parts = verdict_parts(self._templates, step, prompt, [before, after], self._format("verdict"))
        verdict, reasoning = await self._conversation.ask(self._ask(parts, VERDICT_SCHEMA), parse_verdict)
        return verdict if verdict.reasoning else verdict.model_copy(update={"reasoning": reasoning})
