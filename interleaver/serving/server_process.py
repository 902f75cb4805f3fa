"""A server in a child process: start it, wait until it is ready, and stop it."""

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


class ServerStartError(InterleaverError):
    """A server could not be started, exited before it was ready, or was not ready in time."""


def check_port_free(host: str, port: int) -> None:
    """Check that a server can listen on a host and port.

    Raises:
        BadInput: the port is in use or not permitted, or the host is not an address of this machine.
    """
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise BadInput(f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port") from None


class ServerProcess:
    """A child process that serves HTTP; its output is forwarded to standard error."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str):
        """Start the process.

        Args:
            command: the program and its arguments.
            environment: environment variables of the process.
            name: name of the server in error messages.

        Raises:
            ServerStartError: the program cannot be started.
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
            raise ServerStartError(f"{name} cannot be started: {command[0]}: {error.strerror}") from None
        self._last_lines: deque[str] = deque(maxlen=15)
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_lines.append(line.rstrip())
            print(line, end="", file=sys.stderr, flush=True)

    def wait_until_ready(self, health: str, seconds: float) -> None:
        """Wait until the health endpoint answers with status 200.

        Args:
            health: URL of the health endpoint.
            seconds: timeout, after which the process is stopped.

        Raises:
            ServerStartError: the process exited, or the timeout expired.
        """
        start = time.monotonic()
        while True:
            waited_seconds = time.monotonic() - start
            if self._process.poll() is not None:
                self._reader.join(timeout=2)
                output = "\n  ".join(self._last_lines) or "it printed nothing"
                raise ServerStartError(
                    f"{self.name} exited with code {self._process.returncode} before it was ready:\n  {output}"
                )
            if _healthy(health):
                return
            if waited_seconds > seconds:
                self.stop()
                raise ServerStartError(f"{self.name} was not ready after {seconds:g} s; increase --wait")
            time.sleep(0.5)

    def wait(self) -> int:
        """Wait until the process exits; return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Terminate the process; kill it if it is still running after `STOP_SECONDS`."""
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
