"""Making a dataset: traces in, rows chosen, files out. Memory stays the same however many traces there are."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from interleaver.errors import BadInput, shown
from interleaver.traces.labels import Labels, read_labels
from interleaver.traces.sources import Source
from interleaver.traces.sources.files import RunSource
from interleaver.traces.trace import Skipped, Trace
from interleaver.training.data.card import SAMPLES, Report, Sample, take_sample, write_card
from interleaver.training.data.pictures import Pictures
from interleaver.training.data.rows import Dropped, Row, Rules, rows_of
from interleaver.training.data.spool import Over, Split, Spool
from interleaver.training.data.writers import Format, Writer, check_format, open_writer

DATASET = "dataset"
EXAMPLES = 20
"""How many things of each reason are listed by name."""
Progress = Callable[[str, int], None]
"""Told how far it is: what is being done, and how many traces or rows are done."""


@dataclass(frozen=True)
class Selection:
    """Which of the rows stay.

    Attributes:
        balance: over what groups are balanced.
        per_request: rows of one request, and of those nearly the same; None for no limit.
        max_rows: of the dataset; None for no limit.
        similarity: 0 to 1, from which on two requests count as nearly the same.
        validation: 0 to 1, the share of the requests in the validation split.
        seed: of every random choice.
    """

    balance: tuple[Over, ...] = ()
    per_request: int | None = None
    max_rows: int | None = None
    similarity: float = 0.9
    validation: float = 0.05
    seed: int = 0


class Build:
    """One dataset in the making."""

    def __init__(self, rules: Rules, selection: Selection, strict: bool = False, progress: Progress | None = None):
        """Set up a build.

        Args:
            rules: which parts of traces become rows.
            selection: which of the rows stay.
            strict: stop at the first thing that cannot be used.
            progress: is told how far it is.
        """
        self.rules = rules
        self.selection = selection
        self.strict = strict
        self._progress = progress or (lambda what, count: None)
        self._skipped: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._dropped: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._labelled: set[str] = set()
        self._traces = self._used = 0

    async def run(self, sources: Sequence[Source], names: Sequence[str], form: Format, out: Path) -> Report:
        """Make the dataset.

        Args:
            sources: of the traces; nothing in them is changed.
            names: their addresses.
            form: the format.
            out: the folder of the dataset, empty or new; it appears when everything is written, if there is a row.

        Raises:
            BadInput: the format cannot hold such rows, labels are wanted from a source that has none, or, with
                `strict`, something cannot be used.
        """
        if self.rules.labels() and not all(isinstance(source, RunSource) for source in sources):
            raise BadInput("labels lie beside the runs of a store; first import the traces into one (traces import)")
        check_format(form, self.rules.kind)
        scratch = await asyncio.to_thread(_scratch_beside, out)
        spool = Spool(scratch / "rows.sqlite", self.selection.similarity, self.selection.seed)
        try:
            pictures = [Pictures(source.images) for source in sources]
            await self._collect(sources, pictures, spool)
            await asyncio.to_thread(self._select, spool)
            report = self._report(names, form)
            await asyncio.to_thread(self._write, spool, pictures, scratch / DATASET, report)
            if report.splits:
                (scratch / DATASET).replace(out)
            return report
        finally:
            spool.close()
            shutil.rmtree(scratch, ignore_errors=True)

    async def _collect(self, sources: Sequence[Source], pictures: list[Pictures], spool: Spool) -> None:
        """Put every row that the rules allow into the spool."""
        for number, source in enumerate(sources):
            async for found in source.read():
                if isinstance(found, Skipped):
                    self._skip(found.reason, f"{found.what}: {found.detail}")
                    continue
                self._traces += 1
                self._models.update(f"{role}: {model}" for role, model in found.models.items())
                labels = await self._labels(source, found)
                self._used += await asyncio.to_thread(self._take, found, labels, pictures[number], spool, number)
                self._progress("traces", self._traces)
        for name in self.rules.labels() - self._labelled:
            raise BadInput(f"no run has labels {name!r}; `interleaver traces label` makes them")

    async def _labels(self, source: Source, trace: Trace) -> dict[str, Labels | None]:
        if not self.rules.labels():
            return {}
        assert isinstance(source, RunSource)
        found = {}
        for name in sorted(self.rules.labels()):
            found[name] = await asyncio.to_thread(read_labels, source.runs, trace.run_id, name)
            self._labelled |= {name} if found[name] else set()
        return found

    def _take(
        self, trace: Trace, labels: dict[str, Labels | None], pictures: Pictures, spool: Spool, source: int
    ) -> bool:
        """Put the rows of one trace into the spool; whether there were any."""
        any_row = False
        for row in self._rows(trace, labels):
            if isinstance(row, Dropped):
                self._dropped[row.reason] += 1
                continue
            problem = self._problem(row, pictures)
            if problem:
                self._skip(problem, f"{row.run_id}, step {(row.step or 0) + 1}")
            elif spool.add(row, source):
                any_row = True
            else:
                self._dropped["duplicate row"] += 1
        return any_row

    def _rows(self, trace: Trace, labels: dict[str, Labels | None]) -> Iterator[Row | Dropped]:
        try:
            yield from rows_of(trace, self.rules, labels)
        except Exception as error:  # whatever is wrong in one trace must not cost the others
            self._skip("invalid trace", f"{trace.run_id}: {type(error).__name__}: {error}")

    def _problem(self, row: Row, pictures: Pictures) -> str | None:
        """Why a row cannot be used, whatever the rules say."""
        for ref in row.images:
            problem = pictures.problem(ref)
            if problem:
                return problem
        tags = (row.prompt + (row.answer if self.rules.kind != "sequences" else "")).count("<image>")
        wanted = len(row.images) if self.rules.kind != "sequences" else tags
        return None if tags == wanted else "not as many <image> tags as pictures"

    def _skip(self, reason: str, what: str) -> None:
        if self.strict:
            raise BadInput(f"{what}: {reason}")
        self._skipped[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(what)

    def _select(self, spool: Spool) -> None:
        selection = self.selection
        spool.group_requests()
        if selection.per_request is not None:
            spool.limit_requests(selection.per_request)
        spool.balance(selection.balance)
        if selection.max_rows is not None:
            spool.limit(selection.max_rows)
        spool.split(selection.validation)

    def _report(self, names: Sequence[str], form: Format) -> Report:
        return Report(
            kind=self.rules.kind,
            format=form,
            version=version("interleaver"),
            made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            sources=[shown(name) for name in names],
            rules=asdict(self.rules),
            selection=asdict(self.selection),
            traces=self._traces,
            traces_used=self._used,
            skipped=dict(self._skipped.most_common()),
            skipped_examples=self._examples,
            models=dict(self._models.most_common()),
        )

    def _write(self, spool: Spool, pictures: list[Pictures], folder: Path, report: Report) -> None:
        folder.mkdir()
        writer = open_writer(report.format, self.rules.kind, folder)
        digest = hashlib.sha256()
        samples: dict[str, Sample] = {}
        count = 0
        splits: tuple[Split, ...] = ("train", "validation")
        for split in splits:
            before = count
            for row, source in spool.rows(split):
                self._write_row(writer, row, split, pictures[source], folder, samples)
                digest.update(row.model_dump_json().encode())
                count += 1
                self._progress("rows", count)
            if count > before:
                report.splits[split] = {"rows": count - before, "requests": spool.requests(split)}
        writer.close()
        report.candidates = spool.count()
        report.dropped = dict((self._dropped + spool.dropped()).most_common())
        report.groups = {"candidates": spool.groups(), **{split: spool.groups(split) for split in splits}}
        report.fingerprint = digest.hexdigest()
        write_card(report, list(samples.values()), folder)

    def _write_row(
        self, writer: Writer, row: Row, split: Split, pictures: Pictures, folder: Path, samples: dict[str, Sample]
    ) -> None:
        writer.write(row, split, pictures.read)
        if row.group not in samples and len(samples) < SAMPLES:
            samples[row.group] = take_sample(row, len(samples) + 1, folder, pictures.read)


def _scratch_beside(out: Path) -> Path:
    """A new folder beside the one that is going to be written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
