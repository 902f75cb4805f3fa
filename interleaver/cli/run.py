"""`interleaver run`: make one document."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_UNFINISHED,
    apply_retention,
    json_option,
    one_line_errors,
    open_store,
    out_option,
    profile_option,
)
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.graph.boundary.changes import Change
    from interleaver.runner import Runner
    from interleaver.traces.document_file import DocumentFile
    from interleaver.traces.runs import RunRecord


@click.command()
@click.argument("request", required=False)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Picture that belongs to the request; can be repeated.")  # fmt: skip
@profile_option
@out_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the run [default: run.seed of the profile].")
@click.option("--max-attempts", type=click.IntRange(1, 20), help="Maximum number of attempts per step.")
@click.option("--review", is_flag=True, help="Review the plan, and steps without an accepted attempt, at the terminal.")
@click.option("--resume", metavar="RUN_ID", help="Resume a run instead of starting a new one.")
@json_option
@one_line_errors
def run(
    request: str | None,
    images: tuple[Path, ...],
    profile: str | None,
    out: str | None,
    seed: int | None,
    max_attempts: int | None,
    review: bool,
    resume: str | None,
    as_json: bool,
) -> None:
    """Make an illustrated document from a request; "-" reads the request from standard input.

    \b
    interleaver run "How to draw a cat step by step?"
    interleaver run --image start.png "Continue: add a sun and two clouds"
    interleaver run --review "a house beside a tree at night"
    interleaver run --resume 20260131-093000-how-to-draw-a-cat-1a2b
    """
    from interleaver.profile import load_profile, load_recorded_profile
    from interleaver.runner import Runner, read_picture

    if resume and (request or images or review or seed is not None or max_attempts is not None):
        raise BadInput(
            "--resume continues a run with its own request and settings; leave out the request, --image, --review, "
            "--seed and --max-attempts"
        )
    if request == "-":
        request = sys.stdin.read()
    if not resume and request is None:
        raise BadInput('there is no request; give one, for example "How to draw a cat step by step?"')
    if resume:
        record = open_store(profile, out).record(resume)
        runner = Runner(load_profile(profile) if profile else load_recorded_profile(record.profile), out)
    else:
        runner = Runner(load_profile(profile), out)
        options = {"seed": seed, "max_attempts": max_attempts}
        settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if review:
            settings |= {"review": True, "on_exhausted": "ask"}
        pictures = [read_picture(path) for path in images]
        record = asyncio.run(runner.begin(request or "", pictures, settings))
    sys.exit(carry_out(runner, record, as_json))


def carry_out(runner: Runner, record: RunRecord, as_json: bool, change: Change | None = None) -> int:
    """Start or resume a run, or change its document, printing the progress; return the exit code."""
    from interleaver.cli.terminal import ReviewPaused, TerminalReviewer, format_usage, print_event
    from interleaver.traces.trace import Trace

    async def work() -> str | None:
        reviewer = TerminalReviewer(runner.runs.images)
        async with aclosing(
            runner.change(record, change, reviewer) if change else runner.work(record, reviewer)
        ) as events:
            async for event in events:
                if not as_json:
                    print_event(event)
        trace = runner.runs.trace(record.run_id)
        return format_usage(trace.exchanges()) if isinstance(trace, Trace) else None

    if not as_json:
        click.echo(f"Run {record.run_id}")
    resume = runner.runs.resume_command(record.run_id)
    try:
        usage_text = asyncio.run(work())
    except KeyboardInterrupt:
        click.echo(
            f"\nInterrupted. Finished work is kept; resume it with: {resume}",
            err=True,
        )
        return EXIT_INTERRUPTED
    except ReviewPaused:
        click.echo(
            f"\nThe run is waiting for your answer; resume it with: {resume}",
            err=True,
        )
        return EXIT_UNFINISHED
    apply_retention(runner.profile, runner.runs)
    document = runner.runs.document(record.run_id)
    assert document is not None  # written at the end of every run
    if as_json:
        click.echo(document.model_dump_json(indent=2))
    else:
        _print_result(runner, record, document)
        if usage_text:
            click.echo(usage_text)
    return 0 if document.status == "complete" else EXIT_UNFINISHED


def _print_result(runner: Runner, record: RunRecord, document: DocumentFile) -> None:
    if not document.steps:
        click.echo(f"Error: {document.reason}", err=True)
        return
    from interleaver.cli.terminal import plural

    drawings = sum(len(step.attempts) for step in document.steps)
    click.echo(
        f"\n{document.status.capitalize()}: {plural(len(document.steps), 'step')}, {plural(drawings, 'drawing')}."
    )
    if document.reason:
        click.echo(click.style(f"Reason: {document.reason}", fg="red"))
    click.echo(f"Open {runner.runs.folder(record.run_id).url}/document.html")
    failed_steps = [step for step in document.steps if step.outcome != "accepted"]
    failed_calls = [attempt for step in failed_steps for attempt in step.attempts if attempt.error]
    if failed_calls:
        click.echo(f"Retry the failed steps with: {runner.runs.resume_command(record.run_id)}")
