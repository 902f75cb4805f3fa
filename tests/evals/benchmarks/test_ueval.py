"""UEval from its published format to its report, with a judge over HTTP."""

import json
import re

import pytest
from support.evaluations import picture_count, question_text, run, write_json, write_picture
from support.scripted_server import Reply, chat_reply, serving

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.evals.benchmarks import ueval
from interleaver.evals.benchmarks.ueval import TASKS, read_criterion

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows():
    """An item of each task: two rubrics for the text, one for the pictures, in both published forms."""
    return [
        {
            "id": number,
            "prompt": f"question {number}",
            "task": task,
            "text_rubrics": [f"text rubric {number}a", {"criterion": f"text rubric {number}b"}],
            "image_rubrics": [f"image rubric {number}"],
        }
        for number, task in enumerate(TASKS, start=1)
    ]


def outputs(folder, without=()):
    made = []
    for number in range(1, len(TASKS) + 1):
        pictures = [] if number in without else [f"made/{number}-{n}.png" for n in (1, 2)]
        for picture in pictures:
            write_picture(folder / picture)
        made.append({"id": str(number), "text_answer": f"answer {number}", "image_answer": pictures})
    return write_json(folder / "outputs.json", made)


def met(*unmet):
    def reply(request):
        if request.method == "GET":  # which models there are
            return Reply({"object": "list", "data": []})
        rubric = re.search(r"# The criterion\n(.+)", question_text(request))[1]
        return chat_reply(json.dumps({"criteria_met": "not sure" if rubric in unmet else True}))

    return reply


def test_every_rubric_is_asked_and_weighed(tmp_path):
    data, made = write_json(tmp_path / "rows.json", rows()), outputs(tmp_path)
    with serving(met("text rubric 1b", "image rubric 2")) as judge:
        asked = ["ueval", "--data", data, "--outputs", f"mine={made}", "--judge", f"m@{judge.url}/v1"]
        found = json.loads(run(*asked, "--json").stdout)["systems"][0]
        assert len(judge.requests) == 8 * 3
        by_rubric = {re.search(r"# The criterion\n(.+)", question_text(one))[1]: one for one in judge.requests}
    # space: text 1 of 2, pictures 1 of 1; textbook: text 2 of 2, pictures 0 of 1; the other six are full
    assert found["groups"]["space"]["score"]["value"] == 75 and found["groups"]["space"]["text"]["value"] == 50
    assert found["groups"]["textbook"]["score"]["value"] == 50 and found["groups"]["art"]["score"]["value"] == 100
    assert found["overall"]["overall"]["value"] == pytest.approx((75 + 50 + 600) / 8)
    assert picture_count(by_rubric["text rubric 1a"]) == 0 and picture_count(by_rubric["image rubric 1"]) == 2
    assert "answer 1" in question_text(by_rubric["text rubric 1a"])
    assert "answer 1" not in question_text(by_rubric["image rubric 1"])  # space is closed
    assert "answer 5" in question_text(by_rubric["image rubric 5"])  # art is open
    assert "66.3" in (tmp_path / "out/eval/ueval/report.html").read_text()


def test_without_pictures_their_rubrics_are_unmet_and_nobody_is_asked(tmp_path):
    data, made = write_json(tmp_path / "rows.json", rows()), outputs(tmp_path, without=[1])
    with serving(met()) as judge:
        asked = ["ueval", "--data", data, "--outputs", f"mine={made}", "--judge", f"m@{judge.url}/v1"]
        found = json.loads(run(*asked, "--json").stdout)["systems"][0]
        assert len(judge.requests) == 8 * 3 - 1
    assert found["groups"]["space"]["image"]["value"] == 0 and found["groups"]["space"]["score"]["value"] == 50


def test_an_item_without_rubrics_has_no_score(tmp_path):
    data = rows()
    data[0] |= {"text_rubrics": [], "image_rubrics": []}
    data, made = write_json(tmp_path / "rows.json", data), outputs(tmp_path)
    with serving(met()) as judge:
        found = json.loads(
            run("ueval", "--data", data, "--outputs", f"mine={made}", "--judge", f"m@{judge.url}/v1", "--json").stdout
        )["systems"][0]
    assert found["items"]["1"]["score"] is None and found["items"]["2"]["score"] == 1
    assert found["groups"]["space"]["score"]["value"] is None and found["missing"] == {}
    page = (tmp_path / "out/eval/ueval/report.html").read_text()
    assert "<span>2 &middot; textbook</span>" in page and "<span>1 &middot; space</span>" not in page


def test_the_graph_answers_with_text_and_pictures(tmp_path):
    row = rows()[5] | {"prompt": "How to draw a cat step by step?"}
    data = write_json(tmp_path / "rows.json", [row])
    with serving(met()) as judge:
        run("ueval", "--data", data, "--judge", f"m@{judge.url}/v1", "--export")
        graph = [one for one in judge.requests if one.method == "POST" and picture_count(one) > 1]
    assert len(graph) == 1 and "The criterion" in question_text(graph[0])
    written = json.loads((tmp_path / "out/eval/ueval/export/graph/outputs.json").read_text())[0]
    assert len(written["image_answer"]) == 8 and len(written["text_answer"]) > 200
    assert all((tmp_path / "out/eval/ueval/export/graph" / picture).exists() for picture in written["image_answer"])
    alone = json.loads((tmp_path / "out/eval/ueval/export/generator/outputs.json").read_text())[0]
    assert alone["text_answer"] == "" and len(alone["image_answer"]) == 1
    page = (tmp_path / "out/eval/ueval/report.html").read_text()
    assert "All " in page and "drawings" in page and "accepted" in page


def test_the_benchmarks_own_prompts(tmp_path):
    data, made = write_json(tmp_path / "rows.json", rows()), outputs(tmp_path)
    (tmp_path / "ueval_eval.py").write_text(
        'SYSTEM_INSTRUCTION = """\nYou are a rater.\n""".strip()\n'
        'TEXT_TEMPLATE = """Q <<question>> A <<text_answer>>""".strip()\n'
        'TEXT_RUBRIC_TEMPLATE = "R <<rubric_item>>"\n'
        'IMAGE_TEMPLATE_OPEN = "open <<question>>"\nIMAGE_TEMPLATE_CLOSED = "closed <<question>>"\n'
        'IMAGE_RUBRIC_TEMPLATE = "I <<rubric_item>>"\n'
    )
    with serving(chat_reply('{"criteria_met": true}')) as judge:
        asked = ["ueval", "--data", data, "--outputs", f"mine={made}", "--judge", f"m@{judge.url}/v1"]
        run(*asked, "--judge-prompts", "ueval_eval.py", "--limit", "1")
        words = {question_text(request) for request in judge.requests}
        assert judge.requests[0].json["messages"][0] == {"role": "system", "content": "You are a rater."}
    assert words == {
        "Q question 1 A answer 1\n\nR text rubric 1a",
        "Q question 1 A answer 1\n\nR text rubric 1b",
        "closed question 1\n\nI image rubric 1",
    }
    (tmp_path / "ueval_eval.py").write_text("nothing = 1")
    output = run(*asked, "--judge-prompts", "ueval_eval.py", code=2).output
    assert "have no TEXT_TEMPLATE, which ueval.text needs" in output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"criteria_met": true}', "met"),
        ('```json\n{"criteria_met": false, "explanation": "no {brace}"}\n```', "unmet"),
        ('{"criteria_met": "Not sure"}', "not sure"),
        ('{"criteria_met": "unsure"}', "not sure"),
        ('{"criteria_met": "Unknown"}', "not sure"),
        ('{"criteria_met": null}', "unmet"),
        ("{'criteria_met': True, 'explanation': 'x'}", "met"),
        ("{'criteria_met': None}", "unmet"),
        ('{"criteria_met": "y"}', "met"),
        ('{"criteria_met": "true"}', "met"),
    ],
)
def test_answers_of_a_judge(text, said):
    assert read_criterion(text) == said


@pytest.mark.parametrize("text", ["", "yes", '{"criteria_met": 1}', '{"criteria_met": "perhaps"}',
                                  '{"criteria_met": true} or {"criteria_met": false}'])  # fmt: skip
def test_an_answer_is_never_guessed(text):
    with pytest.raises(UnreadableAnswer):
        read_criterion(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "music"}, "row 1 of rows.json: task 'music' is unknown to UEval; its tasks are: space, textbook"),
        ({"text_rubrics": [1]}, "the field 'text_rubrics' must be a list of non-empty strings"),
        ({"id": None}, "the field 'id' is missing"),
    ],
)
def test_wrong_rows_are_told(tmp_path, change, said):
    data = write_json(tmp_path / "rows.json", [rows()[0] | change])
    assert said in run("ueval", "--data", data, code=2).output


def test_wrong_outputs_are_told(tmp_path):
    data = write_json(tmp_path / "rows.json", rows())
    bad = write_json(tmp_path / "bad.json", {"id": 1})
    assert "must be a list of objects with id" in run("ueval", "--data", data, "--outputs", f"x={bad}", code=2).output
    gone = write_json(tmp_path / "gone.json", [{"id": 1, "text_answer": "a", "image_answer": ["gone.png"]}])
    output = run("ueval", "--data", data, "--outputs", f"x={gone}", code=2).output
    assert "gone.png' of item 1 cannot be read" in output


def test_ueval_by_hand():
    items = {task: ueval.RubricCounts(task, 2, 4) for task in ueval.TASKS} | {
        "second": ueval.RubricCounts("space", 4, 0)
    }
    said = {task: {"text": ["met", "unmet"], "image": ["met"] * 4} for task in ueval.TASKS}
    said["space"] = {"text": ["met", "not sure"], "image": ["not sure", "met", "met", "unmet"]}
    said["second"] = {"text": ["met"] * 4, "image": []}
    found = ueval.table(items, said)
    # space: text (1/2 + 4/4) / 2 = 0.75; pictures 2/4, the second item has no rubrics for them
    space = found.groups["space"]
    assert (space["text"].value, space["image"].value, space["score"].value) == (0.75, 0.5, 0.625)
    assert space["image"].items == 1 and found.groups["art"]["score"].value == 0.75
    assert found.overall["overall"].value == pytest.approx((0.625 + 7 * 0.75) / 8)


def test_ueval_wants_every_rubric_judged():
    with pytest.raises(BadInput, match="1 answers for 2 rubrics; every rubric must be judged"):
        ueval.table({"a": ueval.RubricCounts("art", 2, 0)}, {"a": {"text": ["met"], "image": []}})
    with pytest.raises(BadInput, match="task 'music' is unknown to UEval"):
        ueval.table({"a": ueval.RubricCounts("music", 1, 0)}, {"a": {"text": ["met"]}})
    found = ueval.table({"a": ueval.RubricCounts("art", 0, 0)}, {"a": {}})
    assert found.groups["art"]["score"].value is None and found.overall["overall"].value is None
