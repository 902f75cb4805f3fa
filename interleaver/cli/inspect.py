"""`interleaver graph` and `interleaver doctor`: looking at what is there."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from interleaver.cli.common import UNFINISHED, clear_errors, json_option, out_option, profile_option


@click.command()
def graph() -> None:
    """Print the state machine as a Mermaid diagram.

    \b
    interleaver graph > graph.mmd
    """
    from interleaver import graph as compiled

    click.echo(compiled.get_graph().draw_mermaid())


@click.command()
@profile_option
@out_option
@json_option
@clear_errors
def doctor(profile: str | None, out: str | None, as_json: bool) -> None:
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
