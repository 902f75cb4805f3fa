"""A judge over a chat model: two questions, four scores, and never a guess."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.fakes import plain_picture
from support.scripted_server import chat_reply, serving

from interleaver.agents.chat_judge import ChatJudge, parse_scores
from interleaver.agents.exchanges import record_exchanges
from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.profile import Profile
from interleaver.registry import create_backend
from interleaver.runner import make_backend
from interleaver.types import Step

STEP = Step(number=1, instruction="A red square.", prompt="a square")


def scored(*scores, said="because"):
    return chat_reply(json.dumps({"reasoning": said, "score": list(scores)}))


def by_question(semantics, quality):
    """Replies by what is asked, since both questions are asked at once."""
    replies = {"semantics": list(semantics), "quality": list(quality)}

    def reply(request):
        content = request.json["messages"][0]["content"]
        kind = "quality" if "how sound" in str(content) else "semantics"
        return replies[kind].pop(0)

    return reply


async def judged(reply, **settings):
    with serving(reply) as server, record_exchanges() as exchanges:
        judge = ChatJudge(model="m", base_url=f"{server.url}/v1", **settings)
        try:
            return await judge.score(STEP, plain_picture((255, 255, 255)), plain_picture()), exchanges, server.requests
        except UnreadableAnswer as error:
            return error, exchanges, server.requests


pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


async def test_two_questions_make_four_scores():
    found, exchanges, requests = await judged(by_question([scored(9, 8)], [scored(7, 10)]))
    assert (found.editing, found.preserving, found.naturalness, found.soundness) == (9, 8, 7, 10)
    assert (found.semantics, found.quality, found.success) == (8, 7, True)
    assert sorted(len(exchange.images) for exchange in exchanges) == [1, 2]
    assert all(exchange.role == "judge" for exchange in exchanges)
    semantics = next(one for one in exchanges if len(one.images) == 2)
    assert "A red square." in semantics.messages[0].content and "a square" in semantics.messages[0].content
    assert all(request.json["temperature"] == 0 for request in requests)


@pytest.mark.parametrize(("scores", "success"), [((7, 7), True), ((6.9, 10), False), ((10, 10), True)])
async def test_success_is_a_matter_of_both(scores, success):
    found, _, _ = await judged(by_question([scored(10, 10)], [scored(*scores)]))
    assert found.success is success
    found, _, _ = await judged(by_question([scored(*scores)], [scored(10, 10)]), success_from=7.0)
    assert found.success is success


async def test_an_answer_that_cannot_be_read_is_asked_for_again():
    found, exchanges, _ = await judged(by_question([chat_reply("seven of ten"), scored(5, 6)], [scored(9, 9)]))
    assert found.semantics == 5 and [one.problem for one in exchanges].count("unreadable") == 1


async def test_scores_are_never_guessed():
    found, exchanges, _ = await judged(by_question([scored(5), scored(11, 3)], [scored(9, 9)]))
    assert isinstance(found, UnreadableAnswer) and "list of two numbers from 0 to 10" in str(found)
    assert [one.problem for one in exchanges].count("unreadable") == 2


@pytest.mark.parametrize(
    "text",
    ["", "8 9", '{"score": 7}', '{"score": [7]}', '{"score": [7, 8, 9]}', '{"score": ["7", "8"]}',
     '{"score": [true, 8]}', '{"score": [-1, 8]}', '{"score": [7, 10.5]}', '{"score": [7, null]}',
     '{"score": [1, 2]} {"score": [3, 4]}'],
)  # fmt: skip
def test_what_is_no_pair_of_scores_is_refused(text):
    with pytest.raises(UnreadableAnswer):
        parse_scores(text)


@example(0.0, 0.0, "<ANSWER>")
@example(0.0, 0.0, "</answer><answer>")
@given(st.floats(0, 10), st.floats(0, 10), st.text(max_size=50))
def test_scores_are_read_back(first, second, said):
    text = json.dumps({"reasoning": said, "score": [first, second]})
    assert parse_scores(text)[:2] == (first, second)
    assert parse_scores(f"<think>{{}}</think>```json\n{text}\n```")[:2] == (first, second)


def test_the_judge_of_a_profile():
    assert make_backend(Profile(), "judge")
    with pytest.raises(BadInput, match="judge 'chat' has no field 'sucess_from'"):
        make_backend(Profile.model_validate({"judge": {"backend": "chat", "model": "m", "sucess_from": 3}}), "judge")


VIE_PROMPTS = '''
_context_no_delimit = "You are a judge."
_prompts_0shot_two_image_edit_rule_ours = "Two scores for the edit."
_prompts_0shot_tie_rule_SC_ours = """Instruction: <instruction> with {braces}"""
_prompts_0shot_rule_PQ_ours = "Two scores for the picture."
raise SystemExit("never executed")
'''


async def test_the_prompts_of_the_released_reward_function(tmp_path):
    (tmp_path / "vie_prompts.py").write_text(VIE_PROMPTS)
    step = Step(instruction="A cat appears.", prompt="a cat")
    with serving(chat_reply('{"score": [8, 9], "reasoning": "fine"}')) as server:
        judge = ChatJudge(model="m", base_url=f"{server.url}/v1", prompts=str(tmp_path / "vie_prompts.py"))
        scores = await judge.score(step, plain_picture(), plain_picture((1, 2, 3)))
    assert (scores.semantics, scores.quality) == (8, 8)
    contents = [request.json["messages"][0]["content"] for request in server.requests]
    texts = {content[0]["text"] for content in contents}
    assert texts == {
        "You are a judge.\nTwo scores for the edit.\nInstruction: a cat with {braces}",
        "You are a judge.\nTwo scores for the picture.",
    }
    assert sorted(len(content) for content in contents) == [2, 3]  # the text first, then one picture or two


def test_prompts_that_are_none_of_a_judge_are_refused(tmp_path):
    (tmp_path / "p.py").write_text("_context_no_delimit = 'x'")
    with pytest.raises(BadInput, match="no text constant _prompts_0shot_two_image"):
        create_backend("judge", "chat", model="m", base_url="http://127.0.0.1/v1", prompts=str(tmp_path / "p.py"))
