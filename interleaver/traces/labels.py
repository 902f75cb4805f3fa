"""Labels of stored attempts by a judge or another critic, stored beside the trace of a run and never in it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from interleaver import migrations
from interleaver.errors import BadInput
from interleaver.traces.runs import RunStore
from interleaver.types import Exchange, Scores, Verdict


class Label(BaseModel):
    """The label of one attempt.

    Attributes:
        step: position of the step in the plan, from 0.
        attempt: number of the attempt at its step, from 1.
        image: SHA-256 of the labelled picture.
        scores: scores of a judge; None if it gave none.
        verdicts: verdicts of a critic, one per sample that could be read.
        problems: why scores or verdicts are missing.
        exchanges: the model calls behind the label.
    """

    step: int
    attempt: int
    image: str
    scores: Scores | None = None
    verdicts: list[Verdict] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    exchanges: list[Exchange] = Field(default_factory=list)


class Labels(BaseModel):
    """The labels of one run by one labeller.

    Attributes:
        by: whether a judge or a critic labelled the run.
        model: backend and model of the labeller.
        samples: number of verdicts requested per attempt.
    """

    format: int = migrations.FORMAT
    run_id: str
    name: str
    by: Literal["judge", "critic"]
    model: str
    samples: int = 1
    labels: list[Label] = Field(default_factory=list)
    labelled_at: datetime | None = None

    def of(self, step: int, attempt: int, image: str) -> Label | None:
        """Return the label of an attempt at a step; None if there is none for the picture with this SHA-256."""
        for label in self.labels:
            if (label.step, label.attempt, label.image) == (step, attempt, image):
                return label
        return None


def read_labels(runs: RunStore, run_id: str, name: str) -> Labels | None:
    """Return the labels of a run with a name; None if they are missing or cannot be read."""
    try:
        data = json.loads(runs.folder(run_id).read(_file(name)))
        return Labels.model_validate(migrations.migrate_labels(data))
    except (OSError, ValueError):
        return None


def write_labels(runs: RunStore, labels: Labels) -> None:
    """Write labels beside their run, replacing older ones of the same name."""
    runs.folder(labels.run_id).write(_file(labels.name), labels.model_dump_json(exclude_none=True).encode())


def _file(name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"the name of the labels is {name!r}; use only letters, digits, - and _")
    return f"labels/{name}.json"
