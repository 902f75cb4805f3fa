"""`interleaver traces ...`: runs as data, wherever they were made."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import check_new_folder, clear_errors, json_option, profile_option
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.traces.runs import RunStore
    from interleaver.traces.sources import Source
    from interleaver.traces.stats import Stats
    from interleaver.traces.trace import Skipped, Trace

source_argument = click.argument("sources", nargs=-1, metavar="[SOURCE]...")
images_option = click.option(
    "--images", metavar="URL", help="The image store, where it is not the runs' own or the profile's."
)
strict_option = click.option("--strict", is_flag=True, help="Stop at the first thing that cannot be used.")


def open_sources(
    sources: tuple[str, ...], profile: str | None, images: str | None, target: RunStore | None = None
) -> list[Source]:
    """The sources that a command is about; the profile's runs when none is named.

    Args:
        sources: their addresses.
        profile: tells where runs are kept.
        images: the image store, where it is another one.
        target: where the pictures go that a source brings itself; the profile's store by default.
    """
    from interleaver.config import load_profile
    from interleaver.graph.builder import build_graph
    from interleaver.traces.sources import open_source

    loaded = load_profile(profile)
    if images:
        loaded.store.images = images

    def stores(address: str | None) -> RunStore:
        return target if target and address is None and not images else loaded.store.open(address)

    return [
        open_source(address, stores, lambda saver: build_graph().compile(checkpointer=saver))
        for address in sources or (loaded.store.out,)
    ]


async def read_all(sources: list[Source], strict: bool) -> AsyncIterator[tuple[Source, Trace | Skipped]]:
    """Every trace of several sources.

    Raises:
        BadInput: `strict`, and something cannot be read.
    """
    from interleaver.traces.trace import Skipped

    for source in sources:
        async for found in source.read():
            if strict and isinstance(found, Skipped):
                raise BadInput(f"{found.what}: {found.reason}: {found.detail}")
            yield source, found


@click.group()
def traces() -> None:
    """Runs as data, wherever they were made.

    A SOURCE is a folder or URL of runs, an export (FILE.jsonl[.gz]), a folder of execution_record.json files,
    sqlite:FILE or postgresql://... for LangGraph's checkpoints, http://... for a LangGraph server, or
    "langsmith:PROJECT?filter=...&since=2026-01-31&until=...".
    """


@traces.command("list")
@source_argument
@profile_option
@images_option
@strict_option
@json_option
@clear_errors
def list_traces(sources: tuple[str, ...], profile: str | None, images: str | None, strict: bool, as_json: bool) -> None:
    """List the traces of sources.

    \b
    interleaver traces list out
    interleaver traces list sqlite:checkpoints.sqlite --json
    """

    async def show() -> None:
        from interleaver.traces.trace import Skipped

        async for _, found in read_all(open_sources(sources, profile, images), strict):
            if isinstance(found, Skipped):
                say_skipped(found)
                continue
            told = {
                "run_id": found.run_id,
                "status": found.status,
                "steps": len(found.plan.steps),
                "attempts": len(found.attempts),
                "seed": found.seed,
                "source": found.source,
                "request": found.request,
            }
            if as_json:
                click.echo(json.dumps(told, ensure_ascii=False))
            else:
                counted = f"{told['steps']:>3} steps {told['attempts']:>3} attempts"
                first = " ".join(found.request.split())[:60]
                click.echo(f"{found.run_id:52} {found.status:10} {counted}  {first}")

    asyncio.run(show())


@traces.command()
@click.argument("source")
@click.argument("run_id")
@profile_option
@images_option
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write it there as a page with its pictures."
)
@json_option
@clear_errors
def show(source: str, run_id: str, profile: str | None, images: str | None, out: Path | None, as_json: bool) -> None:
    """Show one trace: its plan, attempts, verdicts and model calls.

    \b
    interleaver traces show out 20260131-093000-how-to-draw-a-cat-1a2b
    interleaver traces show http://localhost:2024 THREAD_ID --out page
    """
    opened, found = asyncio.run(_find(source, run_id, profile, images))
    if out:
        check_new_folder(out)
        asyncio.run(_write_page(found, opened, out))
        click.echo(f"Open {out / 'document.html'}")
        return
    if as_json:
        click.echo(found.model_dump_json(indent=2, exclude_none=True))
        return
    click.echo(f"{found.request}\n{found.status}, seed {found.seed}, read from a {found.source}")
    for role, model in found.models.items():
        click.echo(f"{role}: {model}")
    if found.failure:
        click.echo(click.style(f"ended early by the {found.failure.where}: {found.failure.reason}", fg="red"))
    for position, step in enumerate(found.plan.steps):
        click.echo(f"\n{step.number}. {step.name}: {found.outcome(position) or 'not reached'}\n   {step.text}")
        for attempt in found.attempts_at(position):
            verdict = attempt.verdict
            said = "no verdict" if verdict is None else "accepted" if verdict.accepted else "rejected"
            click.echo(f"   {attempt.attempt}. {said}: {attempt.prompt}")
            click.echo(f"      {attempt.error or (verdict.reasoning if verdict else '')}")
    exchanges = found.exchanges()
    if exchanges:
        problems = Counter(exchange.problem for exchange in exchanges if exchange.problem)
        told = "".join(f", {count} {problem}" for problem, count in problems.items())
        click.echo(f"\n{len(exchanges)} model calls{told}")


async def _write_page(trace: Trace, source: Source, out: Path) -> None:
    from interleaver.graph.compose import compose
    from interleaver.traces.folders import Folder
    from interleaver.ui.document import write_document

    document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
    await write_document(Folder(out), trace.run_id, document, trace.attempts, source.images)


async def _find(address: str, run_id: str, profile: str | None, images: str | None) -> tuple[Source, Trace]:
    from interleaver.traces.sources.files import RunSource
    from interleaver.traces.trace import Trace

    (source,) = open_sources((address,), profile, images)
    if isinstance(source, RunSource):  # its traces are found by their names
        runs: RunStore = source.runs
        runs.record(run_id)
        found = runs.trace(run_id)
        if isinstance(found, Trace):
            return source, found
        raise BadInput(f"run {run_id} has no trace: {found.detail if found else 'it has not ended'}")
    async for found in source.read():
        if isinstance(found, Trace) and found.run_id == run_id:
            return source, found
    raise BadInput(f"there is no trace {run_id!r} in {address!r}; `interleaver traces list` shows them")


@traces.command()
@source_argument
@profile_option
@images_option
@strict_option
@json_option
@clear_errors
def stats(sources: tuple[str, ...], profile: str | None, images: str | None, strict: bool, as_json: bool) -> None:
    """Count: how runs, steps and attempts ended, what went wrong, what it took.

    \b
    interleaver traces stats out
    """
    from interleaver.traces.stats import Stats

    counted = Stats()

    async def count() -> None:
        async for _, found in read_all(open_sources(sources, profile, images), strict):
            counted.add(found)

    asyncio.run(count())
    if as_json:
        click.echo(json.dumps(counted.summary(), indent=2))
    else:
        _say_stats(counted)


def _say_stats(counted: Stats) -> None:
    told = counted.summary()

    def line(name: str, counts: dict[str, Any]) -> None:
        if counts:
            click.echo(f"{name:16} " + ", ".join(f"{key} {value:,}" for key, value in counts.items()))

    click.echo(f"{'runs':16} {told['runs']:,}")
    line("  by status", told["statuses"])
    click.echo(f"{'steps':16} {told['steps']:,}")
    line("  by outcome", told["outcomes"])
    click.echo(f"{'drawings':16} {told['drawings']:,}")
    for number, at in told["accepted_at_attempt"].items():
        share = at["accepted"] / at["judged"]
        click.echo(f"  attempt {number:<6} {at['judged']:>6,} judged, {share:4.0%} accepted  {'#' * round(20 * share)}")
    line("failure kinds", told["failure_kinds"])
    for role, counts in told["calls"].items():
        line(f"{role} calls", counts)
    line("call problems", told["call_problems"])
    line("seconds", told["seconds"])
    for name, values in told["tags"].items():
        shown = dict(list(values.items())[:12])
        line(name, shown | ({"...": len(values) - 12} if len(values) > 12 else {}))
    line("skipped", told["skipped"])


def say_skipped(found: Skipped) -> None:
    """Tell what could not be read."""
    click.echo(click.style(f"{found.what}: {found.reason}: {found.detail}", fg="yellow"), err=True)
