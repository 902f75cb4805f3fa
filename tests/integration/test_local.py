"""The `local` backend: a weights in this process, asked by the graph."""

import asyncio

import pytest
from support.fakes import plain_picture

from interleaver.agents.exchanges import record_exchanges
from interleaver.errors import BackendError, UnreadableAnswer
from interleaver.profile import Profile
from interleaver.runner import make_backend
from interleaver.types import Step

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
STEP = Step(number=1, instruction="A red square.", prompt="a red square")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from support import tiny_vlm

    return str(tiny_vlm.trained(tmp_path_factory))


def agents(weights, **settings):
    common = {"backend": "local", "weights": weights, **settings}
    made = Profile.model_validate({"planner": common, "critic": common})
    return make_backend(made, "planner"), make_backend(made, "critic")


async def test_calls_that_wait_are_answered_together_each_with_its_own_pictures(weights):
    planner, critic = agents(weights, max_tokens=900)
    pictures = [plain_picture(colour) for colour in ((240, 10, 10), (10, 10, 240)) * 4]
    with record_exchanges() as exchanges:
        plan, *verdicts = await asyncio.gather(
            planner.plan("a red square", []),
            *(critic.review(STEP, plain_picture((10, 10, 240)), after, "a red square") for after in pictures),
        )
    assert [step.prompt for step in plan.steps] == ["a red square", "make it redder"]
    assert [verdict.accepted for verdict in verdicts] == [True, False] * 4
    assert all(one.usage.input_tokens > 100 and one.usage.output_tokens > 10 for one in exchanges)
    assert len(exchanges) == 9 and not any(one.problem for one in exchanges)


async def test_calls_with_other_settings_wait_for_their_turn(weights):
    critics = [agents(weights, max_tokens=tokens)[1] for tokens in (900, 800, 700)] * 3
    red = plain_picture((240, 10, 10))
    judged = asyncio.gather(
        *(critic.review(STEP, plain_picture((10, 10, 240)), red, "a red square") for critic in critics)
    )
    verdicts = await asyncio.wait_for(judged, 120)
    assert [verdict.accepted for verdict in verdicts] == [True] * 9


async def test_a_call_that_is_given_up_does_not_stop_the_others(weights):
    _, critic = agents(weights, max_tokens=900)
    calls = [asyncio.create_task(critic.review(STEP, plain_picture(), plain_picture(), "p")) for _ in range(6)]
    await asyncio.sleep(0.02)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    verdict = await critic.review(STEP, plain_picture((10, 10, 240)), plain_picture((240, 10, 10)), "a red square")
    assert verdict.accepted


async def test_what_goes_wrong_is_told(weights, tmp_path):
    _, critic = agents(weights, max_tokens=5)
    with pytest.raises(UnreadableAnswer, match="cut off at the token limit after 5 tokens"):
        await critic.review(STEP, plain_picture(), plain_picture(), "p")
    (tmp_path / "config.json").write_text("{}")
    _, critic = agents(str(tmp_path))
    with pytest.raises(BackendError, match="have no processor that can be loaded"):
        await critic.review(STEP, plain_picture(), plain_picture(), "p")
