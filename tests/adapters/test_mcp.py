"""The MCP server under the official clients of both major versions and langchain-mcp-adapters, over both transports."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import httpx
import pytest
from mcp.types import ElicitResult
from PIL import Image
from support import REPOSITORY
from support.mcp_client import COMMAND, MAJOR, PYTHONS, over_http, over_stdio

from interleaver.pictures import Picture
from interleaver.traces.runs import RunStore

pytestmark = pytest.mark.integration
TWO_THINGS = {"request": "a boat and a tree"}
PICTURE_AND_TEXT = ["text", "image", "text"]


@contextmanager
def http_serving(folder, *options, **environment):
    """The server over HTTP, as a process of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        command = [sys.executable, *COMMAND, "--http", "--port", str(port), *options]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment})
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/mcp"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130, (folder / "log").read_text()


@pytest.fixture(scope="module")
def http_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("http")
    with http_serving(folder, "--allow-host", "documents.lan") as url:
        yield url, folder


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "documents.lan"}, 200),
        ({"Host": "documents.lan:8443", "Origin": "https://documents.lan"}, 200),
        ({"Host": "rebound.example"}, 421),
        ({"Host": "127.0.0.1.rebound.example"}, 421),
        ({"Host": "documents.lan.rebound.example:80"}, 421),
        ({"Origin": "http://rebound.example"}, 403),
        ({"Origin": "http://localhost.rebound.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_hosts_cannot_call_the_server(http_server, headers, status):
    url, _ = http_server
    answer = httpx.post(url, json=INITIALIZE, headers={"Accept": "application/json, text/event-stream"} | headers)
    assert answer.status_code == status


def test_a_server_for_other_machines_needs_a_key(tmp_path):
    command = [sys.executable, *COMMAND, "--http", "--host", "0.0.0.0"]
    refusal = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert refusal.returncode == 2 and "nobody would need a key" in refusal.stderr
    with http_serving(tmp_path, "--api-key-env", "KEY", "--requests-per-minute", "3", KEY="k1") as url:
        headers = {"Accept": "application/json, text/event-stream"}
        assert httpx.post(url, json=INITIALIZE, headers=headers).status_code == 401
        with_key = headers | {"Authorization": "Bearer k1"}
        statuses = [httpx.post(url, json=INITIALIZE, headers=with_key).status_code for _ in range(3)]
        assert statuses[0] == 200 and statuses[-1] == 429


@asynccontextmanager
async def connect(transport, tmp_path, http_server):
    if transport == "stdio":
        async with over_stdio(tmp_path) as client:
            yield client, tmp_path
    else:
        url, folder = http_server
        async with over_http(url) as client:
            yield client, folder


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_illustrate_fetch_list_and_look(transport, tmp_path, http_server):
    async with connect(transport, tmp_path, http_server) as (client, folder):
        heard = []

        async def progress(done, total, message):
            heard.append((done, total, message))

        made = await client.call_tool("illustrate", TWO_THINGS, progress_callback=progress)
        assert not made["isError"]
        told = made["structuredContent"]
        assert told["status"] == "complete" and [part["type"] for part in told["parts"]] == ["text", "image"] * 2
        assert [block["type"] for block in made["content"]] == ["text", *PICTURE_AND_TEXT * 2]
        assert Picture.decode(base64.b64decode(made["content"][2]["data"])).width == 192

        shares = [done for done, _, _ in heard]
        assert shares == sorted(shares) and shares[-1] == heard[-1][1] == 2
        assert heard[0][2] == "A plan of 2 steps" and "Step 1: drawing, attempt 1" in [text for _, _, text in heard]

        (picture,) = (await client.read_resource(told["parts"][1]["uri"]))["contents"]
        assert Picture.decode(base64.b64decode(picture["blob"])).width == 512
        (markdown,) = (await client.read_resource(f"document://{told['run_id']}"))["contents"]
        assert (
            markdown["text"].startswith("# a boat and a tree") and f"]({told['parts'][1]['uri']})" in markdown["text"]
        )

        again = await client.call_tool("get_document", {"run_id": told["run_id"]})
        assert again["structuredContent"] == told
        listed = (await client.call_tool("list_runs", {"limit": 1}))["structuredContent"]["result"]
        assert listed[0]["run_id"] == told["run_id"]
        assert RunStore(folder / "out").document(told["run_id"]).status == "complete"  # the command line sees it too

        more = await client.call_tool("illustrate", {"request": "add a sun", "images": [told["parts"][-1]["uri"]]})
        assert more["structuredContent"]["status"] == "complete" and len(more["structuredContent"]["parts"]) == 2


async def test_what_cannot_be_used_is_told_and_the_session_goes_on(tmp_path):
    async with over_stdio(tmp_path) as client:
        buffer = io.BytesIO()
        Image.new("1", (9000, 9000)).save(buffer, "PNG")
        large = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        for arguments, said in [
            ({"request": " "}, "the request is empty"),
            ({"request": "a dragon"}, "the sandbox does not know 'dragon'"),
            ({"request": "x", "images": ["/etc/passwd"]}, "no file is read"),
            ({"request": "x", "images": ["http://127.0.0.1/x.png"]}, "is a private address"),
            ({"request": "x", "images": ["data:image/png;base64,aGVsbG8="]}, "is not a picture"),
            ({"request": "x", "images": [large]}, "at most 80 megapixels"),
            ({"request": "x", "images": ["picture://" + "0" * 64]}, "is not in the image store"),
            ({"request": "x", "settings": {"max_attempts": 0}}, "greater than or equal to 1"),
            ({"request": "x", "settings": {"sed": 1}}, "settings.sed"),
            ({}, "Field required"),
        ]:
            result = await client.call_tool("illustrate", arguments)
            assert result["isError"] and said in result["content"][0]["text"], (arguments, result["content"][0]["text"])
        missing = await client.call_tool("get_document", {"run_id": "../../etc"})
        assert missing["isError"] and "there is no run" in missing["content"][0]["text"]
        for uri in ("picture://abc", f"picture://{'0' * 64}", "document://nothing"):
            with pytest.raises(Exception, match="picture|document|run|SHA-256"):
                await client.read_resource(uri)
        fine = await client.call_tool("illustrate", TWO_THINGS)
        assert fine["structuredContent"]["status"] == "complete"


async def test_the_person_at_the_client_is_asked(tmp_path):
    (tmp_path / "interleaver.toml").write_text('[run]\nreview = true\non_exhausted = "ask"\nmax_attempts = 1\n')
    asked = []

    async def answer(context, request):
        asked.append((request.message, list(request.model_dump(by_alias=True)["requestedSchema"]["properties"])))
        if "The plan:" in request.message:
            return ElicitResult(action="accept", content={"action": "approve", "feedback": ""})
        return ElicitResult(action="accept", content={"action": "pick", "attempt": 1, "prompt": ""})

    async with over_stdio(tmp_path, elicitation_callback=answer) as client:
        made = await client.call_tool("illustrate", TWO_THINGS)
    assert not made["isError"], made["content"]
    assert [fields for _, fields in asked][:2] == [["action", "feedback"], ["action", "attempt", "prompt"]]
    assert "1. A blue boat" in asked[0][0] and "was not accepted" in asked[1][0]


async def test_a_client_that_cannot_ask_leaves_the_run_waiting(tmp_path):
    (tmp_path / "interleaver.toml").write_text("[run]\nreview = true\n")
    async with over_stdio(tmp_path) as client:
        made = await client.call_tool("illustrate", TWO_THINGS)
        run_id = re.search(r"run (\S+) is waiting for an answer", made["content"][0]["text"])[1]
        again = await client.call_tool("resume_run", {"run_id": run_id})
        with pytest.raises(Exception, match="is unfinished"):
            await client.read_resource(f"document://{run_id}")
    assert made["isError"] and again["isError"]
    command = re.search(r"answer with: (interleaver run --resume .*)", made["content"][0]["text"])[1]
    resume = [sys.executable, *COMMAND[:2], *command.split()[1:]]
    resumed = await asyncio.to_thread(
        subprocess.run, resume, cwd=tmp_path, input="a\n", capture_output=True, text=True, timeout=60
    )
    assert resumed.returncode == 0 and "Complete: 2 steps" in resumed.stdout, resumed.stderr


async def test_a_review_that_is_declined_can_be_taken_up_again(tmp_path):
    (tmp_path / "interleaver.toml").write_text("[run]\nreview = true\n")
    maybe, approve = ({"action": action, "feedback": ""} for action in ("maybe", "approve"))
    answers = [
        ElicitResult(action="decline"),
        *(ElicitResult(action="accept", content=said) for said in (maybe, approve)),
    ]
    asked = []

    async def answer(context, request):
        asked.append(request.message)
        return answers.pop(0)

    async with over_stdio(tmp_path, elicitation_callback=answer) as client:
        declined = await client.call_tool("illustrate", TWO_THINGS)
        run_id = re.search(r"run (\S+) is waiting for an answer; call resume_run", declined["content"][0]["text"])[1]
        made = await client.call_tool("resume_run", {"run_id": run_id})
    assert made["structuredContent"]["status"] == "complete" and made["structuredContent"]["run_id"] == run_id
    assert "action: Input should be" in asked[2]


async def test_several_at_once(tmp_path, http_server):
    url, _ = http_server

    async def one(thing):
        async with over_http(url) as client:
            return (await client.call_tool("illustrate", {"request": f"a {thing} and a star"}))["structuredContent"]

    things = ["boat", "tree", "cat", "house", "fish", "sun"]
    made = await asyncio.gather(*map(one, things))
    assert [told["status"] for told in made] == ["complete"] * 6
    assert all(thing in told["parts"][0]["text"] for thing, told in zip(things, made, strict=True))
    assert len({told["run_id"] for told in made}) == 6


@pytest.fixture
def slow(tmp_path):
    """A server whose pictures take a second each, with a heartbeat of a fifth of it, and the drawings that it made."""
    drawings, script = tmp_path / "drawings", tmp_path / "server.py"
    script.write_text(f"""
import asyncio, pathlib
from interleaver import Profile, Runner, build_graph
from interleaver.adapters.mcp import create_server
from interleaver.sandbox.generator import SandboxGenerator

class Slow(SandboxGenerator):
    async def generate(self, *arguments):
        await asyncio.sleep(1)
        with open({str(drawings)!r}, "a") as log:
            log.write("x")
        return await super().generate(*arguments)

runner = Runner(Profile(), {str(tmp_path / "out")!r})
runner.builder = build_graph(images=runner.runs.images, generator=Slow())
create_server(runner, heartbeat_seconds=0.2).run("stdio")
""")
    return script, lambda: len(drawings.read_text()) if drawings.exists() else 0


async def run_id_of(client):
    return (await client.call_tool("list_runs", {}))["structuredContent"]["result"][0]["run_id"]


async def test_there_are_signs_of_life_while_a_picture_is_drawn(tmp_path, slow):
    script, _ = slow
    async with over_stdio(tmp_path, script=script) as client:
        heard = []

        async def progress(done, total, message):
            heard.append((done, message))

        made = await client.call_tool("illustrate", TWO_THINGS, progress_callback=progress)
    assert made["structuredContent"]["status"] == "complete"
    beats = [done for done, message in heard if message == "Step 1: drawing, attempt 1"]
    assert len(beats) >= 3 and beats == sorted(set(beats))


async def test_a_run_whose_call_timed_out_is_joined_and_stopped(tmp_path, slow):
    script, drawn = slow
    three = {"request": "a boat and a cat and a house"}
    async with over_stdio(tmp_path, script=script) as client:
        with pytest.raises(Exception, match="[Tt]imed out"):
            await client.call_tool("illustrate", three, read_timeout_seconds=timedelta(seconds=1.5))
        run_id = await run_id_of(client)
        if MAJOR == 1:  # the client says nothing, so the run goes on
            listed = await client.call_tool("list_runs", {})
            assert listed["structuredContent"]["result"][0]["status"] == "running"
            looked = await client.call_tool("get_document", {"run_id": run_id})
            assert looked["isError"] and f"run {run_id} is running (" in looked["content"][0]["text"]
            refused = await client.call_tool("revise", {"run_id": run_id, "step": 1})
            assert "wait for it with resume_run" in refused["content"][0]["text"]
            stopped = await client.call_tool("cancel_run", {"run_id": run_id})
            assert "was stopped" in stopped["content"][0]["text"]
        # version 2 tells the server that the call is over, which stops the run
        drawings = drawn()
        await asyncio.sleep(2.5)
        assert drawn() <= drawings + 1
        again = await client.call_tool("cancel_run", {"run_id": run_id})
        assert again["isError"] and "not running in this server" in again["content"][0]["text"]
        both = await asyncio.gather(*(client.call_tool("resume_run", {"run_id": run_id}) for _ in range(2)))
        assert [made["structuredContent"]["status"] for made in both] == ["complete"] * 2


async def test_a_document_is_changed(tmp_path):
    async with over_stdio(tmp_path) as client:
        first = (await client.call_tool("illustrate", TWO_THINGS))["structuredContent"]
        run_id = first["run_id"]
        revised = await client.call_tool(
            "revise", {"run_id": run_id, "request": "make the second picture a night scene"}
        )
        told = revised["structuredContent"]
        assert told["status"] == "complete" and told["run_id"] == run_id
        assert told["parts"][1] == first["parts"][1] and told["parts"][3] != first["parts"][3]
        redrawn = (await client.call_tool("revise", {"run_id": run_id, "step": 1}))["structuredContent"]
        assert redrawn["parts"][1]["uri"] != told["parts"][1]["uri"]
        chosen = await client.call_tool("revise", {"run_id": run_id, "step": 1, "attempt": 1})
        assert chosen["structuredContent"]["status"] == "complete"
        for arguments, said in [
            ({"request": "x", "step": 1}, "give either a request"),
            ({}, "give either a request"),
            ({"step": 9}, "there is no step 9"),
            ({"request": "make the ninth picture a night scene"}, "there is no"),
        ]:
            refused = await client.call_tool("revise", {"run_id": run_id, **arguments})
            assert refused["isError"] and said in refused["content"][0]["text"]
        kept = (await client.call_tool("get_document", {"run_id": run_id}))["structuredContent"]
        assert kept == chosen["structuredContent"]


async def test_a_picture_by_itself(tmp_path):
    async with over_stdio(tmp_path) as client:
        made = (await client.call_tool("illustrate", TWO_THINGS))["structuredContent"]
        seen = await client.call_tool("get_picture", {"uri": made["parts"][1]["uri"], "side": 300})
        assert not seen.get("structuredContent") and [block["type"] for block in seen["content"]] == ["image"]
        assert Picture.decode(base64.b64decode(seen["content"][0]["data"])).width == 300


async def test_a_client_that_hangs_up_in_the_middle(http_server):
    url, _ = http_server
    call = asyncio.create_task(_illustrate_over_http(url))
    async with over_http(url) as client:
        for _ in range(200):
            listed = (await client.call_tool("list_runs", {}))["structuredContent"]["result"]
            if any(run["request"] == "How to draw a fish" for run in listed):
                break
            await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, Exception)):
            await call
        (run,) = (run for run in listed if run["request"] == "How to draw a fish")
        made = await client.call_tool("resume_run", {"run_id": run["run_id"]})
    assert made["structuredContent"]["status"] == "complete"


async def _illustrate_over_http(url):
    async with over_http(url) as client:
        await client.call_tool("illustrate", {"request": "How to draw a fish"})


async def test_a_client_that_leaves_leaves_no_traceback(tmp_path, slow):
    script, _ = slow
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdin=-1, stdout=-1, stderr=-1, cwd=tmp_path
    )
    client = {"name": "x", "version": "1"}
    messages = [
        {"id": 1, "method": "initialize",
         "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "illustrate", "arguments": TWO_THINGS}},
    ]  # fmt: skip
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    await process.stdin.drain()
    await process.stdout.readline()
    process.stdin.close()
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in errors, errors.decode()


@pytest.mark.skipif(MAJOR > 1, reason="langchain-mcp-adapters needs version 1 of the SDK")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_an_agent_with_langchain_mcp_adapters(transport, python, tmp_path, http_server):
    from langchain.agents import create_agent
    from langchain_core.messages import HumanMessage
    from langchain_mcp_adapters.client import MultiServerMCPClient

    from interleaver.sandbox.assistant import SandboxAssistant

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    connection = (
        {"transport": "stdio", "command": python, "args": COMMAND, "cwd": str(tmp_path), "env": environment}
        if transport == "stdio"
        else {"transport": "streamable_http", "url": http_server[0]}
    )
    client = MultiServerMCPClient({"interleaver": connection})
    tools = await client.get_tools()
    assert {"illustrate", "revise", "resume_run", "cancel_run", "get_document"} < {tool.name for tool in tools}
    agent = create_agent(SandboxAssistant(), [tool for tool in tools if tool.name == "illustrate"])
    result = await agent.ainvoke({"messages": [HumanMessage("a boat and a tree")]})
    told = result["messages"][-2]
    assert told.artifact["structured_content"]["status"] == "complete"
    # Providers refuse addresses that they cannot read.
    assert [block["type"] for block in told.content_blocks] == ["text", *PICTURE_AND_TEXT * 2]
    assert all(block.get("base64") for block in told.content_blocks if block["type"] == "image")
    (picture,) = await client.get_resources(
        "interleaver", uris=[told.artifact["structured_content"]["parts"][1]["uri"]]
    )
    assert Picture.decode(picture.as_bytes()).width == 512


@pytest.mark.skipif(MAJOR == 1, reason="needs version 2 of the SDK")
async def test_the_newest_protocol_asks_in_results(tmp_path):
    """It has no requests from the server; the client calls the tool again with the person's answer."""
    from mcp import StdioServerParameters
    from mcp.client import Client

    (tmp_path / "interleaver.toml").write_text('[run]\nreview = true\non_exhausted = "ask"\nmax_attempts = 1\n')
    asked = []

    async def answer(context, params):
        asked.append(params.message)
        if "The plan:" in params.message:
            return ElicitResult(action="accept", content={"action": "approve", "feedback": ""})
        return ElicitResult(action="accept", content={"action": "pick", "attempt": 1, "prompt": ""})

    server = StdioServerParameters(command=sys.executable, args=COMMAND, cwd=tmp_path, env=dict(os.environ))
    async with Client(server, elicitation_callback=answer) as client:
        made = await client.call_tool("illustrate", TWO_THINGS)
    assert not made.is_error and made.structured_content["status"] == "complete"
    assert "The plan:" in asked[0] and len(asked) >= 2
