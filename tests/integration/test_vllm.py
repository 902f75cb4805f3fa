"""A real vLLM server, on the CPU, with a tiny Qwen3-VL: started by `interleaver serve`, asked by the graph."""

import asyncio
import os
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import contextmanager

import pytest
from support import REPOSITORY, SUPPORT
from support.fakes import PlainGenerator, plain_picture
from support.processes import free_port

from interleaver import build_graph
from interleaver.agents.chat import ChatCritic, ChatPlanner
from interleaver.agents.exchanges import record_exchanges
from interleaver.errors import BackendError, UnreadableAnswer
from interleaver.pictures import white_canvas
from interleaver.profile import Profile, load_profile
from interleaver.runner import make_backend
from interleaver.sandbox.generator import FAULTLESS, SandboxGenerator
from interleaver.types import Step

PYTHON = REPOSITORY / ".venv-vllm" / "bin" / "python"
ON_CPU = ["--", "--enforce-eager", "--dtype", "float32"]
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": str(SUPPORT / "vllm_on_cpu"), "VLLM_SERVER_KEY": "sk-vllm"}
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from support import tiny_vlm

    return tiny_vlm.trained(tmp_path_factory)


@contextmanager
def serving(arguments, folder, tables):
    """The profile that `interleaver serve` prints once its server answers; the last line is empty."""
    command = [sys.executable, "-m", "interleaver.cli", "serve", *map(str, arguments), "--python", str(PYTHON)]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(free_port()), *ON_CPU],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        try:
            text = ""
            for line in process.stdout:
                text += line
                if not line.strip() and all(f"[{table}]" in text for table in tables):
                    break
            else:
                pytest.fail((folder / "log").read_text()[-4000:])
            yield tomllib.loads(text[text.index(f"[{tables[0]}]") :])
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()


@pytest.fixture(scope="module")
def profile(weights, tmp_path_factory):
    """The profile of one server with two adapters."""
    from support import tiny_vlm

    folder = tmp_path_factory.mktemp("adapters")
    arguments = ["planner", weights, "--max-model-len", 2048, "--images", 8, "--api-key-env", "VLLM_SERVER_KEY"]
    for name in ("planner", "critic"):
        arguments += ["--adapter", f"{name}={tiny_vlm.adapter(weights, folder / name)}"]
    with serving(arguments, folder, ("planner", "critic")) as printed:
        os.environ["VLLM_SERVER_KEY"] = ENVIRONMENT["VLLM_SERVER_KEY"]
        yield printed


class FirstBlue(PlainGenerator):
    """Draws something blue first, then red things."""

    async def generate(self, prompt, sources, seed, size):
        await super().generate(prompt, sources, seed, size)
        return plain_picture((10, 10, 240) if len(self.calls) == 1 else (240, 10, 10))


def agents(profile, **settings):
    common = {"temperature": 0, "max_tokens": 900, **settings}
    made = Profile.model_validate(
        {"planner": {**profile["planner"], **common}, "critic": {**profile["critic"], **common}}
    )
    return make_backend(made, "planner"), make_backend(made, "critic")


@pytest.mark.parametrize(
    "settings", [{"format": "tagged"}, {"format": "tagged", "guided": True}, {"format": "structured"}]
)
async def test_the_graph_runs_in_every_format(profile, images, settings):
    planner, critic = agents(profile, **settings)
    generator = FirstBlue()
    graph = build_graph(planner=planner, critic=critic, generator=generator, images=images).compile()
    async for state in graph.astream({"request": "a red square"}, stream_mode="values"):
        pass
    assert state["status"] == "complete", state["document"]
    # The critic saw that the first picture was blue, so the pixels went all the way.
    assert [call[0] for call in generator.calls] == ["a red square", "a square in bright red", "make it redder"]
    assert [attempt["verdict"]["accepted"] for attempt in state["attempts"].values()] == [False, True, True]
    exchanges = [one for attempt in state["attempts"].values() for one in attempt["exchanges"]]
    assert all(one["usage"]["input_tokens"] > 300 and one["usage"]["output_tokens"] > 10 for one in exchanges)
    assert all("problem" not in one and len(one["images"]) == 2 for one in exchanges)
    assert state["document"]["blocks"][-1]["type"] == "image"


async def test_guided_decoding_makes_malformed_answers_impossible(profile):
    """At a temperature at which the model babbles: one in five free answers is malformed, most others never end."""
    found = {False: Counter(), True: Counter()}
    while not found[False]["unreadable"] and found[False].total() < 400:
        found[False] += await problems(profile, guided=False)
    found[True] = await problems(profile, guided=True)
    assert found[False]["unreadable"] > 0
    assert found[True]["unreadable"] == 0  # cut at the token limit, perhaps, but never malformed
    assert found[True].total() > 0


async def problems(profile, guided):
    _, critic = agents(profile, format="tagged", guided=guided, temperature=1.6, max_tokens=600)
    with record_exchanges() as exchanges:
        await asyncio.gather(*[judged(critic) for _ in range(8)], return_exceptions=True)
    return Counter(one.problem for one in exchanges)


async def judged(critic):
    step = Step(number=1, instruction="A red square.", prompt="a red square")
    return await critic.review(step, plain_picture((255, 255, 255)), plain_picture((240, 10, 10)), "a red square")


async def test_a_prompt_with_many_pictures_is_planned(profile):
    planner, _ = agents(profile, format="structured")
    pictures = [plain_picture((9, 9, 9 * n)) for n in range(6)]
    with record_exchanges() as exchanges:
        await planner.plan("go on with <image>" + ", <image>" * 5, pictures)
    assert len(exchanges[0].images) == 6 and exchanges[0].usage.input_tokens > 300


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"model": "judge"}, BackendError, r"answered 404: check critic.model and critic.base_url"),
        ({"api_key_env": "NO_SUCH_KEY"}, BackendError, "answered 401: the key in NO_SUCH_KEY is not set"),
        ({"max_tokens": 5, "format": "tagged"}, UnreadableAnswer, "cut off at the token limit after 5 tokens"),
        ({"max_tokens": 100_000}, BackendError, "answered 400: .*check the settings of .critic."),
    ],
)
async def test_what_the_real_server_complains_of_is_told(profile, settings, error, said):
    _, critic = agents(profile, **settings)
    with pytest.raises(error, match=said):
        await judged(critic)


def test_a_server_that_does_not_start_says_why(tmp_path):
    command = [sys.executable, "-m", "interleaver.cli", "serve", "critic", str(tmp_path), "--python", str(PYTHON)]
    result = subprocess.run(
        [*command, "--port", str(free_port())], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    assert result.returncode == 3 and "vLLM exited with code" in result.stderr


def test_planner_and_critic_are_what_the_profile_names(profile):
    planner, critic = agents(profile)
    assert isinstance(planner, ChatPlanner) and isinstance(critic, ChatCritic)
    assert profile["planner"]["base_url"] == profile["critic"]["base_url"]


async def test_the_learned_critic_of_the_miniature_judges_as_it_does_in_the_process(tmp_path):
    local = make_backend(load_profile("miniature"), "critic")
    steady = SandboxGenerator(FAULTLESS, level="miniature")
    wanted = "Draw a red circle at the top left."
    step = Step(number=1, instruction=wanted, prompt=wanted)
    with serving(["critic", "--profile", "miniature", "--wait", 300], tmp_path, ["critic"]) as printed:
        assert printed["critic"]["prompts"] == "miniature" and printed["critic"]["temperature"] == 0
        served = make_backend(Profile.model_validate(printed), "critic")
        for shown in (wanted, "Draw a red star at the top left.", "Draw a red circle on the right."):
            after = await steady.generate(shown, [], 5, (96, 96))
            pair = [await critic.review(step, white_canvas(96, 96), after, wanted) for critic in (local, served)]
            assert pair[0] == pair[1] and pair[1].accepted == (shown == wanted)
