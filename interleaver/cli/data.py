"""`interleaver data`: from traces to datasets."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import UNFINISHED, check_new_folder, clear_errors, json_option, profile_option
from interleaver.cli.traces import images_option, open_sources, source_argument, strict_option

if TYPE_CHECKING:
    from interleaver.training.data.card import Report

KINDS = ["planner-sft", "critic-sft", "critic-rl", "sequences"]
BALANCE: dict[str, Any] = {
    "planner-sft": ("categories",),
    "critic-sft": ("kinds", "verdicts"),
    "critic-rl": ("categories", "verdicts"),
    "sequences": (),
}
"""Over what each kind is balanced unless something else is said."""


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["hf", "llamafactory", "verl", "jsonl"]),
    default="hf",
    show_default=True,
    help="Parquet for datasets and TRL; LLaMA-Factory; verl and EasyR1; JSON Lines.",
)
@click.option(
    "--runs",
    type=click.Choice(["complete", "ended"]),
    help="Which runs count [default: complete for planner-sft and sequences, ended for the critic's].",
)
@click.option(
    "--attempts",
    type=click.Choice(["proven", "all"]),
    default="proven",
    show_default=True,
    help="Whether a rejection counts only if a later attempt was accepted (critic-sft).",
)
@click.option(
    "--mode",
    type=click.Choice(["easy", "hard"]),
    default="easy",
    show_default=True,
    help="Accepted pictures only, or every attempt with its criticism (sequences).",
)
@click.option(
    "--truth",
    metavar="LABELS",
    help="A judge's labels: ground truth for critic-rl [default there: judge], "
    "and for critic-sft what a verdict must agree with.",
)
@click.option("--critic", metavar="LABELS", help="A critic's labels, in place of the verdicts of the runs.")
@click.option(
    "--difficulty", metavar="LABELS", help="A critic's labels with samples: leave out what all or none get right."
)
@click.option(
    "--prompts",
    metavar="SET",
    help="The prompts that the model will be asked with, where the planner or critic of the runs was no chat model: "
    "a folder, as in a profile [default: this package's own].",
)
@click.option(
    "--balance",
    multiple=True,
    type=click.Choice(["verdicts", "kinds", "categories", "none"]),
    help="What to balance; may be given several times [default: by kind].",
)
@click.option(
    "--per-request",
    type=click.IntRange(1),
    help="Rows of one request and its near-duplicates [default: 4 for planner-sft].",
)
@click.option("--max-rows", type=click.IntRange(1), help="Rows in all; where critic and judge disagree they go first.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="From which on requests are near-duplicates.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.9),
    default=0.05,
    show_default=True,
    help="The share of requests in the validation split.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every random choice.")
@strict_option
@json_option
@clear_errors
def data(
    kind: Any,
    sources: tuple[str, ...],
    profile: str | None,
    images: str | None,
    out: Path,
    form: Any,
    runs: Any,
    attempts: Any,
    mode: Any,
    truth: str | None,
    critic: str | None,
    difficulty: str | None,
    prompts: str | None,
    balance: tuple[Any, ...],
    per_request: int | None,
    max_rows: int | None,
    similarity: float,
    validation: float,
    seed: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Make a dataset of traces; the sources are those of `interleaver traces`.

    \b
    interleaver data planner-sft out --out datasets/planner
    interleaver data critic-sft out --format llamafactory --out datasets/critic
    interleaver traces label out --by judge && interleaver data critic-rl out --format verl --out datasets/rl
    interleaver data sequences out --mode hard --out datasets/sequences
    """  # fmt: skip
    from interleaver.training.data.build import Build, Selection
    from interleaver.training.data.rows import Rules

    rules = Rules(
        kind=kind,
        runs=runs or ("complete" if kind in ("planner-sft", "sequences") else "ended"),
        attempts=attempts,
        mode=mode,
        truth=truth or ("judge" if kind == "critic-rl" else None),
        critic=critic,
        difficulty=difficulty,
        prompts=prompts,
    )
    selection = Selection(
        balance=tuple(one for one in balance if one != "none") if balance else BALANCE[kind],
        per_request=per_request or (4 if kind == "planner-sft" else None),
        max_rows=max_rows,
        similarity=similarity,
        validation=validation,
        seed=seed,
    )
    check_new_folder(out)
    build = Build(rules, selection, strict, None if as_json else _progress())
    opened = open_sources(sources, profile, images)
    from interleaver.config import load_profile

    names = sources or (load_profile(profile).store.out,)
    report = asyncio.run(build.run(opened, names, form, out))
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        _say(report, out)
    sys.exit(0 if report.splits else UNFINISHED)


def _progress() -> Any:
    """Progress bars, one for reading traces and one for writing rows."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def tell(what: str, count: int) -> None:
        if what not in bars:
            for bar in bars.values():
                bar.close()
            bars[what] = tqdm(desc=what, unit="", dynamic_ncols=True, leave=False)
        bars[what].update(count - bars[what].n)

    return tell


def _say(report: Report, out: Path) -> None:
    click.echo(f"\n{report.traces:,} traces read, {report.traces_used:,} used, {report.candidates:,} candidate rows.")
    for reason, count in report.dropped.items():
        click.echo(f"  {count:>8,} left out: {reason}")
    for reason, count in report.skipped.items():
        click.echo(
            click.style(f"  {count:>8,} unusable: {reason}, e.g. {report.skipped_examples[reason][0]}", fg="yellow")
        )
    for split, counts in report.splits.items():
        groups = ", ".join(f"{count:,} {group}" for group, count in report.groups[split].items() if group)
        click.echo(f"{split}: {counts['rows']:,} rows of {counts['requests']:,} requests ({groups})")
    if report.splits:
        click.echo(f"Written to {out}; {out / 'README.md'} is its card")
    else:
        click.echo(click.style("No row was left; see the reasons above.", fg="red"), err=True)
