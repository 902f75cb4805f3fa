"""The graph in a real LangGraph server, through the official client, over loopback."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph_sdk import get_client
from support import REPOSITORY
from support.processes import wait_until_healthy

from interleaver import Plan
from interleaver.graph.boundary.events import read_event
from interleaver.graph.planning import edit_plan
from interleaver.pictures import Picture
from interleaver.sandbox.assistant import SandboxAssistant
from interleaver.store.images import ImageStore
from interleaver.traces.sources.server import ServerSource
from interleaver.traces.trace import Trace

pytestmark = pytest.mark.integration
ROOT = REPOSITORY


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
        wait_until_healthy(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


TWO_THINGS = {"request": "a boat and a tree"}


def prompts_of(state):
    return [attempt["prompt"] for attempt in state["values"]["attempts"].values()]


@pytest.fixture
async def client(server):
    # An idle connection that is used again in the moment in which the server closes it loses the request.
    async with get_client(url=server, headers={"connection": "close"}) as client:
        yield client


@pytest.fixture
async def thread(client):
    return (await client.threads.create())["thread_id"]


class TestRuns:
    async def test_wait(self, client, thread):
        result = await client.runs.wait(thread, "interleaver", input={"request": "a boat at sunset"})
        state = await client.threads.get_state(thread)
        document = result["document"]
        assert result["status"] == "complete"
        assert [block["type"] for block in document["blocks"]] == ["text", "image"] * len(document["steps"])
        assert state["values"]["attempts"]

    async def test_every_way_of_streaming(self, client, thread):
        modes = ["values", "updates", "custom", "messages"]
        parts = [
            (part.event, part.data)
            async for part in client.runs.stream(thread, "interleaver", input=TWO_THINGS, stream_mode=modes)
        ]
        values = [data for event, data in parts if event == "values"]
        assert values[-1]["status"] == "complete"
        nodes = [node for event, data in parts if event == "updates" for node in data]
        assert nodes[:2] == ["begin", "planner"] and nodes[-1] == "compose" and nodes.count("accept") == 2
        events = [read_event(data) for event, data in parts if event == "custom"]
        blocks = [event.block.model_dump(mode="json") for event in events if event.type == "block_ready"]
        assert blocks == values[-1]["document"]["blocks"]
        (told,) = [data for event, data in parts if event == "messages/complete"]
        assert told[0]["name"] == "interleaver"

    async def test_fifty_at_once_with_none_lost_and_none_mixed_up(self, client):
        things = ["boat", "tree", "cat", "house", "fish", "star", "moon", "cloud", "rocket", "cup"]
        wanted = [(f"a {things[n % 10]} and a {things[(n // 10 + n + 1) % 10]}", n) for n in range(50)]

        async def one(request, seed):
            thread = (await client.threads.create())["thread_id"]
            result = await client.runs.wait(thread, "interleaver", input={"request": request}, context={"seed": seed})
            return thread, result["document"]

        made = await asyncio.gather(*(one(request, seed) for request, seed in wanted))
        assert [(document["request"], document["seed"]) for _, document in made] == wanted
        for (request, _), (thread, document) in zip(wanted, made, strict=True):
            things_drawn = [block["alt"] for block in document["blocks"] if block["type"] == "image"]
            assert all(thing in " ".join(things_drawn) for thing in request.replace("a ", "").split(" and "))
            attempts = (await client.threads.get_state(thread))["values"]["attempts"]
            assert {key.partition("/")[0] for key in attempts} == {str(n) for n in range(len(document["steps"]))}


class TestSettings:
    async def test_they_are_offered_with_their_descriptions(self, client):
        (assistant,) = await client.assistants.search(graph_id="interleaver")
        schemas = await client.assistants.get_schemas(assistant["assistant_id"])
        assert all("description" in field for field in schemas["context_schema"]["properties"].values())
        assert set(schemas["input_schema"]["properties"]) == {"request", "images", "messages", "change"}

    async def test_those_of_a_run(self, client):
        context = {"max_generator_calls": 2}
        result = await client.runs.wait(None, "interleaver", input={"request": "How to draw a cat?"}, context=context)
        assert result["status"] == "partial" and "2 generator calls" in result["document"]["reason"]

    async def test_those_of_an_assistant(self, client):
        assistant = await client.assistants.create("interleaver", context={"seed": 5, "max_generator_calls": 1})
        result = await client.runs.wait(None, assistant["assistant_id"], input=TWO_THINGS)
        await client.assistants.delete(assistant["assistant_id"])
        assert result["document"]["seed"] == 5 and "1 generator calls" in result["document"]["reason"]

    async def test_a_wrong_value_is_named_and_the_thread_stays_usable(self, client, thread):
        with pytest.raises(Exception, match=r"max_attempts\s+Input should be greater than or equal to 1"):
            await client.runs.wait(thread, "interleaver", input=TWO_THINGS, context={"max_attempts": 0})
        assert (await client.runs.wait(thread, "interleaver", input=TWO_THINGS))["status"] == "complete"


class TestThreads:
    async def test_a_chat_with_markdown_pictures(self, server, client, thread):
        async def say(text):
            message = {"role": "user", "content": text}
            result = await client.runs.wait(thread, "interleaver", input={"messages": [message]})
            return result["messages"][-1], (await client.threads.get_state(thread))["values"]

        _, before = await say("a boat and a tree and a star")
        second, after = await say("make the third picture a night scene")
        assert after["kept_steps"] == 2 and after["results"]["1"] == before["results"]["1"]
        assert after["results"]["2"] != before["results"]["2"]
        assert "night sky" in second["content"][-1]["text"]
        assert {block["type"] for block in second["content"]} == {"text"}  # Agent Chat UI renders Markdown
        assert second["content"][0]["text"].startswith("Unchanged: [1. A blue boat](http")
        link = second["content"][-1]["text"].rpartition("](")[2].strip().rstrip(")")
        assert link.startswith(f"{server}/pictures/")
        async with httpx.AsyncClient() as http:
            picture = await http.get(link)
            missing = await http.get(f"{server}/pictures/{'0' * 64}.png")
        assert Picture.decode(picture.content).width == 512 and picture.headers["content-type"] == "image/png"
        assert missing.status_code == 404

    async def test_links_of_a_server_on_another_port(self, server, client, thread):
        result = await client.runs.wait(thread, "interleaver", input={"request": "a boat"})
        link = result["messages"][-1]["content"][-1]["text"].rpartition("](")[2].strip().rstrip(")")
        moved = link.replace(server, "http://127.0.0.1:1")
        message = {"role": "user", "content": [
            {"type": "text", "text": "Continue: add a sun"}, {"type": "image_url", "image_url": {"url": moved}},
        ]}  # fmt: skip
        result = await client.runs.wait(None, "interleaver", input={"messages": [message]})
        assert result["status"] == "complete", result["document"]["reason"]

    async def test_a_change(self, client, thread):
        first = await client.runs.wait(thread, "interleaver", input=TWO_THINGS)
        change = {"change": {"action": "redraw", "step": 2}}
        second = await client.runs.wait(thread, "interleaver", input=change)
        blocks = [result["document"]["blocks"] for result in (first, second)]
        assert second["status"] == "complete"
        assert blocks[0][:3] == blocks[1][:3] and blocks[0][3] != blocks[1][3]

    async def test_turns_before_a_rollback_are_kept(self, client, thread):
        """A run that is interrupted, and one that is rolled back, take nothing of the earlier turns with them."""

        def said(text):
            return {"messages": [{"role": "user", "content": text}]}

        async def start(text):
            stream = client.runs.stream(
                thread, "interleaver", input=said(text), stream_mode="custom", on_disconnect="continue"
            )
            async for part in stream:
                if part.event == "custom" and part.data["type"] == "plan_ready":
                    return

        await client.runs.wait(thread, "interleaver", input=said("a boat and a moon"))
        await start("How to draw a cat")
        await client.runs.wait(thread, "interleaver", input=said("add a star"), multitask_strategy="interrupt")
        await start("How to draw a house")
        result = await client.runs.wait(thread, "interleaver", input=said("add a sun"), multitask_strategy="rollback")
        texts = [message["content"] for message in result["messages"] if message["type"] == "human"]
        assert texts[0] == "a boat and a moon" and "add a star" in texts and texts[-1] == "add a sun"
        assert result["status"] == "complete"

    async def test_a_fork_with_another_prompt_at_any_step(self, client, thread):
        await client.runs.wait(thread, "interleaver", input={"request": "a boat and a tree and a star"})
        before = await client.threads.get_state(thread)
        history = await client.threads.get_history(thread, limit=100)
        at_step_two = next(s for s in history if s["next"] == ["generator"] and s["values"]["position"] == 1)
        edited = "Draw a huge red star on the right."
        fork = await client.threads.update_state(
            thread, {"prompt": edited}, checkpoint_id=at_step_two["checkpoint"]["checkpoint_id"]
        )
        await client.runs.wait(thread, "interleaver", checkpoint=fork["checkpoint"])
        after = await client.threads.get_state(thread)
        assert after["values"]["attempts"]["1/1"]["prompt"] == edited
        assert after["values"]["results"]["0"] == before["values"]["results"]["0"]

    async def test_a_fork_with_another_plan_draws_only_what_depends_on_it(self, client, thread):
        await client.runs.wait(thread, "interleaver", input={"request": "a boat and a tree and a star"})
        before = (await client.threads.get_state(thread))["values"]
        plan = Plan.model_validate(before["plan"])
        plan.steps[2].instruction = plan.steps[2].prompt = "Draw a large red house on the right."
        await client.threads.update_state(thread, edit_plan(before, plan), as_node="review")
        drawn = [
            part.data
            async for part in client.runs.stream(thread, "interleaver", input=None, stream_mode="custom")
            if part.event == "custom" and part.data["type"] == "attempt_started"
        ]
        after = (await client.threads.get_state(thread))["values"]
        assert {event["number"] for event in drawn} == {3}
        assert [after["results"][n] for n in "01"] == [before["results"][n] for n in "01"]
        assert after["document"]["status"] == "complete"

    async def test_a_person_decides(self, client, thread):
        context = {"review": True, "on_exhausted": "ask", "max_attempts": 1}

        async def go(**what):
            await client.runs.wait(thread, "interleaver", context=context, **what)
            state = await client.threads.get_state(thread)
            return state, [interrupt["value"] for interrupt in state["interrupts"]]

        _, (question,) = await go(input=TWO_THINGS)
        assert question["kind"] == "plan_review" and question["action_requests"][0]["name"] == "review_plan"
        for wrong in ({"action": "edit", "steps": [{"number": 9, "prompt": "x"}]}, "yes", {"decisions": "all"}):
            _, (again,) = await go(command={"resume": wrong})
            assert again["error"].startswith("the answer cannot be used")
        state, questions = await go(command={"resume": {"decisions": [{"type": "approve"}]}})
        while questions:
            state, questions = await go(command={"resume": {"action": "pick", "attempt": 1}})
        assert state["values"]["document"]["status"] == "complete"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"request": "x", "images": ["http://169.254.169.254/x.png"]}, "is a private address"),
            ({"request": "x", "images": ["/etc/passwd"]}, "no file is read"),
            ({"request": "x", "images": ["data:image/png;base64,aGVsbG8="]}, "is not a picture"),
            ({"request": "x", "images": 5}, "images is a int; give a list"),
            ({"request": 5}, "the request is a int"),
        ],
    )
    async def test_input_that_cannot_be_used_is_told(self, client, thread, given, said):
        result = await client.runs.wait(thread, "interleaver", input=given)
        assert result["status"] == "failed" and said in result["document"]["reason"]
        assert (await client.runs.wait(thread, "interleaver", input=TWO_THINGS))["status"] == "complete"


class TestOtherProtocols:
    async def test_mcp(self, server):
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        async with streamable_http_client(f"{server}/mcp/") as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            (tool,) = (await session.list_tools()).tools
            assert tool.name == "interleaver" and tool.description.startswith("Makes an illustrated document")
            result = await session.call_tool("interleaver", TWO_THINGS)
        assert not result.isError and "'status': 'complete'" in result.content[0].text

    async def test_mcp_with_an_agent(self, server):
        from langchain_mcp_adapters.client import MultiServerMCPClient

        connection = {"transport": "streamable_http", "url": f"{server}/mcp/"}
        tools = await MultiServerMCPClient({"interleaver": connection}).get_tools()
        agent = create_agent(SandboxAssistant(), tools)
        result = await agent.ainvoke({"messages": [HumanMessage("a boat and a tree")]})
        assert "complete" in result["messages"][-1].text

    async def test_a2a(self, server, client):
        from a2a.client import ClientConfig, create_client
        from a2a.types import Message, Part, Role, SendMessageRequest

        (assistant,) = await client.assistants.search(graph_id="interleaver", metadata={"created_by": "system"})
        card = f"/.well-known/agent-card.json?assistant_id={assistant['assistant_id']}"
        async with httpx.AsyncClient(timeout=60) as http:
            config = ClientConfig(httpx_client=http, streaming=False)
            agent = await create_client(server, config, relative_card_path=card)
            message = Message(role=Role.ROLE_USER, message_id="1", parts=[Part(text="a boat and a tree")])
            (answer,) = [answer async for answer in agent.send_message(SendMessageRequest(message=message))]
            told = "".join(part.text for part in answer.task.artifacts[0].parts)
            assert "a green tree" in told and f"]({server}/pictures/" in told

            more = Message(role=Role.ROLE_USER, message_id="2", parts=[Part(text="add a star")])
            more.context_id = answer.task.context_id
            (answer,) = [answer async for answer in agent.send_message(SendMessageRequest(message=more))]
        told = "".join(part.text for part in answer.task.artifacts[0].parts)
        assert "Unchanged: [1. A blue boat]" in told and "New in the picture: a yellow star" in told


def test_an_image_has_what_the_profiles_of_providers_need(tmp_path):
    """`langgraph build` installs no extras, so langgraph.json names what they would install."""
    for name in ("langgraph.json", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "interleaver", tmp_path / "interleaver", ignore=shutil.ignore_patterns("__pycache__"))
    command = [Path(sys.executable).parent / "langgraph", "dockerfile", "Dockerfile"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    installed = re.findall(r"[\w-]+>=[\d.]+,<\d+", (tmp_path / "Dockerfile").read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(installed) == {*extras["openai"], *extras["gemini"]}
    # With these, and whatever the image itself has, a profile of a provider can be served.
    code = "import interleaver.adapters.server as server; print(server.graph.name)"
    environment = {**os.environ, "INTERLEAVER_PROFILE": "openai", "OPENAI_API_KEY": "secret"}
    served = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert served.stdout.strip() == "interleaver", served.stderr


def test_the_example(server):
    example = ROOT / "examples" / "server_client.py"
    result = subprocess.run([sys.executable, example, server], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "block_ready" in result.stdout and "Draw a large red house on the right." in result.stdout


class TestTraces:
    async def test_the_threads_of_a_server_are_traces(self, server, client, tmp_path):
        """Through the official client, with pictures fetched from the server; each turn of a chat is a trace."""
        thread = (await client.threads.create())["thread_id"]
        for said in ("a boat and a tree", "make the second picture a night scene"):
            await client.runs.wait(thread, "interleaver", input={"messages": [{"role": "user", "content": said}]})
        images = ImageStore(str(tmp_path / "images"))
        traces = {}
        async for found in ServerSource(server, images).read():
            if isinstance(found, Trace) and found.run_id.startswith(thread):
                traces[found.run_id] = found
        first, second = traces[f"{thread}-1"], traces[f"{thread}-2"]
        assert (first.source, first.status, second.status) == ("server", "complete", "complete")
        assert first.request == "a boat and a tree" and "night scene" in second.request
        assert first.attempts[0].image == second.attempts[0].image  # the first step stayed as it was
        for ref in {**first.images_by_hash(), **second.images_by_hash()}.values():
            assert (await images.get(ref)).ref == ref
