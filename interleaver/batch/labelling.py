"""Labelling of stored attempts with scores of a judge or verdicts of another critic; nothing is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial

from interleaver.agents.exchanges import record_exchanges
from interleaver.calling import call, run_concurrently
from interleaver.choices import LabelSource
from interleaver.errors import BackendError, BadInput
from interleaver.pictures import Picture
from interleaver.profile import Profile
from interleaver.runner import make_backend
from interleaver.traces.labels import Label, Labels, read_labels, write_labels
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import SkippedRecord, Trace
from interleaver.types import Attempt, Scores, Step, Verdict


class Labeller:
    """A labeller, which labels every attempt of a store's runs and writes the labels beside them."""

    def __init__(self, profile: Profile, runs: RunStore, by: LabelSource, name: str, samples: int = 1):
        """Set up a labeller.

        Args:
            profile: profile with the judge or the critic.
            runs: run store whose attempts are labelled.
            by: whether the judge or the critic labels.
            name: name of the labels; existing labels of this name are kept, and only missing ones are added.
            samples: number of verdicts that a critic gives on each attempt; a judge scores once.

        Raises:
            BadInput: the backend cannot be created.
        """
        self.runs = runs
        self.by = by
        self.name = name
        self.samples = samples
        self.model = getattr(profile, by).title
        self._backend = make_backend(profile, by)
        self._concurrency: int | None = getattr(profile, by).concurrency

    async def label(self, workers: int) -> AsyncGenerator[Labels | SkippedRecord]:
        """Label all runs that have ended, and yield the labels of each run, whether they are new or not.

        Args:
            workers: number of runs that are labelled at the same time.
        """
        run_ids = await asyncio.to_thread(lambda: list(self.runs.run_ids()))
        async with aclosing(run_concurrently(run_ids, self._run, workers)) as all_labels:
            async for labels in all_labels:
                if labels:
                    yield labels

    async def _run(self, run_id: str) -> Labels | SkippedRecord | None:
        trace = await asyncio.to_thread(self.runs.trace, run_id)
        if not isinstance(trace, Trace):
            return trace
        before = await asyncio.to_thread(read_labels, self.runs, run_id, self.name)
        if before and (before.by, before.model, before.samples) != (self.by, self.model, self.samples):
            description = f"the {before.by} {before.model} with {before.samples} sample(s) per attempt"
            raise BadInput(
                f"the labels {self.name!r} of run {run_id} were made by {description}; choose another --name"
            )
        labels = Labels(run_id=run_id, name=self.name, by=self.by, model=self.model, samples=self.samples)
        for attempt in trace.attempts:
            step = trace.step_of(attempt)
            if attempt.image is None or step is None:
                continue
            existing_label = before.of(attempt.step, attempt.attempt, attempt.image.sha256) if before else None
            labels.labels.append(
                existing_label if existing_label and not existing_label.problems else await self._attempt(step, attempt)
            )
        if before and before.labels == labels.labels:
            return before
        labels.labelled_at = datetime.now(UTC)
        await asyncio.to_thread(write_labels, self.runs, labels)
        return labels

    async def _attempt(self, step: Step, attempt: Attempt) -> Label:
        assert attempt.image is not None
        label = Label(step=attempt.step, attempt=attempt.attempt, image=attempt.image.sha256)
        with record_exchanges() as label.exchanges:
            try:
                after = await self.runs.images.get(attempt.image)
                before = await self.runs.images.get_before(attempt.sources, after)
                if self.by == "judge":
                    label.scores = await self._score(step, before, after)
                    return label
                for _ in range(self.samples):
                    label.verdicts.append(await self._verdict(step, before, after, attempt.prompt))
            except BackendError as error:
                label.problems.append(str(error))
        return label

    async def _score(self, step: Step, before: Picture, after: Picture) -> Scores:
        make_call = partial(self._backend.score, step, before, after)
        return await call(self._backend, make_call, Scores, self._concurrency)

    async def _verdict(self, step: Step, before: Picture, after: Picture, prompt: str) -> Verdict:
        make_call = partial(self._backend.review, step, before, after, prompt)
        return await call(self._backend, make_call, Verdict, self._concurrency)
