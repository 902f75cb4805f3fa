"""The command line: `interleaver run | change | runs | prompts | batch | traces | data | train | eval | serve | ...`.

Exit codes: 0 success, 2 invalid command line or input, 3 the command failed or its result is incomplete,
130 interrupted.
"""

from __future__ import annotations

import click

from interleaver.cli.batch import batch
from interleaver.cli.change import change
from interleaver.cli.common import OneLineErrors
from interleaver.cli.data import data
from interleaver.cli.doctor import doctor
from interleaver.cli.eval import evaluate
from interleaver.cli.graph import graph
from interleaver.cli.mcp import mcp
from interleaver.cli.prompts import prompts
from interleaver.cli.run import run
from interleaver.cli.runs import runs
from interleaver.cli.serve import serve
from interleaver.cli.traces import traces
from interleaver.cli.train import train


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interleaver")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def main(debug: bool) -> None:
    """One request in, an illustrated document out."""


for command in (run, change, runs, prompts, batch, traces, data, train, evaluate, serve, mcp, graph, doctor):
    main.add_command(command)
