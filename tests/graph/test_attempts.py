"""What a run makes of endpoints that fail in the middle of it."""

import time

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from support.fakes import ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from support.image_endpoint import image_reply
from support.scripted_server import Reply, serving

from interleaver import build_graph, calling
from interleaver.tools.openai_images import OpenAIImages

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(calling, "BACKOFF", lambda retry: 0.01)


async def run(server, images, **settings):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(3)),
        critic=ScriptedCritic(),
        generator=OpenAIImages(model="m", base_url=f"{server.url}/v1", **{"timeout": 1, **settings}),
        images=images,
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"request": "three pictures"}, config)
    return (await graph.aget_state(config)).values


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (Reply(silent=True), "did not answer within 1 s (generator.timeout)"),
        (Reply({"error": {"message": "down"}}, 503), "has a problem (503)"),
    ],
)
async def test_a_run_that_loses_its_generator_keeps_what_it_has_and_says_why(images, second, said):
    with serving(image_reply(), second) as server:
        state = await run(server, images)
    assert state["status"] == "partial" and said in state["document"]["reason"]
    assert "generator 'm' at http://127.0.0.1" in state["document"]["reason"]
    assert [block["type"] for block in state["document"]["blocks"]].count("image") == 1
    if second.silent:
        assert len(server.requests) == 2  # a hang takes the time-out once, not once for each try


@pytest.mark.parametrize(
    "second",
    [
        Reply(b"<html>", type="text/html"),
        Reply(b""),
        Reply({"data": [{"b64_json": "aGVsbG8="}]}),
        Reply({"error": {"message": "no"}}, 401),
    ],
)
async def test_a_step_that_cannot_be_drawn_does_not_stop_the_others(images, second):
    with serving(image_reply(), second, image_reply(plain_picture((1, 2, 3)))) as server:
        state = await run(server, images)
    assert len(server.requests) == 3  # what will not get better is not tried again
    assert [result["outcome"] for result in state["results"].values()] == ["accepted", "failed", "accepted"]
    assert "generator 'm' at http://127.0.0.1" in state["results"]["1"]["reason"]


async def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(images):
    busy = Reply({"error": {"message": "full"}}, 429, headers={"retry-after": "0.3"})
    with serving(image_reply(), busy, image_reply()) as server:
        started = time.monotonic()
        state = await run(server, images, timeout=5)
    assert state["status"] == "complete" and time.monotonic() - started > 0.3
