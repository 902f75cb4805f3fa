"""`interleaver mcp`: serve the graph to MCP clients."""

from __future__ import annotations

import click

from interleaver.cli.common import (
    api_key_env_option,
    host_option,
    one_line_errors,
    out_option,
    profile_option,
    requests_per_minute_option,
    without_key_option,
)


@click.command()
@profile_option
@out_option
@click.option("--http", is_flag=True, help="Serve over streamable HTTP instead of stdio.")
@api_key_env_option
@without_key_option
@host_option
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="With --http: port to listen on."
)
@click.option("--allow-host", "allowed_hosts", metavar="NAME", multiple=True,
              help="With --http: another name under which clients reach the server; can be repeated.")  # fmt: skip
@requests_per_minute_option
@one_line_errors
def mcp(
    profile: str | None,
    out: str | None,
    http: bool,
    api_key_env: str | None,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    requests_per_minute: int | None,
) -> None:
    """Serve the graph to MCP clients: tools that make and look up documents, and pictures as resources.

    \b
    interleaver mcp                      # over stdio, as MCP clients start it
    interleaver mcp --http --port 8000   # at http://127.0.0.1:8000/mcp
    interleaver mcp --http --host 0.0.0.0 --allow-host documents.lan --api-key-env MCP_KEY
    """
    from interleaver.extras import require_extra
    from interleaver.profile import load_profile
    from interleaver.runner import Runner

    require_extra("mcp", "mcp")
    from interleaver.adapters.mcp import create_server
    from interleaver.adapters.mcp_sdk import HttpOptions, serve
    from interleaver.serving.launch import read_key

    runner = Runner(load_profile(profile), out)
    runner.runs.prepare()
    server = create_server(runner)
    if not http:
        serve(server)
        return
    click.echo(f"MCP at http://{host}:{port}/mcp", err=True)
    serve(server, HttpOptions(host, port, allowed_hosts, read_key(api_key_env), requests_per_minute))
