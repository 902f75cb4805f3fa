"""What a run makes of endpoints that fail in the middle of it."""

import time

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from support.image_endpoint import image_reply
from support.scripted_server import Reply, serving

from interleaver import build_graph, calling
from interleaver.errors import Refusal, UnreadableAnswer
from interleaver.graph.context import RunSettings
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
        assert len(server.requests) == 3  # one for the first picture; a hang is tried once more, and not four times


@pytest.mark.parametrize(
    "second",
    [
        Reply(b"<html>", type="text/html"),
        Reply(b""),
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


TEXT_ONLY = UnreadableAnswer("it answered in words")


@pytest.mark.parametrize("failures", [{1: TEXT_ONLY}, {0: TEXT_ONLY, 1: TEXT_ONLY, 4: TEXT_ONLY}])
async def test_an_answer_without_a_picture_is_a_spent_attempt(images, failures):
    generator = PlainGenerator(failures)
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(3)), critic=ScriptedCritic(), generator=generator, images=images
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"request": "three pictures"}, config)
    state = (await graph.aget_state(config)).values
    assert state["status"] == "complete"
    assert len(generator.calls) == 3 + len(failures)
    assert len({seed for _, seed, _ in generator.calls}) == len(generator.calls)
    for number, (prompt, _, _) in enumerate(generator.calls):
        assert prompt.endswith("Answer with an image.") == (number - 1 in failures)
    records = state["attempts"].values()
    assert all("Answer with" not in record["prompt"] for record in records)
    assert [record["may_succeed"] for record in records].count(True) == len(failures)


async def test_a_rejected_picture_is_kept_when_no_better_one_comes(images):
    generator = PlainGenerator({1: TEXT_ONLY, 2: TEXT_ONLY})
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(False), generator=generator, images=images,
        settings=RunSettings(max_attempts=3),
    ).compile()  # fmt: skip
    document = (await graph.ainvoke({"request": "one picture"}))["document"]
    assert document["steps"][0]["outcome"] == "exhausted"
    assert [prompt.partition("\n")[0] for prompt, _, _ in generator.calls] == ["p1", "p1!", "p1!"]


async def test_a_refusal_is_final(images):
    generator = PlainGenerator({1: Refusal("no")})
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=generator, images=images
    ).compile()
    document = (await graph.ainvoke({"request": "two pictures"}))["document"]
    assert [step["outcome"] for step in document["steps"]] == ["accepted", "failed"]
    assert len(generator.calls) == 2
