"""`interleaver runs ...`: list, show and delete stored runs."""

from __future__ import annotations

import asyncio
import json

import click

from interleaver.cli.common import (
    describe_deletion,
    json_option,
    one_line_errors,
    open_store,
    other_users_options,
    out_option,
    profile_option,
)
from interleaver.errors import BadInput


@click.group()
def runs() -> None:
    """List, show and delete stored runs."""


@runs.command("list")
@profile_option
@out_option
@json_option
@one_line_errors
def list_runs(profile: str | None, out: str | None, as_json: bool) -> None:
    """List all runs, newest first.

    \b
    interleaver runs list
    """
    summaries = open_store(profile, out).summaries()
    if as_json:
        click.echo(json.dumps([summary.model_dump(mode="json") for summary in summaries], indent=2))
        return
    if not summaries:
        click.echo('There are no runs yet. Start with: interleaver run "How to draw a cat step by step?"')
    for summary in summaries:
        click.echo(f"{summary.run_id:58} {summary.status:10} {summary.request[:60]}")


@runs.command()
@click.argument("run_id")
@profile_option
@out_option
@json_option
@one_line_errors
def show(run_id: str, profile: str | None, out: str | None, as_json: bool) -> None:
    """Show a run: its steps, attempts and verdicts.

    \b
    interleaver runs show 20260131-093000-how-to-draw-a-cat-1a2b
    """
    store = open_store(profile, out)
    record, document = store.record(run_id), store.document(run_id)
    if document is None:
        raise BadInput(store.why_no_document(run_id))
    if as_json:
        click.echo(document.model_dump_json(indent=2))
        return
    click.echo(f"{record.request}\n{document.status}, seed {document.seed}, started {record.started_at:%Y-%m-%d %H:%M}")
    for step in document.steps:
        click.echo(f"\n{step.number}. {step.name}: {step.outcome or 'not reached'}")
        for attempt in step.attempts:
            click.echo(f"   {attempt.attempt}. {attempt.verdict_label}: {attempt.prompt}")
            click.echo(f"      {attempt.error or attempt.reasoning}")


@runs.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN_ID]...")
@click.option(
    "--older-than", type=click.FloatRange(0), metavar="DAYS", help="Delete all runs that are older than this."
)
@profile_option
@out_option
@other_users_options
@one_line_errors
def delete(
    run_ids: tuple[str, ...],
    older_than: float | None,
    profile: str | None,
    out: str | None,
    keep: tuple[str, ...],
    not_shared: bool,
) -> None:
    """Delete runs for good, with their checkpoints, labels, documents and pictures.

    Pictures that other runs need are kept. Other runs may be in progress meanwhile.

    \b
    interleaver runs delete 20260131-093000-how-to-draw-a-cat-1a2b
    interleaver runs delete --older-than 30
    """
    from interleaver.profile import load_profile
    from interleaver.upkeep.deletion import delete_runs, expired_runs, open_other_users

    if bool(run_ids) == (older_than is not None):
        raise BadInput("give the ids of the runs, or --older-than, but not both")
    loaded_profile, store = load_profile(profile), open_store(profile, out)
    other_users = open_other_users(loaded_profile, keep, not_shared)
    if older_than is not None:
        run_ids = tuple(asyncio.run(expired_runs(store, older_than)))
    deletion = asyncio.run(delete_runs(store, list(dict.fromkeys(run_ids)), other_users, older_than is not None))
    click.echo(f"Deleted {describe_deletion(deletion)}")
