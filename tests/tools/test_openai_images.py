import base64
import io

import pytest
from PIL import Image
from support.fakes import plain_picture
from support.image_endpoint import image_reply
from support.scripted_server import Reply, serving

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.registry import create_backend
from interleaver.tools.openai_images import OpenAIImages

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def generator(server, **settings):
    return OpenAIImages(model="m", base_url=f"{server.url}/v1", **{"timeout": 5, **settings})


async def test_drawing_anew_is_a_generation():
    with serving(image_reply()) as server:
        picture = await generator(server, extra_body={"num_inference_steps": 4}).generate("a cat", [], 7, (640, 480))
    (request,) = server.requests
    assert picture == plain_picture()
    assert request.path == "/v1/images/generations"
    assert request.json == {
        "model": "m",
        "prompt": "a cat",
        "n": 1,
        "size": "640x480",
        "seed": 7,
        "response_format": "b64_json",
        "num_inference_steps": 4,
    }


async def test_editing_sends_every_source_and_the_size_of_the_last(tmp_path):
    sources = [plain_picture((1, 1, 1)), plain_picture((2, 2, 2), (96, 64))]
    with serving(image_reply()) as server:
        await generator(server, extra_body={"guidance_scale": 2.5}).generate("add ears", sources, 7, (640, 480))
    form = server.requests[0].form
    assert server.requests[0].path == "/v1/images/edits"
    assert [data for _, data in form["image[]"]] == [source.data for source in sources]
    fields = {name: form[name][0][1].decode() for name in ("model", "prompt", "size", "seed", "guidance_scale")}
    assert fields == {"model": "m", "prompt": "add ears", "size": "96x64", "seed": "7", "guidance_scale": "2.5"}


async def test_openai_itself_gets_what_it_knows_alone():
    with serving(image_reply()) as server:
        settings = {"extensions": False, "sizes": [(1024, 1024), (1536, 1024), (1024, 1536)]}
        await generator(server, **settings, extra_body={"quality": "low"}).generate("a cat", [], 7, (900, 620))
    assert server.requests[0].json == {"model": "m", "prompt": "a cat", "n": 1, "size": "1536x1024", "quality": "low"}


@pytest.fixture
def mask(tmp_path):
    image = Image.new("L", (32, 32), "black")
    image.paste(255, (0, 0, 16, 32))
    image.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


async def test_a_mask_is_transparent_where_openai_may_paint(mask):
    with serving(image_reply()) as server:
        await generator(server, mask=mask, extensions=False).generate("x", [plain_picture()], 7, (64, 64))
    sent = Image.open(io.BytesIO(server.requests[0].form["mask"][0][1]))
    assert sent.size == (64, 64) and [sent.getpixel(at)[3] for at in ((8, 8), (56, 8))] == [0, 255]


async def test_a_mask_is_white_where_other_servers_may_paint(mask):
    with serving(image_reply()) as server:
        await generator(server, mask=mask).generate("x", [plain_picture()], 7, (64, 64))
    head, _, encoded = server.requests[0].form["mask_image"][0][1].decode().partition(",")
    sent = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert head == "data:image/png;base64" and [sent.getpixel(at) for at in ((8, 8), (56, 8))] == [255, 0]


def huge():
    """A PNG of 81 megapixels that is a few kilobytes small."""
    buffer = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
    return Picture(buffer.getvalue(), "image/png", 9_000, 9_000)


NOT_ALLOWED = {
    "error": {"message": "Your prompt was rejected by our safety system", "code": "content_policy_violation"}
}


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (Reply({"error": {"message": "Bad key sk-hidden"}}, 401), BackendError, "the key in MY_KEY was refused"),
        (Reply({"detail": "Not Found"}, 404), BackendError, "check generator.model and generator.base_url"),
        (Reply(NOT_ALLOWED, 400), Refusal, "content filter"),
        (Reply({"detail": "size must be smaller"}, 422), BackendError, "size must be smaller.*settings of .generator"),
        (Reply({"error": "oom"}, 500), BackendUnavailable, "has a problem .500."),
        (Reply(b"<html>", type="text/html"), BackendError, "text/html instead of JSON; check generator.base_url"),
        (Reply(b""), BackendError, "an empty body; check generator.base_url"),
        (Reply(silent=True), BackendUnavailable, r"did not answer within 2 s \(generator.timeout\)"),
        (Reply({"data": []}), UnreadableAnswer, "sent no picture"),
        (Reply({"hello": 1}), UnreadableAnswer, "sent no picture"),
        (Reply({"data": [{"url": "http://127.0.0.1/x.png"}]}), UnreadableAnswer, "no picture that can be used"),
        (Reply({"data": [{"b64_json": "%%%"}]}), UnreadableAnswer, "no picture that can be used"),
        (Reply({"data": [{"b64_json": "aGVsbG8="}]}), UnreadableAnswer, "is not a picture; give a PNG"),
        (image_reply(huge()), UnreadableAnswer, "9000x9000 pixels; at most 80 megapixels"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_told(reply, error, said, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-hidden")
    with serving(reply) as server:
        with pytest.raises(error, match=said) as raised:
            await generator(server, api_key_env="MY_KEY", timeout=2 if reply.silent else 60).generate(
                "a cat", [], 1, (64, 64)
            )
    assert "generator 'm' at http://127.0.0.1" in str(raised.value) and "sk-hidden" not in str(raised.value)


def test_a_mask_that_is_not_there_is_told_at_once():
    with pytest.raises(BadInput, match="the mask 'nowhere.png' cannot be read"):
        create_backend("generator", "openai-images", model="m", base_url="http://127.0.0.1:1", mask="nowhere.png")


SENT = base64.b64encode(plain_picture().data).decode()


@pytest.mark.parametrize(
    "item",
    [
        {"url": f"data:image/png;base64,{SENT}"},
        {"b64_json": f"data:image/png;base64,{SENT}"},
        {"b64_json": "\n".join(SENT[n : n + 76] for n in range(0, len(SENT), 76))},
        {"b64_json": SENT.rstrip("=")},
        {"b64_json": None, "url": "HOST/files/1.png"},
        {"url": "/files/1.png?sig=x"},
    ],
)
async def test_a_picture_may_come_in_many_ways(item):
    def reply(request):
        if request.path.startswith("/files/1.png"):
            return Reply(plain_picture().data, type="image/png")
        return Reply({"data": [{name: value and value.replace("HOST", server.url) for name, value in item.items()}]})

    with serving(reply) as server:
        assert await generator(server).generate("a cat", [], 7, (64, 64)) == plain_picture()


@pytest.mark.parametrize("url", ["http://10.0.0.1/p.png", "http://localhost:1/p.png", "file:///etc/passwd", "x"])
async def test_addresses_elsewhere_are_guarded(url):
    with serving(Reply({"data": [{"url": url}]})) as server:
        with pytest.raises(UnreadableAnswer, match="no picture that can be used"):
            await generator(server).generate("a cat", [], 7, (64, 64))


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (Reply({"error": {"code": 429, "message": "slow down"}}), BackendUnavailable, "too busy"),
        (Reply({"error": {"code": "moderation_blocked", "message": "no"}}), Refusal, "content filter"),
        (Reply({"error": "out of memory"}), BackendUnavailable, "has a problem"),
        (
            Reply({"error": {"code": "billing_hard_limit_reached", "message": "limit"}}, 400),
            BackendError,
            "no quota left",
        ),
        (
            Reply({"error": {"message": "Your organization must be verified to use the model"}}, 403),
            BackendError,
            "organisation must be verified",
        ),
        (
            Reply({"error": {"message": "Invalid value '64x64'", "param": "size"}}, 400),
            BackendError,
            "set generator.sizes",
        ),
    ],
)
async def test_errors_are_explained_as_what_they_are(reply, error, said):
    with serving(reply) as server:
        with pytest.raises(error, match=said):
            await generator(server).generate("a cat", [], 7, (64, 64))


async def test_fields_that_an_endpoint_refuses_are_left_out():
    def reply(request):
        if "response_format" in request.json:
            return Reply({"error": {"message": "Unknown parameter: 'response_format'."}}, 400)
        return image_reply()

    with serving(reply) as server:
        drawer = generator(server)
        for _ in range(2):
            assert await drawer.generate("a cat", [], 7, (64, 64)) == plain_picture()
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "https://eu.api.openai.com/v1/", "https://x.openai.azure.com/openai/v1/"]
)
def test_openai_is_known_by_its_host(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "sk-2")
    drawer = OpenAIImages(model="m", base_url=url)
    assert drawer.endpoint.key == ("sk-2" if "azure" in url else "sk-1")
    assert not drawer._has_extensions
