r"""Backslashes that a model wrote singly: LaTeX and Windows paths in texts that were parsed as if `\f` were an escape.

A model that writes `\frac` where JSON wants `\\frac` means no form feed. What can be told apart is restored: control
characters that no document has, and line feeds and tabs in front of what remains of a LaTeX command. Where a command
could as well be a new line and a word (`\nu`), the rest of the answer decides.
"""

from __future__ import annotations

import re
from typing import Any

ESCAPED = {"\a": "a", "\b": "b", "\f": "f", "\v": "v"}
"""Control characters that no document has, by the letter behind the backslash of their escape."""
COMMANDS = {
    "\n": "nabla natural nearrow neq newline ngeq nleftarrow nleq nonumber not notin nrightarrow nsubseteq nwarrow",
    "\r": "rangle rbrace rbrack rceil ref rfloor rho rightarrow rm rVert rvert",
    "\t": "tau tbinom tfrac therefore theta times textbf textit textrm textsc textstyle texttt tilde"
    " tanh thinspace triangle triangleq",
}
"""LaTeX commands that begin with the letter of an escape, and that cannot be a blank and a word."""
AMBIGUOUS_COMMANDS = {"\n": "nu ne neg ni", "\t": "to top tan tt"}
"""Commands whose remainder is a letter or a word."""
MATHEMATICAL_COMMANDS = {"\n": "nexists nmid nparallel", "\r": "right root rule", "\t": "tag text"}
"""Commands whose remainder is a word of plain text, so that only their place among mathematics tells."""

_SINGLE = re.compile(r'(?<!\\)(?:\\\\)*\\(?!["\\/bfnrtu\'\s`])')
_MATHS = re.compile(r"(\$\$?|\\\(|\\\[)(.{0,2000}?)(\$\$?|\\\)|\\\])", re.DOTALL)
_CONTROL = r"[\n\r\t\a\b\f\v\\]"
_PATH = re.compile(rf"\b[A-Za-z]:(?:{_CONTROL}[\w.~-]+(?:(?: [\w.~-]+)+(?={_CONTROL}))?)+")


def _patterns(commands: dict[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Return for each control character the pattern of what remains of its commands, and its letter."""
    result = []
    for character, words in commands.items():
        remainders = "|".join(sorted((word[1:] for word in words.split()), key=len, reverse=True))
        result.append((re.compile(rf"{character}(?=(?:{remainders})(?![A-Za-z]))"), words[0]))
    return result


_CERTAIN, _POSSIBLE = _patterns(COMMANDS), _patterns(AMBIGUOUS_COMMANDS)
_MATHEMATICAL = [*_POSSIBLE, *_patterns(MATHEMATICAL_COMMANDS)]


def restore_backslashes(value: Any, answer: str) -> Any:
    """Return a parsed value with the backslashes of its texts restored.

    Args:
        value: what was read from the answer: a text, or lists and dicts of texts.
        answer: the raw answer.
    """
    return _restore(value, bool(_SINGLE.search(answer)) or _has_lost_commands(value))


def _restore(value: Any, is_single: bool) -> Any:
    if isinstance(value, str):
        return _restore_text(value, is_single)
    if isinstance(value, dict):
        return {key: _restore(inner, is_single) for key, inner in value.items()}
    return [_restore(inner, is_single) for inner in value] if isinstance(value, list) else value


def _has_lost_commands(value: Any) -> bool:
    """Return whether a text has certain remains of a command, so that its author does not double backslashes."""
    if isinstance(value, str):
        return _restore_text(value, False) != value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_lost_commands(one) for one in inner)


def _restore_text(text: str, is_single: bool) -> str:
    if not any(character in text for character in (*ESCAPED, *COMMANDS)):
        return text
    text = _PATH.sub(lambda match: _restore_path(match[0], is_single), text)
    for character, letter in ESCAPED.items():
        text = re.sub(rf"{character}(?=[A-Za-z])", rf"\\{letter}", text)
    text = _substitute([*_CERTAIN, *_POSSIBLE] if is_single else _CERTAIN, text)
    return _MATHS.sub(lambda match: match[1] + _substitute(_MATHEMATICAL, match[2]) + match[3], text)


def _substitute(patterns: list[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, letter in patterns:
        text = pattern.sub(rf"\\{letter}", text)
    return text


def _restore_path(path: str, is_single: bool) -> str:
    """Return a Windows path with its backslashes; a letter, a colon and lines of text stay as they are."""
    if not any(character in path for character in (*ESCAPED, "\\", *("\t" if is_single else ""))):
        return path
    for character, letter in {**ESCAPED, "\n": "n", "\r": "r", "\t": "t"}.items():
        path = path.replace(character, f"\\{letter}")
    return path
