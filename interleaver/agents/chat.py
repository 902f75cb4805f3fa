"""Planner and critic backed by any chat model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.answers import parse_plan, parse_revision, parse_verdict
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import PromptPart, fill, interleave_pictures, load_prompts
from interleaver.agents.schemas import PLAN_SCHEMA, VERDICT_SCHEMA, tagged_grammar, write_plan
from interleaver.agents.tagged import AnswerKind, answer_format, plan_parts, verdict_parts
from interleaver.choices import AnswerFormat
from interleaver.pictures import Picture
from interleaver.types import Plan, Step, Verdict

TAGGED_TOKENS = 4096
"""Default maximum number of tokens of an answer in the tagged format."""


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class _Agent(ChatModel):
    """The base of planner and critic.

    Attributes:
        format: *tagged* for the fine-tuned models, *structured* (a JSON schema) for general models.
        guided: whether a grammar constrains the answer to the wire format, with *tagged* on vLLM; the reasoning stays
            unconstrained.
        prompts: source of the prompt templates, see `load_prompts`; None for the built-in ones.
    """

    format: AnswerFormat = "structured"
    guided: bool = False
    prompts: str | None = None
    _role: ClassVar[Literal["planner", "critic"]]

    def __post_init__(self) -> None:
        if self.format == "tagged" and self.max_tokens is None:
            self.max_tokens = TAGGED_TOKENS
        self._conversation = Conversation(self, self._role)
        self._templates = load_prompts(self.prompts)
        _ = self._format("plan"), self._format("verdict")  # cached here, so that no event loop waits for the disk

    async def check(self) -> str:
        """Check that the model can be reached; see `Endpoint.check`."""
        return await self._conversation.check()

    @property
    def conversation(self) -> Conversation:
        """The conversation with the model."""
        return self._conversation

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self._conversation.resource

    def _format(self, kind: AnswerKind) -> str:
        """Return the format instructions for a kind of answer."""
        return answer_format(kind, self.format)

    def _ask(self, parts: list[PromptPart], schema: dict[str, Any]) -> Ask:
        if self.format == "structured":
            return Ask(parts, schema=schema)
        return Ask(parts, extra_body=tagged_grammar(schema) if self.guided else {})


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatPlanner(_Agent):
    """A planner backed by a chat model; see `ChatModel` and `_Agent` for its other settings.

    Attributes:
        omit: phrases that are left out of requests, as a model was trained or evaluated without them.
    """

    omit: list[str] = Field(default_factory=list)
    _role: ClassVar[Literal["planner", "critic"]] = "planner"

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        """Plan the document; see `Planner.plan`."""
        for phrase in self.omit:
            request = request.replace(phrase, "")
        return await self._plan(parse_plan, plan_parts(self._templates, request, images, self._format("plan")))

    async def revise(self, request: str, images: Sequence[Picture], plan: Plan) -> Plan:
        """Revise a plan; see `Reviser.revise`."""
        request_parts, plan_text = interleave_pictures(request, images), write_plan(plan)
        parts = fill(
            self._templates.revision, text_input=request_parts, plan=plan_text, answer_format=self._format("plan")
        )
        return await self._plan(parse_revision, parts)

    async def _plan(self, read: Callable[[str], Plan], parts: list[PromptPart]) -> Plan:
        plan, reasoning = await self._conversation.ask(self._ask(parts, PLAN_SCHEMA), read)
        return plan if plan.reasoning else plan.model_copy(update={"reasoning": reasoning})


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class ChatCritic(_Agent):
    """A critic backed by a vision-capable chat model; see `ChatModel` and `_Agent` for its settings."""

    _role: ClassVar[Literal["planner", "critic"]] = "critic"

    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        """Review a picture; see `Critic.review`."""
        parts = verdict_parts(self._templates, step, prompt, [before, after], self._format("verdict"))
        verdict, reasoning = await self._conversation.ask(self._ask(parts, VERDICT_SCHEMA), parse_verdict)
        return verdict if verdict.reasoning else verdict.model_copy(update={"reasoning": reasoning})
