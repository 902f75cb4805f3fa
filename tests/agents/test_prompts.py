import pytest
from support.fakes import plain_picture

from interleaver.agents.prompts import fill, interleave_pictures, load_prompts
from interleaver.errors import BadInput
from interleaver.registry import create_backend

OFFICIAL = '''
import os
os.remove(__file__)  # proves that nothing here is executed
NARRATIVE_PROMPT_JSON = """Plan this: {text_input} as {'execution_plan': []}"""
GUIDANCE_GLOBAL_PROMPT_JSON = """Carry on: "{text_input}" """
Iterative_T2I_PROMPT_QWEN = (
    "<image><image>\\n"
    "Asked: {original_instruction}, used: {rewritten_prompt}"
)
'''


def test_the_own_prompts_say_how_to_answer():
    own = load_prompts()
    for template in (own.narrative, own.guidance, own.review):
        assert "{answer_format}" in template


def test_the_official_constants_are_read_and_not_executed(tmp_path):
    file = tmp_path / "system.py"
    file.write_text(OFFICIAL)
    prompts = load_prompts(str(file))
    assert file.exists()
    assert fill(prompts.narrative, text_input="a cat") == ["Plan this: a cat as {'execution_plan': []}"]
    assert prompts.review.startswith("<image><image>\nAsked: ")


def test_a_folder_replaces_the_templates_that_it_has(tmp_path):
    (tmp_path / "review.md").write_text("Was {original_instruction} done by {rewritten_prompt}?")
    prompts = load_prompts(str(tmp_path))
    assert prompts.review.startswith("Was ") and prompts.narrative == load_prompts().narrative


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("system.py", "NARRATIVE_PROMPT_JSON = make()", "have no text constant NARRATIVE_PROMPT_JSON"),
        ("system.py", "def (", "are not valid Python"),
        (
            "system.py",
            OFFICIAL.replace("{text_input}", ""),
            "the narrative prompt .* lacks the placeholder",
        ),
        ("prompts.txt", "x", "neither a folder nor a .py file"),
        ("missing.py", None, "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=said):
        load_prompts(str(tmp_path / name))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="has none of: narrative.md, guidance.md, review.md"):
        load_prompts(str(tmp_path))


def test_wrong_prompts_are_told_when_the_planner_is_made():
    with pytest.raises(BadInput, match="nowhere"):
        create_backend("planner", "chat", model="m", base_url="http://127.0.0.1:1", prompts="nowhere")


def test_pictures_without_tags_stand_before_the_request():
    picture = plain_picture()
    assert interleave_pictures("go on", [picture]) == [picture, "\ngo on"]
    assert interleave_pictures("a <image> b", [picture]) == ["a ", picture, " b"]


def test_values_are_not_filled_again():
    assert fill("{instruction}/{rewritten_prompt}", instruction="{rewritten_prompt}", rewritten_prompt="{x}") == [
        "{rewritten_prompt}/{x}"
    ]
