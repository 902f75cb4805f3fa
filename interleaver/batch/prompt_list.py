"""Prompt lists: their rows, and the batch items made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.traces.runs import slug_of


class PromptRow(BaseModel):
    """A line of a prompt list."""

    model_config = ConfigDict(extra="forbid")

    request: str = Field(min_length=1)
    images: list[str] = Field(default_factory=list, description="Picture files, relative to the list.")
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of the run, such as category or language.")
    seed: int | None = Field(None, ge=0, lt=2**31)


class BatchItem(BaseModel):
    """A run to be made.

    Attributes:
        line: line number in the prompt list, from 1.
        images: paths of the request's pictures, or references to the image store (see `workers.STORED_PREFIX`).
        seed: seed of the run.
    """

    line: int
    request: str
    images: list[str]
    tags: dict[str, str]
    seed: int

    def key(self) -> tuple[str, tuple[str, ...], int]:
        """Return the key of the item; items with equal keys are the same run."""
        return self.request, tuple(self.images), self.seed

    def run_id(self, pictures: list[str]) -> str:
        """Return the id of the run, derived from its content, so that any process can tell whether it exists.

        Args:
            pictures: SHA-256 of each picture of the request.
        """
        content = json.dumps([self.request, pictures, self.seed])
        return f"{slug_of(self.request)}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


class UnusableRow(BaseModel):
    """A line of a prompt list that cannot be used, and why."""

    line: int
    problem: str


def read_items(path: Path, seed: int, repeat: int = 1) -> Iterator[BatchItem | UnusableRow]:
    """Read a prompt list, a JSON Lines file with one `PromptRow` per line.

    Args:
        path: path of the list.
        seed: seed for rows that have none.
        repeat: number of runs per row, with consecutive seeds.

    Raises:
        BadInput: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prompt list {str(path)!r} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = PromptRow.model_validate_json(line)
        except ValidationError as error:
            yield UnusableRow(line=number, problem=explain(error, PromptRow))
            continue
        first_seed = seed if row.seed is None else row.seed
        images = [str(path.parent / image) for image in row.images]
        for repetition in range(repeat):
            yield BatchItem(
                line=number, request=row.request, images=images, tags=row.tags, seed=(first_seed + repetition) % 2**31
            )
