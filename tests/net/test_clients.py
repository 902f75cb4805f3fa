"""What an endpoint sends is bounded, and what is sent to it stays with it, with every backend that calls one."""

import base64
import gzip
import json
import zlib

import pytest
from support.fakes import plain_picture
from support.scripted_server import Reply, serving

from interleaver.agents.chat import ChatPlanner
from interleaver.errors import BackendError
from interleaver.net import clients
from interleaver.tools.edit_service import EditService
from interleaver.tools.gemini_images import GeminiImages
from interleaver.tools.openai_images import OpenAIImages

pytestmark = pytest.mark.enable_socket
KEY = "canary-key-5151"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)


def chat(url):
    planner = ChatPlanner(model="m", base_url=url, api_key_env="MY_KEY", timeout=30)
    return planner.plan("a cat", [plain_picture()])


def draw(backend):
    return backend.generate("a cat", [plain_picture()], 1, (64, 64))


CALLS = {
    "chat": chat,
    "openai-images": lambda url: draw(OpenAIImages(model="m", base_url=url, api_key_env="MY_KEY", timeout=30)),
    "gemini-images": lambda url: draw(GeminiImages(model="m", base_url=url, api_key_env="MY_KEY", timeout=30)),
    "edit-service": lambda url: draw(EditService(base_url=url, api_key_env="MY_KEY", timeout=30)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [200, 400, 503])
async def test_an_endless_body_ends_at_the_limit(name, status, monkeypatch):
    monkeypatch.setattr(clients, "MAX_ANSWER_BYTES", 2**20)
    with serving(Reply(b'{"a": "' + b"a" * 65536, status, endless=True)) as server:
        with pytest.raises(BackendError, match="sent an answer of more than 1 MiB"):
            await CALLS[name](server.url)
        assert server.endless_bytes < 2**26  # what fits into the buffers of both sides


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("pack", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_unpacked_no_further_than_the_limit(name, pack, monkeypatch):
    monkeypatch.setattr(clients, "MAX_ANSWER_BYTES", 2**20)
    text = b'{"a": "' + b"a" * 2**24 + b'"}'
    body = gzip.compress(text) if pack == "gzip" else zlib.compress(text)
    with serving(Reply(body, headers={"content-encoding": pack})) as server:
        with pytest.raises(BackendError, match="sent an answer of more than 1 MiB"):
            await CALLS[name](server.url)
    with serving(Reply(b"x", headers={"content-encoding": "br"})) as server:
        with pytest.raises(BackendError, match="compressed with 'br'"):
            await CALLS[name](server.url)


async def test_a_compressed_answer_is_read():
    body = {"edited_image": "data:image/png;base64," + base64.b64encode(plain_picture().data).decode()}
    packed = gzip.compress(json.dumps(body).encode())
    with serving(Reply(packed, headers={"content-encoding": "gzip"})) as server:
        picture = await CALLS["edit-service"](server.url)
    assert picture.data == plain_picture().data
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_key_prompt_or_picture_follows_a_redirect_to_another_server(name, status):
    with serving(Reply({})) as thief:
        target = thief.url.replace("127.0.0.1", "localhost")
        for location in (target + "/v1", thief.url + "/v1", target.removeprefix("http:")):
            with serving(Reply({}, status, headers={"location": location})) as server:
                with pytest.raises(BackendError, match="redirects to another server"):
                    await CALLS[name](server.url)
        assert not thief.requests


@pytest.mark.parametrize("name", CALLS)
async def test_a_redirect_on_the_same_server_is_followed(name):
    with serving(Reply({}, 307, headers={"location": "/elsewhere"}), Reply({"error": "the end"}, 400)) as server:
        with pytest.raises(BackendError, match="the end"):
            await CALLS[name](server.url)
        assert server.requests[1].path == "/elsewhere"
        headers = server.requests[1].headers
        assert KEY in headers.get("authorization", "") + headers.get("x-goog-api-key", "")
