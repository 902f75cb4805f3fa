"""The dataset card: sources of a dataset, rows that were left out, statistics and samples."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from interleaver import migrations
from interleaver.choices import DatasetFormat
from interleaver.rendering.templates import render_template
from interleaver.training.data.rows import TrainingRow
from interleaver.training.data.writers import ReadPicture

SAMPLES = 6
SAMPLE_SIDE = 256


class DatasetReport(BaseModel):
    """The report of a dataset build, written to `dataset.json` in the dataset's folder.

    Attributes:
        format: format version of this file.
        kind: kind of dataset.
        dataset_format: format of the data files, named after the trainer that reads them.
        version: version of interleaver that built the dataset.
        made_at: date and time of the build, in UTC.
        sources: addresses of the trace sources, without passwords.
        rules: the `RowRules` of the build.
        selection: the `Selection` of the build.
        traces: number of traces that were read.
        traces_used: number of traces that gave at least one row.
        candidates: number of rows before the selection.
        skipped: number of records and rows that could not be read or used, by reason.
        skipped_examples: names of the first skipped records and rows, by reason.
        dropped: number of trace parts and rows that the rules or the selection left out, by reason.
        neutralised: number of rows with texts that looked like special tokens and were changed.
        splits: number of rows and of requests in each split.
        groups: number of rows per group, before the selection ("candidates") and in each split.
        models: number of traces per role and model, with keys such as "planner: NAME".
        fingerprint: SHA-256 over the rows in order; equal datasets have equal fingerprints.
    """

    format: int = migrations.FORMAT
    kind: str
    dataset_format: DatasetFormat
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
    neutralised: int = 0
    splits: dict[str, dict[str, int]] = Field(default_factory=dict)
    groups: dict[str, dict[str, int]] = Field(default_factory=dict)
    models: dict[str, int] = Field(default_factory=dict)
    fingerprint: str = ""


class CardSample(BaseModel):
    """A row as the dataset card shows it.

    Attributes:
        pictures: paths of the thumbnails, relative to the dataset's folder.
        title: heading of the sample, the row's group.
        question: prompt of the attempt, or the request.
        answer: answer of the row, or its ground truth.
    """

    pictures: list[str]
    title: str
    question: str
    answer: str


def take_sample(row: TrainingRow, number: int, folder: Path, read: ReadPicture) -> CardSample:
    """Write thumbnails of a row's pictures to `samples/` in the dataset's folder, and return the row as a sample.

    Args:
        row: row to show.
        number: number of the sample, used in the file names.
        folder: folder of the dataset.
        read: returns a picture.
    """
    pictures = []
    for index, ref in enumerate(row.images[:8], start=1):
        name = f"samples/{number}-{index}.webp"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_small(read(ref).data))
        pictures.append(name)
    question = row.rewritten_prompt or row.request
    answer = row.answer
    if row.truth:
        truth = row.truth
        answer = f"success {truth.success}, semantics {truth.semantics:g}, quality {truth.quality:g}"
    return CardSample(pictures=pictures, title=row.group or "row", question=question, answer=answer)


def _small(data: bytes) -> bytes:
    from PIL import Image

    from interleaver.pictures import flatten

    with Image.open(io.BytesIO(data)) as image:
        small = flatten(image)
    small.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP")
    return buffer.getvalue()


def write_card(report: DatasetReport, samples: list[CardSample], folder: Path) -> None:
    """Write `README.md` (the dataset card) and `dataset.json` (the report) to the dataset's folder."""
    text = render_template("interleaver.training.data", "card.md", report=report, samples=samples)
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "dataset.json").write_text(
        json.dumps(report.model_dump(), indent=2, ensure_ascii=False), encoding="utf-8"
    )
