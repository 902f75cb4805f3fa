"""Runs at work in this process, which outlive the calls that started them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from interleaver.errors import BadInput
from interleaver.graph.boundary.events import (
    AttemptFailed,
    AttemptStarted,
    DocumentReady,
    Event,
    PictureReady,
    PlanReady,
    StepEnded,
    VerdictGiven,
)
from interleaver.runner import ReviewHandler
from interleaver.types import Json

Work = Callable[[ReviewHandler], AsyncGenerator[Event]]
"""Starts or continues a run; a person's answers come from the handler."""


class QuestionPending(Exception):
    """The run waits for a person's answer."""

    def __init__(self, question: Json):
        super().__init__("the run waits for an answer")
        self.question = question


class RunProgress:
    """Turns events into a progress value: the ended steps, plus a fraction for the current one."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.ended_count = 0
        self.since = 0
        self.message = "Planning"
        self.is_complete = False

    @property
    def value(self) -> float:
        """The number of steps that are done, as a fraction; below the total until the document is ready."""
        if self.is_complete:
            return self.ended_count
        return min(self.ended_count + 1 - 1 / (1 + self.since), (self.total or 1) - 0.05)

    def advance(self, event: Event | None = None) -> bool:
        """Take an event into account, or only a sign of life; return whether there is a new message."""
        self.since += 1
        match event:
            case PlanReady(plan=plan, kept_steps=kept_steps):
                self.total, self.ended_count, self.since = len(plan.steps), kept_steps, 0
                self.message = f"A plan of {len(plan.steps)} steps"
            case AttemptStarted(number=number, attempt=attempt):
                self.message = f"Step {number}: drawing, attempt {attempt}"
            case PictureReady(number=number):
                self.message = f"Step {number}: reviewing the picture"
            case VerdictGiven(number=number, verdict=verdict):
                self.message = f"Step {number}: {verdict.label}. {verdict.reasoning}"
            case AttemptFailed(number=number, error=error):
                self.message = f"Step {number}: {error}"
            case StepEnded(number=number, outcome=outcome):
                self.ended_count, self.since = self.ended_count + 1, 0
                self.message = f"Step {number}: {outcome}"
            case DocumentReady(status=status):
                self.is_complete = True
                self.message = f"The document is {status}"
            case _:
                return False
        return True


@dataclass
class RunJob:
    """A run at work.

    Attributes:
        task: does the work; raises `QuestionPending` if the run waits for a person.
        progress: how far it is.
        changed: set and replaced with each message.
        followers: number of calls that wait for the run.
    """

    task: asyncio.Task[None]
    progress: RunProgress = field(default_factory=RunProgress)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    followers: int = 0


class RunJobs:
    """The runs that are at work in this process, by id."""

    def __init__(self, heartbeat_seconds: float):
        """Hold no runs yet.

        Args:
            heartbeat_seconds: longest time between two messages to those who follow a run.
        """
        self.heartbeat_seconds = heartbeat_seconds
        self._jobs: dict[str, RunJob] = {}

    def find(self, run_id: str) -> RunJob | None:
        """Return the job of a run; None if the run is not at work here."""
        return self._jobs.get(run_id)

    async def find_to_join(self, run_id: str) -> RunJob | None:
        """Return the job of a run; None if the run is not at work here, after waiting for one that is being stopped."""
        while (job := self.find(run_id)) and job.task.cancelling():
            await asyncio.wait({job.task})
        return job

    def start(self, run_id: str, work: Work, answer: Json | None = None) -> RunJob:
        """Set a run to work.

        Args:
            run_id: id of the run.
            work: starts or continues it.
            answer: answer to the question that the run waits for; None if it waits for none.

        Raises:
            BadInput: the run is at work already; somebody else has answered its question.
        """
        if run_id in self._jobs:
            raise BadInput(f"run {run_id} is running; wait for it with resume_run")
        job = RunJob(asyncio.create_task(self._work(run_id, work, answer), name=f"run {run_id}"))
        self._jobs[run_id] = job
        return job

    async def _work(self, run_id: str, work: Work, answer: Json | None) -> None:
        answers = [] if answer is None else [answer]

        async def reviewer(question: Json) -> Any:
            if not answers:
                raise QuestionPending(question)
            return answers.pop()

        job = self._jobs[run_id]
        try:
            async with aclosing(work(reviewer)) as events:
                async for event in events:
                    if job.progress.advance(event):
                        job.changed.set()
                        job.changed = asyncio.Event()
        finally:
            del self._jobs[run_id]

    async def follow(self, job: RunJob) -> AsyncGenerator[RunProgress]:
        """Wait for a run, yielding its progress with each message, and at least once in `heartbeat_seconds`.

        If the last call that follows a run is cancelled, so is the run; it can be resumed.

        Raises:
            QuestionPending: the run waits for a person.
            InterleaverError: the run cannot be carried on.
        """
        job.followers += 1
        try:
            while not job.task.done():
                waiting = asyncio.ensure_future(job.changed.wait())
                done, _ = await asyncio.wait(
                    {job.task, waiting}, timeout=self.heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                waiting.cancel()
                if not done:
                    job.progress.advance()
                yield job.progress
        except (asyncio.CancelledError, GeneratorExit):
            if job.followers == 1:
                job.task.cancel()
            raise
        finally:
            job.followers -= 1
        if job.task.cancelled():
            raise BadInput("the run was stopped; call resume_run to continue it")
        job.task.result()

    async def cancel(self, run_id: str) -> None:
        """Stop a run; what is finished is kept.

        Raises:
            BadInput: the run is not at work here.
        """
        job = self.find(run_id)
        if job is None:
            raise BadInput(f"run {run_id} is not running in this server, so there is nothing to stop")
        job.task.cancel()
        await asyncio.wait({job.task})
