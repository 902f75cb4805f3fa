"""Traces from files: a run store and an export."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from contextlib import aclosing

from interleaver.errors import BadInput
from interleaver.store.images import ImageStore
from interleaver.traces.runs import RUN_FILE, RunStore
from interleaver.traces.trace import SkippedRecord, Trace, read_trace


class RunSource:
    """The runs of a run store that have ended."""

    def __init__(self, runs: RunStore):
        self.runs = runs
        self.images = runs.images
        if not any(runs.folder(run_id).exists(RUN_FILE) for run_id in runs.run_ids()):
            raise BadInput(
                f"there are no runs in {runs.root.url!r}; give a folder that `interleaver run` or `batch` wrote, "
                "or another source of traces (`interleaver traces list --help`)"
            )

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        async with aclosing(self.runs.traces()) as traces:
            async for trace in traces:
                yield trace


class ExportSource:
    """A JSON Lines file with one trace per line."""

    def __init__(self, address: str, images: ImageStore):
        self.address = address
        self.images = images

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        import fsspec

        try:
            with fsspec.open(self.address, "rb", compression="infer") as file:
                for number, line in enumerate(file, start=1):
                    yield read_trace(line.removeprefix(codecs.BOM_UTF8), f"{self.address}, line {number}")
        except FileNotFoundError:
            raise BadInput(f"there is no file {self.address!r}") from None
        except (OSError, EOFError) as error:
            yield SkippedRecord(name=self.address, reason="truncated or damaged record", detail=str(error))
