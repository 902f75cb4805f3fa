"""The dataset card: where a dataset comes from, what was left out, and what it looks like."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, Field

from interleaver.training.data.rows import Row
from interleaver.training.data.writers import Format, Read

SAMPLES = 6
SIDE = 256


class Report(BaseModel):
    """What an export did, beside the dataset as `dataset.json`.

    Attributes:
        sources: the addresses that were read.
        traces: how many were read, and how many gave at least one row.
        skipped: what could not be read or used, by reason; the first ones of each are in `skipped_examples`.
        dropped: parts of traces and rows that the rules left out, by reason.
        splits: rows and requests of each split.
        groups: rows by group, before the selection and in each split.
        models: who was planner, critic and generator, and in how many of the traces.
        fingerprint: SHA-256 over the rows in their order: equal for equal data.
    """

    kind: str
    format: Format
    version: str
    made_at: str
    sources: list[str]
    rules: dict[str, Any]
    selection: dict[str, Any]
    traces: int = 0
    traces_used: int = 0
    candidates: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)
    skipped_examples: dict[str, list[str]] = Field(default_factory=dict)
    dropped: dict[str, int] = Field(default_factory=dict)
    splits: dict[str, dict[str, int]] = Field(default_factory=dict)
    groups: dict[str, dict[str, int]] = Field(default_factory=dict)
    models: dict[str, int] = Field(default_factory=dict)
    fingerprint: str = ""


class Sample(BaseModel):
    """A row as the card shows it: the paths of its small pictures, and its texts."""

    pictures: list[str]
    title: str
    asked: str
    answer: str


def take_sample(row: Row, number: int, folder: Path, read: Read) -> Sample:
    """Write the small pictures of a row below the dataset's folder."""
    pictures = []
    for index, ref in enumerate(row.images[:8], start=1):
        name = f"samples/{number}-{index}.webp"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_small(read(ref)))
        pictures.append(name)
    asked = row.rewritten_prompt or row.request
    answer = row.answer
    if row.truth:
        truth = row.truth
        answer = f"success {truth.success}, semantics {truth.semantics:g}, quality {truth.quality:g}"
    return Sample(pictures=pictures, title=row.group or "row", asked=asked, answer=answer)


def _small(data: bytes) -> bytes:
    from PIL import Image

    from interleaver.pictures import flatten

    with Image.open(io.BytesIO(data)) as image:
        small = flatten(image)
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP")
    return buffer.getvalue()


def write_card(report: Report, samples: list[Sample], folder: Path) -> None:
    """Write `README.md` and `dataset.json`."""
    environment = Environment(
        loader=PackageLoader("interleaver.training.data"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("card.md").render(report=report, samples=samples)
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "dataset.json").write_text(
        json.dumps(report.model_dump(), indent=2, ensure_ascii=False), encoding="utf-8"
    )
