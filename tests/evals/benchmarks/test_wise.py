"""WISE from its published files to its report, with a judge over HTTP."""

import itertools
import json
import math
import time
from pathlib import Path

import pytest
from support.evaluations import (
    judge_answering,
    picture_count,
    question_text,
    run,
    wise_data,
    wise_rows,
    write_json,
    write_picture,
)
from support.scripted_server import Reply, chat_reply, serving
from tenacity import wait_none

from interleaver import calling
from interleaver.errors import BadInput
from interleaver.evals import evaluation
from interleaver.evals.benchmarks import wise
from interleaver.evals.benchmarks.base import BenchmarkItem, Output, OutputBlock
from interleaver.evals.systems import Outputs
from interleaver.profile import Profile

NUMBERS = [1, 2, 401, 521, 641, 761, 881]
"""Two of culture and one of each other category, in the verified numbering."""

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(evaluation, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(evaluation, "PATIENCE_SECONDS", 20.0)


@pytest.fixture
def ready(tmp_path):
    """Data and pictures of another system: `--data ... --outputs mine=...`."""
    for number in NUMBERS:
        write_picture(tmp_path / "mine" / f"{number}.png", (number % 256, number // 256, 9))
    return ["wise-verified", "--data", wise_data(tmp_path / "wise", NUMBERS), "--outputs", f"mine={tmp_path / 'mine'}"]


def verdicts(*wrong):
    return {f'explanation {number}"': f"Score: {int(number not in wrong)}" for number in NUMBERS}


def test_pictures_of_another_system_are_scored(ready, tmp_path):
    with serving(judge_answering(verdicts(2, 401))) as judge:
        result = run(*ready, "--judge", f"Qwen3.5-35B-A3B@{judge.url}/v1", "--json")
        found = json.loads(result.stdout)
        system = found["systems"][0]
        # culture 1 of 2, time 0 of 1, the others 1 of 1
        assert system["overall"]["overall"]["value"] == pytest.approx(0.4 * 0.5 + 0.12 * 4)
        assert system["groups"]["culture"]["score"]["value"] == 0.5 and not system["partial"]
        assert found["data"]["asked"] == 7 and not found["data"]["complete"]  # the benchmark has 1,000
        assert len(judge.requests) == 7 and all(picture_count(request) == 1 for request in judge.requests)
        sent = judge.requests[0].json
        assert sent["temperature"] == 0 and sent["chat_template_kwargs"] == {"enable_thinking": False}
        again = json.loads(run(*ready, "--judge", f"Qwen3.5-35B-A3B@{judge.url}/v1", "--json").stdout)
        assert len(judge.requests) == 7  # a rerun costs nothing
        assert again["systems"][0]["overall"] == system["overall"] and again["systems"][0]["judge_cached"] == 7
    page = (tmp_path / "out/eval/wise-verified/report.html").read_text()
    assert "NanoBanana-Pro" in page and "subset: 7 of 1,000 items" in page and page.count("<article>") == 7
    assert "| **mine** |" in (tmp_path / "out/eval/wise-verified/results.md").read_text()


def test_both_systems_are_measured_in_one_run(tmp_path):
    rows = [
        row | {"Prompt": f"a {colour} star"} for row, colour in zip(wise_rows([1, 2]), ("red", "blue"), strict=True)
    ]
    data = write_json(tmp_path / "rows.json", rows)
    with serving(chat_reply("Score: 1")) as judge:
        found = json.loads(
            run("wise-verified", "--data", data, "--judge", f"m@{judge.url}/v1", "--export", "--json").stdout
        )
        assert [one["system"] for one in found["systems"]] == ["graph", "generator"]
        assert all(one["groups"]["culture"]["score"]["value"] == 1 for one in found["systems"])
        assert found["systems"][1]["drawings"] == 2 and found["systems"][0]["drawings"] >= 2
        export = tmp_path / "out/eval/wise-verified/export"
        made = {path.relative_to(export).as_posix() for path in export.rglob("*.png")}
        assert made == {"graph/1.png", "graph/2.png", "generator/1.png", "generator/2.png"}
        calls = len(judge.requests)
        exported = run(
            "wise-verified", "--data", data, "--outputs", f"again={export / 'graph'}", "--judge", f"m@{judge.url}/v1"
        )
        assert len(judge.requests) == calls  # the same pictures, so the same answers
    assert "judged by m, not by Qwen3.5-35B-A3B" in exported.stdout
    page = (tmp_path / "out/eval/wise-verified/report.html").read_text()
    assert "again" in page


def test_outputs_belong_to_the_models_and_the_data_that_made_them(tmp_path):
    rows = [row | {"Prompt": "a red star"} for row in wise_rows([1, 2])]  # two items may ask the same
    data = write_json(tmp_path / "rows.json", rows)
    asked = ["wise-verified", "--data", data, "--system", "graph"]
    with serving(chat_reply("Score: 1")) as judge:
        asked += ["--judge", f"m@{judge.url}/v1"]
        run(*asked)
        (tmp_path / "interleaver.toml").write_text("[run]\nmax_attempts = 2\n")
        assert "were made with different models, settings or data" in run(*asked, code=2).output
        run(*asked, "--out", "other")
        write_json(data, rows[:1])
        assert "different models, settings or data" in run(*asked, "--out", "other", code=2).output


def test_an_incomplete_set_is_named_and_refused_or_marked(ready, tmp_path):
    (tmp_path / "mine/521.png").unlink()
    with serving(chat_reply("Score: 1")) as judge:
        asked = [*ready, "--judge", f"m@{judge.url}/v1"]
        assert "1 of 7 items have no score (521)" in run(*asked, code=3).output
        result = run(*asked, "--allow-partial", code=3)
    assert "partial: 1 items have no score" in result.stdout
    results = json.loads((tmp_path / "out/eval/wise-verified/results.json").read_text())
    assert results["systems"][0]["missing"] == {"521": "there is no output"}


def test_parts_of_the_work_come_together(ready):
    with serving(chat_reply("Score: 1")) as judge:
        asked = [*ready, "--judge", f"m@{judge.url}/v1"]
        for part in ("1/3", "2/3", "3/3"):
            assert "This part is done" in run(*asked, "--shard", part).output
        assert len(judge.requests) == 7
        run(*asked)
        assert len(judge.requests) == 7
        run(*asked, "--only", "time", "--only", "space", "--limit", "1")
    assert len(judge.requests) == 7


def test_a_busy_judge_is_waited_for(ready):
    busy = [Reply({"error": {"message": "down"}}, 503) for _ in range(9)]
    with serving(*busy, chat_reply("Score: 1")) as judge:
        result = run(*ready, "--judge", f"m@{judge.url}/v1")
    assert "| **mine** | 1.000" in result.stdout and len(judge.requests) == 7 + 9


def test_a_judge_that_is_down_for_long_is_asked_later(tmp_path, monkeypatch, caplog):
    """Without a server for more calls in a row than are tried at once."""
    monkeypatch.setattr(evaluation, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(calling, "BACKOFF", wait_none())
    monkeypatch.setattr(calling, "PROBE_SECONDS", (0.02, 0.02))
    monkeypatch.setattr(calling, "PATIENCE", 0.1)
    data = write_json(tmp_path / "rows.json", wise_rows(range(1, 61)))
    for number in range(1, 61):
        write_picture(tmp_path / f"mine/{number}.png", (number, 0, 0))
    count = itertools.count()

    def reply(request):
        if 10 <= next(count) < 50:
            return Reply({"error": {"message": "down"}}, 503)
        return chat_reply("Score: 1")

    with serving(reply) as judge:
        asked = ["wise-verified", "--data", data, "--outputs", "mine=mine", "--judge", f"m@{judge.url}/v1", "--json"]
        found = json.loads(run(*asked).stdout)["systems"][0]
        assert len(judge.requests) == 60 + 40
    assert found["groups"]["culture"]["score"]["items"] == 60
    assert found["missing"] == {} and "retrying in" in caplog.text


def test_a_judge_that_recovers_is_asked_everything(tmp_path):
    """Its first answers are of no use, but before it is given up it comes to itself."""
    data = write_json(tmp_path / "rows.json", wise_rows(range(1, 61)))
    for number in range(1, 61):
        write_picture(tmp_path / f"mine/{number}.png", (number, 0, 0))
    count = itertools.count()

    def reply(request):
        time.sleep(0.01)
        return Reply({"error": {"message": "no"}}, 400) if next(count) < 24 else chat_reply("Score: 1")

    with serving(reply) as judge:
        asked = ["wise-verified", "--data", data, "--outputs", "mine=mine", "--judge", f"m@{judge.url}/v1"]
        assert "24 of 60 items have no score" in run(*asked, code=3).output
        assert "| **mine** |" in run(*asked).stdout


def test_a_judge_that_chats_is_asked_again_and_then_its_item_has_no_score(ready, tmp_path, monkeypatch):
    def reply(request):
        chatty = 'explanation 2"' in str(request.json["messages"][0]["content"])
        return chat_reply("What a lovely picture!" if chatty else "**Score:** 1")

    with serving(reply) as judge:
        result = run(*ready, "--judge", f"m@{judge.url}/v1", code=3)
        assert "1 of 7 items have no score (2)" in result.output
        assert len(judge.requests) == 8  # asked twice
    monkeypatch.setattr(evaluation, "PATIENCE_SECONDS", 0.0)  # the next one is away
    results = run(*ready, "--judge", "m@http://127.0.0.1:9/v1", "--allow-partial", code=3)
    assert "there must be one line such as 'Score: 1'" in result.output and results.exit_code == 3


def test_a_busy_judge_does_not_make_up_for_a_chatty_one(ready):
    busy = [Reply({"error": {"message": "down"}}, 503) for _ in range(5)]

    def reply(request):
        question = str(request.json["messages"][0])
        if 'explanation 2"' in question:
            return chat_reply("What a lovely picture!")
        return busy.pop() if "explanation 401" in question and busy else chat_reply("Score: 1")

    with serving(reply) as judge:
        output = run(*ready, "--judge", f"m@{judge.url}/v1", code=3).output
    assert "1 of 7 items have no score (2)" in output and "missing.json" in output
    reasons = json.loads(Path("out/eval/wise-verified/missing.json").read_text())
    assert "there must be one line such as" in reasons["mine, m"]["2"]


def test_a_judge_that_answers_nothing_is_given_up(tmp_path):
    data = write_json(tmp_path / "rows.json", wise_rows(range(1, 121)))
    for number in range(1, 121):
        write_picture(tmp_path / f"mine/{number}.png", (number, 0, 0))
    with serving(Reply({"error": {"message": "wrong key"}}, 401)) as judge:
        asked = ["wise-verified", "--data", data, "--outputs", "mine=mine", "--judge", f"m@{judge.url}/v1"]
        assert "the judge m gave no usable answer" in run(*asked, code=3).output
        assert len(judge.requests) < 120


def test_two_judges_and_how_far_they_agree(ready):
    with serving(judge_answering(verdicts(2, 401))) as first, serving(judge_answering(verdicts(2, 641))) as second:
        judges = ["--judge", f"a@{first.url}/v1", "--judge", f"b@{second.url}/v1"]
        found = json.loads(run(*ready, *judges, "--json").stdout)
    assert [one["judge"] for one in found["systems"]] == ["a", "b"]
    pair = found["agreement"]["mine"][0]
    # 5 of 7 equal; chance (5*5 + 2*2) / 49
    assert pair["kappa"] == pytest.approx((5 / 7 - 29 / 49) / (1 - 29 / 49)) and pair["answers"] == 7


def test_the_legacy_protocol_is_apart(tmp_path):
    data = wise_data(tmp_path / "old", [1, 500], suffix="")
    for number in (1, 500):
        write_picture(tmp_path / "mine" / f"{number}.png")
    answer = "Consistency: 2\nRealism: 1\nAesthetic Quality: 0"
    with serving(chat_reply(answer)) as judge:
        asked = ["wise-legacy", "--data", data, "--outputs", "mine=mine", "--judge", f"m@{judge.url}/v1"]
        found = json.loads(run(*asked, "--json").stdout)
        assert found["systems"][0]["groups"]["time"]["score"]["value"] == pytest.approx((1.4 + 0.2) / 2)
        assert "Consistency: does it show" in question_text(judge.requests[0])
    assert (tmp_path / "out/eval/wise-legacy/results.json").exists()
    assert "Qwen-Image-2512" not in (tmp_path / "out/eval/wise-legacy/report.html").read_text()


def test_the_benchmarks_own_prompt_is_used_word_for_word(ready, tmp_path):
    (tmp_path / "vllm_eval.py").write_text(
        "import not_there\n"
        "def messages(prompt_data):\n"
        "    return [{'role': 'system', 'content': 'You are an auditor.'},\n"
        "            {'role': 'user', 'content': f\"\"\"PROMPT: \"{prompt_data['Prompt']}\" and "
        '{prompt_data[\'Explanation\']}, {{x}}"""}]\n'
    )
    with serving(chat_reply("Score: 1")) as judge:
        run(*ready, "--judge", f"m@{judge.url}/v1", "--judge-prompts", "vllm_eval.py", "--limit", "1")
        messages = judge.requests[0].json["messages"]
    assert messages[0] == {"role": "system", "content": "You are an auditor."}
    assert messages[1]["content"][0]["text"] == 'PROMPT: "prompt 1" and explanation 1, {x}'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].pop("Explanation"), "row 1 of rows.json: the field 'Explanation' is missing"),
        (
            lambda rows: rows[1].update(prompt_id=1),
            "row 2 of rows.json repeats the id '1' of row 1 of rows.json",
        ),
        (lambda rows: rows[1].update(prompt_id=1001), "row 2 of rows.json: prompt_id is 1001; there are 1000 prompts"),
        (lambda rows: rows[0].update(Prompt=float("nan")), "row 1 of rows.json: the field 'Prompt' is missing"),
        (lambda rows: rows[0].update(Prompt=7), "the field 'Prompt' is 7; it must be a string"),
        (lambda rows: rows.append("text"), "must be a list of objects"),
    ],
)
def test_wrong_data_is_told(tmp_path, change, said):
    rows = wise_rows([1, 2])
    change(rows)
    data = write_json(tmp_path / "rows.json", rows)
    assert said in run("wise-verified", "--data", data, code=2).output


def test_other_wrong_input_is_told(ready, tmp_path):
    asked = [*ready, "--judge", "m@http://127.0.0.1:9/v1"]
    twice = [*ready, "--outputs", f"mine={tmp_path / 'mine'}"]
    assert "two systems are named 'mine'; system names must be unique" in run(*twice, code=2).output
    assert "two judges are named 'm'" in run(*asked, "--judge", "m@http://127.0.0.1:8/v1", code=2).output
    assert "--shard is '4/3'" in run(*asked, "--shard", "4/3", code=2).output
    said = "--only is 'tim' (did you mean 'time'?); the data has: culture, time"
    assert said in run(*asked, "--only", "tim", code=2).output
    assert "--outputs 'nowhere' does not exist" in run(*ready[:3], "--outputs", "x=nowhere", code=2).output
    (tmp_path / "mine/1.png").write_bytes(b"no picture")
    assert "of item 1 is not a picture" in run(*asked, code=2).output
    (tmp_path / "empty").mkdir()
    output = run("wise-verified", "--data", "empty", code=2).output
    assert "has no cultural_common_sense_verified.json and spatio-temporal_reasoning_verified.json" in output
    output = run("wise-verified", "--data", "nobody/nothing", code=2).output
    assert "is neither a file nor a folder, and could not be downloaded from the hub" in output and "--data" in output


def test_a_part_says_what_it_has_left_undone(ready):
    with serving(chat_reply("What a lovely picture!")) as judge:
        asked = [*ready, "--judge", f"m@{judge.url}/v1", "--shard", "1/2"]
        output = run(*asked, code=3).output
        assert "This part has 4 items without a score" in output and "done" not in output
        assert "give --export and --langsmith without it" in run(*asked, "--export", code=2).output


def test_other_settings_of_the_prescribed_judge_are_told(ready, tmp_path):
    with serving(chat_reply("Score: 1")) as judge:
        (tmp_path / "hot.toml").write_text(
            f'[judge]\nbackend = "chat"\nmodel = "Qwen3.5-35B-A3B"\nbase_url = "{judge.url}/v1"\ntemperature = 1.5\n'
        )
        hot = run(*ready, "--judge", "hot.toml").stdout
        own = run(*ready, "--judge", f"Qwen3.5-35B-A3B@{judge.url}/v1").stdout
    assert "judged with temperature 1.5, not 0.0, extra_body {}" in hot and "judged with" not in own
    found = json.loads((tmp_path / "out/eval/wise-verified/results.json").read_text())
    assert found["judges"]["Qwen3.5-35B-A3B"]["temperature"] == 0 and found["models"] == {}


def test_making_outputs_is_dear_too(tmp_path):
    data = write_json(tmp_path / "rows.json", [row | {"Prompt": "a red star"} for row in wise_rows([1, 2])])
    (tmp_path / "interleaver.toml").write_text("[prices]\npicture = 50.0\n")
    with serving(chat_reply("Score: 1")) as judge:
        asked = ["wise-verified", "--data", data, "--judge", f"m@{judge.url}/v1"]
        output = run(*asked, input="n\n", code=130).output
        assert "cost about 700.00" in output and "Continue?" in output  # twice six drawings, and twice one
        found = json.loads(run(*asked, "--yes", "--json").stdout)["systems"]
    assert found[1]["cost"] == 100 and found[0]["cost"] >= 100


def test_nothing_is_claimed_before_anything_is_made(tmp_path):
    data = write_json(tmp_path / "rows.json", [row | {"Prompt": "a red star"} for row in wise_rows([1])])
    asked = ["wise-verified", "--data", data, "--system", "graph", "--judge"]
    assert "cannot be reached" in run(*asked, "m@http://127.0.0.1:9/v1", code=3).output
    (tmp_path / "interleaver.toml").write_text("[run]\nmax_attempts = 2\n")
    with serving(chat_reply("Score: 1")) as judge:
        run(*asked, f"m@{judge.url}/v1")


class Wordy:
    """A system that draws from the second time on."""

    name = "graph"

    def __init__(self, folder):
        self.folder = folder
        self.asked = 0

    async def make(self, item):
        self.asked += 1
        blocks = [OutputBlock(text="I would rather not.")] if self.asked == 1 else [OutputBlock(picture="one.png")]
        return Output(id=item.id, blocks=blocks)


async def test_an_output_without_a_picture_is_made_again(tmp_path):
    item = BenchmarkItem("1", "culture", "a star", {}, tmp_path)
    system = Wordy(tmp_path)
    for problem in ("there is no picture", None):
        outputs = Outputs(system, Profile(), "sha", needs_picture=True)
        assert [one.problem async for one in outputs.make([item], 1)] == [problem]
    assert [one async for one in Outputs(system, Profile(), "sha", needs_picture=True).make([item], 1)] == []


def test_a_dear_run_is_asked_for(ready, tmp_path):
    profile = tmp_path / "dear.toml"
    with serving(chat_reply("Score: 1")) as judge:
        profile.write_text(
            f'[judge]\nbackend = "chat"\nmodel = "dear"\nbase_url = "{judge.url}/v1"\n'
            "[prices]\njudge = {input = 10000, output = 10000}\n"
        )
        asked = [*ready, "--judge", profile]
        result = run(*asked, input="n\n", code=130)
        assert (
            "about 7 calls of dear" in result.output
            and "cost about" in result.output
            and "Continue?" in result.output
            and not judge.requests
        )
        assert "| **mine** | 1.000" in run(*asked, "--yes").stdout


@pytest.mark.parametrize(
    ("said", "score"),
    [((2, 2, 2), 1.0), ((0, 0, 0), 0.0), ((2, 0, 0), 0.7), ((0, 2, 0), 0.2), ((0, 0, 2), 0.1), ((1, 2, 1), 0.6)],
)
def test_wiscore(said, score):
    told = dict(zip(("consistency", "realism", "aesthetic_quality"), said, strict=True))
    assert wise.item_score("wise-legacy", told) == pytest.approx(score)


@pytest.mark.parametrize("value", [3, -1, None, True, 0.5, math.nan, "2"])
def test_wise_takes_whole_numbers_in_range_alone(value):
    with pytest.raises(BadInput, match="realism is .*; scores of wise-legacy are integers from 0 to 2"):
        wise.item_score("wise-legacy", {"consistency": 2, "realism": value, "aesthetic_quality": 2})
    with pytest.raises(BadInput, match="correct is 2; scores of wise-verified are integers from 0 to 1"):
        wise.item_score("wise-verified", {"correct": 2})


def one_each():
    return {f"{name}-{n}": name for name in wise.CATEGORIES for n in range(2)}


@pytest.mark.parametrize(
    ("protocol", "overall"),
    # culture 1 and 0, time 1 and 1, the others 0: half of culture's weight and all of time's
    [("wise-legacy", 0.2 + 0.167), ("wise-verified", 0.2 + 0.12)],
)
def test_wise_weighs_categories_as_its_protocol_says(protocol, overall):
    scores = dict.fromkeys(one_each(), 0.0) | {"culture-0": 1.0, "time-0": 1.0, "time-1": 1.0}
    found = wise.table(protocol, one_each(), scores)
    assert found.overall["overall"].value == pytest.approx(overall)
    assert found.groups["culture"]["score"].value == 0.5 and found.groups["time"]["score"].items == 2
    assert sum(wise.PROTOCOLS[protocol].weights.values()) == pytest.approx(1)
    assert sum(wise.PROTOCOLS[protocol].prompts.values()) == 1000


def test_an_incomplete_set_is_refused_by_name_or_marked():
    scores = dict.fromkeys(list(one_each())[1:], 1.0)
    with pytest.raises(BadInput, match=r"1 of 12 items have no score \(culture-0\)"):
        wise.table("wise-verified", one_each(), scores)
    found = wise.table("wise-verified", one_each(), scores, allow_partial=True)
    assert found.missing == ["culture-0"] and found.overall["overall"].value == pytest.approx(1)


def test_a_part_of_wise_has_no_overall_score():
    found = wise.table("wise-verified", {"a": "time"}, {"a": 1.0})
    assert found.overall["overall"].value is None and found.groups["time"]["score"].value == 1.0
    with pytest.raises(BadInput, match="category 'sport' is unknown to wise-verified"):
        wise.table("wise-verified", {"a": "sport"}, {"a": 1.0})
