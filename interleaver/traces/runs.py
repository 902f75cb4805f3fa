"""The run store: one folder per run, in a local folder or at any fsspec URL."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import shlex
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import BaseModel, Field, ValidationError

from interleaver import migrations
from interleaver.errors import BadInput, did_you_mean, redact_password
from interleaver.pictures import Picture
from interleaver.store import checkpointers, locks, postgres
from interleaver.store.folders import Folder
from interleaver.store.images import ImageStore, LostPicture
from interleaver.traces.document_file import DOCUMENT_FILE, PICTURE_FOLDERS, DocumentFile
from interleaver.traces.trace import NAME, SkippedRecord, Trace, read_trace
from interleaver.types import ImageRef, Text

STORE_FOLDER = ".store"
RUN_FILE = "run.json"
TRACE_FILE = "trace.json"
READERS = 8
"""Number of files that are read concurrently, which hides the latency of object stores."""


def images_below(root: str | Path) -> str:
    """Return the default folder or URL of the image store for the runs in a folder."""
    return f"{str(root).rstrip('/')}/{STORE_FOLDER}/images"


class RunRecord(BaseModel):
    """The settings of a run, as stored in `run.json`; written once, before any work is done.

    Attributes:
        thread: LangGraph thread id of the run's checkpoints.
        context: the run's `Context`.
        profile: absolute path of the profile with the run's models; None for the default profile.
        models: backend and model of planner, critic and generator.
        tags: tags of the request from the prompt list.
    """

    format: int = migrations.FORMAT
    run_id: str
    thread: str
    request: Text
    images: list[ImageRef]
    context: dict[str, Any]
    profile: str | None
    models: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    started_at: datetime


class RunSummary(BaseModel):
    """A run as `runs list` shows it. `status` is `unfinished` until the run has ended."""

    run_id: str
    request: Text
    status: str
    seed: int
    started_at: datetime
    steps: int | None = None


class RunStore:
    """A store with its runs in `<root>/<run_id>/`, and the pictures and checkpoints of all runs in `<root>/.store/`."""

    def __init__(self, root: str | Path, images: ImageStore | None = None, checkpoints: str | None = None):
        """Open the store.

        Args:
            root: local folder or fsspec URL of the runs.
            images: image store of the runs; by default one below `root`.
            checkpoints: PostgreSQL connection string; None to keep the checkpoints in SQLite files below `root`.
        """
        self.root = Folder(root, "folder of the runs")
        self.images = images or ImageStore(images_below(root))
        self.postgres = checkpoints

    def prepare(self) -> None:
        """Check that runs can be written.

        Raises:
            BadInput: the folder cannot be written to, or the image store cannot be opened.
        """
        self.images.check()
        probe = f"{STORE_FOLDER}/probe-{secrets.token_hex(4)}"
        try:
            self.root.write(probe, b"")
            self.root.remove(probe)
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(
                f"the folder {redact_password(self.root.url)!r} (--out) cannot be written to: {reason}"
            ) from None

    def folder(self, run_id: str) -> Folder:
        """Return the folder of a run."""
        return self.root / run_id

    def begin(
        self,
        request: str,
        images: list[ImageRef],
        context: dict[str, Any],
        profile: str | None,
        run_id: str | None = None,
        *,
        models: dict[str, str],
        tags: dict[str, str],
    ) -> RunRecord:
        """Register a new run.

        Args:
            request: the user's request.
            images: the pictures of the request.
            context: the run's `Context`.
            profile: absolute path of the profile; None for the default profile.
            run_id: id of the run; by default made from the time and the request.
            models: the backend and model of planner, critic and generator.
            tags: tags that are kept with the run.
        """
        start = datetime.now(UTC)
        record = RunRecord(
            run_id=run_id or f"{start:%Y%m%d-%H%M%S}-{slug_of(request)}-{secrets.token_hex(2)}",
            thread=secrets.token_hex(16),
            request=request,
            images=images,
            context=context,
            profile=profile,
            models=models,
            tags=tags,
            started_at=start,
        )
        self.folder(record.run_id).write(RUN_FILE, record.model_dump_json(indent=2).encode())
        return record

    def lock(
        self, run_id: str, owner: str | None = None, patience: float = locks.CLOSING_SECONDS
    ) -> AbstractAsyncContextManager[None]:
        """Hold the exclusive lock of a run, which is also released if the process dies.

        Args:
            run_id: id of the run.
            owner: holder of the lock, if several processes act as one; the same owner may acquire the lock again.
            patience: seconds to wait for a lock on this machine that may be about to be released.

        Raises:
            RunLocked: another process is working on the run.
        """
        return locks.hold_lock(self.root / STORE_FOLDER / "locks", run_id, owner, patience)

    def checkpointer(self, run_id: str) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        """Return a context manager that opens the checkpointer of a run."""
        if self.postgres:
            return postgres.open_checkpointer(self.postgres)
        return checkpointers.sqlite(self.root / STORE_FOLDER / "checkpoints", f"{run_id}.sqlite")

    def has_checkpoints(self, run_id: str) -> bool:
        """Return whether a run may have checkpoints; always true with PostgreSQL, which is not queried."""
        return bool(self.postgres) or (self.root / STORE_FOLDER / "checkpoints").exists(f"{run_id}.sqlite")

    def record(self, run_id: str) -> RunRecord:
        """Return the record of a run.

        Raises:
            BadInput: there is no such run.
        """
        record = self.find(run_id)
        if record is None:
            run_ids = [summary.run_id for summary in self.summaries()]
            hint = did_you_mean(run_id, run_ids) or (
                f"; the newest is {run_ids[0]}" if run_ids else "; there are no runs yet"
            )
            raise BadInput(f"there is no run {run_id!r} in {redact_password(self.root.url)!r}{hint}")
        return record

    def find(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None if there is no such run."""
        if not re.match(NAME, run_id):
            return None
        try:
            return RunRecord.model_validate_json(self.folder(run_id).read(RUN_FILE))
        except (OSError, ValidationError):
            return None

    def has_run(self, run_id: str) -> bool:
        """Return whether there is a run of this name, readable or not."""
        folder = self.folder(run_id)
        return bool(re.match(NAME, run_id)) and (folder.exists(RUN_FILE) or folder.exists(TRACE_FILE))

    async def delete(self, run_id: str) -> None:
        """Delete a run with all its files and checkpoints; the pictures in the image store stay.

        After an interruption the run is still there, and can be deleted again. The caller holds the run's lock.
        """
        record, folder = self.find(run_id), self.folder(run_id)
        if self.postgres and record:
            async with self.checkpointer(run_id) as saver:
                await saver.adelete_thread(record.thread)
        await asyncio.to_thread(self._delete_files, run_id, folder)

    def _delete_files(self, run_id: str, folder: Folder) -> None:
        store = self.root / STORE_FOLDER
        for suffix in ("", "-wal", "-shm", "-journal"):
            store.remove(f"checkpoints/{run_id}.sqlite{suffix}")
        for file in list(folder.files()):
            if file.path != RUN_FILE:  # last, since its presence says that there is a run
                folder.remove(file.path)
        folder.remove_all()
        store.remove(f"locks/{run_id}.lock")

    def locked_run_ids(self) -> set[str]:
        """Return the ids of the runs that are being worked on, by this process or another one."""
        return locks.held_names(self.root / STORE_FOLDER / "locks")

    def write_trace(self, trace: Trace) -> None:
        """Write the trace of a run, which marks the run as ended."""
        self.folder(trace.run_id).write(TRACE_FILE, trace.model_dump_json(exclude_none=True).encode())

    def reopen(self, run_id: str) -> None:
        """Mark a run as not ended, since its document is going to be changed."""
        self.folder(run_id).remove(TRACE_FILE)

    def adopt(self, trace: Trace) -> None:
        """Add a trace from another source to this store, as a run of its own."""
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

    def lost_pictures(self, run_id: str, refs: Iterable[ImageRef]) -> set[str]:
        """Return the SHA-256 of those pictures of a run that the image store does not have.

        Pictures of which the run's document has copies are stored again, and so are not lost.

        Raises:
            BackendUnavailable: the image store cannot be read.
        """
        lost_hashes = set()
        for ref in refs:
            try:
                self.images.read(ref)
            except LostPicture:
                lost_hashes.add(ref.sha256)
        if lost_hashes:
            for data in self._copied_pictures(run_id):
                sha256 = hashlib.sha256(data).hexdigest()
                if sha256 in lost_hashes:
                    self.images.write(Picture.stored(data))
                    lost_hashes.discard(sha256)
        return lost_hashes

    def _copied_pictures(self, run_id: str) -> Iterator[bytes]:
        """Yield the bytes of the pictures beside a run's document."""
        folder = self.folder(run_id)
        for file in folder.files():
            if file.path.startswith(PICTURE_FOLDERS):
                yield folder.read(file.path)

    def has_ended(self, run_id: str) -> bool:
        """Return whether a run has ended, successfully or not."""
        return self.folder(run_id).exists(TRACE_FILE)

    def trace(self, run_id: str) -> Trace | SkippedRecord | None:
        """Return the trace of a run, None if the run has not ended, or a `SkippedRecord` if it cannot be read."""
        folder = self.folder(run_id)
        try:
            return read_trace(folder.read(TRACE_FILE), run_id)
        except FileNotFoundError:
            if folder.exists(DOCUMENT_FILE):
                reason = "it was made by a version that wrote no traces; read its checkpoints instead (sqlite:...)"
                return SkippedRecord(name=run_id, reason="trace of another format", detail=reason)
            return None
        except OSError as error:
            return SkippedRecord(name=run_id, reason="unreadable file", detail=str(error))

    def run_ids(self) -> Iterator[str]:
        """Yield the ids of all runs in alphabetical order, whether they have ended or not."""
        yield from (name for name in self.root.names() if not name.startswith("."))

    async def traces(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """Yield the traces of all runs that have ended, in the order of their ids; several are read ahead."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(READERS) as pool:
            pending: list[asyncio.Future[Trace | SkippedRecord | None]] = []
            for run_id in await asyncio.to_thread(lambda: list(self.run_ids())):
                pending.append(loop.run_in_executor(pool, self.trace, run_id))
                if len(pending) >= 2 * READERS:
                    trace = await pending.pop(0)
                    if trace:
                        yield trace
            for future in pending:
                trace = await future
                if trace:
                    yield trace

    def document(self, run_id: str) -> DocumentFile | None:
        """Return the content of a run's `document.json`; None if it is missing or cannot be read."""
        try:
            return DocumentFile.model_validate_json(self.folder(run_id).read(DOCUMENT_FILE))
        except (OSError, ValidationError):
            return None

    def why_no_document(self, run_id: str, otherwise: str = "") -> str:
        """Return why a run has no document and how to make one.

        Args:
            run_id: id of the run.
            otherwise: another way to make it, put before the command: "with ..., or ".
        """
        command = self.resume_command(run_id)
        if self.has_ended(run_id):
            return f"run {run_id} was made without a document; write it {otherwise}with: {command}"
        return f"run {run_id} is unfinished; resume it {otherwise}with: {command}"

    def resume_command(self, run_id: str) -> str:
        """Return the command that resumes a run."""
        return shlex.join(["interleaver", "run", "--resume", run_id, "--out", self.root.url])

    def summaries(self) -> list[RunSummary]:
        """Return the summaries of all runs, newest first."""
        with ThreadPoolExecutor(READERS) as pool:
            run_summaries = [summary for summary in pool.map(self._summary, self.run_ids()) if summary]
        return sorted(run_summaries, key=lambda run: (run.started_at, run.run_id), reverse=True)

    def _summary(self, run_id: str) -> RunSummary | None:
        record = self.find(run_id)
        if record is None:
            return None  # a folder that is not a run
        trace = self.trace(run_id)
        status = "unreadable" if isinstance(trace, SkippedRecord) else trace.status if trace else "unfinished"
        return RunSummary(
            **record.model_dump(include={"run_id", "request", "started_at"}),
            seed=record.context["seed"],
            status=status,
            steps=len(trace.plan.steps) if isinstance(trace, Trace) else None,
        )


def slug_of(request: str) -> str:
    """Return the first words of a request in a form that is safe in file names."""
    return re.sub(r"[^a-z0-9]+", "-", request.lower()).strip("-")[:32].strip("-") or "run"
