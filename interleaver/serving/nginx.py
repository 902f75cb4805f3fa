"""An nginx configuration for several servers of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from interleaver.errors import BadInput


def nginx_config(servers: Sequence[str], port: int, *, host: str = "127.0.0.1", seconds: int = 600) -> str:
    """A configuration that gives each request to the least busy server, and to the next one when that fails.

    Args:
        servers: their addresses, such as http://10.0.0.1:8000; all of them serve the same model.
        port: where nginx listens.
        host: likewise.
        seconds: how long one request may take.

    Raises:
        BadInput: an address is none, or stands twice.
    """
    upstreams = []
    for server in servers:
        parts = urlsplit(server)
        try:
            port_there = parts.port or 80
        except ValueError:  # it is beyond 65535
            port_there = 0
        odd = parts.path not in ("", "/") or any(sign in server for sign in " ;{}")
        if parts.scheme != "http" or not parts.hostname or not port_there or odd:
            raise BadInput(f"{server!r} is not the address of a server; give for example http://10.0.0.1:8000")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        upstreams.append(f"{name}:{port_there}")
    if len(set(upstreams)) < len(upstreams):
        raise BadInput("the same server is given twice")
    environment = Environment(loader=PackageLoader("interleaver.serving"), undefined=StrictUndefined, trim_blocks=True)
    template = environment.get_template("nginx.conf")
    return template.render(upstreams=upstreams, host=host, port=port, seconds=seconds)
