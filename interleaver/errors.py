"""The errors that callers may want to tell apart. Every message says what was wrong and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError


class InterleaverError(Exception):
    """Base of all errors raised on purpose by this package; `str(error)` is one clear line."""


class BadInput(InterleaverError, ValueError):
    """The request, a picture, a setting or an option cannot be used as given."""


class BackendError(InterleaverError):
    """A planner, generator or critic could not do its work on this input; asking again will not help."""


class BackendUnavailable(BackendError):
    """A planner, generator or critic could not be reached; the same call may succeed later.

    Attributes:
        retry_after: seconds that the other side asked to be left alone; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class Refused(BackendError):
    """A model declined to answer, or a content filter kept its answer back; asking again will not help."""


class UnreadableAnswer(BackendError, ValueError):
    """A model answered something that is not a plan, a verdict or a picture: nothing, half of it, or something else."""


def shown(address: str) -> str:
    """An address as it may be told: without its password."""
    without = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", address)
    return re.sub(r"password=[^&\s]+", "password=***", without)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint at the choice nearest to a misspelt word: " (did you mean 'seed'?)", or "" when none is near."""
    near = get_close_matches(word, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first problem of a validation error in one line: the field and what is wrong.

    With the `model` that was validated, an unknown field comes with the valid ones.
    """
    problem = error.errors()[0]
    if not problem["loc"]:  # raised by the model's own checks
        return str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
    *parents, name = (str(part) for part in problem["loc"])
    where = ".".join([*parents, name])
    if problem["type"] == "value_error":  # raised by a check of our own, which says of the value what may be said
        return f"{where}: {problem['ctx']['error']}"
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']} (it is {problem['input']!r})"
    if model is None:
        return f"{where}: unknown field"
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    valid = list(model.model_fields)
    return f"{where}: unknown field{did_you_mean(name, valid)}; valid fields: {', '.join(valid)}"
