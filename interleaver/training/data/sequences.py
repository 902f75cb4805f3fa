"""Interleaved sequences, for training models that write and draw themselves.

`<gthink>` holds the thoughts about the whole, then for each step `<plan>` what is to be drawn, `<image>` which picture
it became (its place in the row's pictures, from 0) and `<info>` the text for the reader. *Hard* sequences have every
attempt, each followed by `<critic>` with its thoughts and its verdict.
"""

from __future__ import annotations

import json
import re

from interleaver.traces.trace import Trace
from interleaver.types import Attempt, ImageRef

TAGS = ("gthink", "plan", "image", "info", "critic", "think")
_TAG = re.compile(rf"<(/?(?:{'|'.join(TAGS)}))>", re.IGNORECASE)


def sequence_of(trace: Trace, hard: bool) -> tuple[str, list[ImageRef]]:
    """A run in which every step was accepted, as one text with pictures.

    Args:
        trace: the run.
        hard: with rejected attempts and what the critic said of each.

    Returns:
        The text, and its pictures; those of the request come first.
    """
    images = list(trace.images)
    parts = [_tagged("gthink", trace.plan.reasoning)]
    for position, step in enumerate(trace.plan.steps):
        result = trace.results[position]
        attempts = trace.attempts_at(position)
        kept = [one for one in attempts if result and one.attempt == result.attempt]
        if step.draws and kept:
            shown = [one for one in attempts if one.image and one.attempt <= kept[0].attempt] if hard else kept
            parts.append(_tagged("plan", shown[0].prompt))
            for attempt in shown:
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
    refined = attempt.prompt if verdict.accepted else verdict.refined_prompt or attempt.prompt
    fields = {"previous_step_success": verdict.accepted, "refine_prompt": _defused(refined)}
    return f"<critic>{_tagged('think', verdict.reasoning)}{json.dumps(fields, ensure_ascii=False)}</critic>"


def _tagged(tag: str, text: str) -> str:
    return f"<{tag}>{_defused(text.strip())}</{tag}>"


def _defused(text: str) -> str:
    """A text that cannot open or close a tag of the sequence."""
    return _TAG.sub(r"[\1]", text)
