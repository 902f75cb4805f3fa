"""CoMM from its published rows to its report, with a judge over HTTP."""

import json

import pytest
from support.evaluations import picture_count, question_text, run, write_json, write_picture
from support.scripted_server import Reply, chat_reply, serving

from interleaver.errors import UnreadableAnswer
from interleaver.evals.benchmarks.comm_prompts import marks_reader, read_expected

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    """Two documents of four steps as they are published, with their pictures."""
    rows = []
    for number, kind in enumerate(("instruction", "story")):
        steps = []
        for step in range(1, 5):
            path = f"{number}-{step}.jpg"
            write_picture(tmp_path / "comm/images" / path, (number, step, 99))
            text = {"type": "text", "content": f"text {step} of {number}. "}
            steps.append([text, {"type": "image", "image_path": path}])
        rows.append({"data_id": f"doc{number}", "dataset_type": kind, "title": f"title {number}", "step_info": steps})
    return write_json(tmp_path / "comm/test.json", rows)


def made(folder, task, output, pictures):
    for number in (0, 1):
        where = folder / f"doc{number}_task{task}"
        for picture in pictures:
            write_picture(where / picture, (number, 200, 0))
        row = {"model_input": "", "model_output": output, "input_image_list": [], "output_gt_image_list": []}
        write_json(where / "results.json", row | {"prediction_image_list": pictures})
    return folder


MARKS = {"style": 8, "entity": 7, "trend": 6, "coherence": 5, "completeness": 4, "quality": 3, "fidelity": 9}


def marking(request):
    if request.method == "GET":  # which models there are
        return Reply({"object": "list", "data": []})
    if "are hidden" in question_text(request):
        return chat_reply(json.dumps({"expected": ["a first one", "a second one"]}))
    return chat_reply(json.dumps(MARKS | {"reason": "so {it} is"}))


def scored(task, data, *more):
    with serving(marking) as judge:
        found = run(f"comm-task{task}", "--data", data, "--judge", f"m@{judge.url}/v1", "--json", *more)
        return json.loads(found.stdout)["systems"][0], judge.requests


def test_a_document_from_its_title(data, tmp_path):
    folder = made(tmp_path / "mine", 4, "(1) one <IMAGE> (2) two <IMAGE>", ["a.png", "b.png"])
    found, asked = scored(4, data, "--outputs", f"mine={folder}")
    names = ("style", "entity", "trend", "coherence", "completeness", "quality", "fidelity")
    assert {name: found["overall"][name]["value"] for name in names} == {name: MARKS[name] for name in names}
    assert set(found["groups"]) == {"instruction", "story"} and len(asked) == found["judge_calls_now"] == 6
    whole, expected, compared = (
        next(one for one in asked if words in question_text(one))
        for words in ("Judge only", "are hidden", "Compare each")
    )
    assert "INPUT:Can you generate step-by-step instructions with images about title" in question_text(whole)
    assert "OUTPUT:(1)one<Img_0></Img_0>(2)two<Img_1></Img_1>" in question_text(whole) and picture_count(whole) == 2
    # What the pictures should show is asked of one that does not see them.
    assert (
        "OUTPUT:(1)one<Img_0></Img_0>(2)two<Img_1></Img_1>" in question_text(expected) and picture_count(expected) == 0
    )
    pair = "<Description_1> a second one </Description_1><Img_1></Img_1>"
    assert question_text(compared).endswith(pair) and picture_count(compared) == 2
    assert "one<Img" not in question_text(compared)
    assert "**mine**" in (tmp_path / "out/eval/comm-task4/results.md").read_text()


def test_a_document_is_continued_from_its_first_half(data, tmp_path):
    folder = made(tmp_path / "mine", 3, "(1) three <IMAGE> (2) four <IMAGE>", ["a.png", "b.png"])
    _, asked = scored(3, data, "--outputs", f"mine={folder}")
    whole = next(one for one in asked if "of 0" in question_text(one) and "Judge only" in question_text(one))
    given = "(1) text 1 of 0. <Img_0></Img_0> (2) text 2 of 0. <Img_1></Img_1> According"
    assert given in question_text(whole) and "text 3" not in question_text(whole)
    assert "(1)three<Img_2></Img_2>" in question_text(whole) and picture_count(whole) == 4
    expected = next(one for one in asked if "are hidden" in question_text(one))
    assert picture_count(expected) == 2 and "<Img_2></Img_2>" in question_text(expected)  # those that were given


def test_a_judge_sees_ten_pictures_of_which_one_was_made(tmp_path):
    steps = []
    for step in range(1, 25):
        write_picture(tmp_path / f"comm/images/{step}.png", (step, 0, 0))
        steps.append([{"type": "text", "content": f"text {step}"}, {"type": "image", "image_path": f"{step}.png"}])
    rows = [{"data_id": f"doc{number}", "dataset_type": "x", "title": "t", "step_info": steps} for number in (0, 1)]
    data = write_json(tmp_path / "comm/test.json", rows)
    folder = made(tmp_path / "mine", 3, "(1) three <IMAGE> (2) four <IMAGE>", ["a.png", "b.png"])
    _, asked = scored(3, data, "--outputs", f"mine={folder}")
    whole = next(one for one in asked if "Judge only" in question_text(one))
    assert picture_count(whole) == 10 and question_text(whole).endswith("three<Img_9></Img_9>(2)four")


def test_nothing_is_asked_twice(data, tmp_path):
    folder = made(tmp_path / "mine", 4, "(1) one <IMAGE> (2) two <IMAGE>", ["a.png", "b.png"])
    first, _ = scored(4, data, "--outputs", f"mine={folder}")
    with serving(marking) as judge:
        output = run("comm-task4", "--data", data, "--judge", f"m@{judge.url}/v1", "--outputs", f"mine={folder}").output
    assert "about 0 calls of m" in output and judge.requests == [] and first["judge_cached"] == 0


def test_the_benchmarks_own_prompts(data, tmp_path):
    """Its files are the judge's system message, and its answers are read where they have the marks."""
    prompts = tmp_path / "machine_evaluation_prompts"
    prompts.mkdir()
    for name in (
        "task_1",
        "document_completeness_image_coherence",
        "texts_to_image_descriptions",
        "descriptions_gt_images_consistency",
    ):
        (prompts / f"{name}.json").write_text(f"This is {name}.\nData to Review: ")
    coherence = {"style_consistency": "NA", "entity_consistency": "NA", "trend_consistency": 6}
    answers = {
        "document_completeness_image_coherence": {
            "scores": {
                "Image_Coherence": {"pair_scores": {}, "overall_score": coherence | {"overall_consistency": 5}},
                "Completeness": {"Summarize": "", "Justification": "", "Score": 4},
                "Image_Quality": {"Justification": "", "Score": 3},
            }
        },
        "texts_to_image_descriptions": {
            "Tasks": {"Create an Interleaved Text-Image Document": {"Content of Image 0": "first"}}
        },
        "descriptions_gt_images_consistency": {"Consistency": {"image_1_score": 1, "overall_score": 9}},
        "task_1": {"Completeness": {"Score": 4}, "Text Fidelity to Image": {"overall_score": 9}},
    }

    def reply(request):
        system, asked = request.json["messages"]
        assert (system["role"], asked["role"]) == ("system", "user")
        name = system["content"].removeprefix("This is ").split(".")[0]
        return chat_reply(f"```json\n{json.dumps(answers[name])}\n```")

    with serving(reply) as judge:
        asked = ["--data", data, "--judge", f"m@{judge.url}/v1", "--judge-prompts", prompts, "--json"]
        folder = made(tmp_path / "mine", 4, "(1) one <IMAGE>", ["a.png"])
        found = json.loads(run("comm-task4", *asked, "--outputs", f"mine={folder}").stdout)["systems"][0]["overall"]
        expected = MARKS | {"style": 0, "entity": 0}
        assert {name: found[name]["value"] for name in expected} == expected
        folder = made(tmp_path / "mine", 1, "(1) one", [])
        found = json.loads(run("comm-task1", *asked, "--outputs", f"mine={folder}").stdout)["systems"][0]["overall"]
        assert found["completeness"]["value"] == 4 and found["fidelity"]["value"] == 9


def test_texts_to_pictures_and_pictures_to_texts(data, tmp_path):
    texts, asked = scored(1, data, "--outputs", f"mine={made(tmp_path / 'a', 1, '(1) one (2) two', [])}")
    assert set(texts["overall"]) >= {"completeness", "fidelity"} and len(asked) == 2 and picture_count(asked[0]) == 4
    assert "text 1" not in question_text(asked[0])
    assert question_text(asked[0]).endswith(":onetwo") and "<Img" not in question_text(asked[0])
    drawn, asked = scored(2, data, "--outputs", f"mine={made(tmp_path / 'b', 2, '(1) <IMAGE>', ['a.png'])}")
    assert "completeness" not in drawn["overall"]
    whole = next(one for one in asked if "of 0" in question_text(one) and "Judge only" in question_text(one))
    assert picture_count(whole) == 1 and "text 1 of 0. <Img_0></Img_0>text 2 of 0. text 3 of 0. " in question_text(
        whole
    )
    expected = next(one for one in asked if "of 0" in question_text(one) and "are hidden" in question_text(one))
    assert picture_count(expected) == 0 and "text 1 of 0. <Img_0></Img_0>text 2" in question_text(expected)


def test_what_cannot_be_computed_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found, _ = scored(1, data, "--outputs", f"mine={made(tmp_path / 'a', 1, '(1) one', [])}")
    assert found["not_measured"][0].startswith("METEOR, BLEU and CIDEr: not computed (Java is not installed")
    assert "METEOR, BLEU and CIDEr: not computed" in (tmp_path / "out/eval/comm-task1/report.html").read_text()


def test_our_own_outputs_come_in_the_format_of_the_benchmark(tmp_path):
    write_picture(tmp_path / "comm/one.png")
    steps = [[{"type": "text", "content": "a cat"}, {"type": "image", "image_path": "one.png"}]]
    row = {"data_id": "d", "dataset_type": None, "title": "a cat and a dog", "step_info": steps}
    data = write_json(tmp_path / "comm/test.json", [row])
    scored(4, data, "--system", "graph", "--export")
    written = json.loads((tmp_path / "out/eval/comm-task4/export/graph/d_task4/results.json").read_text())
    assert written["model_output"].startswith("(1) ") and written["model_output"].count("<IMAGE>") == 2
    assert written["output_gt_image_list"] == ["output_1.png"]
    assert (tmp_path / "out/eval/comm-task4/export/graph/d_task4" / written["prediction_image_list"][1]).exists()
    assert (tmp_path / "out/eval/comm-task4/export/graph/d_task4/origin/output_1.png").exists()
    found, _ = scored(4, data, "--outputs", "again=out/eval/comm-task4/export/graph")
    assert found["overall"]["fidelity"]["value"] == 9


def test_the_mean_of_every_mark(data, tmp_path):
    folder = made(tmp_path / "mine", 1, "(1) one", [])
    marks = {"one": {"completeness": 2, "fidelity": 9}, "two": {"completeness": 10, "fidelity": 4}}
    write_json(tmp_path / "mine/doc1_task1/results.json", {"model_output": "(1) two", "prediction_image_list": []})

    def reply(request):
        return chat_reply(json.dumps(marks[question_text(request)[-3:]]))

    with serving(reply) as judge:
        asked = ["--data", data, "--judge", f"m@{judge.url}/v1", "--outputs", f"mine={folder}"]
        found = json.loads(run("comm-task1", *asked, "--json").stdout)["systems"][0]
    assert (found["overall"]["completeness"]["value"], found["overall"]["fidelity"]["value"]) == (6, 6.5)
    assert found["groups"]["story"]["completeness"]["value"] == 10
    assert found["items"]["doc0_task1"]["score"] == 0.55


def test_pictures_that_could_not_be_downloaded(data, tmp_path):
    """They are told by name; without those that are only compared with, only that is missing."""
    (tmp_path / "comm/images/0-4.jpg").unlink()
    (tmp_path / "comm/images/1-4.jpg").unlink()
    drawn, _ = scored(2, data, "--outputs", f"mine={made(tmp_path / 'b', 2, '(1) <IMAGE>', ['a.png'])}")
    assert drawn["overall"]["fidelity"]["items"] == 2
    assert "computed without 2 items whose original pictures are missing" in " ".join(drawn["not_measured"])
    outputs = f"mine={made(tmp_path / 'a', 1, '(1) one', [])}"
    output = run("comm-task1", "--data", data, "--outputs", outputs, code=2).output
    assert "row 1 of test.json: the picture" in output and ", and 1 more; download the missing pictures" in output
    write_picture(tmp_path / "comm/images/0-4.jpg")
    found, requests = scored(1, data, "--outputs", outputs, "--allow-partial")
    assert len(requests) == 1 and list(found["items"]) == ["doc0_task1"]
    assert "subset: 1 of 2 items" in (tmp_path / "out/eval/comm-task1/results.md").read_text()


@pytest.mark.parametrize("row", [{"model_output": None}, {"prediction_image_list": [1]}, {"prediction_image_list": 1}])
def test_wrong_outputs_are_told(data, tmp_path, row):
    folder = made(tmp_path / "mine", 4, "(1) one <IMAGE>", ["a.png"])
    write_json(folder / "doc0_task4/results.json", {"model_output": "(1) one", "prediction_image_list": []} | row)
    assert "doc0_task4/results.json" in run("comm-task4", "--data", data, "--outputs", f"mine={folder}", code=2).output


@pytest.mark.parametrize(
    "text", ["a cat", '{"expected": "a cat"}', '{"expected": []}', '{"expected": [1]}', '{"Tasks": 1}']
)
def test_what_is_expected_is_never_guessed(text):
    with pytest.raises(UnreadableAnswer):
        read_expected(text)


@pytest.mark.parametrize("text", ["nine", '{"fidelity": 11}', '{"fidelity": true}', '{"fidelity": null}', "{}"])
def test_a_mark_is_never_guessed(text):
    with pytest.raises(UnreadableAnswer):
        marks_reader(("fidelity",))(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_info": None}, "the field 'step_info' is missing"),
        ({"step_info": [[{"type": "sound"}]]}, "each piece of a step must be an object of type 'text'"),
        ({"step_info": [[{"type": "image", "image_path": "gone.jpg"}]]}, "gone.jpg' (field 'image') does not exist"),
        ({"data_id": None}, "the field 'data_id' is missing"),
    ],
)
def test_wrong_rows_are_told(tmp_path, change, said):
    row = {"data_id": "d", "dataset_type": "x", "title": "t", "step_info": [[{"type": "text", "content": "t"}]]}
    data = write_json(tmp_path / "rows.json", [row | change])
    assert said in run("comm-task1", "--data", data, code=2).output
