"""`interleaver data`: build training datasets from traces."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from interleaver.choices import AttemptFilter, Balance, DatasetFormat, DatasetKind, RunFilter, SequenceMode
from interleaver.cli.common import EXIT_UNFINISHED, check_new_folder, json_option, one_line_errors, profile_option
from interleaver.cli.traces import images_option, open_sources, source_argument, strict_option

if TYPE_CHECKING:
    from interleaver.training.data.build import Selection
    from interleaver.training.data.card import DatasetReport
    from interleaver.training.data.rows import RowRules


@click.command()
@click.argument("kind", type=click.Choice(get_args(DatasetKind)))
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="New folder of the dataset.")
@click.option(
    "--format",
    "dataset_format",
    type=click.Choice(get_args(DatasetFormat)),
    default="hf",
    show_default=True,
    help="Dataset format: hf (Parquet for datasets and TRL), llamafactory (LLaMA-Factory), verl (verl and EasyR1) or "
    "jsonl (JSON Lines).",
)
@click.option(
    "--runs",
    type=click.Choice(get_args(RunFilter)),
    help="Use complete runs only, or all that ended [default: complete for planner-sft and sequences, ended for "
    "critic-sft and critic-rl].",
)
@click.option(
    "--attempts",
    type=click.Choice(get_args(AttemptFilter)),
    default="proven",
    show_default=True,
    help="proven: use a rejected attempt only if a later attempt at its step was accepted; all: use all (critic-sft).",
)
@click.option(
    "--mode",
    type=click.Choice(get_args(SequenceMode)),
    default="easy",
    show_default=True,
    help="easy: accepted pictures only; hard: every attempt with the critic's feedback (sequences).",
)
@click.option(
    "--truth",
    metavar="LABELS",
    help="Name of a judge's labels: the ground truth for critic-rl [default: judge]; for critic-sft, only verdicts "
    "that agree with them are used.",
)
@click.option("--critic", metavar="LABELS", help="Name of a critic's labels that replace the verdicts of the runs.")
@click.option(
    "--difficulty",
    metavar="LABELS",
    help="Name of a critic's labels with several samples; leave out attempts that all samples, or none, get right; "
    "needs a judge's labels (--truth).",
)
@click.option(
    "--prompts",
    metavar="SET",
    help="Prompt set for rows whose planner or critic was not a chat model: a name or folder, as in a profile "
    "[default: the built-in prompts].",
)
@click.option(
    "--balance",
    multiple=True,
    type=click.Choice([*get_args(Balance), "none"]),
    help="Balance the rows over these groups; can be repeated [default: depends on the kind of dataset].",
)
@click.option(
    "--per-request",
    type=click.IntRange(1),
    help="Maximum rows per request, near-duplicates included [default: 4 for planner-sft, otherwise no limit].",
)
@click.option(
    "--max-rows",
    type=click.IntRange(1),
    help="Maximum rows of the dataset; rows on which critic and judge disagree are kept first.",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Similarity from which on two requests count as near-duplicates.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.9),
    default=0.05,
    show_default=True,
    help="Share of the requests in the validation split.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random choices.")
@strict_option
@json_option
@one_line_errors
def data(**options: Any) -> None:
    """Build a training dataset from traces; SOURCE is as described in `interleaver traces --help`.

    \b
    interleaver data planner-sft out --out datasets/planner
    interleaver data critic-sft out --format llamafactory --out datasets/critic
    interleaver traces label out --by judge && interleaver data critic-rl out --format verl --out datasets/rl
    interleaver data sequences out --mode hard --out datasets/sequences
    """  # fmt: skip
    _make_dataset(DataOptions(**options))


@dataclass(frozen=True)
class DataOptions:
    """The options of `interleaver data`."""

    kind: DatasetKind
    sources: tuple[str, ...]
    profile: str | None
    images: str | None
    out: Path
    dataset_format: DatasetFormat
    runs: RunFilter | None
    attempts: AttemptFilter
    mode: SequenceMode
    truth: str | None
    critic: str | None
    difficulty: str | None
    prompts: str | None
    balance: tuple[Balance | Literal["none"], ...]
    per_request: int | None
    max_rows: int | None
    similarity: float
    validation: float
    seed: int
    strict: bool
    as_json: bool

    def rules(self) -> RowRules:
        """Return the rules for turning traces into rows, with the defaults of the dataset kind filled in."""
        from interleaver.training.data.rows import RowRules

        return RowRules(
            kind=self.kind,
            runs=self.runs or ("complete" if self.kind in ("planner-sft", "sequences") else "ended"),
            attempts=self.attempts,
            mode=self.mode,
            truth=self.truth or ("judge" if self.kind == "critic-rl" else None),
            critic=self.critic,
            difficulty=self.difficulty,
            prompts=self.prompts,
        )

    def selection(self) -> Selection:
        """Return how rows are selected, with the defaults of the dataset kind filled in."""
        from interleaver.training.data.build import DEFAULT_BALANCE, Selection

        groups = tuple(group for group in self.balance if group != "none")
        return Selection(
            balance=groups if self.balance else DEFAULT_BALANCE[self.kind],
            per_request=self.per_request or (4 if self.kind == "planner-sft" else None),
            max_rows=self.max_rows,
            similarity=self.similarity,
            validation=self.validation,
            seed=self.seed,
        )


def _make_dataset(options: DataOptions) -> None:
    from interleaver.profile import load_profile
    from interleaver.training.data.build import DatasetBuild

    check_new_folder(options.out)
    progress = None if options.as_json else _progress()
    build = DatasetBuild(options.rules(), options.selection(), options.strict, progress)
    sources = open_sources(options.sources, options.profile, options.images)
    names = options.sources or (load_profile(options.profile).store.out,)
    report = asyncio.run(build.run(sources, names, options.dataset_format, options.out))
    if options.as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        _print_report(report, options.out)
    sys.exit(0 if report.splits else EXIT_UNFINISHED)


def _progress() -> Any:
    """Return a progress callback that shows one bar for reading traces and one for writing rows."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(task: str, count: int) -> None:
        if task not in bars:
            for bar in bars.values():
                bar.close()
            bars[task] = tqdm(desc=task, unit="", dynamic_ncols=True, leave=False)
        bars[task].update(count - bars[task].n)

    return show


def _print_report(report: DatasetReport, out: Path) -> None:
    click.echo(f"\n{report.traces:,} traces read, {report.traces_used:,} used, {report.candidates:,} candidate rows.")
    for reason, count in report.dropped.items():
        click.echo(f"  {count:>8,} left out: {reason}")
    for reason, count in report.skipped.items():
        click.echo(
            click.style(f"  {count:>8,} unusable: {reason}, e.g. {report.skipped_examples[reason][0]}", fg="yellow")
        )
    for split, counts in report.splits.items():
        groups = ", ".join(f"{count:,} {group}" for group, count in report.groups[split].items() if group)
        click.echo(f"{split}: {counts['rows']:,} rows from {counts['requests']:,} requests ({groups})")
    if report.splits:
        click.echo(f"Written to {out}; the dataset card is {out / 'README.md'}")
    else:
        click.echo(click.style("No dataset was written: no rows are left, for the reasons above.", fg="red"), err=True)
