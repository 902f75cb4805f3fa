"""Traces from files: a run store, an export, and the records of the reference implementation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from interleaver.errors import BadInput, InterleaverError, explain
from interleaver.pictures import Picture
from interleaver.traces.images import ImageStore
from interleaver.traces.runs import RUN_FILE, RunStore
from interleaver.traces.trace import Skipped, Trace, name_from, read_trace
from interleaver.types import Attempt, ImageRef, Outcome, Plan, Step, StepResult, Verdict

RECORD = "execution_record.json"


class RunSource:
    """The runs of a store that have ended."""

    def __init__(self, runs: RunStore):
        self.runs = runs
        self.images = runs.images
        if not any(runs.folder(run_id).exists(RUN_FILE) for run_id in runs.run_ids()):
            raise BadInput(
                f"there are no runs in {runs.root.url!r}; give a folder that `interleaver run` or `batch` wrote, "
                "or another source of traces (`interleaver traces list --help`)"
            )

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        async for found in self.runs.traces():
            yield found


class ExportSource:
    """A JSON Lines file with one trace a line."""

    def __init__(self, address: str, images: ImageStore):
        self.address = address
        self.images = images

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        import fsspec

        try:
            with fsspec.open(self.address, "rb", compression="infer") as file:
                for number, line in enumerate(file, start=1):
                    yield read_trace(line, f"{self.address}, line {number}")
        except FileNotFoundError:
            raise BadInput(f"there is no file {self.address!r}") from None
        except (OSError, EOFError) as error:
            yield Skipped(what=self.address, reason="truncated or damaged record", detail=str(error))


def holds_records(address: str) -> bool:
    """Whether a folder holds records of the reference implementation."""
    folder = Path(address)
    return folder.is_dir() and ((folder / RECORD).exists() or any(folder.glob(f"*/{RECORD}")))


class RecordSource:
    """Folders with an `execution_record.json` each, as the reference implementation writes them.

    Their pictures are read into the image store.
    """

    def __init__(self, address: str, images: ImageStore):
        self.root = Path(address)
        self.images = images

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
        for file in sorted(self.root.rglob(RECORD)):
            relative = file.parent.relative_to(self.root).as_posix()
            name = name_from(self.root.resolve().name if relative == "." else relative)
            try:
                record = json.loads(await asyncio.to_thread(file.read_bytes))
            except (OSError, ValueError) as error:
                yield Skipped(what=name, reason="truncated or damaged record", detail=str(error))
                continue
            try:
                yield await self._trace(name, file.parent, record)
            except _Poisoned as error:
                yield Skipped(what=name, reason=error.reason, detail=str(error))
            except ValidationError as error:
                yield Skipped(what=name, reason="invalid trace", detail=explain(error))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                yield Skipped(what=name, reason="invalid trace", detail=f"{type(error).__name__}: {error}")

    async def _trace(self, name: str, folder: Path, record: dict[str, Any]) -> Trace:
        plan = _plan(record["global_context"])
        positions: dict[int, int] = {step.number: position for position, step in enumerate(plan.steps)}
        attempts: list[Attempt] = []
        for entry in record["steps"]:
            position = positions.get(int(entry["step"]))
            if position is None:
                raise _Poisoned("invalid trace", f"the plan has no step {entry['step']!r}")
            number = sum(attempt.step == position for attempt in attempts) + 1
            attempts.append(await self._attempt(folder, entry, position, number))
        results = [_result(step, [one for one in attempts if one.step == n]) for n, step in enumerate(plan.steps)]
        done = all(result and result.outcome in (Outcome.ACCEPTED, Outcome.TEXT) for result in results)
        return Trace(
            run_id=name,
            source="record",
            request=record["user_input"],
            status="complete" if done else "partial",
            plan=plan,
            attempts=attempts,
            results=results,
        )

    async def _attempt(self, folder: Path, entry: dict[str, Any], position: int, number: int) -> Attempt:
        source = entry.get("source_img")
        success, refined = entry["success"], entry.get("refine_prompt") or ""
        if not isinstance(success, bool):
            raise _Poisoned("invalid trace", f"success is {success!r}; it must be true or false")
        return Attempt(
            step=position,
            attempt=number,
            prompt=entry["prompt"],
            seed=0,
            sources=[await self._picture(folder, source)] if source else [],
            image=await self._picture(folder, entry["target_img"]),
            verdict=Verdict(accepted=success, refined_prompt=refined, reasoning=entry.get("reasoning") or ""),
        )

    async def _picture(self, folder: Path, said: str) -> ImageRef:
        path = _inside(folder, said)
        try:
            picture = await asyncio.to_thread(lambda: Picture.decode(path.read_bytes(), said))
        except OSError as error:
            raise _Poisoned("missing picture", f"{said}: {error.strerror}") from None
        except InterleaverError as error:
            raise _Poisoned("not a picture", str(error)) from None
        return await self.images.put(picture)


class _Poisoned(Exception):
    """A record that must not be used."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def _inside(folder: Path, said: str) -> Path:
    """The file that a record names, which must lie in the record's own folder.

    Records name files by where they lay when they were written. Of an absolute path the longest end that exists in the
    folder counts, so that records survive a move.
    """
    parts = [part for part in PurePosixPath(said).parts if part != "/"]
    root = folder.resolve()
    for start in range(len(parts) if said.startswith("/") else 1):
        path = root.joinpath(*parts[start:])
        if path.resolve().is_relative_to(root) and path.is_file():
            return path
    if ".." in parts or said.startswith("/") or (root / said).is_symlink():
        raise _Poisoned("path outside its folder", said)
    raise _Poisoned("missing picture", said)


def _plan(context: dict[str, Any]) -> Plan:
    steps = [
        Step(
            number=int(step.get("step_number") or number),
            name=step.get("step_name") or "",
            instruction=step.get("instruction"),
            prompt=step.get("prompt"),
            auxiliary_text=step.get("auxiliary_text"),
        )
        for number, step in enumerate(context["execution_plan"], start=1)
    ]
    return Plan(steps=steps, reasoning=context.get("reasoning") or "")


def _result(step: Step, attempts: list[Attempt]) -> StepResult | None:
    if not step.draws:
        return StepResult(outcome=Outcome.TEXT)
    if not attempts:
        return None
    last = attempts[-1]
    accepted = bool(last.verdict and last.verdict.accepted)
    return StepResult(
        outcome=Outcome.ACCEPTED if accepted else Outcome.EXHAUSTED, attempt=last.attempt, image=last.image
    )


async def copy_pictures(trace: Trace, source: ImageStore, target: ImageStore) -> list[Skipped]:
    """Copy the pictures of a trace from one store to another; what could not be copied."""
    if source.url == target.url:
        return []
    problems = []
    for ref in trace.pictures().values():
        if await target.holds(ref):
            continue
        try:
            await target.put(await source.get(ref))
        except InterleaverError as error:
            problems.append(Skipped(what=trace.run_id, reason="missing picture", detail=str(error)))
    return problems
