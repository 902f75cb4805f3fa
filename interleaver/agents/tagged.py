"""The tagged wire format used in training: the questions to a fine-tuned planner or critic, and its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from interleaver.agents.prompts import (
    PromptPart,
    PromptSet,
    fill,
    interleave_pictures,
    join_texts,
    template_text,
)
from interleaver.agents.schemas import write_plan
from interleaver.choices import AnswerFormat
from interleaver.types import IMAGE_TAG, ImageRef, Plan, Step, Verdict

AnswerKind = Literal["plan", "verdict"]


def answer_format(kind: AnswerKind, wire_format: AnswerFormat) -> str:
    """Return the instructions for a kind of answer in a wire format.

    Those of the tagged format are what models were trained on, so they stay as they are.
    """
    instructions = template_text(f"{kind}.{wire_format}")
    return f"{instructions}\n{template_text('backslashes')}" if wire_format == "structured" else instructions


def plan_parts(prompts: PromptSet, request: str, images: Sequence[Any], format_instructions: str) -> list[PromptPart]:
    """Return the question to a planner: text, with the pictures (or references to them) in their places."""
    template = prompts.guidance if images else prompts.narrative
    return fill(template, text_input=interleave_pictures(request, images), answer_format=format_instructions)


def verdict_parts(
    prompts: PromptSet, step: Step, prompt: str, pictures: Sequence[Any], format_instructions: str
) -> list[PromptPart]:
    """Return the question to a critic: the pictures before and after the step, then the text."""
    template = prompts.review.lstrip()
    while template.startswith(IMAGE_TAG):  # some copies of the official prompt begin with the two pictures
        template = template.removeprefix(IMAGE_TAG).lstrip()
    parts = fill(
        template,
        instruction=step.goal,
        original_instruction=step.prompt or step.goal,
        rewritten_prompt=prompt,
        answer_format=format_instructions,
    )
    return join_texts([*pictures, "\n", *parts])


def plan_question(prompts: PromptSet, request: str, images: Sequence[ImageRef]) -> str:
    """Return a planner's user turn, with `<image>` tags for the pictures."""
    return _tagged_text(plan_parts(prompts, request, images, template_text("plan.tagged")))


def verdict_question(prompts: PromptSet, step: Step, prompt: str, before: ImageRef, after: ImageRef) -> str:
    """Return a critic's user turn, with `<image>` tags for the two pictures."""
    return _tagged_text(verdict_parts(prompts, step, prompt, [before, after], template_text("verdict.tagged")))


def to_tagged(question: str, kind: AnswerKind) -> str | None:
    """Convert a question from either format to the tagged format.

    Returns:
        The converted question; None if it contains the format instructions of neither, which is the case for a prompt
        set with its own wire format.
    """
    tagged = template_text(f"{kind}.tagged")
    if tagged in question:
        return question
    for structured in (answer_format(kind, "structured"), template_text(f"{kind}.structured")):
        if structured in question:  # the second form is that of former versions
            return question.replace(structured, tagged)
    return None


def plan_answer(plan: Plan) -> str:
    """Return a plan as an answer in the tagged format."""
    return _answer(plan.reasoning, write_plan(plan))


def verdict_answer(verdict: Verdict, prompt: str) -> str:
    """Return a verdict as an answer in the tagged format; an accepting one repeats the prompt that was used."""
    refined_prompt = prompt if verdict.accepted else verdict.refined_prompt or prompt
    fields = {"previous_step_success": verdict.accepted, "refine_prompt": refined_prompt}
    return _answer(verdict.reasoning, json.dumps(fields, ensure_ascii=False))


def _answer(reasoning: str, answer: str) -> str:
    thoughts = reasoning.strip()
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        thoughts = thoughts.replace(tag, "")
    # Trainers treat every <image> in a dataset row as one of the row's pictures.
    return f"<think>\n{thoughts}\n</think>\n<answer>\n{answer}\n</answer>".replace(IMAGE_TAG, "[image]")


def _tagged_text(parts: list[PromptPart]) -> str:
    return "".join(part if isinstance(part, str) else IMAGE_TAG for part in parts)
