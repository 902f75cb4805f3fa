"""The run store: a folder with one folder for each run, on any fsspec URL."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shlex
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import BaseModel, Field, ValidationError

from interleaver.errors import BadInput, did_you_mean, shown
from interleaver.traces import checkpointers, locks
from interleaver.traces.folders import Folder
from interleaver.traces.images import ImageStore
from interleaver.traces.trace import NAME, Skipped, Trace, read_trace
from interleaver.types import ImageRef

STORE_FOLDER = ".store"
RUN_FILE = "run.json"
TRACE_FILE = "trace.json"
DOCUMENT_FILE = "document.json"
READERS = 8
"""How many files are read at a time, which hides the latency of object stores."""


def images_below(root: str | Path) -> str:
    """Where the pictures of the runs below a folder are kept, unless something else is said."""
    return f"{str(root).rstrip('/')}/{STORE_FOLDER}/images"


class RunRecord(BaseModel):
    """How a run began: written once, before anything is done.

    Attributes:
        thread: the thread of its checkpoints.
        context: the run's `Context`.
        profile: absolute path of the profile that names its models; None for the default one.
        models: who is planner, critic and generator.
        tags: what the prompt list says of the request.
    """

    run_id: str
    thread: str
    request: str
    images: list[ImageRef]
    context: dict[str, Any]
    profile: str | None
    models: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    started_at: datetime


class RunSummary(BaseModel):
    """A run as `runs list` shows it. `status` is `unfinished` until the run has come to an end."""

    run_id: str
    request: str
    status: str
    seed: int
    started_at: datetime
    steps: int | None = None


class RunStore:
    """Runs below a folder: `<root>/<run_id>/`, with pictures and checkpoints of all runs in `<root>/.store/`."""

    def __init__(self, root: str | Path, images: ImageStore | None = None, checkpoints: str | None = None):
        """Open the store.

        Args:
            root: the folder of the runs, local or any URL that fsspec knows.
            images: where their pictures are kept; below `root` by default.
            checkpoints: a PostgreSQL connection string; None keeps the checkpoints below `root`, in SQLite.
        """
        self.root = Folder(root, "folder of the runs")
        self.images = images or ImageStore(images_below(root))
        self.postgres = checkpoints

    def prepare(self) -> None:
        """See to it that runs can be written.

        Raises:
            BadInput: the folder cannot be written to, or the image store cannot be opened.
        """
        self.images.check()
        probe = f"{STORE_FOLDER}/probe-{secrets.token_hex(4)}"
        try:
            self.root.write(probe, b"")
            self.root.remove(probe)
        except OSError as error:
            said = error.strerror or error
            raise BadInput(f"the folder {shown(self.root.url)!r} (--out) cannot be written to: {said}") from None

    def folder(self, run_id: str) -> Folder:
        """The folder of a run."""
        return self.root / run_id

    def begin(
        self,
        request: str,
        images: list[ImageRef],
        context: dict[str, Any],
        profile: str | None,
        run_id: str | None = None,
        **told: dict[str, str],
    ) -> RunRecord:
        """Register a new run.

        Args:
            request: what to make.
            images: the pictures of the request.
            context: the run's `Context`.
            profile: absolute path of the profile.
            run_id: what to call it; made from the time and the request by default.
            told: `models` and `tags` of the record.
        """
        now = datetime.now(UTC)
        record = RunRecord(
            run_id=run_id or f"{now:%Y%m%d-%H%M%S}-{slug_of(request)}-{secrets.token_hex(2)}",
            thread=secrets.token_hex(16),
            request=request,
            images=images,
            context=context,
            profile=profile,
            started_at=now,
            **told,
        )
        self.folder(record.run_id).write(RUN_FILE, record.model_dump_json(indent=2).encode())
        return record

    def lock(self, run_id: str, owner: str | None = None) -> AbstractAsyncContextManager[None]:
        """Hold a run for this process alone; it is let go when the process ends, however it ends.

        Args:
            run_id: the run.
            owner: who holds it, where several processes stand for one; whoever holds it may take it again.

        Raises:
            Taken: another process works on the run.
        """
        return locks.hold(self.root / STORE_FOLDER / "locks", run_id, owner)

    def checkpointer(self, run_id: str) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        """What keeps the checkpoints of a run."""
        if self.postgres:
            return checkpointers.postgres(self.postgres)
        return checkpointers.sqlite(self.root / STORE_FOLDER / "checkpoints", f"{run_id}.sqlite")

    def has_checkpoints(self, run_id: str) -> bool:
        """Whether a run may have checkpoints; only SQLite can tell without being asked for them."""
        return bool(self.postgres) or (self.root / STORE_FOLDER / "checkpoints").exists(f"{run_id}.sqlite")

    def record(self, run_id: str) -> RunRecord:
        """How a run began.

        Raises:
            BadInput: there is no such run.
        """
        found = self.find(run_id)
        if found is None:
            known = [summary.run_id for summary in self.summaries()]
            hint = did_you_mean(run_id, known) or (
                f"; the newest is {known[0]}" if known else "; there are no runs yet"
            )
            raise BadInput(f"there is no run {run_id!r} in {shown(self.root.url)!r}{hint}")
        return found

    def find(self, run_id: str) -> RunRecord | None:
        """How a run began; None when there is no such run."""
        if not re.match(NAME, run_id):
            return None
        try:
            return RunRecord.model_validate_json(self.folder(run_id).read(RUN_FILE))
        except (OSError, ValidationError):
            return None

    def write_trace(self, trace: Trace) -> None:
        """Keep the trace of a run; from then on it has ended."""
        self.folder(trace.run_id).write(TRACE_FILE, trace.model_dump_json(exclude_none=True).encode())

    def adopt(self, trace: Trace) -> None:
        """Keep a trace that was made elsewhere, as a run of this store."""
        record = RunRecord(
            run_id=trace.run_id,
            thread=secrets.token_hex(16),
            request=trace.request,
            images=trace.images,
            context={"seed": 0} | trace.settings,
            profile=None,
            models=trace.models,
            tags=trace.tags,
            started_at=trace.started_at or trace.ended_at or datetime.now(UTC),
        )
        self.folder(trace.run_id).write(RUN_FILE, record.model_dump_json(indent=2).encode())
        self.write_trace(trace)

    def has_ended(self, run_id: str) -> bool:
        """Whether a run has come to an end, good or bad."""
        return self.folder(run_id).exists(TRACE_FILE)

    def trace(self, run_id: str) -> Trace | Skipped | None:
        """The trace of a run; None as long as the run has not ended, and why it cannot be read when it can't."""
        folder = self.folder(run_id)
        try:
            return read_trace(folder.read(TRACE_FILE), run_id)
        except FileNotFoundError:
            if folder.exists(DOCUMENT_FILE):
                said = "it was made before traces were kept; read its checkpoints instead (sqlite:...)"
                return Skipped(what=run_id, reason="trace of another version", detail=said)
            return None
        except OSError as error:
            return Skipped(what=run_id, reason="unreadable file", detail=str(error))

    def run_ids(self) -> Iterator[str]:
        """The runs in the order of their names, ended or not."""
        yield from (name for name in self.root.names() if not name.startswith("."))

    async def traces(self) -> AsyncIterator[Trace | Skipped]:
        """The traces of all runs that have ended, in the order of their names; a few are read ahead."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(READERS) as pool:
            pending: list[asyncio.Future[Trace | Skipped | None]] = []
            for run_id in await asyncio.to_thread(lambda: list(self.run_ids())):
                pending.append(loop.run_in_executor(pool, self.trace, run_id))
                if len(pending) >= 2 * READERS:
                    found = await pending.pop(0)
                    if found:
                        yield found
            for future in pending:
                found = await future
                if found:
                    yield found

    def document(self, run_id: str) -> dict[str, Any] | None:
        """What `document.json` of a run says; None as long as none was written."""
        try:
            data: dict[str, Any] = json.loads(self.folder(run_id).read(DOCUMENT_FILE))
        except (OSError, ValueError):
            return None
        return data

    def why_no_document(self, run_id: str, otherwise: str = "") -> str:
        """Why a run has no document, and what to do about it; `otherwise` names another way."""
        command = shlex.join(["interleaver", "run", "--resume", run_id, "--out", self.root.url])
        if self.has_ended(run_id):
            return f"run {run_id} was made without a document; write it {otherwise}with: {command}"
        return f"run {run_id} is unfinished; carry it on {otherwise}with: {command}"

    def summaries(self) -> list[RunSummary]:
        """All runs, the newest first."""
        with ThreadPoolExecutor(READERS) as pool:
            found = [summary for summary in pool.map(self._summary, self.run_ids()) if summary]
        return sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True)

    def _summary(self, run_id: str) -> RunSummary | None:
        record = self.find(run_id)
        if record is None:
            return None  # a folder that only looks like a run
        trace = self.trace(run_id)
        status = "unreadable" if isinstance(trace, Skipped) else trace.status if trace else "unfinished"
        return RunSummary(
            **record.model_dump(include={"run_id", "request", "started_at"}),
            seed=record.context["seed"],
            status=status,
            steps=len(trace.plan.steps) if isinstance(trace, Trace) else None,
        )


def slug_of(request: str) -> str:
    """The first words of a request, as they may stand in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", request.lower()).strip("-")[:32].strip("-") or "run"
