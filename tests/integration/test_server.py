"""The graph in a real LangGraph server, through the official client, over loopback."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server started as the documentation says, in a folder of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(ROOT / "interleaver", folder / "interleaver", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("langgraph.json", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = Path(sys.executable).parent / "langgraph"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [command, "dev", "--no-browser", "--no-reload", "--port", str(port)],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "LANGSMITH_TRACING": "false"},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_healthy(url, process, log):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/ok").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


async def test_a_run_on_the_server(server):
    async with get_client(url=server) as client:
        thread = await client.threads.create()
        result = await client.runs.wait(thread["thread_id"], "interleaver", input={"request": "a boat at sunset"})
        state = await client.threads.get_state(thread["thread_id"])
    document = result["document"]
    assert result["status"] == "complete"
    assert [block["type"] for block in document["blocks"]] == ["text", "image"] * len(document["steps"])
    assert state["values"]["attempts"]


async def test_settings_are_offered_with_their_descriptions_and_obeyed(server):
    async with get_client(url=server) as client:
        (assistant,) = await client.assistants.search(graph_id="interleaver")
        schemas = await client.assistants.get_schemas(assistant["assistant_id"])
        result = await client.runs.wait(
            None, "interleaver", input={"request": "How to draw a cat?"}, context={"max_generator_calls": 2}
        )
    assert "description" in schemas["context_schema"]["properties"]["max_attempts"]
    assert result["status"] == "partial" and "2 generator calls" in result["document"]["reason"]
