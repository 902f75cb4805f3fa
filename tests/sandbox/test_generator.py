"""The sandbox's generator."""

from random import Random

import pytest
from support.sandbox import SIZE, draw

from interleaver.errors import BackendError
from interleaver.sandbox.generator import FAULTLESS, SandboxGenerator
from interleaver.sandbox.judge import score_step
from interleaver.sandbox.tasks import random_task
from interleaver.sandbox.world import paint, scene_behind


class TestGenerator:
    async def test_same_prompt_and_seed_same_picture(self):
        one, two = [await draw("a cat", seed=5, faultless=False) for _ in range(2)]
        assert one.data == two.data
        assert (await draw("a cat", seed=6, faultless=False)).data != one.data

    async def test_without_faults_it_does_what_it_is_told(self):
        rng = Random("faultless")
        for _ in range(40):
            task = random_task(rng)
            sources = [paint(task.before, SIZE, SIZE)] if task.before else []
            picture = await draw(task.instruction, *sources, seed=rng.randrange(999))
            assert score_step(task.instruction, task.before, scene_behind(picture)).findings == ()

    async def test_a_clearer_prompt_helps(self):
        async def successes(prompt):
            asked = "Make the background white paper. Draw a small red car at the top left."
            pictures = [await draw(prompt, seed=seed, faultless=False) for seed in range(60)]
            return sum(score_step(asked, None, scene_behind(picture)).success for picture in pictures)

        vague = await successes("a car")
        plain = await successes("Make the background white paper. Draw a small red car at the top left.")
        insistent = await successes(
            "Make the background white paper. It must be done. Draw a small red car at the top left. "
            "It must be clearly a car and small and red and at the top left. Keep everything else as it is."
        )
        assert vague < plain < insistent

    async def test_an_edit_keeps_the_size_of_its_source(self):
        start = await SandboxGenerator(FAULTLESS).generate("a cat", [], 0, (200, 120))
        assert ((await draw("Add a small sun at the top right.", start)).width) == 200

    async def test_nothing_to_draw_is_an_error(self):
        with pytest.raises(BackendError, match="nothing it can draw"):
            await draw("quantum chromodynamics")
