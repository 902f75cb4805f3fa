"""Servers in processes of their own: started, listed, asked."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(*arguments, name="sandbox", **environment):
    """`interleaver serve generator` as a process of its own; its address and the process."""
    port = free_port()
    command = [sys.executable, "-m", "interleaver.cli", "serve", "generator", name, "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        for line in process.stdout:
            if line.startswith("base_url"):
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def processes(word):
    """Process and parent id of every process whose command line has a word."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes().decode(errors="replace"):
                yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass  # it has ended meanwhile


def wait_until_healthy(url, process, log):
    """Wait until a LangGraph server answers."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/ok").status_code == 200:
                return
            time.sleep(0.2)
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())
