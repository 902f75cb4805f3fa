"""The official MCP client, in its two major versions."""

import os
import sys
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from support import REPOSITORY

MAJOR = int(version("mcp").partition(".")[0])
COMMAND = ["-m", "interleaver.cli", "mcp"]
OTHER_PYTHON = REPOSITORY / ".venv-mcp2" / "bin" / "python"
"""An interpreter with version 2 of the SDK."""
PYTHONS = [sys.executable, *([str(OTHER_PYTHON)] if MAJOR == 1 and OTHER_PYTHON.exists() else [])]
"""Interpreters that can run the server."""


class Client:
    """A session whose results are JSON, with the names of the wire."""

    def __init__(self, session):
        self.session = session

    async def call_tool(self, name, arguments, **options):
        if MAJOR > 1 and "read_timeout_seconds" in options:
            options["read_timeout_seconds"] = options["read_timeout_seconds"].total_seconds()
        return _json(await self.session.call_tool(name, arguments, **options))

    async def read_resource(self, uri):
        return _json(await self.session.read_resource(uri))

    async def list_tools(self):
        return _json(await self.session.list_tools())["tools"]


def _json(result):
    return result.model_dump(mode="json", by_alias=True)


@asynccontextmanager
async def over_stdio(folder, *options, python=sys.executable, script=None, **session):
    command = [str(script)] if script else [*COMMAND, *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    server = StdioServerParameters(command=python, args=command, cwd=folder, env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams, **session) as client:
        await client.initialize()
        yield Client(client)


@asynccontextmanager
async def over_http(url, **session):
    async with streamable_http_client(url) as streams, ClientSession(*streams[:2], **session) as client:
        await client.initialize()
        yield Client(client)
