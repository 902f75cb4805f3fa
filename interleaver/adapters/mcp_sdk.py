"""The MCP SDK in its two major versions, under one set of names."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
from pydantic import BaseModel

MAJOR = int(version("mcp").partition(".")[0])
"""Major version of the installed SDK, 1 or 2."""

if TYPE_CHECKING or MAJOR == 1:
    from mcp.server.fastmcp import Context as Context
    from mcp.server.fastmcp import FastMCP

    Server = FastMCP
    from mcp.server.fastmcp.exceptions import ResourceError as ResourceError
    from mcp.server.fastmcp.exceptions import ToolError as ToolError
else:
    from mcp.server.mcpserver import Context as Context
    from mcp.server.mcpserver import MCPServer

    Server = MCPServer
    from mcp.server.mcpserver.exceptions import ResourceError as ResourceError
    from mcp.server.mcpserver.exceptions import ToolError as ToolError

ANSWER = "review"
"""Name of the one question that a result of version 2's protocol asks."""


def new_server(name: str, instructions: str) -> Server[Any]:
    """Return a server without tools."""
    return Server(name, instructions=instructions, log_level="WARNING")


def serve(
    server: Server[Any], transport: Literal["stdio", "streamable-http"], host: str, port: int, max_bytes: int
) -> None:
    """Serve until the client leaves (stdio), or until interrupted (HTTP).

    Args:
        server: the server.
        transport: how clients connect.
        host: with HTTP, the address to listen on.
        port: with HTTP, the port to listen on.
        max_bytes: with HTTP, the largest request body in bytes.
    """
    for name in ("mcp.server.streamable_http", "uvicorn.error"):
        logging.getLogger(name).addFilter(_is_no_disconnect)
    if transport == "stdio":
        server.run("stdio")
    elif MAJOR == 1:
        server.settings.host, server.settings.port = host, port
        server.settings.max_request_body_size = max_bytes
        server.run(transport)
    else:
        server.run(transport, host=host, port=port, max_request_body_size=max_bytes)  # type: ignore[call-arg]


def _is_no_disconnect(record: logging.LogRecord) -> bool:
    """Return False for what the SDK and its server log, with a traceback, when a client hangs up."""
    error = record.exc_info[1] if record.exc_info else None
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return not isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError)


def asks_in_results(client: Context[Any, Any]) -> bool:
    """Return whether the client's protocol has no requests from the server, so that a result asks the question."""
    if MAJOR == 1:
        return False
    versions = import_module("mcp_types.version").MODERN_PROTOCOL_VERSIONS
    return cast(Any, client).protocol_version in versions


def question_result(message: str, schema: type[BaseModel], state: str) -> Any:
    """Return the result of a tool call that asks the client's user; the client calls again with the answer.

    Args:
        message: the question.
        schema: fields of the answer.
        state: text that comes back with the answer.
    """
    types = import_module("mcp.types")
    fields = import_module("mcp.server.elicitation").render_elicitation_schema(schema)
    question = types.ElicitRequestFormParams(message=message, requested_schema=fields)
    return types.InputRequiredResult(input_requests={ANSWER: types.ElicitRequest(params=question)}, request_state=state)


def answer_of(client: Context[Any, Any]) -> tuple[str, dict[str, Any] | None] | None:
    """Return the state and the answer to a `question_result`; the answer is None if the user declined to give one.

    None if the call is a new one.
    """
    state, answers = getattr(client, "request_state", None), getattr(client, "input_responses", None)
    if state is None or not answers:
        return None
    reply = answers[ANSWER]
    return state, reply.content if reply.action == "accept" else None
