"""`interleaver traces ...`: list, show, copy, clean up and label the traces of runs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from interleaver.choices import LabelSource
from interleaver.cli.common import (
    EXIT_UNFINISHED,
    check_new_folder,
    json_option,
    one_line_errors,
    other_users_options,
    profile_option,
)
from interleaver.errors import BadInput
from interleaver.types import Json

if TYPE_CHECKING:
    from interleaver.batch.labelling import Labeller
    from interleaver.traces.runs import RunStore
    from interleaver.traces.sources import TraceSource
    from interleaver.traces.trace import SkippedRecord, Trace

source_argument = click.argument("sources", nargs=-1, metavar="[SOURCE]...")
images_option = click.option(
    "--images", metavar="URL", help="Image store of the traces [default: that of the run store or of the profile]."
)
strict_option = click.option("--strict", is_flag=True, help="Stop at the first record that cannot be used.")


def open_sources(
    sources: tuple[str, ...], profile: str | None, images: str | None, target: RunStore | None = None
) -> list[TraceSource]:
    """Open the trace sources given on the command line; see `interleaver.runner.open_sources`."""
    from interleaver import runner
    from interleaver.profile import load_profile

    return runner.open_sources(load_profile(profile), sources, images, target)


@click.group()
def traces() -> None:
    """Work with the traces of runs, wherever the runs were made.

    A SOURCE is a run store (a folder or URL), an export (FILE.jsonl[.gz]), a folder of execution_record.json files,
    sqlite:FILE or postgresql://... for LangGraph checkpoints, http://... for a LangGraph server, or
    "langsmith:PROJECT?filter=...&since=2026-01-31&until=...". Where SOURCE is optional, the default is
    the profile's run store.
    """


@traces.command("list")
@source_argument
@profile_option
@images_option
@strict_option
@json_option
@one_line_errors
def list_traces(sources: tuple[str, ...], profile: str | None, images: str | None, strict: bool, as_json: bool) -> None:
    """List traces, one per line.

    \b
    interleaver traces list out
    interleaver traces list sqlite:checkpoints.sqlite --json
    """

    async def show() -> None:
        from interleaver.traces.trace import SkippedRecord
        from interleaver.traces.transfer import read_traces

        async with aclosing(read_traces(open_sources(sources, profile, images), strict)) as traces:
            async for _, trace in traces:
                if isinstance(trace, SkippedRecord):
                    print_skipped(trace)
                else:
                    click.echo(json.dumps(_row(trace), ensure_ascii=False) if as_json else _line(trace))

    asyncio.run(show())


def _row(trace: Trace) -> Json:
    return {
        "run_id": trace.run_id,
        "status": trace.status,
        "steps": len(trace.plan.steps),
        "attempts": len(trace.attempts),
        "seed": trace.seed,
        "source": trace.source,
        "request": trace.request,
    }


def _line(trace: Trace) -> str:
    size = f"{len(trace.plan.steps):>3} steps {len(trace.attempts):>3} attempts"
    return f"{trace.run_id:52} {trace.status:10} {size}  {' '.join(trace.request.split())[:60]}"


@traces.command()
@click.argument("source")
@click.argument("run_id")
@profile_option
@images_option
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="New folder for an HTML page with the pictures."
)
@json_option
@one_line_errors
def show(source: str, run_id: str, profile: str | None, images: str | None, out: Path | None, as_json: bool) -> None:
    """Show one trace: its plan, attempts, verdicts and model calls.

    \b
    interleaver traces show out 20260131-093000-how-to-draw-a-cat-1a2b
    interleaver traces show http://localhost:2024 THREAD_ID --out page
    """
    from interleaver.traces.sources import find_trace

    (trace_source,) = open_sources((source,), profile, images)
    trace = asyncio.run(find_trace(trace_source, run_id, source))
    if out:
        check_new_folder(out)
        asyncio.run(_write_page(trace, trace_source, out))
        click.echo(f"Open {out / 'document.html'}")
    elif as_json:
        click.echo(trace.model_dump_json(indent=2, exclude_none=True))
    else:
        _print_trace(trace)


def _print_trace(trace: Trace) -> None:
    click.echo(f"{trace.request}\n{trace.status}, seed {trace.seed}, read from a {trace.source}")
    for role, model in trace.models.items():
        click.echo(f"{role}: {model}")
    if trace.failure:
        click.echo(click.style(f"ended early by the {trace.failure.where}: {trace.failure.reason}", fg="red"))
    for position, step in enumerate(trace.plan.steps):
        click.echo(f"\n{step.number}. {step.name}: {trace.outcome(position) or 'not reached'}\n   {step.text}")
        for attempt in trace.attempts_at(position):
            click.echo(f"   {attempt.attempt}. {attempt.verdict_label}: {attempt.prompt}\n      {attempt.reason}")
    exchanges = trace.exchanges()
    if exchanges:
        problems = Counter(exchange.problem for exchange in exchanges if exchange.problem)
        problem_text = "".join(f", {count} {problem}" for problem, count in problems.items())
        click.echo(f"\n{len(exchanges)} model calls{problem_text}")


async def _write_page(trace: Trace, source: TraceSource, out: Path) -> None:
    from interleaver.graph.document import compose
    from interleaver.rendering.document import write_document
    from interleaver.store.folders import Folder

    document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
    await write_document(Folder(out), trace.run_id, document, trace.attempts, source.images)


@traces.command()
@source_argument
@profile_option
@images_option
@strict_option
@json_option
@one_line_errors
def stats(sources: tuple[str, ...], profile: str | None, images: str | None, strict: bool, as_json: bool) -> None:
    """Summarise how runs, steps and attempts ended, which failures occurred, and the tokens and time used.

    \b
    interleaver traces stats out
    """
    from interleaver.traces.stats import TraceStats
    from interleaver.traces.transfer import read_traces

    trace_stats = TraceStats()

    async def count() -> None:
        async with aclosing(read_traces(open_sources(sources, profile, images), strict)) as traces:
            async for _, trace in traces:
                trace_stats.add(trace)

    asyncio.run(count())
    if as_json:
        click.echo(json.dumps(trace_stats.summary(), indent=2))
    else:
        _print_stats(trace_stats.summary())


def _print_stats(summary: Json) -> None:
    def line(name: str, counts: Json) -> None:
        if counts:
            click.echo(f"{name:16} " + ", ".join(f"{key} {value:,}" for key, value in counts.items()))

    click.echo(f"{'runs':16} {summary['runs']:,}")
    line("  by status", summary["statuses"])
    click.echo(f"{'steps':16} {summary['steps']:,}")
    line("  by outcome", summary["outcomes"])
    click.echo(f"{'drawings':16} {summary['drawings']:,}")
    for number, counts in summary["accepted_at_attempt"].items():
        share = counts["accepted"] / counts["reviewed"]
        bar = "#" * round(20 * share)
        click.echo(f"  attempt {number:<6} {counts['reviewed']:>6,} reviewed, {share:4.0%} accepted  {bar}")
    line("failure kinds", summary["failure_kinds"])
    for role, counts in summary["calls"].items():
        line(f"{role} calls", counts)
    line("call problems", summary["call_problems"])
    line("seconds", summary["seconds"])
    for name, values in summary["tags"].items():
        top_values = dict(list(values.items())[:12])
        line(name, top_values | ({"...": len(values) - 12} if len(values) > 12 else {}))
    line("skipped", summary["skipped"])


def print_skipped(record: SkippedRecord) -> None:
    """Print a record that was skipped, with the reason."""
    click.echo(click.style(str(record), fg="yellow"), err=True)


def _print_counts(counts: Counter[str], otherwise: str = "") -> None:
    click.echo(", ".join(f"{count:,} {description}" for description, count in counts.items() if count) or otherwise)


@traces.command("import")
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, metavar="DIR|URL", help="Run store to write to.")
@strict_option
@one_line_errors
def import_command(sources: tuple[str, ...], profile: str | None, images: str | None, out: str, strict: bool) -> None:
    """Copy traces and their pictures into a run store; runs that already exist there are not changed.

    \b
    interleaver traces import records/ --out runs
    interleaver traces import "langsmith:my project?since=2026-01-01" --out s3://bucket/runs
    """
    from interleaver.profile import load_profile
    from interleaver.runner import open_run_store
    from interleaver.traces.transfer import import_traces

    if not sources:
        raise BadInput("SOURCE is missing; give at least one source to import from")
    target = open_run_store(load_profile(profile), out)
    trace_sources = open_sources(sources, profile, images, target)
    counts = asyncio.run(import_traces(trace_sources, target, strict, print_skipped))
    _print_counts(counts, "nothing to import")
    if counts["skipped"] and counts.total() == counts["skipped"]:
        sys.exit(EXIT_UNFINISHED)


@traces.command()
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Output file, FILE.jsonl or FILE.jsonl.gz, with one trace per line.")  # fmt: skip
@click.option("--pictures", metavar="DIR|URL", help="Also copy the pictures to this image store.")
@strict_option
@one_line_errors
def export(
    sources: tuple[str, ...], profile: str | None, images: str | None, out: Path, pictures: str | None, strict: bool
) -> None:
    """Export complete traces to one JSON Lines file.

    \b
    interleaver traces export out --out traces.jsonl.gz --pictures pictures
    """
    from interleaver.store.images import ImageStore
    from interleaver.traces.transfer import export_traces

    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"--out is {str(out)!r}; it must end in .jsonl or .jsonl.gz")
    trace_sources, target = open_sources(sources, profile, images), ImageStore(pictures) if pictures else None
    _print_counts(asyncio.run(export_traces(trace_sources, out, target, strict, print_skipped)), "nothing to export")


@traces.command()
@click.argument("runs", required=False)
@profile_option
@other_users_options
@click.option(
    "--tenant",
    metavar="USER",
    help="Look at the pictures of this user of a LangGraph server, which --keep names, and at no others.",
)
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Delete only files that are older than this.",
)
@click.option("--delete", is_flag=True, help="Delete the files instead of only counting them.")
@one_line_errors
def gc(
    runs: str | None,
    profile: str | None,
    keep: tuple[str, ...],
    not_shared: bool,
    tenant: str | None,
    older_than: float,
    delete: bool,
) -> None:
    """Find pictures and checkpoints that no run needs, and partial files; delete them with --delete.

    \b
    interleaver traces gc out
    interleaver traces gc out --keep http://localhost:2024 --delete
    """  # fmt: skip
    from interleaver.profile import load_profile
    from interleaver.runner import open_run_store
    from interleaver.traces.sources.files import RunSource
    from interleaver.upkeep.deletion import open_other_users
    from interleaver.upkeep.garbage import find_garbage
    from interleaver.upkeep.references import hashes_of_sources

    loaded_profile = load_profile(profile)
    if tenant:
        images = open_run_store(loaded_profile, runs).images.of_tenant(tenant).folder.url
        loaded_profile.store.images, loaded_profile.store.other_users = images, None
    store = open_run_store(loaded_profile, runs)
    sources = [] if tenant else [RunSource(store)]  # runs in a run store belong to no user
    other_users = open_other_users(loaded_profile, keep, not_shared)
    if other_users is None:
        raise BadInput(
            f"the image store {store.images.url} may have other users; name them with --keep or in the profile's "
            "store.other_users, or add --not-shared if there are none"
        )
    needed_hashes = asyncio.run(hashes_of_sources([*sources, *other_users]))
    garbage = find_garbage(store, needed_hashes, older_than * 3600)
    description = (
        f"{garbage.pictures:,} pictures that no run needs, {garbage.checkpoints:,} checkpoint files of complete runs, "
        f"{garbage.leftovers:,} partial files: {garbage.bytes / 2**20:,.1f} MiB"
    )
    if not delete:
        click.echo(f"{description}. Add --delete to delete them")
        return
    garbage.remove()
    click.echo(f"Deleted {description}")


@traces.command()
@click.argument("runs", required=False)
@profile_option
@click.option("--by", type=click.Choice(get_args(LabelSource)), default="judge", show_default=True,
              help="Label with scores of the profile's judge, or with verdicts of its critic.")  # fmt: skip
@click.option("--name", help="Name of the labels [default: the value of --by].")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True,
              help="Verdicts per attempt, to measure its difficulty; only with --by critic.")  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1), default=8, show_default=True, help="Number of runs to label concurrently."
)
@one_line_errors
def label(runs: str | None, profile: str | None, by: LabelSource, name: str | None, samples: int, workers: int) -> None:
    """Label stored attempts with a judge's scores or a critic's verdicts.

    Labels are stored beside the runs. The runs themselves are not changed, and no pictures are drawn.

    \b
    interleaver traces label out --by judge --profile strong-judge.toml
    interleaver traces label out --by critic --samples 8 --name difficulty
    """
    from interleaver.batch.labelling import Labeller
    from interleaver.profile import load_profile
    from interleaver.runner import open_run_store
    from interleaver.traces.sources.files import RunSource

    if by == "judge" and samples != 1:
        raise BadInput(f"--samples is {samples}; it needs --by critic, since a judge scores each attempt once")
    loaded_profile = load_profile(profile)
    store = RunSource(open_run_store(loaded_profile, runs)).runs
    labeller = Labeller(loaded_profile, store, by, name or by, samples)
    counts = asyncio.run(_label_all(labeller, store, workers))
    _print_counts(counts)
    sys.exit(EXIT_UNFINISHED if counts["without an answer"] else 0)


async def _label_all(labeller: Labeller, store: RunStore, workers: int) -> Counter[str]:
    """Label all runs, showing a progress bar; return how many runs and attempts were labelled or had problems."""
    from tqdm import tqdm

    from interleaver.traces.trace import SkippedRecord

    counts: Counter[str] = Counter()
    with tqdm(total=sum(1 for _ in store.run_ids()), unit="run", dynamic_ncols=True) as bar:
        async with aclosing(labeller.label(workers)) as all_labels:
            async for labels in all_labels:
                bar.update()
                if isinstance(labels, SkippedRecord):
                    print_skipped(labels)
                    counts["runs skipped"] += 1
                    continue
                counts["runs"] += 1
                counts["attempts"] += len(labels.labels)
                for attempt_label in labels.labels:
                    counts["without an answer"] += bool(attempt_label.problems)
                    if attempt_label.problems:
                        problem = f"{labels.run_id}, step {attempt_label.step + 1}: {attempt_label.problems[0]}"
                        tqdm.write(problem, file=sys.stderr)
    return counts
