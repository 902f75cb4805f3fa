"""Building a dataset: reads traces, selects rows and writes files, in memory that does not grow with the traces."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from interleaver.choices import Balance, DatasetFormat, DatasetKind
from interleaver.errors import BadInput, redact_password
from interleaver.traces.labels import Labels, read_labels
from interleaver.traces.sources import TraceSource
from interleaver.traces.sources.files import RunSource
from interleaver.traces.trace import SkippedRecord, Trace
from interleaver.training.data.card import SAMPLES, CardSample, DatasetReport, take_sample, write_card
from interleaver.training.data.pictures import RowPictures
from interleaver.training.data.row_store import RowStore, Split
from interleaver.training.data.rows import DroppedPart, RowRules, TrainingRow, rows_of
from interleaver.training.data.writers import DatasetWriter, check_format, open_writer

DATASET = "dataset"
DEFAULT_BALANCE: dict[DatasetKind, tuple[Balance, ...]] = {
    "planner-sft": ("categories",),
    "critic-sft": ("kinds", "verdicts"),
    "critic-rl": ("categories", "verdicts"),
    "sequences": (),
}
"""The default groupings that each kind of dataset is balanced over."""
EXAMPLES = 20
"""Maximum number of skipped records listed by name for each reason."""
ReportProgress = Callable[[str, int], None]
"""Progress callback: takes what is being counted ("traces" or "rows") and the number processed so far."""


@dataclass(frozen=True)
class Selection:
    """Which rows are kept, and how they are split.

    Attributes:
        balance: groupings to balance the rows over, in this order.
        per_request: maximum number of rows per request, near-duplicate requests counting as one; None for no limit.
        max_rows: maximum number of rows in the dataset; None for no limit.
        similarity: similarity, 0 to 1, from which two requests count as near-duplicates.
        validation: share of the requests that go to the validation split, 0 to 1.
        seed: seed of the random order and of the split.
    """

    balance: tuple[Balance, ...] = ()
    per_request: int | None = None
    max_rows: int | None = None
    similarity: float = 0.9
    validation: float = 0.05
    seed: int = 0


class DatasetBuild:
    """Builds one dataset from traces."""

    def __init__(
        self, rules: RowRules, selection: Selection, strict: bool = False, progress: ReportProgress | None = None
    ):
        """Create a build.

        Args:
            rules: which parts of traces become rows.
            selection: which rows are kept.
            strict: whether to fail at the first record or row that cannot be used, instead of skipping it.
            progress: progress callback.
        """
        self.rules = rules
        self.selection = selection
        self.strict = strict
        self._progress = progress or (lambda task, count: None)
        self._skip_counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._drop_counts: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._label_names: set[str] = set()
        self._traces = self._used_traces = self._neutralised_rows = 0

    async def run(
        self, sources: Sequence[TraceSource], names: Sequence[str], dataset_format: DatasetFormat, out: Path
    ) -> DatasetReport:
        """Build the dataset.

        Args:
            sources: trace sources to read; they are not modified.
            names: addresses of the sources, for the dataset card.
            dataset_format: format to write.
            out: folder of the dataset, which must be empty or new. It is created only once the dataset is complete,
                and not at all if no row was kept.

        Returns:
            The report, which is also written to `dataset.json`.

        Raises:
            BadInput: the format does not support this kind of dataset, labels are required but a source is not a run
                store or no run has them, or, with `strict`, a record or row cannot be used.
        """
        if self.rules.labels() and not all(isinstance(source, RunSource) for source in sources):
            raise BadInput(
                "--truth, --critic and --difficulty need labels, which only run stores have; "
                "first import the traces into one with `interleaver traces import`"
            )
        check_format(dataset_format, self.rules.kind)
        scratch = await asyncio.to_thread(_make_scratch_folder, out)
        row_store = RowStore(scratch / "rows.sqlite", self.selection.similarity, self.selection.seed)
        try:
            pictures = [RowPictures(source.images) for source in sources]
            await self._collect(sources, pictures, row_store)
            await asyncio.to_thread(self._select, row_store)
            report = self._report(names, dataset_format)
            await asyncio.to_thread(self._write, row_store, pictures, scratch / DATASET, report)
            if report.splits:
                (scratch / DATASET).replace(out)
            return report
        finally:
            row_store.close()
            shutil.rmtree(scratch, ignore_errors=True)

    async def _collect(self, sources: Sequence[TraceSource], pictures: list[RowPictures], rows: RowStore) -> None:
        """Read all traces and add the rows that the rules allow to the row store."""
        for number, source in enumerate(sources):
            async with aclosing(source.read()) as traces:
                async for trace in traces:
                    if isinstance(trace, SkippedRecord):
                        self._skip(trace.reason, f"{trace.name}: {trace.detail}")
                        continue
                    self._traces += 1
                    self._models.update(f"{role}: {model}" for role, model in trace.models.items())
                    labels = await self._labels(source, trace)
                    self._used_traces += await asyncio.to_thread(
                        self._take, trace, labels, pictures[number], rows, number
                    )
                    self._progress("traces", self._traces)
        for name in self.rules.labels() - self._label_names:
            raise BadInput(f"no run has labels {name!r}; create them with `interleaver traces label`")

    async def _labels(self, source: TraceSource, trace: Trace) -> dict[str, Labels | None]:
        if not self.rules.labels():
            return {}
        assert isinstance(source, RunSource)
        labels_by_name = {}
        for name in sorted(self.rules.labels()):
            labels_by_name[name] = await asyncio.to_thread(read_labels, source.runs, trace.run_id, name)
            self._label_names |= {name} if labels_by_name[name] else set()
        return labels_by_name

    def _take(
        self, trace: Trace, labels: dict[str, Labels | None], pictures: RowPictures, row_store: RowStore, source: int
    ) -> bool:
        """Add the rows of one trace to the row store, and return whether any was added."""
        any_row = False
        for row in self._rows(trace, labels):
            if isinstance(row, DroppedPart):
                self._drop_counts[row.reason] += 1
                continue
            safe_row = row.without_special_tokens()
            self._neutralised_rows += safe_row is not row
            row = safe_row
            problem = self._problem(row, pictures)
            if problem:
                self._skip(problem, f"{row.run_id}, step {(row.step or 0) + 1}")
            elif row_store.add(row, source):
                any_row = True
            else:
                self._drop_counts["duplicate row"] += 1
        return any_row

    def _rows(self, trace: Trace, labels: dict[str, Labels | None]) -> Iterator[TrainingRow | DroppedPart]:
        try:
            yield from rows_of(trace, self.rules, labels)
        except Exception as error:  # an invalid trace must not stop the build
            self._skip("invalid trace", f"{trace.run_id}: {type(error).__name__}: {error}")

    def _problem(self, row: TrainingRow, pictures: RowPictures) -> str | None:
        """Return why a row cannot be used, independently of the rules; None if it can."""
        for ref in row.images:
            problem = pictures.problem(ref)
            if problem:
                return problem
        tags = (row.prompt + (row.answer if self.rules.kind != "sequences" else "")).count("<image>")
        picture_count = len(row.images) if self.rules.kind != "sequences" else tags
        return None if tags == picture_count else "number of <image> tags differs from number of pictures"

    def _skip(self, reason: str, name: str) -> None:
        if self.strict:
            raise BadInput(f"{name}: {reason}")
        self._skip_counts[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(name)

    def _select(self, row_store: RowStore) -> None:
        selection = self.selection
        row_store.group_requests()
        if selection.per_request is not None:
            row_store.limit_requests(selection.per_request)
        row_store.balance(selection.balance)
        if selection.max_rows is not None:
            row_store.limit_rows(selection.max_rows)
        row_store.split(selection.validation)

    def _report(self, names: Sequence[str], dataset_format: DatasetFormat) -> DatasetReport:
        return DatasetReport(
            kind=self.rules.kind,
            dataset_format=dataset_format,
            version=version("interleaver"),
            made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            sources=[redact_password(name) for name in names],
            rules=asdict(self.rules),
            selection=asdict(self.selection),
            traces=self._traces,
            traces_used=self._used_traces,
            skipped=dict(self._skip_counts.most_common()),
            skipped_examples=self._examples,
            neutralised=self._neutralised_rows,
            models=dict(self._models.most_common()),
        )

    def _write(self, row_store: RowStore, pictures: list[RowPictures], folder: Path, report: DatasetReport) -> None:
        folder.mkdir()
        writer = open_writer(report.dataset_format, self.rules.kind, folder)
        digest = hashlib.sha256()
        samples: dict[str, CardSample] = {}
        count = 0
        splits: tuple[Split, ...] = ("train", "validation")
        for split in splits:
            previous_count = count
            for row, source in row_store.rows(split):
                self._write_row(writer, row, split, pictures[source], folder, samples)
                digest.update(row.model_dump_json().encode())
                count += 1
                self._progress("rows", count)
            if count > previous_count:
                report.splits[split] = {"rows": count - previous_count, "requests": row_store.requests(split)}
        writer.close()
        report.candidates = row_store.count()
        report.dropped = dict((self._drop_counts + row_store.drop_counts()).most_common())
        report.groups = {"candidates": row_store.groups(), **{split: row_store.groups(split) for split in splits}}
        report.fingerprint = digest.hexdigest()
        write_card(report, list(samples.values()), folder)

    def _write_row(
        self,
        writer: DatasetWriter,
        row: TrainingRow,
        split: Split,
        pictures: RowPictures,
        folder: Path,
        samples: dict[str, CardSample],
    ) -> None:
        read = partial(pictures.picture, policy=row.pictures)
        writer.write(row, split, read)
        if row.group not in samples and len(samples) < SAMPLES:
            samples[row.group] = take_sample(row, len(samples) + 1, folder, read)


def _make_scratch_folder(out: Path) -> Path:
    """Create a temporary folder next to the output folder, on the same file system, and return its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
