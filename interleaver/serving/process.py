"""A server as a child process: started, waited for, and stopped."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence

from interleaver.errors import BadInput, InterleaverError

STOP_SECONDS = 30.0


class ServerFailed(InterleaverError):
    """A server ended, or did not become ready in time."""


def free_port(host: str, port: int) -> None:
    """Make sure that nobody listens at a port yet.

    Raises:
        BadInput: somebody does, or the host is not of this machine.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise BadInput(
            f"{host}:{port} cannot be listened at ({error.strerror}); choose another --host or --port"
        ) from None


class ServerProcess:
    """A child process that serves HTTP; what it prints is passed on to the standard error."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str):
        """Start it.

        Raises:
            ServerFailed: there is no such program.
        """
        self.name = name
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise ServerFailed(f"{name} cannot be started: {command[0]}: {error.strerror}") from None
        self._last: deque[str] = deque(maxlen=15)
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last.append(line.rstrip())
            print(line, end="", file=sys.stderr, flush=True)

    def wait_until_ready(self, health: str, seconds: float) -> None:
        """Wait for the health page to answer.

        Args:
            health: its URL.
            seconds: how long to wait at most.

        Raises:
            ServerFailed: the process ended, or took longer.
        """
        started = time.monotonic()
        while True:
            passed = time.monotonic() - started
            if self._process.poll() is not None:
                self._reader.join(timeout=2)
                said = "\n  ".join(self._last) or "it printed nothing"
                raise ServerFailed(
                    f"{self.name} ended with code {self._process.returncode} before it was ready:\n  {said}"
                )
            if _healthy(health):
                return
            if passed > seconds:
                self.stop()
                raise ServerFailed(f"{self.name} was not ready after {seconds:g} s (--wait)")
            time.sleep(0.5)

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and end it when it doesn't."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _healthy(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (http.client.HTTPException, OSError):
        return False
