"""The trace: everything that a run did, independent of where it is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from interleaver import migrations
from interleaver.types import Attempt, Exchange, Failure, ImageRef, Outcome, Plan, Status, Step, StepResult, Text

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of a run id, which is also the name of the run's folder."""


class Trace(BaseModel):
    """A run as data: request, plan, attempts and verdicts, with every exchange with the models word for word.

    Pictures are references into an `ImageStore`.
    """

    format: int = Field(migrations.FORMAT, description="Version of the file format, see `interleaver.migrations`.")
    run_id: str = Field(pattern=NAME, max_length=200)
    source: str = Field("run", description="Kind of source: run, checkpoint, server, langsmith or record.")
    request: Text
    images: list[ImageRef] = Field(default_factory=list, description="The pictures of the request.")
    tags: dict[str, str] = Field(default_factory=dict, description="Tags from the prompt list: category, language ...")
    settings: dict[str, Any] = Field(default_factory=dict, description="The run's `Context`.")
    models: dict[str, str] = Field(default_factory=dict, description="Models of planner, critic and generator.")
    status: Status | Literal["unfinished"]
    failure: Failure | None = None
    plan: Plan
    plan_exchanges: list[Exchange] = Field(default_factory=list)
    plan_seconds: float | None = None
    attempts: list[Attempt] = Field(default_factory=list, description="In the order they were made.")
    drafts: list[Attempt] = Field(default_factory=list, description="Drawings made ahead of their turn and not used.")
    results: list[StepResult | None] = Field(
        default_factory=list, description="One per step of the plan; None for a step that was not reached."
    )
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @model_validator(mode="after")
    def _results_fit_the_plan(self) -> Trace:
        if len(self.results) != len(self.plan.steps):
            raise ValueError(f"there are {len(self.results)} results for {len(self.plan.steps)} steps")
        return self

    @classmethod
    def from_state(cls, values: Mapping[str, Any], run_id: str, source: str, **fields: Any) -> Trace:
        """Create a trace from the state of a run, as checkpoints and servers store it.

        Args:
            values: the channels of the state (see `interleaver.graph.state.RunState`).
            run_id: id of the run.
            source: kind of source that the state was read from.
            fields: further fields of the trace, such as `ended_at`.

        Raises:
            ValueError: the values are not the state of a run (a pydantic `ValidationError` names the invalid field).
        """
        if not isinstance(values.get("plan"), Mapping) or "settings" not in values:
            raise ValueError("it has no plan or no settings, so it is not a run of this graph")
        plan = Plan.model_validate(values["plan"])
        results = values.get("results") or {}
        status = values.get("status")
        values = migrations.migrate_state(values)
        defaults = {"images": values.get("request_images") or [], "models": _models(values)}
        return cls.model_validate(
            defaults
            | fields
            | {
                "run_id": run_id,
                "source": source,
                "request": values.get("request") or "",
                "settings": values["settings"],
                "status": "unfinished" if status in (None, "running") else status,
                "failure": values.get("failure"),
                "plan": plan,
                "plan_exchanges": values.get("plan_exchanges") or [],
                "plan_seconds": values.get("plan_seconds"),
                "attempts": list((values.get("attempts") or {}).values()),
                "drafts": [draft for draft in (values.get("drafts") or {}).values() if draft.get("discarded")],
                "results": [results.get(str(position)) for position in range(len(plan.steps))],
            }
        )

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.settings.get("seed", 0))

    def attempts_at(self, position: int) -> list[Attempt]:
        """Return the attempts at the step with a position in the plan, from 0."""
        return [attempt for attempt in self.attempts if attempt.step == position]

    def step_of(self, attempt: Attempt) -> Step | None:
        """Return the step that an attempt belongs to; None when the plan has no such step."""
        return self.plan.steps[attempt.step] if attempt.step < len(self.plan.steps) else None

    def outcome(self, position: int) -> Outcome | None:
        """Return how a step ended; None when it was not reached."""
        result = self.results[position] if position < len(self.results) else None
        return result.outcome if result else None

    def exchanges(self) -> list[Exchange]:
        """Return all chat model calls of the run: those for the plan, the attempts and the drafts."""
        return self.plan_exchanges + [
            exchange for attempt in [*self.attempts, *self.drafts] for exchange in attempt.exchanges
        ]

    def images_by_hash(self) -> dict[str, ImageRef]:
        """Return every picture that the trace refers to, by its SHA-256."""
        attempts = [*self.attempts, *self.drafts]
        refs = [
            *self.images,
            *(ref for attempt in attempts for ref in attempt.sources),
            *(attempt.image for attempt in attempts if attempt.image),
            *(ref for exchange in self.exchanges() for ref in exchange.images),
        ]
        return {ref.sha256: ref for ref in refs}


def _models(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the model of each role that occurs in the exchanges."""
    exchanges = list(values.get("plan_exchanges") or [])
    for attempt in (values.get("attempts") or {}).values():
        exchanges += attempt.get("exchanges") or []
    return {exchange["role"]: exchange["model"] for exchange in exchanges}


def run_name_from(text: str) -> str:
    """Return a valid run id for a name from another source; different names give different ids."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:120]
    return plain if plain == text else f"{plain or 'run'}-{sha256(text.encode()).hexdigest()[:8]}"


class SkippedRecord(BaseModel):
    """Something that could not be read or used, and why.

    Attributes:
        name: name of the run, file or row.
        reason: kind of problem, in the same words for all records with that problem.
        detail: description of this particular problem.
    """

    name: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}: {self.detail}"


def read_trace(data: bytes, name: str) -> Trace | SkippedRecord:
    """Read a trace from its JSON.

    Args:
        data: JSON of one trace, from a run store or an export.
        name: name of the record if it cannot be read.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    from interleaver.errors import explain

    try:
        data_fields = from_json(data)
    except ValueError as error:
        return SkippedRecord(name=name, reason="truncated or damaged record", detail=str(error))
    if not isinstance(data_fields, dict) or "plan" not in data_fields:
        return SkippedRecord(name=name, reason="not a trace", detail="it has no plan")
    data_fields = migrations.migrate_trace(data_fields)
    if data_fields.get("format") != migrations.FORMAT:
        detail = (
            f"it has format {migrations.format_of(data_fields)!r}; this version of interleaver reads formats 1 to "
            f"{migrations.FORMAT}; read it with a newer version"
        )
        return SkippedRecord(name=name, reason="trace of another format", detail=detail)
    try:
        return Trace.model_validate(data_fields)
    except ValidationError as error:
        return SkippedRecord(name=name, reason="invalid trace", detail=explain(error))
