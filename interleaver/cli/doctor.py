"""`interleaver doctor`: what is installed, configured and reachable."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from interleaver.cli.common import EXIT_UNFINISHED, json_option, one_line_errors, out_option, profile_option
from interleaver.errors import BadInput


@click.command()
@profile_option
@out_option
@click.option("--deep", is_flag=True, help="Also ask planner, critic and generator for something; this may cost money.")
@click.option(
    "--store", is_flag=True, help="Instead read every run and picture of the run store, and tell what is damaged."
)
@click.option("--mend", is_flag=True, help="With --store: put lost pictures back, or draw them again.")
@json_option
@one_line_errors
def doctor(profile: str | None, out: str | None, deep: bool, store: bool, mend: bool, as_json: bool) -> None:
    """Check what is installed and works, what is configured, and what is reachable.

    \b
    interleaver doctor --profile my-models.toml
    interleaver doctor --profile my-models.toml --deep
    interleaver doctor --store --mend
    """
    from interleaver.doctor import examine, examine_store

    if (store and deep) or (mend and not store):
        raise BadInput("--store goes without --deep, and --mend needs --store")
    if not as_json and not store:
        click.echo("Trying the installed extras; with all of them this takes half a minute ...", err=True)
    checks = asyncio.run(examine_store(profile, out, mend) if store else examine(profile, out, deep))
    if as_json:
        click.echo(json.dumps([check.model_dump() for check in checks], indent=2))
    else:
        for check in checks:
            mark = {True: click.style("ok  ", fg="green"), False: click.style("FAIL", fg="red"), None: "-   "}[check.ok]
            click.echo(f"{mark} {check.name:28} {check.detail}")
    sys.exit(EXIT_UNFINISHED if any(check.ok is False for check in checks) else 0)
