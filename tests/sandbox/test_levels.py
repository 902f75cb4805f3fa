"""The miniature level: small enough to be learned, and honest about what it shows."""

import io
import json
import re
from random import Random

import pytest
from click.testing import CliRunner
from PIL import Image

from interleaver.cli import main
from interleaver.errors import BackendError, BadInput
from interleaver.pictures import Picture, white_canvas
from interleaver.profile import Profile
from interleaver.runner import make_backend
from interleaver.sandbox.critic import SandboxCritic
from interleaver.sandbox.exact import ExactCritic
from interleaver.sandbox.generator import FAULTLESS, SandboxGenerator
from interleaver.sandbox.grid import read_grid
from interleaver.sandbox.levels import level_of
from interleaver.sandbox.planner import SandboxPlanner
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import COLOURS, PLACES, nearest_place, scene_behind
from interleaver.types import Step

LEVEL = level_of("miniature")
SIZE = (96, 96)
REQUEST = "Draw a red circle at the top left, a blue star in the middle and a green heart on the right."


async def drawn(prompt, seed, source=None, slips=None):
    generator = SandboxGenerator(slips, level="miniature")
    return await generator.generate(prompt, [source] if source else [], seed, SIZE)


async def test_plans_are_short_and_say_nothing_of_sizes():
    plan = await SandboxPlanner(level="miniature").plan(REQUEST, [])
    assert [step.instruction for step in plan.steps] == [
        "Draw a red circle at the top left.",
        "Draw a blue star in the middle.",
        "Draw a green heart on the right.",
    ]
    assert all(step.auxiliary_text is None for step in plan.steps)


async def test_everything_drawn_stays_in_the_level():
    """Whatever goes wrong, there is one shape of the level a place, or two where they were put there."""
    rng = Random(0)
    source = None
    for seed in range(300):
        if seed % 6 == 0:
            source = None
        kind, colour = rng.choice(LEVEL.kinds), rng.choice(LEVEL.colours)
        source = await drawn(f"Draw a {colour} {kind}.", seed, source)
        scene = scene_behind(source)
        assert scene.background == "white paper"
        assert all(item.kind in LEVEL.kinds and item.colour in LEVEL.colours for item in scene.items)
        places = [nearest_place(item.x, item.y) for item in scene.items]
        assert len(set(places)) == len(places)


async def test_a_grid_is_read_off_the_pixels():
    rng = Random(1)
    wrong = seen = 0
    for seed in range(80):
        places = rng.sample(list(PLACES), 3)
        source = None
        truth = dict.fromkeys(PLACES, "empty")
        for place in places:
            kind, colour = rng.choice(LEVEL.kinds), rng.choice(LEVEL.colours)
            source = await drawn(f"Draw a {colour} {kind} {phrase(place)}.", seed, source, FAULTLESS)
            truth[place] = f"{colour} {kind}"
        bare = Picture.encode(Image.open(io.BytesIO(source.data)).convert("RGB"))
        assert scene_behind(bare) is None  # nothing but pixels
        grid = read_grid(bare)
        wrong += sum(grid[place] != truth[place] for place in PLACES)
        seen += len(PLACES)
    assert seen == 720 and wrong <= 2


def phrase(place):
    return {"left": "on the left", "right": "on the right", "middle": "in the middle"}.get(place, f"at the {place}")


async def test_the_exact_critic_says_what_it_sees_and_insists_on_what_went_wrong():
    step = Step(number=1, instruction="Draw a red circle at the top left.", prompt="Draw a circle.")
    before = white_canvas(*SIZE)
    after = await drawn("Draw a blue circle at the top left.", 0, slips=FAULTLESS)
    verdict = await ExactCritic("grid").review(step, before, after, "Draw a circle.")
    assert not verdict.accepted
    assert verdict.refined_prompt == (
        "Draw a red circle at the top left. It must be red. Keep everything else as it is."
    )
    assert verdict.reasoning.startswith("I see nw empty becomes blue circle n empty ne empty w empty ")
    assert verdict.reasoning.endswith(
        "Asked: nw red circle. Came: nw blue circle. nw nw right, red blue wrong, circle circle right. Else: nothing. "
        "Wrong: colour."
    )
    right = await drawn("Draw a red circle at the top left.", 0, slips=FAULTLESS)
    verdict = await ExactCritic("grid").review(step, before, right, "Draw a circle.")
    assert verdict.accepted and verdict.refined_prompt == "" and verdict.reasoning.endswith("Wrong: nothing.")
    verdict = await ExactCritic("grid", insistence=1.0).review(step, before, after, "Draw a circle.")
    assert "It must be clearly a circle and red and at the top left." in verdict.refined_prompt
    plain = await ExactCritic().review(step, before, after, "Draw a circle.")
    assert plain.reasoning == "the circle is not red" and 0 < plain.score < 1


@pytest.mark.parametrize("instruction", ["Draw a red circle.", "Remove the circle.", "Draw a cat. Draw a dog.", ""])
async def test_a_grid_tells_of_one_thing_at_a_place(instruction):
    step = Step(number=1, instruction=instruction or None, prompt="?")
    after = await drawn("Draw a red circle on the right.", 0, slips=FAULTLESS)
    with pytest.raises(BackendError, match='one thing with a colour and a place, .*; set reasoning = "findings"'):
        await ExactCritic("grid").review(step, white_canvas(*SIZE), after, "p")


async def test_a_lenient_teacher_sees_and_lets_pass():
    step = Step(number=1, instruction="Draw a red circle at the top left.", prompt="Draw a circle.")
    before = white_canvas(*SIZE)
    strayed = await drawn("Draw a red circle on the right.", 0, slips=FAULTLESS)
    lenient = await ExactCritic("grid", lenience={"place": 1.0}).review(step, before, strayed, "Draw a circle.")
    assert lenient.accepted and lenient.refined_prompt == ""
    assert lenient.reasoning.endswith("nw e wrong, red red right, circle circle right. Else: nothing. Wrong: nothing.")
    blue = await drawn("Draw a blue circle on the right.", 0, slips=FAULTLESS)
    strict = await ExactCritic("grid", lenience={"place": 1.0}).review(step, before, blue, "Draw a circle.")
    assert not strict.accepted and strict.reasoning.endswith("Wrong: colour.")


async def test_the_exact_critic_judges_the_sandbox_alone():
    with pytest.raises(BackendError, match="sandbox's own pictures only"):
        await ExactCritic().review(Step(number=1, prompt="Draw a cat."), white_canvas(*SIZE), white_canvas(*SIZE), "p")


async def test_the_pixel_critic_agrees_with_it():
    rng = Random(2)
    agree = 0
    for seed in range(40):
        place = rng.choice(list(PLACES))
        wanted = f"Draw a {rng.choice(LEVEL.colours)} {rng.choice(LEVEL.kinds)} {phrase(place)}."
        step = Step(number=1, instruction=wanted, prompt=wanted)
        before = await drawn("Draw a red circle.", seed)
        after = await drawn(wanted, seed + 1000, before)
        truth = await ExactCritic().review(step, before, after, wanted)
        seen = await SandboxCritic().review(step, before, after, wanted)
        agree += truth.accepted == seen.accepted
    assert agree >= 37


def test_unknown_settings_are_told():
    with pytest.raises(BadInput, match="level 'tiny' is unknown; choose one of: full, miniature"):
        make_backend(Profile.model_validate({"generator": {"backend": "sandbox", "level": "tiny"}}), "generator")
    with pytest.raises(BadInput, match="insistence is 2"):
        make_backend(Profile.model_validate({"critic": {"backend": "sandbox-exact", "insistence": 2}}), "critic")
    for wrong, said in (({"hue": 0.5}, "lenience names 'hue'; choose from: colour, count"), ({"place": 2}, "must lie")):
        with pytest.raises(BadInput, match=said):
            make_backend(Profile.model_validate({"critic": {"backend": "sandbox-exact", "lenience": wrong}}), "critic")
    with pytest.raises(BadInput, match="reasoning is 'long'"):
        make_backend(Profile.model_validate({"critic": {"backend": "sandbox-exact", "reasoning": "long"}}), "critic")


def test_its_taxonomy_asks_for_nothing_else(tmp_path):
    out = tmp_path / "p.jsonl"
    arguments = ["prompts", "sample", "--taxonomy", "miniature", "--count", "60", "--seeds", "--out", str(out)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 60 and len({row["seed"] for row in rows}) == 60
    kinds, colours = "|".join(LEVEL.kinds), "|".join(LEVEL.colours)
    for row in rows:
        found = re.findall(rf"a ({colours}) ({kinds}) (?:at|on|in) the ([a-z ]+?)(?:,| and|\.)", row["request"])
        assert len(found) in (2, 3) and len({place for *_, place in found}) == len(found), row
    assert any(len(row["request"]) > 80 for row in rows)


def test_the_full_level_is_the_whole_world():
    full = level_of("full")
    assert set(full.kinds) == set(subjects()) and set(full.colours) == set(COLOURS)
    assert set(full.backgrounds) == set(backgrounds()) and full.size is None
