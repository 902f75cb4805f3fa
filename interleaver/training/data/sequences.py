"""Interleaved sequences, for training models that generate both text and pictures.

A sequence begins with `<gthink>`, the planner's reasoning. Each step then has `<plan>`, the prompt of its picture;
`<image>`, the index of the picture among the row's pictures, from 0; and `<info>`, the text for the reader. *Hard*
sequences contain every attempt, each followed by `<critic>` with the critic's reasoning and verdict.
"""

from __future__ import annotations

import json
import re

from interleaver.traces.trace import Trace
from interleaver.types import Attempt, ImageRef

TAGS = ("gthink", "plan", "image", "info", "critic", "think")
_TAG = re.compile(rf"<(/?(?:{'|'.join(TAGS)}))>", re.IGNORECASE)


def sequence_of(trace: Trace, hard: bool) -> tuple[str, list[ImageRef]]:
    """Return a run as one interleaved sequence of text and pictures.

    Args:
        trace: trace of a run in which every step was accepted.
        hard: whether to include rejected attempts and the critic's verdicts.

    Returns:
        The text, and the references to its pictures; those of the request come first.
    """
    images = list(trace.images)
    parts = [_tagged("gthink", trace.plan.reasoning)]
    for position, step in enumerate(trace.plan.steps):
        result = trace.results[position]
        attempts = trace.attempts_at(position)
        kept_attempts = [attempt for attempt in attempts if result and attempt.attempt == result.attempt]
        if step.draws and kept_attempts:
            shown_attempts = (
                [attempt for attempt in attempts if attempt.image and attempt.attempt <= kept_attempts[0].attempt]
                if hard
                else kept_attempts
            )
            parts.append(_tagged("plan", shown_attempts[0].prompt))
            for attempt in shown_attempts:
                parts.append(f"<image>{len(images)}</image>")
                assert attempt.image is not None
                images.append(attempt.image)
                if hard and attempt.verdict:
                    parts.append(_criticism(attempt))
        if step.text:
            parts.append(_tagged("info", step.text))
    return "".join(parts), images


def _criticism(attempt: Attempt) -> str:
    verdict = attempt.verdict
    assert verdict is not None
    refined_prompt = attempt.prompt if verdict.accepted else verdict.refined_prompt or attempt.prompt
    fields = {"previous_step_success": verdict.accepted, "refine_prompt": _escape_tags(refined_prompt)}
    return f"<critic>{_tagged('think', verdict.reasoning)}{json.dumps(fields, ensure_ascii=False)}</critic>"


def _tagged(tag: str, text: str) -> str:
    return f"<{tag}>{_escape_tags(text.strip())}</{tag}>"


def _escape_tags(text: str) -> str:
    """Return the text with the tags of sequences neutralised, so that it cannot open or close one."""
    return _TAG.sub(r"[\1]", text)
