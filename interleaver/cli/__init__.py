"""The command line: `interleaver run | runs | prompts | batch | traces | data | train | eval | serve | ...`.

Exit codes: 0 done, 2 the command was not understood or its input cannot be used, 3 a run ended partial or failed,
130 interrupted.
"""

from __future__ import annotations

import click

from interleaver.cli.batch import batch
from interleaver.cli.common import OneLineErrors
from interleaver.cli.data import data
from interleaver.cli.eval import evaluate
from interleaver.cli.inspect import doctor, graph
from interleaver.cli.prompts import prompts
from interleaver.cli.run import run
from interleaver.cli.runs import runs
from interleaver.cli.serve import mcp, serve
from interleaver.cli.store import export, gc, import_traces, label
from interleaver.cli.traces import traces
from interleaver.cli.train import train


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interleaver")
@click.option("--debug", is_flag=True, help="Show where an unforeseen error came from.")
def main(debug: bool) -> None:
    """One request in, an illustrated document out."""


for command in (import_traces, export, gc, label):
    traces.add_command(command)
for command in (run, runs, prompts, batch, traces, data, train, evaluate, serve, mcp, graph, doctor):
    main.add_command(command)
