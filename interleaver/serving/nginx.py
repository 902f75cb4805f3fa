"""An nginx configuration that balances requests over several servers of one model."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from interleaver.errors import BadInput
from interleaver.rendering.templates import render_template


def nginx_config(servers: Sequence[str], port: int, *, host: str = "127.0.0.1", seconds: int = 600) -> str:
    """Return a configuration that sends each request to the least busy server, and retries it on another on failure.

    Args:
        servers: URLs of servers of the same model, such as http://10.0.0.1:8000.
        port: port that nginx listens on.
        host: address that nginx listens on.
        seconds: timeout of one request.

    Raises:
        BadInput: a URL is not http://HOST[:PORT], or is given twice.
    """
    upstreams = []
    for server in servers:
        parts = urlsplit(server)
        try:
            port_there = parts.port or 80
        except ValueError:  # the port is not a number up to 65535
            port_there = 0
        odd = parts.path not in ("", "/") or any(sign in server for sign in " ;{}")
        if parts.scheme != "http" or not parts.hostname or not port_there or odd:
            raise BadInput(f"{server!r} is not the address of a server; give for example http://10.0.0.1:8000")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        upstreams.append(f"{name}:{port_there}")
    if len(set(upstreams)) < len(upstreams):
        raise BadInput("the same server is given twice")
    return render_template(
        "interleaver.serving", "nginx.conf", upstreams=upstreams, host=host, port=port, seconds=seconds
    )
