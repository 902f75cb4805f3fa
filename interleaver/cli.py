"""The command line: `interleaver run | runs | serve | mcp | graph | doctor`.

Exit codes: 0 done, 2 the command was not understood or its input cannot be used, 3 a run ended partial or failed,
130 interrupted.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interleaver.errors import BadInput, InterleaverError
from interleaver.serving.commands import add_commands

if TYPE_CHECKING:
    from interleaver.runner import Runner
    from interleaver.traces.runs import RunRecord, RunStore

UNFINISHED = 3
INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


def _clear_errors(command: F) -> F:
    """Turn errors that were foreseen into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BadInput as error:
            raise click.UsageError(str(error)) from None
        except InterleaverError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(UNFINISHED)
        except BrokenPipeError:
            raise
        except Exception as error:
            if click.get_current_context().find_root().params.get("debug"):
                raise
            click.echo(f"Error: {type(error).__name__}: {error} (interleaver --debug shows where)", err=True)
            sys.exit(UNFINISHED)

    return wrapped  # type: ignore[return-value]


class OneLineErrors(click.Group):
    """A group whose usage errors are one line each, without the usage text in front."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"Error: {error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except click.exceptions.Exit as error:
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # A reader that stops early (`interleaver runs list | head -1`) is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interleaver")
@click.option("--debug", is_flag=True, help="Show where an unforeseen error came from.")
def main(debug: bool) -> None:
    """One request in, an illustrated document out."""


profile_option = click.option(
    "--profile",
    metavar="FILE|NAME",
    help="The profile, or the name of a ready one [default: interleaver.toml, if there].",
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The folder of the runs [default: out]."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine.")


@main.command()
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
@_clear_errors
def run(
    request: str | None,
    images: tuple[Path, ...],
    profile: str | None,
    out: Path | None,
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
        record = _store(profile, out).record(resume)
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

    async def work() -> str | None:
        async for event in runner.work(record, Reviewer(runner.runs.images)):
            if not as_json:
                tell(event)
        return usage(await runner.exchanges(record))

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
    return shlex.join(["interleaver", "run", "--resume", record.run_id, "--out", str(runner.runs.root)])


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
    click.echo(f"Open {folder / 'document.html'}")
    failed_steps = [step for step in document["steps"] if step["outcome"] != "accepted"]
    failed_calls = [attempt for step in failed_steps for attempt in step["attempts"] if attempt["error"]]
    if failed_calls:
        click.echo(f"Try again where it failed: {_resume_command(runner, record)}")


@main.group()
def runs() -> None:
    """Look at runs that were made."""


@runs.command("list")
@profile_option
@out_option
@json_option
@_clear_errors
def list_runs(profile: str | None, out: Path | None, as_json: bool) -> None:
    """List all runs, the newest first.

    \b
    interleaver runs list
    """
    summaries = _store(profile, out).summaries()
    if as_json:
        click.echo(json.dumps([summary.model_dump(mode="json") for summary in summaries], indent=2))
        return
    if not summaries:
        click.echo('There are no runs yet. Begin with: interleaver run "How to draw a cat step by step?"')
    for summary in summaries:
        click.echo(f"{summary.run_id:58} {summary.status:10} {summary.request[:60]}")


@runs.command()
@click.argument("run_id")
@profile_option
@out_option
@json_option
@_clear_errors
def show(run_id: str, profile: str | None, out: Path | None, as_json: bool) -> None:
    """Show a run: its steps, attempts and verdicts.

    \b
    interleaver runs show 20260131-093000-how-to-draw-a-cat-1a2b
    """
    store = _store(profile, out)
    record, document = store.record(run_id), store.document(run_id)
    if document is None:
        resume = shlex.join(["interleaver", "run", "--resume", run_id, "--out", str(store.root)])
        raise BadInput(f"run {run_id} is unfinished; carry on with: {resume}")
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(
        f"{record.request}\n{document['status']}, seed {document['seed']}, begun {record.started_at:%Y-%m-%d %H:%M}"
    )
    for step in document["steps"]:
        click.echo(f"\n{step['number']}. {step['name']}: {step['outcome'] or 'not reached'}")
        for attempt in step["attempts"]:
            said = {True: "accepted", False: "rejected", None: "no verdict"}[attempt["accepted"]]
            click.echo(f"   {attempt['attempt']}. {said}: {attempt['prompt']}")
            click.echo(f"      {attempt['error'] or attempt['reasoning']}")


def _store(profile: str | None, out: Path | None) -> RunStore:
    from interleaver.config import load_profile

    return load_profile(profile).store.open(out)


@main.group()
def serve() -> None:
    """Serve planner, critic and image generators, on one machine or many."""


add_commands(serve, _clear_errors)


@main.command()
@profile_option
@out_option
@click.option("--http", is_flag=True, help="Serve streamable HTTP instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen, with --http.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Likewise.")
@_clear_errors
def mcp(profile: str | None, out: Path | None, http: bool, host: str, port: int) -> None:
    """Serve the graph to MCP clients: tools to illustrate and look up runs, pictures as resources.

    \b
    interleaver mcp                      # what an MCP client starts
    interleaver mcp --http --port 8000   # at http://127.0.0.1:8000/mcp
    """
    from interleaver.config import find_profile, load_profile
    from interleaver.extras import need
    from interleaver.runner import Runner

    need("mcp", "mcp")
    from interleaver.adapters.mcp import create_server

    runner = Runner(load_profile(profile), out)
    runner.runs.prepare()
    server = create_server(runner, find_profile(profile), host, port)
    if http:
        click.echo(f"MCP at http://{host}:{port}/mcp", err=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            click.echo("It asks for no key: put something in front of it that does.", err=True)
    server.run("streamable-http" if http else "stdio")


@main.command()
def graph() -> None:
    """Print the state machine as a Mermaid diagram.

    \b
    interleaver graph > graph.mmd
    """
    from interleaver import graph as compiled

    click.echo(compiled.get_graph().draw_mermaid())


@main.command()
@profile_option
@out_option
@json_option
@_clear_errors
def doctor(profile: str | None, out: Path | None, as_json: bool) -> None:
    """Say what is installed, what is configured and what can be reached.

    \b
    interleaver doctor --profile my-models.toml
    """
    from interleaver.doctor import examine

    checks = asyncio.run(examine(profile, out))
    if as_json:
        click.echo(json.dumps([check.model_dump() for check in checks], indent=2))
    else:
        for check in checks:
            mark = {True: click.style("ok  ", fg="green"), False: click.style("FAIL", fg="red"), None: "-   "}[check.ok]
            click.echo(f"{mark} {check.name:28} {check.said}")
    sys.exit(UNFINISHED if any(check.ok is False for check in checks) else 0)


if __name__ == "__main__":
    main()
