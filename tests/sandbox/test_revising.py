"""The sandbox planner in a chat: which step is meant, and what becomes of it."""

import pytest

from interleaver.errors import BackendError
from interleaver.sandbox.planner import SandboxPlanner
from interleaver.types import Plan, Step

SCENE = "a cat and a tree and a boat"
MEADOW = "Make the background a green meadow."
TREE, BOAT = "Draw a medium green tree on the right.", "Draw a medium blue boat in the middle."


async def revised(message, request=SCENE):
    planner = SandboxPlanner()
    before = await planner.plan(request, [])
    return before.steps, (await planner.revise(message, [], before)).steps


@pytest.mark.parametrize(
    ("message", "position", "instruction"),
    [
        ("make the third picture a night scene", 2, f"Make the background a night sky. {BOAT}"),
        ("Please make picture 3 a night scene.", 2, f"Make the background a night sky. {BOAT}"),
        ("the last picture should be at night", 2, f"Make the background a night sky. {BOAT}"),
        ("make step 2 red", 1, "Draw a medium red tree on the right."),
        ("in the second picture, paint the cat black", 1, f"{TREE} Paint the cat black."),
        ("paint the cat in the first picture black", 0, f"{MEADOW} Draw a medium black cat on the left."),
        ("add a star to the 2nd step", 1, f"{TREE} Draw a small yellow star at the top left."),
    ],
)  # fmt: skip
async def test_the_step_that_is_named_changes_and_no_other(message, position, instruction):
    before, after = await revised(message)
    assert after[position].instruction == instruction
    assert [step for n, step in enumerate(after) if n != position] == [
        step for n, step in enumerate(before) if n != position
    ]


@pytest.mark.parametrize(
    ("message", "instructions"),
    [
        ("add a star", ["Draw a small yellow star at the top left."]),
        ("Now paint the cat black", ["Paint the cat black."]),
        ("please remove the boat and add a sun", ["Remove the boat.", "Draw a small yellow sun at the top left."]),
        ("make it night", ["Make the background a night sky."]),
    ],
)
async def test_without_a_name_it_goes_on_after_the_last_step(message, instructions):
    before, after = await revised(message)
    assert after[:3] == before
    told = [step.instruction for step in after[3:]]
    assert [" ".join(told)] == [" ".join(instructions)] or told == instructions
    assert [step.number for step in after] == list(range(1, len(after) + 1))


@pytest.mark.parametrize(
    ("message", "name", "text"),
    [
        ("add two clouds", "Two white clouds", "New in the picture: two white clouds."),
        ("add the ears of a cat", "The ears of an orange cat", "New in the picture: the ears of an orange cat."),
        ("paint the cat orange", "An orange cat", "A fresh coat of paint: the cat turns orange."),
    ],
)
async def test_names_and_texts_are_good_english(message, name, text):
    _, after = await revised(message)
    assert (after[-1].name, after[-1].text) == (name, text)


@pytest.mark.parametrize("message", ["How to draw a rocket?", "a house beside a tree", "Draw a snowman in 3 steps"])
async def test_anything_else_is_a_document_of_its_own(message):
    assert (await revised(message))[1] == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("make the ninth picture blue", "there is no picture 9: the document has 3 picture(s)"),
        ("change picture 0", "there is no picture 0"),
        ("add a dragon", "the sandbox does not know 'dragon'"),
    ],
)
async def test_what_cannot_be_changed_is_told(message, said):
    with pytest.raises(BackendError) as error:
        await revised(message)
    assert said in str(error.value)


async def test_a_document_of_words_has_no_pictures():
    words = Plan(steps=[Step(number=1, auxiliary_text="A red circle.")])
    with pytest.raises(BackendError, match="the document has no pictures"):
        await SandboxPlanner().revise("make the last picture blue", [], words)
