"""`interleaver run`: one document."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import (
    INTERRUPTED,
    UNFINISHED,
    clear_errors,
    json_option,
    open_store,
    out_option,
    profile_option,
)
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.runner import Runner
    from interleaver.traces.runs import RunRecord


@click.command()
@click.argument("request", required=False)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="A picture of the request; give it once for each.")  # fmt: skip
@profile_option
@out_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="The same seed gives the same document.")
@click.option("--max-attempts", type=click.IntRange(1, 20), help="How often a step is drawn at most.")
@click.option("--review", is_flag=True, help="Decide yourself about the plan, and about steps that are never accepted.")
@click.option("--resume", metavar="RUN_ID", help="Carry on a run instead of beginning one.")
@json_option
@clear_errors
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
    """Make an illustrated document; the request "-" is read from standard input.

    \b
    interleaver run "How to draw a cat step by step?"
    interleaver run --image start.png "Continue: add a sun and two clouds"
    interleaver run --review "a house beside a tree at night"
    interleaver run --resume 20260131-093000-how-to-draw-a-cat-1a2b
    """
    from interleaver.config import find_profile, load_profile
    from interleaver.runner import Runner, read_picture

    if resume and (request or images or review or seed is not None or max_attempts is not None):
        raise BadInput("--resume carries a run on as it was begun; leave out the request and the other settings")
    if request == "-":
        request = sys.stdin.read()
    if not resume and request is None:
        raise BadInput('there is no request; say what to make, for example "How to draw a cat step by step?"')
    if resume:
        record = open_store(profile, out).record(resume)
        runner = Runner(load_profile(profile or record.profile), out)
    else:
        runner = Runner(load_profile(profile), out)
        given = {"seed": seed, "max_attempts": max_attempts}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if review:
            settings |= {"review": True, "on_exhausted": "ask"}
        pictures = [read_picture(path) for path in images]
        record = asyncio.run(runner.begin(request or "", pictures, settings, find_profile(profile)))
    sys.exit(_work(runner, record, as_json))


def _work(runner: Runner, record: RunRecord, as_json: bool) -> int:
    """Carry a run out, telling how it goes; returns the exit code."""
    from interleaver.terminal import Paused, Reviewer, tell, usage
    from interleaver.traces.trace import Trace

    async def work() -> str | None:
        async for event in runner.work(record, Reviewer(runner.runs.images)):
            if not as_json:
                tell(event)
        trace = runner.runs.trace(record.run_id)
        return usage(trace.exchanges()) if isinstance(trace, Trace) else None

    if not as_json:
        click.echo(f"Run {record.run_id}")
    try:
        used = asyncio.run(work())
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. What is done is kept; carry on with: {_resume_command(runner, record)}", err=True)
        return INTERRUPTED
    except Paused:
        click.echo(f"\nThe run waits for your answer; carry on with: {_resume_command(runner, record)}", err=True)
        return UNFINISHED
    document = runner.runs.document(record.run_id)
    assert document is not None  # written at the end of every run
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _tell_result(runner, record, document)
        if used:
            click.echo(used)
    return 0 if document["status"] == "complete" else UNFINISHED


def _resume_command(runner: Runner, record: RunRecord) -> str:
    return shlex.join(["interleaver", "run", "--resume", record.run_id, "--out", runner.runs.root.url])


def _tell_result(runner: Runner, record: RunRecord, document: dict[str, Any]) -> None:
    folder = runner.runs.folder(record.run_id)
    if not document["steps"]:
        click.echo(f"Error: {document['reason']}", err=True)
        return
    from interleaver.terminal import plural

    drawings = sum(len(step["attempts"]) for step in document["steps"])
    done = f"{plural(len(document['steps']), 'step')}, {plural(drawings, 'drawing')}"
    click.echo(f"\n{document['status'].capitalize()}: {done}.")
    if document["reason"]:
        click.echo(click.style(f"Reason: {document['reason']}", fg="red"))
    click.echo(f"Open {folder.url}/document.html")
    failed_steps = [step for step in document["steps"] if step["outcome"] != "accepted"]
    failed_calls = [attempt for step in failed_steps for attempt in step["attempts"] if attempt["error"]]
    if failed_calls:
        click.echo(f"Try again where it failed: {_resume_command(runner, record)}")
