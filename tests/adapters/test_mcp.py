"""The MCP server under the official client and under langchain-mcp-adapters, over both transports."""

import asyncio
import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_mcp_adapters.client import MultiServerMCPClient
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from mcp.types import ElicitResult
from PIL import Image

from interleaver.pictures import Picture
from interleaver.sandbox.assistant import SandboxAssistant
from interleaver.traces.runs import RunStore

pytestmark = pytest.mark.integration
COMMAND = [sys.executable, "-m", "interleaver.cli", "mcp"]
TWO_THINGS = {"request": "a boat and a tree"}


@asynccontextmanager
async def over_stdio(folder, *options, **session):
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *options], cwd=folder, env=dict(os.environ))
    async with stdio_client(server) as streams, ClientSession(*streams, **session) as client:
        await client.initialize()
        yield client


@pytest.fixture(scope="module")
def http_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("http")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*COMMAND, "--http", "--port", str(port)], cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/mcp"
    for _ in range(300):
        try:
            httpx.get(url)
            break
        except httpx.TransportError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield url, folder
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130, (folder / "log").read_text()


@asynccontextmanager
async def connect(transport, tmp_path, http_server):
    if transport == "stdio":
        async with over_stdio(tmp_path) as client:
            yield client, tmp_path
    else:
        url, folder = http_server
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as client:
            await client.initialize()
            yield client, folder


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_illustrate_fetch_list_and_look(transport, tmp_path, http_server):
    async with connect(transport, tmp_path, http_server) as (client, folder):
        heard = []

        async def progress(done, total, message):
            heard.append((done, total, message))

        made = await client.call_tool("illustrate", TWO_THINGS, progress_callback=progress)
        assert not made.isError
        told = made.structuredContent
        assert told["status"] == "complete" and [part["type"] for part in told["parts"]] == ["text", "image"] * 2
        assert [block.type for block in made.content] == ["text", *["text", "image", "resource_link"] * 2]
        assert Picture.decode(base64.b64decode(made.content[2].data)).width == 192

        shares = [done for done, _, _ in heard]
        assert shares == sorted(shares) and shares[-1] == heard[-1][1] == 2
        assert heard[0][2] == "A plan of 2 steps" and "Step 1: drawing, attempt 1" in [text for _, _, text in heard]

        (picture,) = (await client.read_resource(told["parts"][1]["uri"])).contents
        assert Picture.decode(base64.b64decode(picture.blob)).width == 512
        (markdown,) = (await client.read_resource(f"document://{told['run_id']}")).contents
        assert markdown.text.startswith("# a boat and a tree") and f"]({told['parts'][1]['uri']})" in markdown.text

        again = await client.call_tool("get_document", {"run_id": told["run_id"]})
        assert again.structuredContent == told
        listed = (await client.call_tool("list_runs", {"limit": 1})).structuredContent["result"]
        assert listed[0]["run_id"] == told["run_id"]
        assert RunStore(folder / "out").document(told["run_id"]).status == "complete"  # the command line sees it too

        more = await client.call_tool("illustrate", {"request": "add a sun", "images": [told["parts"][-1]["uri"]]})
        assert more.structuredContent["status"] == "complete" and len(more.structuredContent["parts"]) == 2


async def test_what_cannot_be_used_is_told_and_the_session_goes_on(tmp_path):
    async with over_stdio(tmp_path) as client:
        buffer = io.BytesIO()
        Image.new("1", (8000, 6000)).save(buffer, "PNG")
        large = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        for arguments, said in [
            ({"request": " "}, "the request is empty"),
            ({"request": "a dragon"}, "the sandbox does not know 'dragon'"),
            ({"request": "x", "images": ["/etc/passwd"]}, "no file is read"),
            ({"request": "x", "images": ["http://127.0.0.1/x.png"]}, "is a private address"),
            ({"request": "x", "images": ["data:image/png;base64,aGVsbG8="]}, "is not a picture"),
            ({"request": "x", "images": [large]}, "at most 40 megapixels"),
            ({"request": "x", "images": ["picture://" + "0" * 64]}, "is not in the image store"),
            ({"request": "x", "settings": {"max_attempts": 0}}, "greater than or equal to 1"),
            ({"request": "x", "settings": {"sed": 1}}, "settings.sed"),
            ({}, "Field required"),
        ]:
            result = await client.call_tool("illustrate", arguments)
            assert result.isError and said in result.content[0].text, (arguments, result.content[0].text)
        missing = await client.call_tool("get_document", {"run_id": "../../etc"})
        assert missing.isError and "there is no run" in missing.content[0].text
        for uri in ("picture://abc", f"picture://{'0' * 64}", "document://nothing"):
            with pytest.raises(McpError):
                await client.read_resource(uri)
        fine = await client.call_tool("illustrate", TWO_THINGS)
        assert fine.structuredContent["status"] == "complete"


async def test_the_person_at_the_client_is_asked(tmp_path):
    (tmp_path / "interleaver.toml").write_text('[run]\nreview = true\non_exhausted = "ask"\nmax_attempts = 1\n')
    asked = []

    async def answer(context, request):
        asked.append((request.message, list(request.requestedSchema["properties"])))
        if "The plan:" in request.message:
            return ElicitResult(action="accept", content={"action": "approve", "feedback": ""})
        return ElicitResult(action="accept", content={"action": "pick", "attempt": 1, "prompt": ""})

    async with over_stdio(tmp_path, elicitation_callback=answer) as client:
        made = await client.call_tool("illustrate", TWO_THINGS)
    assert not made.isError, made.content
    assert [fields for _, fields in asked][:2] == [["action", "feedback"], ["action", "attempt", "prompt"]]
    assert "1. A blue boat" in asked[0][0] and "was not accepted" in asked[1][0]


async def test_a_client_that_cannot_ask_leaves_the_run_waiting(tmp_path):
    (tmp_path / "interleaver.toml").write_text("[run]\nreview = true\n")
    async with over_stdio(tmp_path) as client:
        made = await client.call_tool("illustrate", TWO_THINGS)
        run_id = re.search(r"run (\S+) is unfinished", made.content[0].text)[1]
        again = await client.call_tool("resume_run", {"run_id": run_id})
        with pytest.raises(McpError, match="is unfinished"):
            await client.read_resource(f"document://{run_id}")
    assert made.isError and again.isError
    command = re.search(r"or with: (interleaver run --resume .*)", made.content[0].text)[1]
    resume = [*COMMAND[:3], *command.split()[1:]]
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
        run_id = re.search(r"run (\S+) is waiting for an answer; call resume_run", declined.content[0].text)[1]
        made = await client.call_tool("resume_run", {"run_id": run_id})
    assert made.structuredContent["status"] == "complete" and made.structuredContent["run_id"] == run_id
    assert "action: Input should be" in asked[2]


async def test_several_at_once(tmp_path, http_server):
    url, _ = http_server

    async def one(thing):
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as client:
            await client.initialize()
            return (await client.call_tool("illustrate", {"request": f"a {thing} and a star"})).structuredContent

    things = ["boat", "tree", "cat", "house", "fish", "sun"]
    made = await asyncio.gather(*map(one, things))
    assert [told["status"] for told in made] == ["complete"] * 6
    assert all(thing in told["parts"][0]["text"] for thing, told in zip(things, made, strict=True))
    assert len({told["run_id"] for told in made}) == 6


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_an_agent_with_langchain_mcp_adapters(transport, tmp_path, http_server):
    connection = (
        {
            "transport": "stdio",
            "command": COMMAND[0],
            "args": COMMAND[1:],
            "cwd": str(tmp_path),
            "env": dict(os.environ),
        }
        if transport == "stdio"
        else {"transport": "streamable_http", "url": http_server[0]}
    )
    client = MultiServerMCPClient({"interleaver": connection})
    tools = await client.get_tools()
    assert sorted(tool.name for tool in tools) == ["get_document", "illustrate", "list_runs", "resume_run"]
    agent = create_agent(SandboxAssistant(), tools)
    result = await agent.ainvoke({"messages": [HumanMessage("a boat and a tree")]})
    told = result["messages"][-2]
    assert told.artifact["structured_content"]["status"] == "complete"
    assert "image" in [block["type"] for block in told.content_blocks]
    (picture,) = await client.get_resources(
        "interleaver", uris=[told.artifact["structured_content"]["parts"][1]["uri"]]
    )
    assert Picture.decode(picture.as_bytes()).width == 512
