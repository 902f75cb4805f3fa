"""`interleaver mcp`: serve the graph to MCP clients."""

from __future__ import annotations

import click

from interleaver.cli.common import host_option, one_line_errors, out_option, profile_option, without_key_option


@click.command()
@profile_option
@out_option
@click.option("--http", is_flag=True, help="Serve over streamable HTTP instead of stdio.")
@without_key_option
@host_option
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="With --http: port to listen on."
)
@one_line_errors
def mcp(profile: str | None, out: str | None, http: bool, host: str, port: int) -> None:
    """Serve the graph to MCP clients: tools that make and look up documents, and pictures as resources.

    \b
    interleaver mcp                      # over stdio, as MCP clients start it
    interleaver mcp --http --port 8000   # at http://127.0.0.1:8000/mcp
    """
    from interleaver.extras import require_extra
    from interleaver.profile import load_profile
    from interleaver.runner import Runner

    require_extra("mcp", "mcp")
    from interleaver.adapters.mcp import create_server
    from interleaver.adapters.mcp_sdk import serve
    from interleaver.pictures import MAX_BYTES

    runner = Runner(load_profile(profile), out)
    runner.runs.prepare()
    server = create_server(runner)
    if http:
        click.echo(f"MCP at http://{host}:{port}/mcp", err=True)
    # The size limit leaves room for pictures in the request, as base64.
    serve(server, "streamable-http" if http else "stdio", host, port, max_bytes=8 * MAX_BYTES)
