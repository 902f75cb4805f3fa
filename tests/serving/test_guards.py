"""Slow, many and unknown clients do not stop a server."""

import asyncio
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from interleaver.serving import guards
from interleaver.serving.guards import add_guards, guarded_config

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
KEY = "sk-for-this-test"


@pytest.fixture
def serve(monkeypatch):
    """Starts a server with guards; returns its port and the bodies that it has read."""
    servers = []

    def start(api_key=None, requests_per_minute=None):
        bodies = []

        async def answer(request):
            bodies.append(await request.body())
            return PlainTextResponse("done")

        app = Starlette(routes=[Route("/", answer, methods=["POST"]), Route("/health", answer)])
        add_guards(app, api_key, requests_per_minute, ["/health"])
        server = uvicorn.Server(guarded_config(app, "127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        servers.append((server, thread))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        return server.servers[0].sockets[0].getsockname()[1], bodies

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(guards, "HEADER_SECONDS", 0.3)


@pytest.mark.parametrize("header", [None, "Basic x", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer", f"BearerX {KEY}"])
def test_a_request_without_the_key_is_refused_before_its_body(serve, header):
    port, bodies = serve(api_key=KEY)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        authorization = f"Authorization: {header}\r\n" if header else ""
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: 99999999\r\n\r\n".encode())
        answer = connection.recv(4096)
    assert b"401" in answer.splitlines()[0] and b"WWW-Authenticate: Bearer".lower() in answer.lower()
    assert bodies == []


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY}"])
def test_a_request_with_the_key_is_answered(serve, header):
    port, bodies = serve(api_key=KEY)
    assert httpx.post(f"http://127.0.0.1:{port}/", content=b"x", headers={"Authorization": header}).text == "done"
    assert httpx.get(f"http://127.0.0.1:{port}/health").text == "done" and bodies == [b"x", b""]


def test_a_client_has_a_number_of_requests_a_minute(serve):
    port, bodies = serve(api_key=KEY, requests_per_minute=5)
    statuses = [httpx.post(f"http://127.0.0.1:{port}/", headers={"Authorization": f"Bearer {n}"}) for n in range(7)]
    assert [answer.status_code for answer in statuses] == [401] * 5 + [429] * 2  # guesses count
    assert statuses[-1].headers["Retry-After"] and httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    assert bodies == [b""]


@pytest.mark.parametrize("begin", [b"", b"POST / HTTP/1.1\r\nHost: x\r\n", b"P"])
def test_a_header_that_does_not_come_closes_the_connection(serve, impatient, begin):
    port, bodies = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(begin)
        assert connection.recv(100) == b""  # closed
    assert bodies == []


def test_a_header_that_drips_closes_the_connection(serve, impatient):
    """Also that of a second request."""
    port, bodies = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b"200 OK" in connection.recv(4096)
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"P")
                time.sleep(0.02)
    assert bodies == [b""]


def test_a_slow_body_and_a_slow_answer_are_waited_for(serve, impatient):
    port, bodies = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        for letter in (b"s", b"l", b"o", b"w"):
            time.sleep(0.2)
            connection.sendall(letter)
        assert b"200 OK" in connection.recv(4096)
    assert bodies == [b"slow"]


def test_more_connections_than_allowed_are_refused_and_the_others_answered(serve, monkeypatch):
    monkeypatch.setattr(guards, "MAX_CONNECTIONS", 5)
    port, _ = serve()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    assert httpx.post(f"http://127.0.0.1:{port}/").status_code == 503
    for connection in idle:
        connection.close()
    while httpx.post(f"http://127.0.0.1:{port}/").status_code != 200:
        time.sleep(0.02)
