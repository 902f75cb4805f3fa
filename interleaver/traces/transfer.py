"""Traces and their pictures between stores: import into a run store, export into one file."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, cast

from interleaver.errors import BadInput, InterleaverError
from interleaver.store.images import ImageStore
from interleaver.store.locks import RunLocked
from interleaver.traces.runs import RunStore
from interleaver.traces.sources import TraceSource
from interleaver.traces.trace import SkippedRecord, Trace

ReportSkipped = Callable[[SkippedRecord], None]
"""Callback that is called for everything that could not be read or copied."""


async def read_traces(
    sources: Sequence[TraceSource], strict: bool = False
) -> AsyncGenerator[tuple[TraceSource, Trace | SkippedRecord]]:
    """Yield every trace of several sources.

    Args:
        sources: sources to read, one after another.
        strict: whether to raise at the first record that cannot be read.

    Raises:
        BadInput: `strict`, and a record cannot be read.
    """
    for source in sources:
        async with aclosing(source.read()) as traces:
            async for trace in traces:
                if strict and isinstance(trace, SkippedRecord):
                    raise BadInput(str(trace))
                yield source, trace


async def import_traces(
    sources: Sequence[TraceSource], target: RunStore, strict: bool, report: ReportSkipped
) -> Counter[str]:
    """Copy traces and their pictures into a run store; runs that it already has are left unchanged.

    Args:
        sources: sources to copy from.
        target: run store to copy to.
        strict: whether to raise at the first thing that cannot be read or copied.
        report: called for everything that could not be read or copied.

    Returns:
        Number of traces or pictures by outcome, such as "imported" or "skipped".
    """
    await asyncio.to_thread(target.prepare)
    counts: Counter[str] = Counter()
    async with aclosing(_usable_traces(sources, strict, report, counts)) as traces:
        async for source, trace in traces:
            counts[await _import(trace, target)] += 1
            counts["pictures missing"] += await _copy_images(trace, source.images, target.images, strict, report)
    return counts


async def export_traces(
    sources: Sequence[TraceSource], out: Path, pictures: ImageStore | None, strict: bool, report: ReportSkipped
) -> Counter[str]:
    """Write traces into one JSON Lines file, which appears only when it is complete.

    Args:
        sources: sources of the traces.
        out: path of the file: FILE.jsonl, or FILE.jsonl.gz to compress it.
        pictures: image store to copy the pictures to; None to copy none.
        strict: whether to raise at the first thing that cannot be read or copied.
        report: called for everything that could not be read or copied.

    Returns:
        Number of traces or pictures by outcome, such as "exported" or "skipped".
    """
    counts: Counter[str] = Counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.part")
    try:
        with gzip.open(partial, "wb") if out.suffix == ".gz" else partial.open("wb") as stream:
            file = cast(BinaryIO, stream)
            async with aclosing(_usable_traces(sources, strict, report, counts)) as traces:
                async for source, trace in traces:
                    file.write(trace.model_dump_json(exclude_none=True).encode() + b"\n")
                    counts["exported"] += 1
                    if pictures:
                        counts["pictures missing"] += await _copy_images(trace, source.images, pictures, strict, report)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return counts


async def _usable_traces(
    sources: Sequence[TraceSource], strict: bool, report: ReportSkipped, counts: Counter[str]
) -> AsyncGenerator[tuple[TraceSource, Trace]]:
    """Yield the traces of sources; what cannot be read is reported and counted."""
    async with aclosing(read_traces(sources, strict)) as records:
        async for source, record in records:
            if isinstance(record, SkippedRecord):
                report(record)
                counts["skipped"] += 1
            else:
                yield source, record


async def _import(trace: Trace, target: RunStore) -> str:
    """Add a trace to a run store unless the store has that run; return the outcome, as in `import_traces`."""
    try:
        async with target.lock(trace.run_id):
            existing = await asyncio.to_thread(target.trace, trace.run_id)
            is_newer = isinstance(existing, Trace) and existing.status == "unfinished" != trace.status
            if not is_newer and target.find(trace.run_id):
                return "already present"
            await asyncio.to_thread(target.adopt, trace)
            return "imported"
    except RunLocked:
        return "in progress here"


async def _copy_images(
    trace: Trace, source: ImageStore, target: ImageStore, strict: bool, report: ReportSkipped
) -> int:
    """Copy the pictures of a trace from one store to another; return the number of those that are missing."""
    if source.url == target.url:
        return 0
    missing = 0
    for ref in trace.images_by_hash().values():
        if await target.holds(ref):
            continue
        try:
            await target.put(await source.get(ref))
        except InterleaverError as error:
            problem = SkippedRecord(name=trace.run_id, reason="missing picture", detail=str(error))
            if strict:
                raise BadInput(str(problem)) from None
            report(problem)
            missing += 1
    return missing
