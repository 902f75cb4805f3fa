"""The run store: a folder with one folder for each run."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from interleaver.errors import BadInput, did_you_mean
from interleaver.traces.images import ImageStore
from interleaver.types import ImageRef

STORE_FOLDER = ".store"
RUN_FILE = "run.json"
DOCUMENT_FILE = "document.json"


def images_below(root: Path) -> str:
    """Where the pictures of the runs below a folder are kept, unless something else is said."""
    return str(root / STORE_FOLDER / "images")


class RunRecord(BaseModel):
    """How a run began: written once, before anything is done.

    Attributes:
        context: the run's `Context`.
        profile: absolute path of the profile that names its models; None for the default one.
    """

    run_id: str
    request: str
    images: list[ImageRef]
    context: dict[str, Any]
    profile: str | None
    started_at: datetime


class RunSummary(BaseModel):
    """A run as `runs list` shows it. `status` is `unfinished` as long as there is no document."""

    run_id: str
    request: str
    status: str
    seed: int
    started_at: datetime
    steps: int | None = None


class RunStore:
    """Runs below a local folder: `<root>/<run_id>/`, with pictures and checkpoints of all runs in `<root>/.store/`."""

    def __init__(self, root: Path, images: ImageStore | None = None):
        """Open the store.

        Args:
            root: the folder of the runs.
            images: where their pictures are kept; below `root` by default.
        """
        self.root = root
        self.images = images or ImageStore(images_below(root))
        self.checkpoints = root / STORE_FOLDER / "checkpoints.sqlite"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            BadInput: the folder cannot be written to, or the image store cannot be opened.
        """
        self.images.check()
        try:
            (self.root / STORE_FOLDER).mkdir(parents=True, exist_ok=True)
            probe = self.root / STORE_FOLDER / f"probe-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise BadInput(f"the folder {str(self.root)!r} (--out) cannot be written to: {error.strerror}") from None

    def folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.root / run_id

    def begin(self, request: str, images: list[ImageRef], context: dict[str, Any], profile: str | None) -> RunRecord:
        """Register a new run."""
        now = datetime.now(UTC)
        slug = re.sub(r"[^a-z0-9]+", "-", request.lower()).strip("-")[:32].strip("-") or "run"
        record = RunRecord(
            run_id=f"{now:%Y%m%d-%H%M%S}-{slug}-{secrets.token_hex(2)}",
            request=request,
            images=images,
            context=context,
            profile=profile,
            started_at=now,
        )
        self.folder(record.run_id).mkdir(parents=True)
        write_whole(self.folder(record.run_id) / RUN_FILE, record.model_dump_json(indent=2).encode())
        return record

    @contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Hold a run for this process alone; it is let go when the process ends, however it ends.

        Raises:
            BadInput: another process works on the run.
        """
        try:
            with FileLock(self.root / STORE_FOLDER / f"{run_id}.lock", timeout=0):
                yield
        except Timeout:
            raise BadInput(f"run {run_id} is being worked on by another process; wait for it or stop it") from None

    def record(self, run_id: str) -> RunRecord:
        """How a run began.

        Raises:
            BadInput: there is no such run.
        """
        try:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
                raise FileNotFoundError(run_id)
            return RunRecord.model_validate_json((self.folder(run_id) / RUN_FILE).read_bytes())
        except (OSError, ValidationError):
            known = [summary.run_id for summary in self.summaries()]
            hint = did_you_mean(run_id, known) or (
                f"; the newest is {known[0]}" if known else "; there are no runs yet"
            )
            raise BadInput(f"there is no run {run_id!r} in {str(self.root)!r}{hint}") from None

    def document(self, run_id: str) -> dict[str, Any] | None:
        """What `document.json` of a run says; None as long as the run has never come to an end."""
        try:
            data: dict[str, Any] = json.loads((self.folder(run_id) / DOCUMENT_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return data

    def summaries(self) -> list[RunSummary]:
        """All runs, the newest first."""
        return sorted(self._read_all(), key=lambda run: (run.started_at, run.run_id), reverse=True)

    def _read_all(self) -> list[RunSummary]:
        summaries = []
        for file in self.root.glob(f"*/{RUN_FILE}"):
            try:
                record = RunRecord.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue  # a folder that only looks like a run
            document = self.document(record.run_id)
            summaries.append(
                RunSummary(
                    **record.model_dump(include={"run_id", "request", "started_at"}),
                    seed=record.context["seed"],
                    status=document["status"] if document else "unfinished",
                    steps=len(document["steps"]) if document else None,
                )
            )
        return summaries


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_bytes(data)
    os.replace(draft, path)
