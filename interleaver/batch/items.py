"""The rows of a prompt list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.traces.runs import slug_of


class Row(BaseModel):
    """A line of a prompt list."""

    model_config = ConfigDict(extra="forbid")

    request: str = Field(min_length=1)
    images: list[str] = Field(default_factory=list, description="Files, relative to the list.")
    tags: dict[str, str] = Field(default_factory=dict, description="What to remember: category, language ...")
    seed: int | None = Field(None, ge=0, lt=2**31)


class Item(BaseModel):
    """One run that is to be made.

    Attributes:
        line: where it stands in the prompt list, from 1.
        images: the files of its pictures.
        seed: of the run.
    """

    line: int
    request: str
    images: list[str]
    tags: dict[str, str]
    seed: int

    def key(self) -> tuple[str, tuple[str, ...], int]:
        """What tells items apart; two with the same key would be one run."""
        return self.request, tuple(self.images), self.seed

    def run_id(self, pictures: list[str]) -> str:
        """The name of the run, made from what it is about, so that any process knows whether it was made.

        Args:
            pictures: the SHA-256 of its pictures.
        """
        told = json.dumps([self.request, pictures, self.seed])
        return f"{slug_of(self.request)}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


class BadRow(BaseModel):
    """A line that cannot be used, and why."""

    line: int
    problem: str


def read_items(path: Path, seed: int, repeat: int = 1) -> Iterator[Item | BadRow]:
    """Read a prompt list, JSON Lines with one `Row` each.

    Args:
        path: the list.
        seed: of the runs whose row has none.
        repeat: how many runs each row gets; their seeds count up.

    Raises:
        BadInput: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prompts {str(path)!r} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            yield BadRow(line=number, problem=explain(error, Row))
            continue
        first = seed if row.seed is None else row.seed
        images = [str(path.parent / image) for image in row.images]
        for again in range(repeat):
            yield Item(line=number, request=row.request, images=images, tags=row.tags, seed=(first + again) % 2**31)
