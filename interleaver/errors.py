"""The exceptions of this package. Every message says what is wrong and how to fix it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from interleaver.types import plain_text


class InterleaverError(Exception):
    """Base class of all errors that this package raises on purpose; `str(error)` is a single line.

    Messages may quote what a model or a caller sent, and end up in files, so they are cleaned like all texts.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*map(plain_text, arguments))


class BadInput(InterleaverError, ValueError):
    """A request, picture, setting or option cannot be used as given."""


class BackendError(InterleaverError):
    """A backend failed on this input; retrying will not help."""


class BackendUnavailable(BackendError):
    """A backend could not be reached; retrying later may succeed.

    Attributes:
        retry_after: seconds to wait before retrying, as the server requested; None if it requested none.
        busy: whether the backend works but has too much to do.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, busy: bool | None = None):
        super().__init__(message)
        self.retry_after = retry_after
        self.busy = retry_after is not None if busy is None else busy


class Refusal(BackendError):
    """A model declined to answer, or a content filter blocked its answer; retrying will not help."""


class UnreadableAnswer(BackendError, ValueError):
    """A model's answer is empty, truncated, or otherwise not the plan, verdict or picture it should be."""


def redact_password(address: str) -> str:
    """Return an address with its password replaced by `***`."""
    url_part = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", address)
    return re.sub(r"password=[^&\s]+", "password=***", url_part)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a hint at the choice closest to a misspelt word, as " (did you mean 'seed'?)"; "" if none is close."""
    near = get_close_matches(word, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def edit_distance(first: str, second: str) -> int:
    """Return the Levenshtein distance: how many letters must be inserted, removed or replaced to make both equal."""
    row = list(range(len(second) + 1))
    for count, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], count
        for column, other in enumerate(second, start=1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (letter != other))
    return row[-1]


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return the first problem of a validation error in one line: the field and what is wrong.

    Args:
        error: the validation error.
        model: the model that was validated; if given, an unknown field is reported together with the valid ones.
    """
    problem = error.errors()[0]
    if not problem["loc"]:  # raised by a validator of the whole model
        return str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
    *parents, name = (str(part) for part in problem["loc"])
    field = ".".join([*parents, name])
    if problem["type"] == "value_error":  # raised by a validator of ours, which knows whether the value is secret
        return f"{field}: {problem['ctx']['error']}"
    if problem["type"] != "extra_forbidden":
        return f"{field}: {problem['msg']} (it is {problem['input']!r})"
    if model is None:
        return f"{field}: unknown field"
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    valid = list(model.model_fields)
    return f"{field}: unknown field{did_you_mean(name, valid)}; valid fields: {', '.join(valid)}"
