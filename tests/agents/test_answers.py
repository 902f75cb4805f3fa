import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import malformed

from interleaver.agents import parse_plan, parse_verdict
from interleaver.errors import UnreadableAnswer

text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\t\n\r"), max_size=60)
prose = st.text(st.sampled_from(list("ab c,:'\"{}[]<>/\\\n`“”#")), max_size=80)


def test_the_corpus_is_large_and_every_kind_is_another():
    assert len(malformed.VERDICTS + malformed.PLANS) >= 60
    for cases in (malformed.VERDICTS, malformed.PLANS):
        assert len({answer for _, answer, _ in cases}) == len({name for name, *_ in cases}) == len(cases)


@pytest.mark.parametrize(("answer", "expected"), [pytest.param(*case, id=name) for name, *case in malformed.VERDICTS])
def test_a_garbled_verdict_is_read_or_refused(answer, expected):
    if isinstance(expected, str):
        with pytest.raises(UnreadableAnswer, match=expected):
            parse_verdict(answer)
    else:
        verdict = parse_verdict(answer)
        assert (verdict.accepted, verdict.refined_prompt) == expected


@pytest.mark.parametrize(("answer", "expected"), [pytest.param(*case, id=name) for name, *case in malformed.PLANS])
def test_a_garbled_plan_is_read_or_refused(answer, expected):
    if isinstance(expected, str):
        with pytest.raises(UnreadableAnswer, match=expected):
            parse_plan(answer)
    else:
        assert [(step.prompt, step.auxiliary_text) for step in parse_plan(answer).steps] == expected


def test_the_reasoning_is_kept():
    assert parse_verdict(f"<think>it is <b>blue</b></think>{malformed.GOOD}").reasoning == "it is <b>blue</b>"
    assert parse_verdict(f"It is blue. {malformed.GOOD}").reasoning == "It is blue."
    assert parse_verdict('{"reasoning": "blue", "previous_step_success": true}').reasoning == "blue"


@given(accepted=st.booleans(), prompt=text, thought=text.filter(lambda said: "<" not in said), python=st.booleans())
def test_what_was_written_properly_is_read_exactly(accepted, prompt, thought, python):
    answer = {"previous_step_success": accepted, "refine_prompt": prompt}
    written = repr(answer) if python else json.dumps(answer)
    verdict = parse_verdict(f"<think>{thought}</think><answer>{written}</answer>")
    empty = prompt.strip().lower() in ("", "null", "none", "n/a")
    assert (verdict.accepted, verdict.refined_prompt) == (accepted, "" if empty else prompt)


@given(prompts=st.lists(text.filter(str.strip), min_size=1, max_size=4), python=st.booleans())
def test_plans_that_were_written_properly_are_read_exactly(prompts, python):
    steps = [{"step_number": n, "instruction": "i", "prompt": p} for n, p in enumerate(prompts, start=1)]
    written = repr({"execution_plan": steps}) if python else json.dumps({"execution_plan": steps})
    read = [step.prompt for step in parse_plan(written).steps]
    assert read == [None if p.strip().lower() in ("null", "none", "n/a") else p for p in prompts]


@given(prompt=st.text(st.sampled_from(list('ab it\'s "q", {x}')), min_size=1, max_size=40), cut=st.integers(0, 200))
def test_a_cut_answer_is_never_read_as_something_else(prompt, cut):
    whole = f"{{'previous_step_success': False, 'refine_prompt': {prompt!r}}}"
    try:
        verdict = parse_verdict(whole[:cut])
    except UnreadableAnswer:
        return
    assert not verdict.accepted
    assert cut >= len(whole) - 1 or whole[:cut][-1] in "'\""  # cut right behind a quote, which nobody could tell


@given(prose)
def test_no_text_breaks_the_reader(said):
    for wrapped in (said, f"<answer>{{'previous_step_success': {said}}}</answer>", f"{{'refine_prompt': '{said}'}}"):
        for parse in (parse_plan, parse_verdict):
            try:
                parse(wrapped)
            except UnreadableAnswer as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(
    "hostile",
    [
        "{" * 150_000,
        "{'a': \"abc\"" + "\n" * 100_000 + "x",
        "[{" * 70_000,
        "{'a': '" * 25_000,
        "{'a': \"'" * 20_000,
        '"{\\"' * 40_000,
    ],
)
def test_hostile_answers_are_refused_in_time(hostile):
    started = time.monotonic()
    with pytest.raises(UnreadableAnswer):
        parse_plan(f"{hostile} execution_plan")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "said", ["</think>", "</answer>", "<answer>{", 'x", "previous_step_success": false', "<think>"]
)
def test_an_exact_answer_is_read_whatever_its_texts_mention(said):
    """As a grammar lets a model write it."""
    fields = json.dumps({"previous_step_success": False, "refine_prompt": f"a {said} b"})
    verdict = parse_verdict(f"<think>red <answer> {{</think>\n<answer>\n{fields}   \n</answer>\n")
    assert verdict.refined_prompt == f"a {said} b" and verdict.reasoning == "red <answer> {"


STEP = '"step_number": 1, "instruction": "Do.", "prompt": "a cat"'


@pytest.mark.parametrize(
    "answer",
    [
        '{"execution_plan": [{"step_number": 1, "prompt": "a cat", // draw it\n "instruction": "Do."}]}',
        '{"execution_plan": [{"step_number": 1, "prompt": "a cat" /* draw, it */, "instruction": "Do."}]}',
        "{'execution_plan': [{'step_number': 1, 'prompt': 'a cat',  # draw it\n 'instruction': 'Do.'}]}",
        '{"execution_plan": [{"prompt": "a cat", // the "prompt": says it all\n "instruction": "Do."}] // end\n}',
        "{execution_plan: [{step_number: 1, prompt: 'a cat', instruction: 'Do.'}]}",
        '{execution_plan: [{step_number: i, prompt: "a cat", instruction: "Do."}]}',
        '{"execution_plan": [{"step_number": i, "prompt": "a cat", "instruction": "Do."}]}',
        json.dumps(f'{{"execution_plan": [{{{STEP}}}]}}'),
        json.dumps({"execution_plan": f"[{{{STEP}}}]"}),
        json.dumps({"execution_plan": [f"{{{STEP}}}"]}),
        f"<answer>{json.dumps(json.dumps({'execution_plan': [json.loads(f'{{{STEP}}}')]}))}</answer>",
    ],
)
def test_what_can_be_read_in_one_way_only_is_read(answer):
    (step,) = parse_plan(answer).steps
    assert (step.prompt, step.instruction) == ("a cat", "Do.")


def test_names_may_be_numbers():
    plan = parse_plan('{"execution_plan": [{"step_name": 3, "prompt": "a"}, {"step_name": 1.5, "prompt": "b"}]}')
    assert [step.name for step in plan.steps] == ["3", "1.5"]


NO = '{"previous_step_success": false, "refine_prompt": "x"}'
YES = '{"previous_step_success": true}'


@pytest.mark.parametrize(
    "answer",
    [
        f"{YES} {NO}",
        f"<answer>{YES}</answer><answer>{NO}</answer>",
        f"<answer>{YES}</answer> Wait, no: {NO}",
        f"{NO} or rather <answer>{YES}</answer>",
        f"```json\n{YES}\n```\n```json\n{NO}\n```",
        f"<think>so</think><answer>{YES}\n{NO}</answer>",
    ],
)
def test_two_different_answers_are_refused(answer):
    with pytest.raises(UnreadableAnswer, match="2 different objects"):
        parse_verdict(answer)


@pytest.mark.parametrize("answer", [f"{NO} {NO}", f"<answer>{NO}</answer>{NO}", f"<think>{YES}</think>{NO}"])
def test_the_same_answer_twice_is_one(answer):
    assert parse_verdict(answer).refined_prompt == "x"
