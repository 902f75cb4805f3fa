"""The tagged wire format as it is trained: what a fine-tuned planner or critic is asked, and how it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from interleaver.agents.prompts import IMAGE_TAG, Part, PromptSet, fill, joined, text_of, with_pictures
from interleaver.agents.schemas import write_plan
from interleaver.types import ImageRef, Plan, Step, Verdict

Form = Literal["plan", "verdict"]


def plan_parts(prompts: PromptSet, request: str, images: Sequence[Any], answer_format: str) -> list[Part]:
    """What a planner is asked: text, and pictures (or what stands for them) where they belong."""
    template = prompts.guidance if images else prompts.narrative
    return fill(template, text_input=with_pictures(request, images), answer_format=answer_format)


def verdict_parts(
    prompts: PromptSet, step: Step, prompt: str, pictures: Sequence[Any], answer_format: str
) -> list[Part]:
    """What a critic is asked: the pictures before and after, then the question."""
    template = prompts.judging.lstrip()
    while template.startswith(IMAGE_TAG):  # some copies of the official prompt begin with the two pictures
        template = template.removeprefix(IMAGE_TAG).lstrip()
    parts = fill(
        template,
        instruction=step.goal,
        original_instruction=step.prompt or step.goal,
        rewritten_prompt=prompt,
        answer_format=answer_format,
    )
    return joined([*pictures, "\n", *parts])


def plan_question(prompts: PromptSet, request: str, images: Sequence[ImageRef]) -> str:
    """A planner's user turn, with `<image>` tags for the pictures."""
    return _tagged_text(plan_parts(prompts, request, images, text_of("plan.tagged")))


def verdict_question(prompts: PromptSet, step: Step, prompt: str, before: ImageRef, after: ImageRef) -> str:
    """A critic's user turn, with `<image>` tags for the two pictures."""
    return _tagged_text(verdict_parts(prompts, step, prompt, [before, after], text_of("verdict.tagged")))


def as_tagged(question: str, form: Form) -> str | None:
    """A question that was asked in either format, as it is asked in the tagged one.

    Returns:
        None when it is not known to ask for an answer in either; a set of prompts with a form of its own does so.
    """
    tagged, structured = text_of(f"{form}.tagged"), text_of(f"{form}.structured")
    if tagged in question:
        return question
    return question.replace(structured, tagged) if structured in question else None


def plan_answer(plan: Plan) -> str:
    """A plan as the fine-tuned planner answers it."""
    return _answer(plan.reasoning, write_plan(plan))


def verdict_answer(verdict: Verdict, prompt: str) -> str:
    """A verdict as the fine-tuned critic answers it; on success it repeats the prompt that was used."""
    refined = prompt if verdict.accepted else verdict.refined_prompt or prompt
    fields = {"previous_step_success": verdict.accepted, "refine_prompt": refined}
    return _answer(verdict.reasoning, json.dumps(fields, ensure_ascii=False))


def _answer(reasoning: str, answer: str) -> str:
    thought = reasoning.strip()
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        thought = thought.replace(tag, "")
    # Trainers take every <image> in a row for one of its pictures.
    return f"<think>\n{thought}\n</think>\n<answer>\n{answer}\n</answer>".replace(IMAGE_TAG, "[image]")


def _tagged_text(parts: list[Part]) -> str:
    return "".join(part if isinstance(part, str) else IMAGE_TAG for part in parts)
