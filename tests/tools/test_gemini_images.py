import base64

import pytest
from support.fakes import plain_picture
from support.scripted_server import Reply, serving

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.registry import create_backend
from interleaver.tools.gemini_images import GeminiImages

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def gemini_reply(*parts, finish="STOP", **more):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return Reply({"candidates": [candidate], **more})


def drawn(picture):
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(picture.data).decode()}}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-hidden")


def generator(server, **settings):
    return GeminiImages(model="gemini-3-pro-image-preview", base_url=server.url, **{"timeout": 5, **settings})


async def test_drawing_anew_asks_for_the_nearest_shape():
    with serving(gemini_reply({"text": "Here:"}, drawn(plain_picture()))) as server:
        picture = await generator(server, image_size="1K").generate("a cat", [], 7, (1920, 1080))
    (request,) = server.requests
    assert picture == plain_picture()
    assert request.path.endswith("/models/gemini-3-pro-image-preview:generateContent")
    config = request.json["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "16:9", "imageSize": "1K"} and config["seed"] == 7
    assert request.json["contents"][0]["parts"] == [{"text": "a cat"}]


async def test_editing_shows_all_sources_first():
    sources = [plain_picture((1, 1, 1)), plain_picture((2, 2, 2))]
    with serving(gemini_reply(drawn(plain_picture()))) as server:
        await generator(server).generate("add ears", sources, 7, (64, 64))
    parts = server.requests[0].json["contents"][0]["parts"]
    assert [base64.urlsafe_b64decode(part["inlineData"]["data"] + "==") for part in parts[:2]] == [
        one.data for one in sources
    ]
    assert parts[2] == {"text": "add ears"}
    assert "aspectRatio" not in server.requests[0].json["generationConfig"].get("imageConfig", {})


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (gemini_reply(finish="IMAGE_SAFETY"), Refusal, r"drew nothing \(IMAGE_SAFETY\)"),
        (Reply({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), Refusal, "refused the prompt .PROHIBITED"),
        (gemini_reply({"text": "I would rather talk."}), UnreadableAnswer, "sent no picture .STOP.: I would rather"),
        (gemini_reply(finish="NO_IMAGE"), UnreadableAnswer, "sent no picture .NO_IMAGE"),
        (gemini_reply(finish="IMAGE_OTHER"), UnreadableAnswer, "sent no picture .IMAGE_OTHER"),
        (gemini_reply(finish="IMAGE_PROHIBITED_CONTENT"), Refusal, "IMAGE_PROHIBITED"),
        (Reply({}), UnreadableAnswer, "sent no picture"),
        (
            gemini_reply({"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}),
            UnreadableAnswer,
            "not a picture",
        ),
        (
            Reply({"error": {"code": 400, "message": "API key not valid: AIza-hidden"}}, 401),
            BackendError,
            "GEMINI_API_KEY",
        ),
        (Reply({"error": {"code": 404, "message": "no such model"}}, 404), BackendError, "check generator.model"),
        (Reply({"error": {"code": 429, "message": "quota"}}, 429), BackendUnavailable, "too busy"),
        (Reply({"error": {"code": 503, "message": "overloaded"}}, 503), BackendUnavailable, "has a problem"),
        (Reply(b"<html>", type="text/html"), BackendError, "text/html instead of JSON; check generator.base"),
        (Reply(b""), BackendError, "an empty body; check generator.base_url"),
        (Reply(silent=True), BackendUnavailable, "did not answer within 2 s"),
    ],
)
async def test_what_is_wrong_is_told(reply, error, said):
    with serving(reply) as server:
        with pytest.raises(error, match=said) as raised:
            await generator(server, timeout=2 if reply.silent else 60).generate("a cat", [], 1, (64, 64))
    assert "generator 'gemini-3-pro-image-preview' at http://127.0.0.1" in str(raised.value)
    assert "AIza-hidden" not in str(raised.value)


async def test_a_host_that_is_down_is_told():
    with serving(Reply()) as server:
        gone = generator(server)
    with pytest.raises(BackendUnavailable, match="cannot be reached"):
        await gone.generate("a cat", [], 1, (64, 64))


def test_a_missing_key_is_told(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(BadInput, match="generator 'm' needs an API key; set the environment variable GEMINI_API_KEY"):
        create_backend("generator", "gemini-images", model="m")


async def test_the_doctor_asks_for_the_model():
    with serving(Reply({"name": "models/gemini-3-pro-image-preview"})) as server:
        assert (await generator(server).check()).endswith("answers")
    with serving(Reply({"error": {"code": 404, "message": "no such model"}}, 404)) as server:
        with pytest.raises(BackendError, match="check generator.model"):
            await generator(server).check()
