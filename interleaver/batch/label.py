"""Having stored attempts judged again, by a judge or by another critic; nothing is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal

from interleaver.agents.exchanges import recording
from interleaver.batch.work import in_parallel
from interleaver.config import Profile
from interleaver.errors import BackendError, BadInput
from interleaver.graph.backends import call
from interleaver.pictures import Picture, white_canvas
from interleaver.traces.labels import Label, Labels, read_labels, write_labels
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import Skipped, Trace
from interleaver.types import Attempt, Judgement, Step, Verdict

NO_LIMIT = 1_000_000


class Labeller:
    """Looks at every attempt of a store's runs and keeps what it says beside them."""

    def __init__(self, profile: Profile, runs: RunStore, by: Literal["judge", "critic"], name: str, samples: int = 1):
        """Set up a labeller.

        Args:
            profile: names the judge or the critic.
            runs: the store.
            by: who looks.
            name: of the labels; those that are there already are kept, and only what is missing is added.
            samples: how many verdicts a critic gives on each attempt; a judge scores once.

        Raises:
            BadInput: the backend cannot be made.
        """
        self.runs = runs
        self.by = by
        self.name = name
        self.samples = samples
        self.model = getattr(profile, by).title
        self._backend = profile.create(by)
        self._slots = asyncio.Semaphore(getattr(profile, by).concurrency or NO_LIMIT)

    async def label(self, workers: int) -> AsyncIterator[Labels | Skipped]:
        """Label all runs that have ended; the labels of a run are given whether they are new or not.

        Args:
            workers: how many runs are at work at a time.
        """
        run_ids = await asyncio.to_thread(lambda: list(self.runs.run_ids()))
        async for found in in_parallel(run_ids, self._run, workers):
            if found:
                yield found

    async def _run(self, run_id: str) -> Labels | Skipped | None:
        trace = await asyncio.to_thread(self.runs.trace, run_id)
        if not isinstance(trace, Trace):
            return trace
        before = await asyncio.to_thread(read_labels, self.runs, run_id, self.name)
        if before and (before.by, before.model, before.samples) != (self.by, self.model, self.samples):
            said = f"{before.samples} by the {before.by} {before.model}"
            raise BadInput(f"the labels {self.name!r} of run {run_id} are {said}; give these ones another --name")
        labels = Labels(run_id=run_id, name=self.name, by=self.by, model=self.model, samples=self.samples)
        for attempt in trace.attempts:
            step = trace.step_of(attempt)
            if attempt.image is None or step is None:
                continue
            known = before.of(attempt.step, attempt.attempt, attempt.image.sha256) if before else None
            labels.labels.append(known if known and not known.problems else await self._attempt(step, attempt))
        if before and before.labels == labels.labels:
            return before
        labels.labelled_at = datetime.now(UTC)
        await asyncio.to_thread(write_labels, self.runs, labels)
        return labels

    async def _attempt(self, step: Step, attempt: Attempt) -> Label:
        assert attempt.image is not None
        label = Label(step=attempt.step, attempt=attempt.attempt, image=attempt.image.sha256)
        with recording() as label.exchanges:
            try:
                after = await self.runs.images.get(attempt.image)
                before = await self._before(attempt, after)
                if self.by == "judge":
                    label.judgement = await self._score(step, before, after)
                    return label
                for _ in range(self.samples):
                    label.verdicts.append(await self._verdict(step, before, after, attempt.prompt))
            except BackendError as error:
                label.problems.append(str(error))
        return label

    async def _score(self, step: Step, before: Picture, after: Picture) -> Judgement:
        async with self._slots:
            return await call(self._backend, lambda: self._backend.score(step, before, after), Judgement)

    async def _verdict(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        async with self._slots:
            return await call(self._backend, lambda: self._backend.judge(step, before, after, prompt), Verdict)

    async def _before(self, attempt: Attempt, after: Picture) -> Picture:
        if attempt.sources:
            return await self.runs.images.get(attempt.sources[-1])
        return await asyncio.to_thread(white_canvas, after.width, after.height)
