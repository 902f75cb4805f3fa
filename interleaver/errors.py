"""The errors that callers may want to tell apart. Every message says what was wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InterleaverError(Exception):
    """Base of all errors raised on purpose by this package; `str(error)` is one clear line."""


class BadInput(InterleaverError, ValueError):
    """The request, a picture, a setting or an option cannot be used as given."""


class BackendError(InterleaverError):
    """A planner, generator or critic could not do its work on this input; asking again will not help."""


class BackendUnavailable(BackendError):
    """A planner, generator or critic could not be reached; the same call may succeed later."""


class UnreadableAnswer(BackendError, ValueError):
    """A model answered something that is not a plan or a verdict."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint at the choice nearest to a misspelt word: " (did you mean 'seed'?)", or "" when none is near."""
    near = get_close_matches(word, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
