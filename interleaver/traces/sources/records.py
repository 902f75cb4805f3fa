"""Traces from the generation records of the reference implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from interleaver.errors import InterleaverError, explain
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore
from interleaver.traces.trace import SkippedRecord, Trace, run_name_from
from interleaver.types import Attempt, ImageRef, Outcome, Plan, Step, StepResult, Verdict

RECORD_FILE = "execution_record.json"
MAX_DEPTH = 3
"""Number of folders above a record up to which a folder counts as one of records."""
BLANK = "white.png"
"""File name of the white canvas that the scripts name as the source of a picture that is drawn from scratch."""


def holds_records(address: str) -> bool:
    """Return whether a folder holds records of the reference implementation."""
    patterns = ["*/" * depth + RECORD_FILE for depth in range(MAX_DEPTH + 1)]
    return Path(address).is_dir() and any(any(Path(address).glob(pattern)) for pattern in patterns)


class RecordSource:
    """Folders with an `execution_record.json` each, as the reference implementation writes them.

    Their pictures are copied into the image store.
    """

    def __init__(self, address: str, images: ImageStore):
        self.root = Path(address)
        self.images = images

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        for file in sorted(self.root.rglob(RECORD_FILE)):
            relative = file.parent.relative_to(self.root).as_posix()
            name = run_name_from(self.root.resolve().name if relative == "." else relative)
            try:
                record = from_json(await asyncio.to_thread(file.read_bytes))
            except (OSError, ValueError) as error:
                yield SkippedRecord(name=name, reason="truncated or damaged record", detail=str(error))
                continue
            try:
                yield await self._trace(name, file.parent, record)
            except _UnusableRecord as error:
                yield SkippedRecord(name=name, reason=error.reason, detail=str(error))
            except ValidationError as error:
                yield SkippedRecord(name=name, reason="invalid trace", detail=explain(error))
            except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, OSError) as error:
                yield SkippedRecord(name=name, reason="invalid trace", detail=f"{type(error).__name__}: {error}")

    async def _trace(self, name: str, folder: Path, record: dict[str, Any]) -> Trace:
        if "global_context" not in record and all(key.isdigit() for key in record):
            detail = "it has neither request nor verdicts; score its result file with: interleaver eval ueval --outputs"
            raise _UnusableRecord("record of UEval's script", detail)
        plan = _plan(record["global_context"])
        positions: dict[int, int] = {step.number: position for position, step in enumerate(plan.steps)}
        attempts: list[Attempt] = []
        refined_prompts: dict[int, str] = {}
        for entry in record["steps"]:
            position = positions.get(int(entry["step"]))
            if position is None:
                raise _UnusableRecord("invalid trace", f"the plan has no step {entry['step']!r}")
            # Every entry repeats the plan's prompt; what was drawn is what the critic wrote in the entry before.
            prompt = refined_prompts.get(position) or entry["prompt"]
            number = sum(attempt.step == position for attempt in attempts) + 1
            attempts.append(await self._attempt(folder, entry, position, number, prompt))
            refined_prompts[position] = entry.get("refine_prompt") or ""
        results = [
            _result(step, [attempt for attempt in attempts if attempt.step == n]) for n, step in enumerate(plan.steps)
        ]
        is_complete = all(result and result.outcome.finished for result in results)
        return Trace(
            run_id=name,
            source="record",
            request=record["user_input"],
            status="complete" if is_complete else "partial",
            plan=plan,
            attempts=attempts,
            results=results,
        )

    async def _attempt(self, folder: Path, entry: dict[str, Any], position: int, number: int, prompt: str) -> Attempt:
        source = str(entry.get("source_img") or BLANK)
        has_source = PurePosixPath(source.replace("\\", "/")).name != BLANK
        verdict = Verdict(
            accepted=_read_success(entry["success"]),
            refined_prompt=entry.get("refine_prompt") or "",
            reasoning=entry.get("reasoning") or "",
        )
        return Attempt(
            step=position,
            attempt=number,
            prompt=prompt,
            seed=0,  # the records have none
            sources=[await self._picture(folder, source)] if has_source else [],
            image=await self._picture(folder, entry["target_img"]),
            verdict=verdict,
        )

    async def _picture(self, folder: Path, path_text: str) -> ImageRef:
        path = _find_inside(folder, path_text)
        try:
            picture = await asyncio.to_thread(lambda: Picture.decode(path.read_bytes(), path_text))
        except OSError as error:
            raise _UnusableRecord("missing picture", f"{path_text}: {error.strerror}") from None
        except InterleaverError as error:
            raise _UnusableRecord("not a picture", str(error)) from None
        return await self.images.put(picture)


class _UnusableRecord(Exception):
    """The problem of a record that cannot be used."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def _read_success(value: object) -> bool:
    """Return a verdict, which may be a text; the scripts take any text for a success, but the critic's word counts."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise _UnusableRecord("invalid trace", f"success is {value!r}; it must be true or false")
    return value


def _find_inside(folder: Path, path_text: str) -> Path:
    """Return the file that a record names, which must be in the record's own folder.

    Records name files by their paths at the time of writing, absolute or relative to a working directory. The longest
    suffix that exists in the folder is used, so that records can be moved.
    """
    path_text = path_text.replace("\\", "/")
    parts = [part for part in PurePosixPath(path_text).parts if part != "/"]
    root = folder.resolve()
    for start in range(len(parts) if ".." not in parts else 0):
        path = root.joinpath(*parts[start:])
        if path.resolve().is_relative_to(root) and path.is_file():
            return path
    if ".." in parts or path_text.startswith("/") or (root / path_text).is_symlink():
        raise _UnusableRecord("path outside its folder", path_text)
    raise _UnusableRecord("missing picture", path_text)


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
