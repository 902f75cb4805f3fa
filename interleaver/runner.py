"""Runs on this machine: begun, resumed, checkpointed and written out as documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from pydantic import ValidationError

from interleaver.config import Profile
from interleaver.errors import BadInput, explain
from interleaver.graph.compose import compose
from interleaver.graph.context import Context
from interleaver.graph.events import Event, read_event
from interleaver.graph.inputs import check_request
from interleaver.graph.state import RunState, attempts_of, failure_of, result_of
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.traces.runs import RunRecord
from interleaver.traces.trace import Skipped, Trace
from interleaver.types import Outcome
from interleaver.ui.document import write_document

Graph = CompiledStateGraph[RunState, Context, Any, Any]
Reviewer = Callable[[dict[str, Any]], Awaitable[Any]]
"""Whoever answers the questions of a run: from a question (see `interleaver.graph.review`) to its answer."""


class Runner:
    """Carries out runs of one profile below one folder."""

    def __init__(self, profile: Profile, out: str | Path | None = None, documents: bool = True):
        """Set up a runner.

        Args:
            profile: the models and settings.
            out: the folder of the runs; the profile's by default.
            documents: whether a run leaves a page to read beside its trace.

        Raises:
            BadInput: a backend of the profile cannot be made.
        """
        self.profile = profile
        self.runs = profile.store.open(out)
        self.builder = profile.build(self.runs.images)
        self.documents = documents

    async def begin(
        self,
        request: str,
        images: list[Picture],
        settings: dict[str, Any],
        profile: str | None = None,
        run_id: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> RunRecord:
        """Register a run; nothing is planned or drawn yet.

        Args:
            request: what to make.
            images: in the order of the request's `<image>` tags.
            settings: fields of `RunSettings` that differ from the profile.
            profile: absolute path of the file that this runner's profile was read from, for resuming the run.
            run_id: what to call the run; made from the time and the request by default.
            tags: what to remember of the request.

        Raises:
            BadInput: the request, a setting or the folder of the runs cannot be used.
        """
        check_request(request, len(images))
        try:
            context = Context.model_validate(self.profile.run.model_dump() | settings)
        except ValidationError as error:
            raise BadInput(explain(error, Context)) from None
        await asyncio.to_thread(self.runs.prepare)
        refs = [await self.runs.images.put(picture) for picture in images]
        told = {"models": self.profile.models(), "tags": tags or {}}
        return await asyncio.to_thread(self.runs.begin, request, refs, context.model_dump(), profile, run_id, **told)

    async def work(self, record: RunRecord, reviewer: Reviewer | None = None) -> AsyncIterator[Event]:
        """Carry a run on from where it stands, and write its trace and document at the end.

        Yields its events as they happen. A run that has ended is carried on from the first call that failed, if one
        did; the steps after it are drawn again, since they build on its picture. A run that asks a person stops
        there without a reviewer, and goes on when it is carried on with one.

        Args:
            record: the run.
            reviewer: who answers its questions.

        Raises:
            Taken: another process works on the run.
            BadInput: its trace is damaged, and there are no checkpoints to make it from anew.
        """
        await asyncio.to_thread(self.runs.prepare)
        async with self.runs.lock(record.run_id), aclosing(self._carry_on(record, reviewer)) as events:
            async for event in events:
                yield event

    async def make(
        self,
        request: str,
        images: list[Picture],
        settings: dict[str, Any],
        profile: str | None,
        run_id: str,
        tags: dict[str, str],
        owner: str | None = None,
    ) -> AsyncIterator[Event]:
        """Begin a run under a name, or carry on the one that has it; see `begin` and `work`.

        Args:
            request: what to make.
            images: in the order of the request's `<image>` tags.
            settings: fields of `RunSettings` that differ from the profile.
            profile: absolute path of the profile.
            run_id: the name.
            tags: what to remember of the request.
            owner: for whom this process works, see `RunStore.lock`.
        """
        await asyncio.to_thread(self.runs.prepare)
        async with self.runs.lock(run_id, owner):
            record = await asyncio.to_thread(self.runs.find, run_id)
            if record is None:
                record = await self.begin(request, images, settings, profile, run_id, tags)
            async with aclosing(self._carry_on(record, None)) as events:
                async for event in events:
                    yield event

    async def _carry_on(self, record: RunRecord, reviewer: Reviewer | None) -> AsyncGenerator[Event]:
        trace = await asyncio.to_thread(self.runs.trace, record.run_id)
        if trace and not await asyncio.to_thread(self.runs.has_checkpoints, record.run_id):
            await self._leave(trace)
            return
        async with self._graph(record) as graph:
            config, context = _config_of(record), Context.model_validate(record.context)
            start: dict[str, Any] | Command[Any] | None
            start, config_now = await _where_it_stands(graph, record, config)
            if trace and start is not None:
                await self._leave(trace)
                return
            idle = config_now is None and isinstance(trace, Trace)
            while config_now is not None:
                async for event in self._stream(graph, start, config_now, context):
                    yield event
                snapshot = await graph.aget_state(config)
                questions = [interrupt.value for task in snapshot.tasks for interrupt in task.interrupts]
                if not questions:
                    break
                if reviewer is None:
                    return
                start, config_now = Command(resume=await reviewer(questions[0])), config
            state = (await graph.aget_state(config)).values
        if isinstance(trace, Trace) and idle:  # there was nothing to do, so the trace that is there stays as it is
            await self._write_document(trace)
            return
        told = {"models": record.models, "tags": record.tags, "started_at": record.started_at}
        trace = Trace.from_state(state, record.run_id, "run", **told, ended_at=datetime.now(UTC))
        await self._write_document(trace)
        await asyncio.to_thread(self.runs.write_trace, trace)  # last, since its presence says that the run has ended

    async def _leave(self, trace: Trace | Skipped) -> None:
        """Leave a run that has ended as it is: it was imported, or its checkpoints were cleaned up."""
        if isinstance(trace, Skipped):
            raise BadInput(f"run {trace.what} cannot be carried on: {trace.reason}: {trace.detail}")
        await self._write_document(trace)

    async def pictures(self, record: RunRecord) -> set[str]:
        """The SHA-256 of every picture that a run refers to, ended or not."""
        given = {image.sha256 for image in record.images}
        if not await asyncio.to_thread(self.runs.has_checkpoints, record.run_id):
            return given
        async with self._graph(record) as graph:
            state = (await graph.aget_state(_config_of(record))).values
        if not state.get("plan") or "settings" not in state:
            return given
        return given | set(Trace.from_state(state, record.run_id, "run").pictures())

    async def _write_document(self, trace: Trace) -> None:
        if self.documents:
            document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
            folder = self.runs.folder(trace.run_id)
            await write_document(folder, trace.run_id, document, trace.attempts, self.runs.images)

    async def _stream(
        self, graph: Graph, start: dict[str, Any] | Command[Any] | None, config: RunnableConfig, context: Context
    ) -> AsyncIterator[Event]:
        stream = graph.astream(start, config, context=context, stream_mode="custom", durability="sync")
        async for chunk in stream:
            event = read_event(chunk)
            if event:
                yield event

    @asynccontextmanager
    async def _graph(self, record: RunRecord) -> AsyncIterator[Graph]:
        async with self.runs.checkpointer(record.run_id) as checkpointer:
            yield self.builder.compile(checkpointer=checkpointer)


def _config_of(record: RunRecord) -> RunnableConfig:
    return {
        "configurable": {"thread_id": record.thread},
        "recursion_limit": 100_000,
        "run_name": f"interleaver: {record.request[:60]}",
        "metadata": {"run": record.run_id},
    }


async def _where_it_stands(
    graph: Graph, record: RunRecord, config: RunnableConfig
) -> tuple[dict[str, Any] | None, RunnableConfig | None]:
    """The input and the checkpoint to carry a run on from; no checkpoint when there is nothing left to do."""
    snapshot = await graph.aget_state(config)
    if not snapshot.values and not snapshot.tasks:
        images = [image.model_dump() for image in record.images]
        return {"request": record.request, "images": images}, config
    if snapshot.tasks:  # not `next`: that leaves out a node which was done but not yet checkpointed
        return None, config
    return None, await _before_first_failure(graph, cast(RunState, snapshot.values), config)


async def _before_first_failure(graph: Graph, state: RunState, config: RunnableConfig) -> RunnableConfig | None:
    """The checkpoint just before the first call that failed; None when none did.

    What was done before that call stays: a picture without a verdict is judged again, not drawn again.
    """
    failure = failure_of(state)
    failed = next((attempt for attempt in attempts_of(state) if attempt.error and _is_open(state, attempt.step)), None)
    if failure and failure.where == "planner":
        node, position, attempts = "planner", 0, 0
    elif failed:
        node = "critic" if failed.image else "generator"
        position, attempts = failed.step, failed.attempt - (node == "generator")
    else:
        return None
    async for snapshot in graph.aget_state_history(config):
        then = cast(RunState, snapshot.values)
        at_node = [task.name for task in snapshot.tasks] == [node] and then.get("position", 0) == position
        if at_node and (node == "planner" or len(attempts_of(then, position)) == attempts):
            return snapshot.config
    return None


def _is_open(state: RunState, position: int) -> bool:
    """Whether a step came to no good end; what a person accepted after a failure stays as it is."""
    result = result_of(state, position)
    return result is None or result.outcome is not Outcome.ACCEPTED


def read_picture(path: Path) -> Picture:
    """Read a picture file.

    Raises:
        BadInput: there is no such file, or it is no picture that can be used.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"the picture {str(path)!r} (--image) cannot be read: {error.strerror}") from None
    return Picture.decode(data, f"the picture {str(path)!r} (--image)")
