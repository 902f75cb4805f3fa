"""`interleaver graph`: print the LangGraph graph as a diagram."""

from __future__ import annotations

import click


@click.command()
def graph() -> None:
    """Print the LangGraph graph as a Mermaid diagram.

    \b
    interleaver graph > graph.mmd
    """
    from interleaver.graph.builder import build_graph

    click.echo(build_graph().compile(name="interleaver").get_graph().draw_mermaid())
