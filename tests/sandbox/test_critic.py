"""The sandbox's critic."""

from random import Random

import pytest
from support.sandbox import SCENE, SIZE, draw, stripped, verdict

from interleaver.errors import UnreadableAnswer
from interleaver.pictures import white_canvas
from interleaver.sandbox.critic import SandboxCritic
from interleaver.sandbox.generator import SandboxGenerator
from interleaver.sandbox.judge import score_step
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.reading import parse
from interleaver.sandbox.tasks import random_task
from interleaver.sandbox.world import Scene, SceneItem, paint, scene_behind
from interleaver.types import Step


class TestCritic:
    @pytest.mark.parametrize(("asked", "drawn", "said"), [
        ("Draw a small blue cat on the right.", "Draw a small blue cat on the right.", None),
        ("Draw a small blue cat on the right.", "Draw a small red cat on the right.", "is red, not blue"),
        ("Draw a small blue cat on the right.", "Draw a medium blue cat on the right.", "size of the cat is not small"),
        ("Draw a small blue cat on the right.", "Draw a small blue cat in the middle.", "place of the cat is wrong"),
        ("Draw a small blue cat on the right.", "Draw a small blue dog on the right.", "nothing new in the picture"),
        ("Draw three tiny green stars at the top.", "Draw two tiny green stars at the top.", "there are 2 and not 3"),
        ("Draw a tiny green star above the house.", "Draw a tiny green star below the house.", "place of the star"),
        ("Paint the house blue.", "Paint the house green.", "should be blue"),
        ("Paint the house blue.", "Paint the house blue.", None),
        ("Remove the sun.", "Remove the house.", "should be gone"),
        ("Remove the sun.", "Remove the sun.", None),
        ("Make the background a desert.", "Make the background a sunset.", "should be a desert"),
        ("Make the background a desert.", "Make the background a desert.", None),
        ("Draw a small blue cat on the right.", "Draw a small blue cat on the right. Remove the sun.", "nobody asked"),
    ])  # fmt: skip
    async def test_what_it_sees(self, asked, drawn, said):
        before = paint(SCENE, SIZE, SIZE)
        result = await verdict(asked, stripped(before), stripped(await draw(drawn, before)))
        assert result.accepted is (said is None), result.reasoning
        if said:
            assert said in result.reasoning
            assert parse(result.refined_prompt).careful
            bare = [type(op)(**{**vars(op), "emphasis": frozenset()}) for op in parse(result.refined_prompt).operations]
            assert tuple(bare) == parse(asked).operations
            assert result.score < 1

    async def test_it_never_sees_the_scene(self):
        """The same pixels give the same verdict, whatever scene the file claims to be."""
        before, after = (
            paint(SCENE, SIZE, SIZE),
            await draw("Draw a small red cat on the right.", paint(SCENE, SIZE, SIZE)),
        )
        asked = "Draw a small red cat on the right."
        assert await verdict(asked, before, after) == await verdict(asked, stripped(before), stripped(after))

    async def test_parts_drawn_together_are_seen_together(self):
        asked = "Draw the ears of a huge red bear in the middle. Draw the head of a huge red bear in the middle."
        assert (await verdict(asked, None, stripped(await draw(asked)))).accepted
        only = "Make the background white paper. Draw the head of a huge red bear in the middle."
        result = await verdict(asked, None, stripped(await draw(only)))
        assert not result.accepted and "there is no ears" in result.reasoning

    async def test_a_thing_that_shows_its_colour_in_several_regions_is_recognised(self):
        before = paint(Scene("a desert", (SceneItem(1, "plane", None, "blue", 0.5, 0.5, 0.19),)), SIZE, SIZE)
        assert (await verdict("Paint the plane pink.", before, await draw("Paint the plane pink.", before))).accepted

    @pytest.mark.parametrize(("kind", "part", "place"), [
        ("rocket", "hull", (0.52, 0.51)), ("umbrella", "ribs", (0.49, 0.515)), ("mushroom", "grass", (0.5, 0.54)),
        ("book", "lines", (0.51, 0.52)), ("planet", "globe", (0.505, 0.525)), ("rainbow", "green arch", (0.49, 0.53)),
    ])  # fmt: skip
    async def test_hidden_and_thin_parts_are_accepted(self, kind, part, place):
        names = [each.name for each in subjects()[kind].parts]
        colour = subjects()[kind].colour
        items = [
            SceneItem(number, kind, name, colour, *place, 0.73)
            for number, name in enumerate(names[: names.index(part) + 1], start=1)
        ]
        before, after = paint(Scene(items=tuple(items[:-1])), SIZE, SIZE), paint(Scene(items=tuple(items)), SIZE, SIZE)
        result = await verdict(f"Draw the {part} of a huge {colour} {kind} in the middle.", before, stripped(after))
        assert result.accepted, result.reasoning

    async def test_crumbs_are_not_taken_for_things(self):
        before = paint(Scene("a night sky"), SIZE, SIZE)
        after = await draw("Draw five tiny black lanterns in the middle.", before)
        result = await verdict("Draw five tiny purple lanterns in the middle.", before, after)
        assert not result.accepted and "the colour of the lantern is black" in result.reasoning

    async def test_a_refined_prompt_still_insists_on_what_went_wrong_before(self):
        step = Step(number=1, instruction="Draw a small blue cat on the right.")
        before = paint(SCENE, SIZE, SIZE)
        after = await draw("Draw a medium blue cat on the right.", before)
        prompt = "Draw a small blue cat on the right. It must be blue."
        result = await SandboxCritic().review(step, before, after, prompt)
        assert parse(result.refined_prompt).operations[0].emphasis == {"size", "colour"}

    async def test_a_smudge_is_rejected(self):
        cat = SceneItem(3, "cat", None, "blue", 0.8, 0.53, 0.19)
        after = paint(Scene(SCENE.background, (*SCENE.items, cat), ((0.5, 0.4, 0.06),)), SIZE, SIZE)
        result = await verdict("Draw a small blue cat on the right.", paint(SCENE, SIZE, SIZE), after)
        assert not result.accepted and "nobody asked for" in result.reasoning

    async def test_another_size_is_rejected_and_gibberish_is_not_judged(self):
        result = await verdict("Draw a cat.", white_canvas(64, 64), white_canvas(64, 96))
        assert not result.accepted and "64x96" in result.reasoning
        with pytest.raises(UnreadableAnswer):
            await verdict("gibberish", None, white_canvas(64, 64))

    async def test_it_agrees_with_the_judge(self):
        """A quick guard; the full measurement is `benchmarks/critic.py`."""
        right = 0
        for number in range(80):
            task = random_task(Random(f"test/{number}"))
            sources = [paint(task.before, 512, 512)] if task.before else []
            picture = await SandboxGenerator().generate(task.prompt, sources, number, (512, 512))
            truth = score_step(task.instruction, task.before, scene_behind(picture))
            before = sources[0] if sources else white_canvas(512, 512)
            right += (await verdict(task.instruction, before, picture)).accepted == truth.success
        assert right >= 76
