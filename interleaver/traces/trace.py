"""The trace: everything that a run did, whatever it is read from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from interleaver.types import Attempt, Exchange, Failure, ImageRef, Outcome, Plan, Status, Step, StepResult

VERSION = 1
"""The version of the format; it changes when a reader of the last one would misunderstand it."""


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a run may be called, since its folder has its name."""


class Trace(BaseModel):
    """A run as data: what was asked, planned, drawn and judged, and every word that was said to models.

    Pictures are references into an `ImageStore`.
    """

    version: int = Field(VERSION, description="Of this format.")
    run_id: str = Field(pattern=NAME, max_length=200)
    source: str = Field("run", description="What it was read from: run, checkpoint, server, langsmith or record.")
    request: str
    images: list[ImageRef] = Field(default_factory=list, description="The pictures of the request.")
    tags: dict[str, str] = Field(default_factory=dict, description="What the prompt list said: category, language ...")
    settings: dict[str, Any] = Field(default_factory=dict, description="The run's `Context`.")
    models: dict[str, str] = Field(default_factory=dict, description="Who was planner, critic and generator.")
    status: Status | Literal["unfinished"]
    failure: Failure | None = None
    plan: Plan
    plan_exchanges: list[Exchange] = Field(default_factory=list)
    plan_seconds: float | None = None
    attempts: list[Attempt] = Field(default_factory=list, description="In the order they were made.")
    drafts: list[Attempt] = Field(default_factory=list, description="Drawings made ahead of their turn and not used.")
    results: list[StepResult | None] = Field(
        default_factory=list, description="One a step of the plan; None for a step that was not reached."
    )
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @model_validator(mode="after")
    def _results_fit_the_plan(self) -> Trace:
        if len(self.results) != len(self.plan.steps):
            raise ValueError(f"there are {len(self.results)} results of {len(self.plan.steps)} steps")
        return self

    @classmethod
    def from_state(cls, values: Mapping[str, Any], run_id: str, source: str, **told: Any) -> Trace:
        """Read the state of a run, as any checkpoint or server holds it.

        Args:
            values: the channels of the state (see `interleaver.graph.state.RunState`).
            run_id: what to call the trace.
            source: what it was read from.
            told: further fields that are known of the run.

        Raises:
            ValueError: these are not the values of a run (a pydantic `ValidationError` names the field).
        """
        if not isinstance(values.get("plan"), Mapping) or "settings" not in values:
            raise ValueError("it holds no plan and no settings, so it is not a run of this graph")
        plan = Plan.model_validate(values["plan"])
        results = values.get("results") or {}
        status = values.get("status")
        kept = {"images": values.get("given") or [], "models": _models(values)}
        return cls.model_validate(
            kept
            | told
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
        """The run's seed."""
        return int(self.settings.get("seed", 0))

    def attempts_at(self, position: int) -> list[Attempt]:
        """The attempts at a step, by its place in the plan from 0."""
        return [attempt for attempt in self.attempts if attempt.step == position]

    def step_of(self, attempt: Attempt) -> Step | None:
        """The step that an attempt belongs to; None when the plan has no such step."""
        return self.plan.steps[attempt.step] if attempt.step < len(self.plan.steps) else None

    def outcome(self, position: int) -> Outcome | None:
        """How a step ended; None when it was not reached."""
        result = self.results[position] if position < len(self.results) else None
        return result.outcome if result else None

    def exchanges(self) -> list[Exchange]:
        """Every call of a chat model."""
        return self.plan_exchanges + [one for attempt in [*self.attempts, *self.drafts] for one in attempt.exchanges]

    def pictures(self) -> dict[str, ImageRef]:
        """Every picture that the trace refers to, by its SHA-256."""
        made = [*self.attempts, *self.drafts]
        refs = [
            *self.images,
            *(ref for attempt in made for ref in attempt.sources),
            *(attempt.image for attempt in made if attempt.image),
            *(ref for exchange in self.exchanges() for ref in exchange.images),
        ]
        return {ref.sha256: ref for ref in refs}


def _models(values: Mapping[str, Any]) -> dict[str, str]:
    """Who answered, as the exchanges tell."""
    spoken = list(values.get("plan_exchanges") or [])
    for attempt in (values.get("attempts") or {}).values():
        spoken += attempt.get("exchanges") or []
    return {exchange["role"]: exchange["model"] for exchange in spoken}


def name_from(text: str) -> str:
    """A name for a run that is called something else where it comes from; different texts give different names."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:120]
    return plain if plain == text else f"{plain or 'run'}-{sha256(text.encode()).hexdigest()[:8]}"


class Skipped(BaseModel):
    """Something that could not be read or used, and why.

    Attributes:
        what: which run, file or row.
        reason: the kind of problem, in words that are the same for every such case.
        detail: what exactly was found.
    """

    what: str
    reason: str
    detail: str = ""


def read_trace(data: bytes, name: str) -> Trace | Skipped:
    """Read a trace from its JSON.

    Args:
        data: what a run store or an export holds.
        name: what to call it when it cannot be read.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    from interleaver.errors import explain

    try:
        found = from_json(data)
    except ValueError as error:
        return Skipped(what=name, reason="truncated or damaged record", detail=str(error))
    if not isinstance(found, dict) or "plan" not in found:
        return Skipped(what=name, reason="not a trace", detail="there is no plan in it")
    version = found.get("version")
    if version != VERSION:
        said = f"it has version {version!r}, this program reads {VERSION}"
        return Skipped(what=name, reason="trace of another version", detail=said)
    try:
        return Trace.model_validate(found)
    except ValidationError as error:
        return Skipped(what=name, reason="invalid trace", detail=explain(error))
