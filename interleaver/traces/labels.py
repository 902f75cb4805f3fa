"""Second opinions on stored attempts: what a judge or another critic says, kept beside a run and never in it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from interleaver.errors import BadInput
from interleaver.traces.runs import RunStore
from interleaver.types import Exchange, Judgement, Verdict


class Label(BaseModel):
    """What was said of one attempt.

    Attributes:
        step: position in the plan, from 0.
        attempt: from 1.
        image: SHA-256 of the picture that was looked at.
        judgement: a judge's scores; None when it gave none.
        verdicts: a critic's verdicts, one a sample that could be read.
        problems: why scores or samples are missing.
        exchanges: the model calls behind it.
    """

    step: int
    attempt: int
    image: str
    judgement: Judgement | None = None
    verdicts: list[Verdict] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    exchanges: list[Exchange] = Field(default_factory=list)


class Labels(BaseModel):
    """The labels of one run by one labeller.

    Attributes:
        by: whether a judge or a critic looked.
        model: which one.
        samples: how often each attempt was looked at.
    """

    run_id: str
    name: str
    by: Literal["judge", "critic"]
    model: str
    samples: int = 1
    labels: list[Label] = Field(default_factory=list)
    labelled_at: datetime | None = None

    def of(self, step: int, attempt: int, image: str) -> Label | None:
        """The label of an attempt, if it is about this very picture."""
        for label in self.labels:
            if (label.step, label.attempt, label.image) == (step, attempt, image):
                return label
        return None


def read_labels(runs: RunStore, run_id: str, name: str) -> Labels | None:
    """The labels of a name beside a run; None when there are none, or none that can be read."""
    try:
        return Labels.model_validate_json(runs.folder(run_id).read(_file(name)))
    except (OSError, ValidationError):
        return None


def write_labels(runs: RunStore, labels: Labels) -> None:
    """Keep labels beside their run, in place of older ones of the same name."""
    runs.folder(labels.run_id).write(_file(labels.name), labels.model_dump_json(exclude_none=True).encode())


def _file(name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"the name of the labels is {name!r}; use letters, digits, - and _")
    return f"labels/{name}.json"
