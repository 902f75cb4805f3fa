"""The MCP SDK in its two major versions, under one set of names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import anyio
from pydantic import BaseModel

from interleaver.pictures import MAX_BYTES

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

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
MAX_BODY = 8 * MAX_BYTES
"""Largest request body in bytes, with room for pictures as base64."""
MAX_SESSIONS = 1000
ANSWER = "review"
"""Name of the one question that a result of version 2's protocol asks."""


def new_server(name: str, instructions: str) -> Server[Any]:
    """Return a server without tools."""
    return Server(name, instructions=instructions, log_level="WARNING")


@dataclass(frozen=True)
class HttpOptions:
    """How a server is reached over HTTP.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        allowed_hosts: further names under which clients may reach the server, besides `host` and those of this machine
            itself. Requests with another `Host` or `Origin` are refused: a page in a browser may have sent them.
        api_key: key that clients must send as a bearer token; None for none.
        requests_per_minute: maximum number of requests of one client address; None for no limit.
    """

    host: str
    port: int
    allowed_hosts: tuple[str, ...] = ()
    api_key: str | None = None
    requests_per_minute: int | None = None


def serve(server: Server[Any], http: HttpOptions | None = None) -> None:
    """Serve until the client leaves (stdio), or until interrupted (HTTP).

    Args:
        server: the server.
        http: how it is reached over HTTP; None for stdio.
    """
    for name in ("mcp.server.streamable_http", "uvicorn.error"):
        logging.getLogger(name).addFilter(_is_no_disconnect)
    if http is None:
        server.run("stdio")
        return
    from uvicorn import Server as HttpServer

    from interleaver.serving.guards import add_guards, guarded_config

    app = _http_app(server, http)
    add_guards(app, http.api_key, http.requests_per_minute)
    HttpServer(guarded_config(app, http.host, http.port)).run()


def _http_app(server: Server[Any], http: HttpOptions) -> Any:
    security = import_module("mcp.server.transport_security")
    own_names = () if http.host in ("0.0.0.0", "::") else (http.host,)
    hosts = [f"[{name}]" if ":" in name else name for name in (*LOOPBACK_NAMES, *own_names, *http.allowed_hosts)]
    with_ports = [*hosts, *(f"{name}:*" for name in hosts)]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in with_ports]
    options = {
        "transport_security": security.TransportSecuritySettings(allowed_hosts=with_ports, allowed_origins=origins),
        "max_request_body_size": MAX_BODY,
        "max_sessions": MAX_SESSIONS,
    }
    if MAJOR == 1:
        for name, value in options.items():
            setattr(server.settings, name, value)
        return server.streamable_http_app()
    return server.streamable_http_app(**options)


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
