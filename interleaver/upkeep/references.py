"""Which pictures are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from interleaver.errors import BadInput
from interleaver.graph.builder import build_graph
from interleaver.traces.runs import RunRecord, RunStore
from interleaver.traces.sources import TraceSource
from interleaver.traces.sources.files import RunSource
from interleaver.traces.trace import SkippedRecord, Trace
from interleaver.traces.transfer import read_traces
from interleaver.types import ImageRef


async def hashes_of_sources(sources: Sequence[TraceSource]) -> set[str]:
    """Return the SHA-256 of every picture that sources refer to, including those of unfinished runs in a run store.

    Raises:
        BadInput: a trace cannot be read, so its pictures are unknown.
    """
    hashes: set[str] = set()
    for source in sources:
        if isinstance(source, RunSource):
            hashes |= await hashes_of_runs(source.runs, source.runs.run_ids())
            continue
        async with aclosing(read_traces([source], strict=True)) as traces:
            async for _, trace in traces:
                assert isinstance(trace, Trace)  # `strict` raises for anything else
                hashes |= set(trace.images_by_hash())
    return hashes


async def hashes_of_runs(runs: RunStore, run_ids: Iterable[str]) -> set[str]:
    """Return the SHA-256 of every picture of some runs, whether they are finished or not.

    Raises:
        BadInput: a trace cannot be read, so its pictures are unknown.
    """
    hashes: set[str] = set()
    for run_id in run_ids:
        hashes |= set(await pictures_of_run(runs, run_id))
    return hashes


async def pictures_of_run(runs: RunStore, run_id: str) -> dict[str, ImageRef]:
    """Return every picture of a run by its SHA-256, whether the run is finished or not; none if there is no such run.

    Raises:
        BadInput: the trace cannot be read.
    """
    record, trace = await asyncio.to_thread(runs.find, run_id), await asyncio.to_thread(runs.trace, run_id)
    if isinstance(trace, SkippedRecord):
        raise BadInput(
            f"run {run_id} cannot be read ({trace.reason}: {trace.detail}), so its pictures are not known; delete "
            f"it, or resume it with: {runs.resume_command(run_id)}"
        )
    pictures = trace.images_by_hash() if trace else {}
    if record and not (trace and trace.status == "complete"):
        pictures |= await _pictures_of_checkpoints(runs, record)  # it may be resumed from them
    return pictures


async def _pictures_of_checkpoints(runs: RunStore, record: RunRecord) -> dict[str, ImageRef]:
    request_pictures = {image.sha256: image for image in record.images}
    if not await asyncio.to_thread(runs.has_checkpoints, record.run_id):
        return request_pictures
    async with runs.checkpointer(record.run_id) as saver:
        graph = build_graph().compile(checkpointer=saver)
        state = (await graph.aget_state({"configurable": {"thread_id": record.thread}})).values
    if not state.get("plan") or "settings" not in state:
        return request_pictures
    return request_pictures | Trace.from_state(state, record.run_id, "run").images_by_hash()
