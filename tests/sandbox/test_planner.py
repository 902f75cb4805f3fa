"""The sandbox's planner."""

from itertools import combinations

import pytest
from support.fakes import plain_picture
from support.sandbox import draw, plan, stripped

from interleaver.errors import BackendError
from interleaver.sandbox.primer import subjects
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import SIZES, scene_behind


class TestPlanner:
    @pytest.mark.parametrize("subject", ["cat", "house", "snowman", "rocket", "flower", "robot"])
    async def test_a_single_subject_becomes_a_lesson(self, subject):
        made = await plan(f"How to draw a {subject} step by step?")
        assert 5 <= len(made.steps) <= 9
        assert all(step.draws and step.auxiliary_text for step in made.steps)
        assert [step.number for step in made.steps] == list(range(1, len(made.steps) + 1))
        assert all(op.kind == subject for step in made.steps for op in parse(step.instruction).operations[-1:])

    async def test_a_lesson_about_cats_is_about_one_cat(self):
        assert (await plan("How to draw cats?")).steps[0].name == (await plan("How to draw a cat?")).steps[0].name
        assert len((await plan("How to draw two cats?")).steps) == 1

    async def test_things_at_night_become_a_scene(self):
        made = await plan("a house beside a tree at night")
        first, second = (parse(step.instruction).operations for step in made.steps)
        assert first[0].background == "a night sky"
        assert (first[1].kind, first[1].place, second[0].kind, second[0].place) == ("house", "left", "tree", "right")

    async def test_many_things_find_room_beside_each_other(self):
        kinds = [name for name, subject in subjects().items() if not subject.is_shape]
        made = await plan(", ".join(f"a {kind}" for kind in kinds[:20]))
        scene = await draw(made.steps[0].instruction)
        for step in made.steps[1:]:
            scene = await draw(step.instruction, scene)
        items = scene_behind(scene).items
        assert len(items) == 20
        for first, second in combinations(items, 2):
            assert max(abs(first.x - second.x), abs(first.y - second.y)) > 0.8 * SIZES["tiny"], (first, second)
        with pytest.raises(BackendError, match="at most"):
            await plan(", ".join(f"a {kind}" for kind in kinds[:30]))

    async def test_a_thing_alone_waits_for_no_company(self):
        assert "company" not in (await plan("two stars")).steps[0].text

    async def test_different_colours_are_different(self):
        made = await plan("draw three balloons in different colours")
        added = [parse(step.instruction).operations[-1] for step in made.steps]
        assert len({add.colour for add in added}) == len({add.place for add in added}) == 3

    @pytest.mark.parametrize(("request_", "steps"), [
        ("How to draw a cat in 4 steps", 4), ("Draw a snail in nine steps", 9), ("a house and a tree in 5 steps", 5),
        ("draw a sun in one step", 1), ("Draw a story of five pictures about a cat and a dog", 5),
        ("a comic with three panels: a cat, a dog and a bus", 3), ("a six-step lesson: draw a cat", 6),
    ])  # fmt: skip
    async def test_an_explicit_number_of_steps_is_binding(self, request_, steps):
        assert len((await plan(request_)).steps) == steps

    async def test_more_steps_than_can_be_filled_is_refused(self):
        with pytest.raises(BackendError, match="at most"):
            await plan("How to draw a cat in 90 steps")

    async def test_an_unknown_subject_is_named_with_what_is_known(self):
        with pytest.raises(BackendError, match=r"does not know 'dragon'. It knows: apple, .*interleaver.toml"):
            await plan("How to draw a dragon?")

    async def test_pictures_are_continued_where_they_leave_off(self):
        start = await draw("Make the background a green meadow. Draw a large red house in the middle.")
        made = await plan("Continue: add a sun and two clouds", start)
        assert [step.number for step in made.steps] == [2, 3]
        sun, clouds = (parse(step.instruction).operations[0] for step in made.steps)
        assert (sun.kind, clouds.kind, clouds.count) == ("sun", "cloud", 2)
        assert {sun.place, clouds.place} <= {"top left", "top", "top right"}

    async def test_edits_of_a_picture(self):
        start = await draw("Make the background a green meadow. Draw a large red house in the middle.")
        made = await plan("Make the house blue. Remove the cloud. At night.", start)
        assert [step.instruction for step in made.steps] == [
            "Make the background a night sky.", "Paint the house blue.", "Remove the cloud."
        ]  # fmt: skip

    async def test_clauses_and_replacements(self):
        start = await draw("Make the background a green meadow. Draw a large red house in the middle.")
        made = await plan("Paint the house blue and remove the tree, then replace the sun with a moon", start)
        said = [step.instruction for step in made.steps]
        assert said[:3] == ["Paint the house blue.", "Remove the tree.", "Remove the sun."]
        assert parse(said[3]).operations[0].kind == "moon"

    async def test_no_clouds_are_no_clouds_and_too_many_are_refused(self):
        made = await plan("no clouds, just a sun")
        assert {op.kind for step in made.steps for op in parse(step.instruction).operations[-1:]} == {"sun"}
        for request in ("seven blue balloons", "a dozen stars", "10 hearts"):
            with pytest.raises(BackendError, match="at most six of a kind"):
                await plan(request)

    async def test_a_setting_alone_is_drawn(self):
        assert [step.instruction for step in (await plan("a starry night")).steps] == [
            "Make the background a night sky."
        ]

    async def test_a_photograph_can_only_be_added_to(self):
        assert (await plan("Add a sun", plain_picture())).steps
        with pytest.raises(BackendError, match="can only add"):
            await plan("Make the house blue", plain_picture())

    async def test_describing_draws_nothing_and_tells_what_is_there(self):
        first = await draw("Make the background a night sky. Draw a medium yellow moon at the top right.")
        second = stripped(await draw("Draw a large blue fish in the middle."))
        made = await plan("<image> <image> Describe each picture", first, second)
        assert [step.draws for step in made.steps] == [False, False]
        assert all(step.prompt is None and step.instruction is None for step in made.steps)
        assert "medium yellow moon at the top right" in made.steps[0].text and "night sky" in made.steps[0].text
        assert "large blue fish in the middle" in made.steps[1].text

    async def test_a_photograph_is_described_by_its_colours(self):
        made = await plan("What is this?", plain_picture((40, 160, 60)))
        assert "not from the world I know" in made.steps[0].text and "green" in made.steps[0].text
