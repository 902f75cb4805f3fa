"""The images server, driven by the stock `openai` client over loopback."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time

import httpx
import openai
import pytest
from support.fakes import plain_picture
from support.processes import get, processes, served
from support.scripted_server import Reply, serving

from interleaver.errors import BackendError, BackendUnavailable, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.registry import create_backend
from interleaver.serving.edit_api import edit_size
from interleaver.tools.openai_images import OpenAIImages

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
KEY = "sk-for-this-test"


@pytest.fixture(scope="module")
def url():
    with served() as (url, _):
        yield url


def client(url, key="x"):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def picture(item):
    return Picture.decode(base64.b64decode(item.b64_json))


def file(picture):
    return ("image.png", picture.data, "image/png")


def test_generations_and_edits(url):
    images = client(url).images
    asked = {"model": "sandbox", "prompt": "a red circle in the middle", "size": "128x96"}
    first, again, other = (picture(images.generate(**asked, extra_body={"seed": seed}).data[0]) for seed in (1, 1, 2))
    assert (first.width, first.height) == (128, 96) and first == again != other
    edited = picture(images.edit(image=file(first), prompt="add a blue square", extra_body={"seed": 1}).data[0])
    assert (edited.width, edited.height) == (128, 96) and edited != first
    assert [model.id for model in client(url).models.list()] == ["sandbox"]


def test_several_at_once_have_consecutive_seeds(url):
    images = client(url).images
    asked = {"model": "sandbox", "prompt": "a red circle", "size": "64x64"}
    three = images.generate(**asked, n=3, extra_body={"seed": 5}).data
    assert picture(three[2]) == picture(images.generate(**asked, extra_body={"seed": 7}).data[0])


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda i: i.generate(prompt="", model="sandbox"), openai.BadRequestError, "prompt: "),
        (lambda i: i.generate(prompt="x", model="other"), openai.NotFoundError, "this server has 'sandbox'"),
        (lambda i: i.generate(prompt="x", size="big"), openai.BadRequestError, "size: 'big' is not WIDTHxHEIGHT"),
        (lambda i: i.generate(prompt="x", size="9999x64"), openai.BadRequestError, "64 to 4096 pixels each"),
        (lambda i: i.generate(prompt="x", size="1" * 5000 + "x64"), openai.BadRequestError, "size: '1111"),
        (lambda i: i.generate(prompt="x", extra_body={"mask_image": "data:"}), openai.BadRequestError, "is for edits"),
        (lambda i: i.generate(prompt="x", n=11), openai.BadRequestError, "n: .*less than or equal to 10"),
        (lambda i: i.generate(prompt="x", extra_body={"stepps": 3}), openai.BadRequestError, "stepps: "),
        (lambda i: i.generate(prompt="x", response_format="url"), openai.BadRequestError, "response_format: "),
        (lambda i: i.edit(image=b"hello", prompt="x"), openai.BadRequestError, "image 1 is not a picture"),
        (lambda i: i.edit(image=file(plain_picture()), prompt="x", n=0), openai.BadRequestError, "n: "),
        (lambda i: i.edit(image=[file(plain_picture())] * 2, prompt="x"), openai.BadRequestError, "edits at most 1"),
        (
            lambda i: i.generate(prompt="a cat", extra_body={"num_inference_steps": 3}),
            openai.BadRequestError,
            "num_inference_steps: this model takes no such parameter",
        ),
        (
            lambda i: i.edit(image=file(plain_picture()), mask=file(plain_picture()), prompt="x"),
            openai.BadRequestError,
            "mask: this model takes no such parameter",
        ),
    ],
)
def test_bad_requests_are_told_as_the_client_expects(url, call, error, said):
    with pytest.raises(error, match=said):
        call(client(url).images)


def test_a_key_is_asked_for():
    with served("--api-key-env", "SERVER_KEY", SERVER_KEY=KEY) as (url, _):
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            client(url, "wrong").images.generate(prompt="a red circle", size="64x64")
        assert client(url, KEY).images.generate(prompt="a red circle", size="64x64").data
        assert '"ok"' in get(f"{url}/health") and "interleaver_requests_total" in get(f"{url}/metrics")


async def test_the_generator_of_this_package_is_a_client_too(url):
    generator = OpenAIImages(model="sandbox", base_url=f"{url}/v1", max_sources=1)
    first = await generator.generate("a red circle in the middle", [], 1, (96, 64))
    second = await generator.generate("add a blue square", [first], 1, (512, 512))
    assert (second.width, second.height) == (96, 64)


async def test_when_the_queue_is_full_clients_are_told_when_to_come_back():
    with served("--queue", "2") as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as many:
            asked = {"prompt": "a cat beside a house at night", "size": "1024x1024"}
            answers = await asyncio.gather(*[many.images.generate(**asked) for _ in range(12)], return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
        assert refused and len(refused) < 12 and all(int(one.response.headers["retry-after"]) >= 1 for one in refused)
        assert not [one for one in answers if isinstance(one, Exception) and one not in refused]
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=20) as patient:
            assert all(await asyncio.gather(*[patient.images.generate(**asked) for _ in range(6)]))


def workers_of(process):
    """The processes that draw: children of the server that were spawned."""
    return [pid for pid, parent in processes("spawn_main") if parent == process.pid]


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost():
    with served() as (url, process):
        images = client(url).images
        asked = {"prompt": "a red circle", "size": "64x64", "extra_body": {"seed": 1}}
        before = picture(images.generate(**asked).data[0])
        for pid in workers_of(process):
            os.kill(pid, signal.SIGKILL)
        assert picture(images.generate(**asked).data[0]) == before
        assert "interleaver_worker_restarts 1.0" in get(f"{url}/metrics")


def test_what_is_being_drawn_is_finished_before_the_server_ends():
    with served() as (url, process):
        code = (
            "import openai,sys; print(len(openai.OpenAI(base_url=sys.argv[1], api_key='x', max_retries=0)"
            ".images.generate(prompt='a cat beside a house at night', size='2048x2048', n=3).data))"
        )
        asking = subprocess.Popen([sys.executable, "-c", code, f"{url}/v1"], stdout=subprocess.PIPE, text=True)
        while "interleaver_drawing 1.0" not in get(f"{url}/metrics"):
            time.sleep(0.02)
        process.terminate()
        assert asking.communicate(timeout=60)[0].strip() == "3"
        assert process.wait(20) == 0


def test_what_nobody_waits_for_any_more_is_not_drawn():
    with served() as (url, _):
        hasty = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=0.5)
        for _ in range(3):
            with pytest.raises(openai.APITimeoutError):
                hasty.images.generate(prompt="a cat beside a house at night", size="2048x2048", n=10)
        deadline = time.monotonic() + 30
        while "interleaver_waiting 0.0" not in get(f"{url}/metrics") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "interleaver_waiting 0.0" in get(f"{url}/metrics")
        assert 'status="499"' in get(f"{url}/metrics")
        assert client(url).images.generate(prompt="a red circle", size="64x64").data  # the workers are free again


def test_several_pictures_are_refused_together_or_not_at_all():
    with served("--queue", "1") as (url, _):
        assert len(client(url).images.generate(prompt="a red circle", size="64x64", n=5).data) == 5


def test_a_port_that_is_taken_is_told(url):
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "interleaver.cli", "serve"]
    for arguments in (["generator", "sandbox", "--port", port], ["planner", "weights", "--port", port]):
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and f"cannot listen on 127.0.0.1:{port}" in result.stderr


def test_workers_do_not_outlive_a_server_that_was_killed():
    with served() as (_, process):
        workers = workers_of(process)
        process.kill()
        deadline = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}/status") for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert workers and not any(os.path.exists(f"/proc/{pid}/status") for pid in workers)


def test_a_generator_that_cannot_be_loaded_ends_the_command():
    command = [sys.executable, "-m", "interleaver.cli", "serve", "generator"]
    unknown = subprocess.run([*command, "sandbux"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "did you mean 'sandbox'" in unknown.stderr
    wrong = subprocess.run([*command, "sandbox", "--set", "slipz=1"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "no field 'slipz'" in wrong.stderr
    keyless = subprocess.run([*command, "sandbox", "--api-key-env", "NOT_SET"], capture_output=True, text=True)
    assert keyless.returncode == 2 and "NOT_SET (--api-key-env) is not set" in keyless.stderr


def test_error_types_of_this_package_reach_the_client(url):
    with pytest.raises(openai.UnprocessableEntityError, match="gryphon"):
        client(url).images.generate(prompt="a gryphon", size="64x64")


async def test_the_released_protocol_draws_and_edits(url):
    service = create_backend("generator", "edit-service", base_url=url)
    assert (await service.check()).endswith("answers")
    first = await service.generate("a red circle in the middle", [], 1, (128, 96))
    assert (first.width, first.height) == (128, 96)
    assert await service.generate("a red circle in the middle", [], 1, (128, 96)) == first
    edited = await service.generate("add a blue square", [plain_picture((1, 2, 3)), first], 1, (64, 64))
    assert (edited.width, edited.height) == (128, 96) and edited != first


def test_the_released_reward_function_is_answered_as_it_expects(url):
    """Its request, with a field that is spelt wrongly and one that nobody knows."""
    body = {"image": None, "prompt": "a red circle", "seed": 0, "num_inference_step": 4, "guidance_scale": 1.0,
            "width": 64, "height": 64, "enhance_prompt": False}  # fmt: skip
    answer = httpx.post(f"{url}/edit", json=body).json()
    assert answer["success"] is True and answer["seed"] == 0 and answer["original_image"] is None
    assert Picture.decode(base64.b64decode(answer["edited_image"])).width == 64
    assert {"task_id", "original_prompt", "enhanced_prompt", "gpu_id", "processing_time", "error"} <= set(answer)


@pytest.mark.parametrize(
    ("source", "expected"),
    [((640, 480), (640, 480)), ((8000, 6000), (2365, 1774)), ((9000, 30), (4096, 64)), ((1, 1), (64, 64))],
)
def test_an_edit_without_a_size_has_that_of_its_source_within_reason(source, expected):
    assert edit_size((plain_picture(size=source),)) == expected


def test_edits_are_described_for_tools_that_read_the_openapi(url):
    form = httpx.get(f"{url}/openapi.json").json()["paths"]["/v1/images/edits"]["post"]["requestBody"]
    schema = form["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["image[]"]["items"] == {"type": "string", "format": "binary"}
    assert schema["required"] == ["prompt"] and form["required"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"prompt": "a red circle", "image": "not base64!"}, 400, "not base64"),
        ({"prompt": "a red circle", "image": "aGVsbG8="}, 400, "not a picture"),
        ({"image": None}, 400, "prompt"),
    ],
)
def test_what_the_released_protocol_cannot_draw_is_told(url, body, status, said):
    answer = httpx.post(f"{url}/edit", json=body)
    assert answer.status_code == status and said in answer.text


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (Reply({"detail": "Image editing failed: Task timeout"}, 500), BackendUnavailable, "Task timeout"),
        (Reply({"detail": "not ready"}, 503), BackendUnavailable, "not ready"),
        (Reply({"success": False, "error": "out of memory"}), BackendUnavailable, "out of memory"),
        (Reply({"detail": "bad"}, 422), BackendError, "bad"),
        (Reply({"success": True, "edited_image": None}), UnreadableAnswer, "no picture"),
        (Reply({"success": True, "edited_image": "aGVsbG8="}), UnreadableAnswer, "not a picture"),
        (Reply(b"<html>", type="text/html"), BackendError, "does not match its API"),
    ],
)
async def test_what_a_released_service_answers_is_understood(reply, error, said):
    with serving(reply) as server:
        service = create_backend("generator", "edit-service", base_url=server.url, timeout=5)
        with pytest.raises(error, match=said):
            await service.generate("a cat", [], 1, (64, 64))
