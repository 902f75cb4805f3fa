"""What went wrong in a rejected attempt, in a few kinds, read off the words of whoever rejected it."""

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
"""Patterns by kind; the first that is found names the kind."""
_PATTERNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in KINDS.items()}


def failure_kind(said: str) -> str:
    """The kind of a failure: one of `KINDS`, or "other".

    It is a heuristic over the words of the last sentences, where critics say what is wrong after what they see; good
    enough to keep one kind of failure from crowding out the others.
    """
    wrong = said.partition("But ")[2] or said
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.search(wrong)), "other")
