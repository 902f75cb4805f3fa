"""Two users of one LangGraph server: neither sees anything of the other, through any door."""

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError
from support import REPOSITORY
from support.fakes import plain_picture
from support.processes import free_port, wait_until_healthy

pytestmark = pytest.mark.integration
KEYS = {"alice": "key-of-alice", "bob": "key-of-bob"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the configuration of the example, and the folder in which it works."""
    folder = tmp_path_factory.mktemp("tenants")
    config = json.loads((REPOSITORY / "examples/tenants/langgraph.json").read_text())
    (folder / "langgraph.json").write_text(json.dumps(config | {"dependencies": ["."]}))
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
    lines = [f'{name} = "{digest}"' for name, digest in digests.items()]
    (folder / "users.toml").write_text("\n".join(["[users]", *lines]))
    port = free_port()
    environment = {"INTERLEAVER_USERS": "users.toml", "LANGSMITH_TRACING": "false", "PYTHONPATH": str(REPOSITORY)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "langgraph", "dev", "--no-browser", "--no-reload", "--port", str(port)],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, process, folder / "log")
        yield url, folder
    finally:
        process.terminate()
        process.wait(timeout=30)


def client_of(server, user):
    return get_client(url=server[0], api_key=KEYS[user])


async def run(server, user, inputs):
    async with client_of(server, user) as client:
        thread_id = (await client.threads.create())["thread_id"]
        return thread_id, await client.runs.wait(thread_id, "interleaver", input=inputs)


@pytest.fixture(scope="module")
def document(server):
    """A document of Alice: her thread, its state and the hashes of its pictures."""
    thread_id, state = asyncio.run(run(server, "alice", {"request": "a boat and a tree"}))
    hashes = [block["image"]["sha256"] for block in state["document"]["blocks"] if block["type"] == "image"]
    assert state["status"] == "complete" and len(hashes) == 2
    return thread_id, state, hashes


def data_url(picture):
    return f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"


@pytest.fixture(scope="module")
def upload(server):
    """The reference to a picture that only Alice has: the sandbox draws the same for everybody."""
    picture = plain_picture((12, 34, 56), (64, 64))
    _, state = asyncio.run(run(server, "alice", {"request": "<image> add a sun", "images": [data_url(picture)]}))
    assert state["status"] == "complete"
    return picture.ref.model_dump()


def fetch_picture(server, sha256, **headers):
    return httpx.get(
        f"{server[0]}/pictures/{sha256}.png", headers={name.replace("_", "-"): headers[name] for name in headers}
    )


def pictures_below(server):
    """The pictures of the store, by the folder of their tenant."""
    root = server[1] / "out/.store/images"
    assert not [path for path in root.iterdir() if path.name != "tenants"]  # nothing belongs to nobody
    return {tenant.name: {path.stem for path in tenant.rglob("*.png")} for tenant in (root / "tenants").iterdir()}


def test_a_key_is_needed_at_every_door(server, document):
    for path in ("threads/search", "runs/wait", "mcp", "assistants/search", "store/items/search"):
        for key in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}):
            assert httpx.post(f"{server[0]}/{path}", json={}, headers=key).status_code == 401, path
    sha256 = document[2][0]
    assert fetch_picture(server, sha256).status_code == 401
    for header in ({"x_api_key": KEYS["alice"]}, {"authorization": f"Bearer {KEYS['alice']}"}):
        answer = fetch_picture(server, sha256, **header)
        assert answer.status_code == 200 and answer.headers["cache-control"].startswith("private")
        assert hashlib.sha256(answer.content).hexdigest() == sha256


def test_one_user_cannot_fetch_a_picture_of_the_other(server, document):
    sha256, unknown = document[2][0], "0" * 64
    foreign, invented = (fetch_picture(server, name, x_api_key=KEYS["bob"]) for name in (sha256, unknown))
    assert foreign.status_code == invented.status_code == 404
    assert foreign.text.replace(sha256[:12], "") == invented.text.replace(unknown[:12], "")


def foreign_inputs(reference):
    link = f"sha256:{reference['sha256']}"
    content = [{"type": "text", "text": "a house"}, {"type": "image_url", "image_url": {"url": link}}]
    return {
        "reference": {"request": "<image> add a sun", "images": [reference]},
        "link": {"request": "<image> add a sun", "images": [link]},
        "chat": {"messages": [{"role": "user", "content": content}]},
    }


@pytest.mark.parametrize("door", ["reference", "link", "chat"])
async def test_a_reference_to_a_picture_of_the_other_is_to_nothing(server, upload, door):
    _, own = await run(server, "alice", foreign_inputs(upload)[door])
    _, foreign = await run(server, "bob", foreign_inputs(upload)[door])
    assert own["status"] == "complete"
    assert foreign["status"] == "failed" and "is not in the image store" in foreign["document"]["reason"]


async def test_a_document_in_a_message_brings_no_pictures_of_the_other(server, document):
    """The memory that an answer carries, sent by somebody else."""
    answer = document[1]["messages"][-1]
    assert answer["response_metadata"]
    messages = [{"role": "user", "content": "a boat and a tree"}, answer, {"role": "user", "content": "add a sun"}]
    _, state = await run(server, "bob", {"messages": messages})
    blocks = [block["image"]["sha256"] for block in state["document"]["blocks"] if block["type"] == "image"]
    tenants = pictures_below(server)
    mine = tenants[hashlib.sha256(b"bob").hexdigest()[:32]]
    assert set(blocks) <= mine
    for sha256 in blocks:
        assert fetch_picture(server, sha256, x_api_key=KEYS["bob"]).status_code == 200


async def test_threads_and_memory_are_apart(server, document):
    async with client_of(server, "alice") as alice, client_of(server, "bob") as bob:
        assert [thread["thread_id"] for thread in await alice.threads.search()].count(document[0]) == 1
        assert document[0] not in [thread["thread_id"] for thread in await bob.threads.search()]
        for call in (bob.threads.get, bob.threads.get_state, bob.threads.get_history, bob.threads.delete):
            with pytest.raises(NotFoundError):
                await call(document[0])
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await bob.runs.wait(document[0], "interleaver", input={"request": "a house"})
        await alice.store.put_item(["notes"], "style", {"text": "watercolour"})
        assert (await alice.store.get_item(["notes"], "style"))["value"] == {"text": "watercolour"}
        assert await bob.store.get_item(["notes"], "style") is None
        assert (await bob.store.search_items([]))["items"] == []


async def test_the_same_picture_is_stored_for_each(server, document):
    """Otherwise its upload would tell that somebody has it."""
    picture = plain_picture((9, 99, 9), (64, 64))
    for user in KEYS:
        _, state = await run(server, user, {"request": "<image> add a sun", "images": [data_url(picture)]})
        assert state["status"] == "complete"
    stores = pictures_below(server)
    assert len(stores) == 2 and all(picture.ref.sha256 in hashes for hashes in stores.values())


@pytest.mark.parametrize("place", ["config", "context"])
async def test_a_client_cannot_say_who_it_is(server, upload, place):
    claim = {"langgraph_auth_user_id": "alice", "langgraph_auth_user": {"identity": "alice"}}
    options = {"config": {"configurable": claim}} if place == "config" else {"context": claim}
    inputs = foreign_inputs(upload)["link"]
    async with client_of(server, "bob") as client:
        thread = await client.threads.create()
        try:
            state = await client.runs.wait(thread["thread_id"], "interleaver", input=inputs, **options)
        except httpx.HTTPError:
            return  # refused by the server
    assert state["status"] == "failed" and "is not in the image store" in state["document"]["reason"]
