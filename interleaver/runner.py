"""Running documents with a profile on this machine: begin, resume and checkpoint runs, and write their documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command
from pydantic import ValidationError

from interleaver.errors import BadInput, InterleaverError, explain
from interleaver.graph.attempts import attempt_record
from interleaver.graph.boundary.changes import Change
from interleaver.graph.boundary.events import Event, read_event
from interleaver.graph.boundary.inputs import check_request
from interleaver.graph.builder import build_graph
from interleaver.graph.compiled import GraphBuilder, RunGraph
from interleaver.graph.context import Context
from interleaver.graph.document import compose
from interleaver.graph.state import FORMAT, RunState, attempt_key, attempts_of, failure_of, result_of
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.profile import BackendSettings, Profile
from interleaver.registry import BackendKind, create_backend
from interleaver.rendering.document import write_document
from interleaver.store.images import ImageStore
from interleaver.traces.document_file import DOCUMENT_FILE
from interleaver.traces.runs import RunRecord, RunStore, images_below
from interleaver.traces.sources import TraceSource, open_source
from interleaver.traces.trace import SkippedRecord, Trace
from interleaver.types import Attempt, Json, Outcome, plain_text

ReviewHandler = Callable[[Json], Awaitable[Any]]
"""Answers a review question of a run, see `interleaver.graph.boundary.review`."""


def make_backend(profile: Profile, kind: BackendKind) -> Any:
    """Create the backend that a profile names for a kind.

    Raises:
        BadInput: the backend is unknown, does not accept its settings, or cannot be created.
    """
    settings: BackendSettings = getattr(profile, kind)
    return create_backend(kind, settings.backend, **(settings.model_extra or {}))


def make_graph(profile: Profile, images: ImageStore) -> GraphBuilder:
    """Return the uncompiled state machine with the models and settings of a profile.

    Raises:
        BadInput: a backend cannot be created.
    """
    return build_graph(
        planner=make_backend(profile, "planner"),
        critic=make_backend(profile, "critic"),
        generator=make_backend(profile, "generator"),
        images=images,
        settings=profile.run,
        image_hosts=profile.store.image_hosts,
        concurrency={kind: getattr(profile, kind).concurrency for kind in ("planner", "critic", "generator")},
    )


def open_run_store(profile: Profile, out: str | Path | None = None) -> RunStore:
    """Open the run store of a profile.

    Args:
        profile: the profile, whose `store` says where runs, pictures and checkpoints are kept.
        out: folder or URL of the runs; the profile's by default.
    """
    root = out or profile.store.out
    images = ImageStore(profile.store.images or images_below(root), profile.store.public_url)
    return RunStore(root, images, profile.store.checkpoints)


def open_sources(
    profile: Profile, addresses: Sequence[str] = (), images: str | None = None, target: RunStore | None = None
) -> list[TraceSource]:
    """Open trace sources, see `interleaver.traces.sources`.

    Args:
        profile: the profile, whose `store` says where runs and pictures are kept.
        addresses: addresses of the sources; the profile's run store by default.
        images: folder or URL of the image store; the profile's by default.
        target: run store that receives the pictures that a source brings with it; the profile's by default.
    """
    if images:
        profile = profile.model_copy(update={"store": profile.store.model_copy(update={"images": images})})

    def open_store(address: str | None) -> RunStore:
        return target if target and address is None and not images else open_run_store(profile, address)

    def compile_graph(saver: BaseCheckpointSaver[Any]) -> RunGraph:
        return build_graph().compile(checkpointer=saver)

    return [open_source(address, open_store, compile_graph) for address in addresses or (profile.store.out,)]


class Runner:
    """Runs documents with one profile, in one run store."""

    def __init__(self, profile: Profile, out: str | Path | None = None, documents: bool = True):
        """Create the backends of the profile and open its run store.

        Args:
            profile: the models and settings.
            out: folder or URL of the runs; the profile's by default.
            documents: whether to write the document files (`document.html` and others) beside each trace.

        Raises:
            BadInput: a backend of the profile cannot be created.
        """
        self.profile = profile
        self.runs = open_run_store(profile, out)
        self.builder = make_graph(profile, self.runs.images)
        self.documents = documents

    async def begin(
        self,
        request: str,
        images: list[Picture],
        settings: Json,
        run_id: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> RunRecord:
        """Register a run; nothing is planned or drawn yet.

        Args:
            request: what to make.
            images: pictures of the request, in the order of its `<image>` tags.
            settings: fields of `RunSettings` that differ from the profile.
            run_id: name of the run; generated from the time and the request by default.
            tags: labels that are kept with the run.

        Raises:
            BadInput: the request or a setting is invalid, or the folder of the runs cannot be written to.
        """
        request = plain_text(request)
        check_request(request, len(images))
        try:
            context = Context.model_validate(self.profile.run.model_dump() | settings)
        except ValidationError as error:
            raise BadInput(explain(error, Context)) from None
        await asyncio.to_thread(self.runs.prepare)
        refs = [await self.runs.images.put(picture) for picture in images]
        return await asyncio.to_thread(
            self.runs.begin,
            request,
            refs,
            context.model_dump(),
            self.profile.source,
            run_id,
            models=self.profile.models(),
            tags=tags or {},
        )

    async def work(self, record: RunRecord, reviewer: ReviewHandler | None = None) -> AsyncGenerator[Event]:
        """Start or resume a run, and write its trace and document at the end.

        Yields the run's events as they happen. A run that has ended is resumed from the first call that failed, if
        there is one; the steps after it are drawn again, since they build on its picture. A run that asks a person
        stops at the question if there is no reviewer; resume it with a reviewer to continue.

        Args:
            record: the run.
            reviewer: answers the questions of the run; None stops at the first one.

        Raises:
            RunLocked: another process is working on the run.
            BadInput: the run's trace is damaged and there are no checkpoints to rebuild it from, or the run is
                unfinished and was begun by a version with another state format.
        """
        await asyncio.to_thread(self.runs.prepare)
        async with self.runs.lock(record.run_id), aclosing(self._carry_on(record, reviewer)) as events:
            async for event in events:
                yield event

    async def change(
        self, record: RunRecord, change: Change, reviewer: ReviewHandler | None = None
    ) -> AsyncGenerator[Event]:
        """Change the document of a finished run, and write its trace and document anew.

        Yields the events as they happen. What the change leaves as it is, is not drawn again. A run without
        checkpoints, for example an imported one, is changed by its trace.

        Args:
            record: the run.
            change: the change.
            reviewer: answers the questions of the run; None stops at the first one.

        Raises:
            RunLocked: another process is working on the run.
            BadInput: the run is not finished, or the change cannot be made; then the document stays as it is.
        """
        await asyncio.to_thread(self.runs.prepare)
        async with self.runs.lock(record.run_id), aclosing(self._carry_on(record, reviewer, change)) as events:
            async for event in events:
                yield event

    async def make(
        self,
        request: str,
        images: list[Picture],
        settings: Json,
        run_id: str,
        tags: dict[str, str],
        owner: str | None = None,
    ) -> AsyncGenerator[Event]:
        """Begin a run with the given name, or resume the run that already has it; see `begin` and `work`.

        Args:
            request: what to make.
            images: pictures of the request, in the order of its `<image>` tags.
            settings: fields of `RunSettings` that differ from the profile.
            run_id: name of the run.
            tags: labels that are kept with the run.
            owner: identity under which the run is locked, see `RunStore.lock`.
        """
        await asyncio.to_thread(self.runs.prepare)
        async with self.runs.lock(run_id, owner, patience=0):
            record = await asyncio.to_thread(self.runs.find, run_id)
            if record is None:
                record = await self.begin(request, images, settings, run_id, tags)
            async with aclosing(self._carry_on(record, None)) as events:
                async for event in events:
                    yield event

    async def _carry_on(
        self, record: RunRecord, reviewer: ReviewHandler | None, change: Change | None = None
    ) -> AsyncGenerator[Event]:
        trace = await asyncio.to_thread(self.runs.trace, record.run_id)
        if not change and trace and not await asyncio.to_thread(self.runs.has_checkpoints, record.run_id):
            await self._leave(trace)
            return
        async with self._graph(record) as graph:
            config, context = _config_of(record), Context.model_validate(record.context)
            start: dict[str, Any] | Command[Any] | None
            config_now: RunnableConfig | None
            if change:
                start, config_now = await self._begin_change(graph, config, record, trace, change), config
            else:
                start, config_now = await self._starting_point(graph, record, config)
            if trace and start is not None and not change:
                await self._leave(trace)
                return
            idle = config_now is None and isinstance(trace, Trace)
            while config_now is not None:
                try:
                    async with aclosing(self._stream(graph, start, config_now, context)) as events:
                        async for event in events:
                            yield event
                except InterleaverError:
                    raise
                except Exception:
                    if change and isinstance(trace, Trace):  # an error of ours must not cost the document
                        await asyncio.to_thread(self.runs.write_trace, trace)
                    raise
                snapshot = await graph.aget_state(config)
                questions = [interrupt.value for task in snapshot.tasks for interrupt in task.interrupts]
                if not questions:
                    break
                if reviewer is None:
                    return
                start, config_now = Command(resume=await reviewer(questions[0])), config
            state = (await graph.aget_state(config)).values
        failure = failure_of(cast(RunState, state))
        if change and isinstance(trace, Trace) and failure and failure.where == "planner":
            await asyncio.to_thread(self.runs.write_trace, trace)
            raise BadInput(failure.reason)
        if isinstance(trace, Trace) and idle:  # nothing was done, so the existing trace stays as it is
            await self._write_document(trace)
            return
        run_fields = {"models": record.models, "tags": record.tags, "started_at": record.started_at}
        trace = Trace.from_state(state, record.run_id, "run", **run_fields, ended_at=datetime.now(UTC))
        await self._write_document(trace)
        await asyncio.to_thread(self.runs.write_trace, trace)  # last, since its presence marks the run as ended

    async def _starting_point(
        self, graph: RunGraph, record: RunRecord, config: RunnableConfig
    ) -> tuple[dict[str, Any] | None, RunnableConfig | None]:
        """Return the graph input and the checkpoint with which to resume a run.

        The input is None unless the run has not started; the checkpoint is None if there is nothing left to do.
        """
        snapshot = await graph.aget_state(config)
        if not snapshot.values and not snapshot.tasks:
            images = [image.model_dump() for image in record.images]
            return {"request": record.request, "images": images}, config
        state = cast(RunState, snapshot.values)
        if lost_attempt := await self._first_lost_attempt(state, record.run_id):
            checkpoint = await _checkpoint_before(graph, "generator", lost_attempt, config)
            if checkpoint:
                return None, checkpoint
        if any(task.error for task in snapshot.tasks):
            # A node that was cancelled at its very end has stored its writes, but not where the run goes next;
            # continued as it is, the run would end there. With its checkpoint named, LangGraph executes the node again.
            return None, snapshot.config
        if snapshot.tasks:  # not `next`, which omits a node that has finished but is not checkpointed yet
            return None, config
        return None, await _before_first_failure(graph, state, config)

    async def _first_lost_attempt(self, state: RunState, run_id: str) -> Attempt | None:
        """Return the first attempt of which the document needs a picture that the image store has lost."""
        attempts = [attempt for attempt in attempts_of(state) if attempt.image and _is_needed(state, attempt)]
        refs = [attempt.image for attempt in attempts if attempt.image]
        lost_hashes = await asyncio.to_thread(self.runs.lost_pictures, run_id, refs)
        return next((attempt for attempt in attempts if attempt.image and attempt.image.sha256 in lost_hashes), None)

    async def _begin_change(
        self,
        graph: RunGraph,
        config: RunnableConfig,
        record: RunRecord,
        trace: Trace | SkippedRecord | None,
        change: Change,
    ) -> dict[str, Any]:
        """Return the graph input that changes a finished run, which counts as unfinished from now on."""
        snapshot = await graph.aget_state(config)
        if snapshot.tasks or not isinstance(trace, Trace):
            raise BadInput(f"run {record.run_id} is not finished, so it cannot be changed; resume it first")
        if not snapshot.values:  # imported, or its checkpoints were deleted
            await graph.aupdate_state(config, _state_of(trace, record), as_node="compose")
        await asyncio.to_thread(self.runs.reopen, record.run_id)
        return {"change": change.model_dump(mode="json")}

    async def _leave(self, trace: Trace | SkippedRecord) -> None:
        """Write only the document of a run that cannot be resumed: it was imported, or its checkpoints were deleted."""
        if isinstance(trace, SkippedRecord):
            raise BadInput(f"run {trace.name} cannot be resumed: {trace.reason}: {trace.detail}")
        await self._write_document(trace)

    async def write_missing_document(self, trace: Trace) -> None:
        """Write the document files of a run that ended without them, unless this runner writes none."""
        if self.documents and not await asyncio.to_thread(self.runs.folder(trace.run_id).exists, DOCUMENT_FILE):
            await self._write_document(trace)

    async def _write_document(self, trace: Trace) -> None:
        if self.documents:
            document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
            folder = self.runs.folder(trace.run_id)
            await write_document(folder, trace.run_id, document, trace.attempts, self.runs.images)

    async def _stream(
        self, graph: RunGraph, start: dict[str, Any] | Command[Any] | None, config: RunnableConfig, context: Context
    ) -> AsyncGenerator[Event]:
        chunks = graph.astream(start, config, context=context, stream_mode="custom", durability="sync")
        # LangGraph declares an iterator and returns a generator; left open it would write on after a cancellation.
        async with aclosing(cast(AsyncGenerator[Any], chunks)) as stream:
            async for chunk in stream:
                event = read_event(chunk)
                if event:
                    yield event

    @asynccontextmanager
    async def _graph(self, record: RunRecord) -> AsyncGenerator[RunGraph]:
        async with self.runs.checkpointer(record.run_id) as checkpointer:
            yield self.builder.compile(checkpointer=checkpointer)


def _config_of(record: RunRecord) -> RunnableConfig:
    return {
        "configurable": {"thread_id": record.thread},
        "recursion_limit": 100_000,
        "run_name": f"interleaver: {record.request[:60]}",
        "metadata": {"run": record.run_id},
    }


def _state_of(trace: Trace, record: RunRecord) -> dict[str, Any]:
    """Return the state of a finished run, as far as its trace has it."""
    dumped = trace.model_dump(mode="json", exclude_none=True)
    return {
        "format": FORMAT,
        "settings": Context.model_validate(record.context).model_dump(),
        "request": trace.request,
        "handled_request": trace.request,
        "request_images": dumped["images"],
        "plan": dumped["plan"],
        "plan_exchanges": dumped["plan_exchanges"],
        "attempts": {attempt_key(attempt): attempt_record(attempt) for attempt in trace.attempts},
        "results": {str(n): result.model_dump(mode="json") for n, result in enumerate(trace.results) if result},
        "position": len(trace.plan.steps),
        "needs_plan": False,
        "status": trace.status,
    }


async def _before_first_failure(graph: RunGraph, state: RunState, config: RunnableConfig) -> RunnableConfig | None:
    """Return the checkpoint just before the first call that failed; None if no call failed.

    Everything done before that call is kept: a picture without a verdict is reviewed again, not drawn again.
    """
    failure = failure_of(state)
    failed = next((attempt for attempt in attempts_of(state) if attempt.error and _is_open(state, attempt.step)), None)
    if failure and failure.where == "planner":
        return await _before_planning(graph, config)
    if failed is None:
        return None
    return await _checkpoint_before(graph, "critic" if failed.image else "generator", failed, config)


async def _checkpoint_before(
    graph: RunGraph, node: Literal["generator", "critic"], attempt: Attempt, config: RunnableConfig
) -> RunnableConfig | None:
    """Return the checkpoint just before a node worked on an attempt; None if that was before the document's change."""
    attempts = attempt.attempt - (node == "generator")
    async for snapshot in graph.aget_state_history(config):
        state = cast(RunState, snapshot.values)
        at_node = [task.name for task in snapshot.tasks] == [node] and state.get("position", 0) == attempt.step
        if at_node and len(attempts_of(state, attempt.step)) == attempts:
            return snapshot.config
        if (snapshot.metadata or {}).get("source") == "input":
            return None
    return None


async def _before_planning(graph: RunGraph, config: RunnableConfig) -> RunnableConfig | None:
    """Return the checkpoint just before the last request was planned; None if it was refused before that."""
    async for snapshot in graph.aget_state_history(config):
        if [task.name for task in snapshot.tasks] == ["planner"]:
            return snapshot.config
        if (snapshot.metadata or {}).get("source") == "input":
            return None
    return None


def _is_needed(state: RunState, attempt: Attempt) -> bool:
    """Return whether an attempt's picture was kept, or is the latest of a step that is not closed yet."""
    result = result_of(state, attempt.step)
    return attempt.attempt == (result.attempt if result else attempts_of(state, attempt.step)[-1].attempt)


def _is_open(state: RunState, position: int) -> bool:
    """Return whether a step has not been accepted; one that a person accepted despite a failure stays as it is."""
    result = result_of(state, position)
    return result is None or result.outcome is not Outcome.ACCEPTED


def read_picture(path: Path) -> Picture:
    """Read a picture file that was given with `--image`.

    Raises:
        BadInput: the file cannot be read, or is not a usable picture.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"the picture {str(path)!r} (--image) cannot be read: {error.strerror}") from None
    return Picture.decode(data, f"the picture {str(path)!r} (--image)")
