"""Pictures by address: fetched from the public internet, never from a private network unless it is allowed."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from langchain_core.messages import HumanMessage
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver import build_graph
from interleaver.errors import BadInput
from interleaver.net import fetching
from interleaver.net.fetching import fetch_image_bytes, is_public

LOOPBACK = pytest.mark.allow_hosts(["127.0.0.1"])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, headers, body = {
            "/picture.png": (200, {}, plain_picture().data),
            "/text": (200, {}, b"hello"),
            "/missing": (404, {}, b""),
            "/redirect": (302, {"Location": "/picture.png"}, b""),
            "/away": (302, {"Location": "http://169.254.169.254/latest/meta-data"}, b""),
            "/file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/loop": (302, {"Location": "/loop"}, b""),
            "/large": (200, {}, bytes(3_000)),
            "/packed": (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(2**20))),
        }[self.path]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("0.0.0.0", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fd00::1", False), ("ff02::1", False),
        ("fec0::1", False), ("64:ff9b:1::7f00:1", False), ("::127.0.0.1", False), ("::ffff:0:7f00:1", False),
        ("192.88.99.1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:7f00:1::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.8", "169.254.169.254", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_refused_before_a_connection_is_made(host):
    with pytest.raises(BadInput, match=r"is a private address; send the picture itself .* or allow the host"):
        await fetch_image_bytes(f"http://{host}/x.png", "picture 1")


async def test_a_name_is_judged_by_all_its_addresses(monkeypatch):
    async def both(host):
        return ["93.184.216.34", "10.0.0.1"]

    monkeypatch.setattr(fetching, "_look_up", both)
    with pytest.raises(BadInput, match="'rebind.example' is a private address"):
        await fetch_image_bytes("https://rebind.example/x.png", "picture 1")


@LOOPBACK
async def test_the_address_that_was_checked_is_the_one_that_is_asked(server, monkeypatch):
    """A name that points elsewhere the next time it is looked up gains nothing."""
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    asked = []

    async def once(host):
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(fetching, "_look_up", once)
    port = server.rpartition(":")[2]
    for path, times in (("picture.png", 1), ("redirect", 2)):
        asked.clear()
        assert await fetch_image_bytes(f"http://picture.example:{port}/{path}", "picture 1") == plain_picture().data
        assert asked == ["picture.example"] * times


@LOOPBACK
async def test_an_allowed_host_is_asked(server):
    for path in ("/picture.png", "/redirect"):
        assert await fetch_image_bytes(server + path, "picture 1", {"127.0.0.1"}) == plain_picture().data


@LOOPBACK
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/away", "'169.254.169.254' is a private address"),
        ("/file", "file"),
        ("/loop", "TooManyRedirects"),
        ("/missing", "answers with status 404"),
        ("/packed", r"compressed \(gzip\), unrequested"),
    ],
)
async def test_what_does_not_lead_to_a_picture_is_told(server, path, said):
    with pytest.raises(BadInput, match=said):
        await fetch_image_bytes(server + path, "picture 1", {"127.0.0.1"})


@LOOPBACK
async def test_what_is_secret_in_an_address_is_not_told():
    with pytest.raises(BadInput) as error:
        await fetch_image_bytes("http://user:secret@127.0.0.1:1/x.png?key=secret", "picture 1", {"127.0.0.1"})
    assert "secret" not in str(error.value) and "127.0.0.1:1/x.png" in str(error.value)


@LOOPBACK
async def test_a_large_answer_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    with pytest.raises(BadInput, match="is larger than"):
        await fetch_image_bytes(f"{server}/large", "picture 1", {"127.0.0.1"})


@LOOPBACK
async def test_a_chat_message_with_an_address(server, images):
    generator = PlainGenerator()
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=generator, images=images,
        image_hosts=["127.0.0.1"],
    ).compile()  # fmt: skip

    async def send(path):
        image = {"type": "image_url", "image_url": {"url": server + path}}
        result = await graph.ainvoke({"messages": [HumanMessage([{"type": "text", "text": "Go on"}, image])]})
        return result["document"]

    assert (await send("/picture.png"))["status"] == "complete"
    assert generator.calls[0][2] == [plain_picture().ref.sha256]
    assert "picture 1 of the request is not a picture" in (await send("/text"))["reason"]


@pytest.mark.parametrize("image", ["file:///etc/passwd", "/etc/passwd", "ftp://x/y.png", "\\\\host\\share", ""])
async def test_nothing_else_is_read(images, image):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()
    result = await graph.ainvoke({"request": "Go on", "images": [image]})
    assert "no file is read" in result["document"]["reason"]
