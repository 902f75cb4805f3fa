"""Classification of rejected attempts into a few kinds of failure, by the words of the critic's reasoning."""

from __future__ import annotations

import re

KINDS = {
    "missing": r"\b(missing|absent|lacks?|is gone|not (there|visible)|nothing new|does(n't| not) show|no [a-z]+(;|$))",
    "count": r"\b(number|count|too many|too few|there (is|are) \d+ and not|\d+ instead of)\b",
    "colour": r"\b(colou?r(s|ed)?|hue|not (red|orange|yellow|green|blue|purple|pink|brown|black|white|gr[ae]y))\b",
    "size": r"\b(sizes?|too (large|small|big|tiny)|larger than|smaller than|not (tiny|small|medium|large|huge))\b",
    "place": r"\b(places?|placed|positions?|positioned|wrong side|location|out of place)\b",
    "damage": r"\b(damaged?|has (moved|turned)|over-?edit\w*|(was|has been|has) changed|nobody asked|unasked|extra)\b",
    "quality": r"\b(smudge|smear\w*|blurr?\w*|art[ei]facts?|distort\w*|deform\w*|broken|noise|unnatural|garbled)\b",
    "text": r"\b(text|letters?|spell\w*|words?|label(s|led)?)\b",
}
"""Patterns by kind; the first one that matches determines the kind."""
_PATTERNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in KINDS.items()}


def failure_kind(reasoning: str) -> str:
    """Return the kind of a failure: one of `KINDS`, or "other".

    This heuristic searches the text after the first "But", where critics say what is wrong after describing what they
    see, or else the whole text. It is accurate enough to keep one kind of failure from crowding out the others.
    """
    problem_text = reasoning.partition("But ")[2] or reasoning
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(problem_text)), "other")
