"""Many servers as one: Ray Serve and nginx, each with a backend killed under load and no request lost."""

import asyncio
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager

import openai
import pytest
from support.processes import free_port, get, processes, served

from interleaver.errors import BadInput
from interleaver.serving.nginx import nginx_config

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
ASKED = {"prompt": "a cat beside a house at night", "size": "512x512"}


async def ask_many(url, count, after=lambda: None):
    """Ask for many pictures at once; do something when the first ones are there. Returns what failed."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=120) as client:
        asked = [
            asyncio.create_task(client.images.generate(**ASKED, extra_body={"seed": seed})) for seed in range(count)
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        after()
        answers = await asyncio.gather(*asked, return_exceptions=True)
    return [answer for answer in answers if isinstance(answer, BaseException)]


@contextmanager
def nginx(folder, servers):
    port = free_port()
    config = nginx_config(servers, port)
    (folder / "nginx.conf").write_text(config)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            try:
                get(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def test_nginx_loses_nothing_when_a_server_dies_under_load(tmp_path):
    with ExitStack() as stack:
        servers = [stack.enter_context(served()) for _ in range(2)]
        url = stack.enter_context(nginx(tmp_path, [server for server, _ in servers]))
        assert not await ask_many(url, 16)
        for server, _ in servers:  # both had work
            done = re.search(
                r'requests_total{endpoint="/v1/images/generations",status="200"} (\d+)', get(f"{server}/metrics")
            )
            assert int(done[1]) >= 3
        dying = servers[0][1]
        assert not await ask_many(url, 16, after=dying.kill)
        assert not await ask_many(url, 4)


async def test_nginx_gives_what_one_server_has_no_room_for_to_the_next(tmp_path):
    with ExitStack() as stack:
        small, large = stack.enter_context(served("--queue", "1")), stack.enter_context(served("--queue", "64"))
        url = stack.enter_context(nginx(tmp_path, [small[0], large[0]]))
        assert not await ask_many(url, 16)
        assert 'status="429"' in get(f"{small[0]}/metrics")


async def test_nginx_does_not_take_a_full_server_for_a_dead_one(tmp_path):
    with ExitStack() as stack:
        servers = [stack.enter_context(served("--queue", "1"))[0] for _ in range(2)]
        url = stack.enter_context(nginx(tmp_path, servers))
        failed = await ask_many(url, 24)
        assert failed and all(isinstance(error, openai.RateLimitError) for error in failed)
        assert all(error.response.headers["retry-after"] for error in failed)
        assert not await ask_many(url, 1)  # at once


@pytest.mark.parametrize("server", ["10.0.0.1:8000", "https://a", "http://a/v1", "http://a;b", "ftp://a"])
def test_what_is_no_server_is_refused(server):
    with pytest.raises(BadInput, match="is not the address of a server"):
        nginx_config([server], 80)


def replicas():
    """The processes of the Ray replicas that draw."""
    return [pid for pid, _ in processes("ray::ServeReplica:sandbox:Drawer")]


@contextmanager
def on_ray(*arguments, name="sandbox", **environment):
    with served("--ray", "local", *arguments, name=name, RAY_USAGE_STATS_ENABLED="0", **environment) as (url, process):
        yield url, process


async def test_ray_loses_nothing_when_a_replica_dies_under_load():
    with on_ray("--replicas", "2") as (url, _):
        assert len(replicas()) == 2
        assert not await ask_many(url, 8)
        assert not await ask_many(url, 16, after=lambda: os.kill(replicas()[0], signal.SIGKILL))
        deadline = time.monotonic() + 60
        while len(replicas()) < 2 and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        assert len(replicas()) == 2  # it was replaced
        assert not await ask_many(url, 4)
        assert "interleaver_requests_total" in get(f"{url}/metrics")


async def test_ray_tells_errors_as_the_other_server_does():
    with on_ray() as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openai.UnprocessableEntityError, match="gryphon"):
                await client.images.generate(prompt="a gryphon", size="64x64")
            with pytest.raises(openai.BadRequestError, match="num_inference_steps: this model takes no such"):
                await client.images.generate(prompt="a cat", size="64x64", extra_body={"num_inference_steps": 3})


async def test_ray_draws_several_orders_in_one_pass(tmp_path):
    from support import tiny_pipelines

    weights = tiny_pipelines.save("QwenImagePipeline", tmp_path / "qwen")
    settings = ["--set", "device=cpu", "--set", "sizes=[]", "--set", "call={num_inference_steps=1}"]
    with on_ray("--batch", "4", "--weights", weights, *settings, name="qwen-image") as (url, _):
        assert not await ask_many(url, 8)


async def test_ray_adds_replicas_when_there_is_much_to_do():
    with on_ray("--replicas", "1:2", "--queue", "200") as (url, _):
        assert len(replicas()) == 1
        asking = asyncio.create_task(ask_many(url, 150))
        most = 1
        while not asking.done():
            most = max(most, len(replicas()))
            await asyncio.sleep(0.5)
        assert not await asking
        assert most == 2
