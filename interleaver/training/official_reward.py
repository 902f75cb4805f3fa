"""The format rule of the released reward function, for reproducing its training: `scoring.format = "official"`.

It takes answers without reasoning and mends any JSON, so it rewards answers that this package's own reader refuses.
"""

from __future__ import annotations

import re
from typing import Any

from interleaver.extras import require_extra

_SPACED = re.compile(r"\s*([<>/])\s*")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ANSWER_IN_ANY_CASE = re.compile(r"<answer>.*?</answer>", re.DOTALL | re.IGNORECASE)


def official_format(completion: str) -> float:
    """Return 1 if the released rule takes an answer for well-formed, else 0.

    Wanted are an answer block, no `<think>` after its start, and in it anything that can be mended to an object whose
    verdict is a boolean and whose prompt is a text.
    """
    text = _SPACED.sub(r"\1", completion)
    lower_text = text.lower()
    if not _ANSWER_IN_ANY_CASE.search(text) or lower_text.find("<think>") > lower_text.find("<answer>"):
        return 0.0
    answer = _answer_object(text)
    is_well_formed = isinstance(answer.get("previous_step_success"), bool) and isinstance(
        answer.get("refine_prompt"), str
    )
    return float(is_well_formed)


def official_accuracy(completion: str, success: bool) -> float:
    """Return 1 if the verdict equals the judge's, which the released rule compares even in ill-formed answers."""
    return float(_answer_object(_SPACED.sub(r"\1", completion)).get("previous_step_success") == success)


def official_prompt(completion: str, previous: str) -> str:
    """Return the prompt with which the step is redrawn: the answer's, without spaces around `<`, `>` and `/`."""
    prompt = _answer_object(_SPACED.sub(r"\1", completion)).get("refine_prompt")
    return prompt if isinstance(prompt, str) and prompt else previous


def _answer_object(text: str) -> dict[str, Any]:
    """Return the object in the first answer block, mended; empty if there is none."""
    match = _ANSWER.search(text)
    value = require_extra("json_repair", "train").loads(match[1].strip()) if match else None
    return value if isinstance(value, dict) else {}
