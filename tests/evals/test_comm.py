"""CoMM from its published rows to its report, with a judge over HTTP."""

import json

import pytest
from harness import run, shown, told, write_json, write_picture
from scripted_server import chat_reply, serving

from interleaver.errors import UnreadableAnswer
from interleaver.evals.benchmarks.comm import reader

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
    assert (
        set(found["groups"]) == {"instruction", "story"} and len(asked) == 4 and all(shown(one) == 2 for one in asked)
    )
    words = told(asked[0])
    assert "Can you generate step-by-step instructions with images about title" in words
    assert "MADE:\n(1) one [picture 1] (2) two [picture 2]" in words
    assert "**mine**" in (tmp_path / "out/eval/comm-task4/results.md").read_text()


def test_a_document_is_continued_from_its_first_half(data, tmp_path):
    folder = made(tmp_path / "mine", 3, "(1) three <IMAGE> (2) four <IMAGE>", ["a.png", "b.png"])
    _, asked = scored(3, data, "--outputs", f"mine={folder}")
    words = next(told(one) for one in asked if "of 0" in told(one))
    assert "(1) text 1 of 0. [picture 1] (2) text 2 of 0. [picture 2] According" in words and "text 3" not in words
    assert "(1) three [picture 3]" in words and shown(asked[0]) == 4


def test_texts_to_pictures_and_pictures_to_texts(data, tmp_path):
    texts, asked = scored(1, data, "--outputs", f"mine={made(tmp_path / 'a', 1, '(1) one (2) two', [])}")
    assert set(texts["overall"]) >= {"completeness", "fidelity"} and len(asked) == 2 and shown(asked[0]) == 4
    assert "text 1" not in told(asked[0])
    drawn, asked = scored(2, data, "--outputs", f"mine={made(tmp_path / 'b', 2, '(1) <IMAGE>', ['a.png'])}")
    assert "completeness" not in drawn["overall"] and shown(asked[0]) == 1
    words = next(told(one) for one in asked if "of 0" in told(one))
    assert "(4) text 4 of 0. According to the above steps, can you generate images" in words


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


@pytest.mark.parametrize("text", ["nine", '{"fidelity": 11}', '{"fidelity": true}', '{"fidelity": null}', "{}"])
def test_a_mark_is_never_guessed(text):
    with pytest.raises(UnreadableAnswer):
        reader(("fidelity",))(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_info": None}, "the field 'step_info' is missing"),
        ({"step_info": [[{"type": "sound"}]]}, "it must be a text or an image with its path"),
        ({"step_info": [[{"type": "image", "image_path": "gone.jpg"}]]}, "gone.jpg' (field 'image') is not there"),
        ({"data_id": None}, "the field 'data_id' is missing"),
    ],
)
def test_wrong_rows_are_told(tmp_path, change, said):
    row = {"data_id": "d", "dataset_type": "x", "title": "t", "step_info": [[{"type": "text", "content": "t"}]]}
    data = write_json(tmp_path / "rows.json", [row | change])
    assert said in run("comm-task1", "--data", data, code=2).output
