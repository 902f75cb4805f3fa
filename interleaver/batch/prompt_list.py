"""Prompt lists: their rows, and the batch items made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from interleaver.errors import BadInput, explain
from interleaver.text_files import read_text_file
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
        line: line number in the prompt list, from 1; in a JSON array the number of the element.
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
    """A row of a prompt list that cannot be used, and why."""

    line: int
    problem: str


def read_items(
    path: Path, seed: int, repeat: int = 1, outside_pictures: bool = False
) -> Iterator[BatchItem | UnusableRow]:
    """Read a prompt list: a JSON Lines file with one `PromptRow` per line, or a JSON array of them.

    Args:
        path: path of the list.
        seed: seed for rows that have none.
        repeat: number of runs per row, with consecutive seeds.
        outside_pictures: whether rows may name pictures outside of the list's folder, which may come from a stranger.

    Raises:
        BadInput: the list cannot be read.
    """
    try:
        text = read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prompt list {str(path)!r} cannot be read: {error}") from None
    for number, row in _read_rows(text):
        if isinstance(row, str):
            yield UnusableRow(line=number, problem=row)
            continue
        first_seed = seed if row.seed is None else row.seed
        outside = [image for image in row.images if not outside_pictures and not _is_inside(path.parent, image)]
        if outside:
            problem = f"the picture {outside[0]!r} is not a file below the list's folder; --outside-pictures allows it"
            yield UnusableRow(line=number, problem=problem)
            continue
        images = [str(path.parent / image) for image in row.images]
        for repetition in range(repeat):
            yield BatchItem(
                line=number, request=row.request, images=images, tags=row.tags, seed=(first_seed + repetition) % 2**31
            )


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a name leads to a place below a folder, through no link out of it, and to no device."""
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(folder.resolve()) and (path.is_file() or not path.exists())
    except (OSError, ValueError, RuntimeError):  # a name that is too long, a NUL, a circle of links
        return False


def _read_rows(text: str) -> Iterator[tuple[int, PromptRow | str]]:
    """Yield the number of each row with its content, or with the reason why it cannot be used."""
    array = _read_array(text)
    if array is not None:
        for number, value in enumerate(array, start=1):
            yield number, _read_row(value)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, _read_row(from_json(line))
            except ValueError as error:
                yield number, f"it is not valid JSON: {error}"


def _read_array(text: str) -> list[Any] | None:
    """Return the elements of a text that is one JSON array; None if it is anything else, such as lines of JSON."""
    try:
        value = from_json(text) if text.lstrip().startswith("[") else None
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _read_row(value: Any) -> PromptRow | str:
    if not isinstance(value, dict):
        return f'a row is an object such as {{"request": "a red circle"}}; this one is {json.dumps(value)[:60]}'
    try:
        return PromptRow.model_validate(value)
    except ValidationError as error:
        return explain(error, PromptRow)
