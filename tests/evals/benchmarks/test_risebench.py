"""RISEBench from its published format to its report, with a judge over HTTP."""

import io
import json
import math

import pytest
from PIL import Image
from support.evaluations import picture_count, question_text, run, write_json, write_picture
from support.scripted_server import chat_reply, serving

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.evals.benchmarks import risebench
from interleaver.evals.benchmarks.risebench import score_reader

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def row(index, category, **more):
    return {
        "index": index,
        "category": f"{category}_reasoning",
        "instruction": f"instruction {index}",
        "image": f"{category}/{index}.png",
        "subtask": "any",
    } | more


ROWS = [
    row("t1", "temporal", reference="old"),
    row("t2", "temporal", reference="older", consistency_free=True),
    row("c1", "causal", reference="broken", reasoning_img=1.0, consistency_free=float("nan")),
    row("s1", "spatial", reference_img="answers/s1.png"),
    row("l1", "logical", reference_txt="seven"),
    row("l2", "logical", reference_img="answers/l2.png", reasoning_wo_ins=True),
]


@pytest.fixture
def ready(tmp_path):
    write_json(tmp_path / "rise/datav2_total_w_subtask.json", ROWS)
    for number, one in enumerate(ROWS):
        write_picture(tmp_path / "rise/data" / one["image"], (number, 0, 0), (900, 600))
        if "reference_img" in one:
            write_picture(tmp_path / "rise/data" / one["reference_img"], (number, 0, 9))
        write_picture(tmp_path / f"mine/images/{one['category']}/{one['index']}.jpg", (number, 9, 0))
    return ["risebench", "--data", "rise", "--outputs", "mine=mine"]


def judge_of(marks):
    """A judge that gives the mark of an item by what a prompt is about, 5 and 1 (of 0 and 1) else."""

    def reply(request):
        words = question_text(request)
        bit = "<0 or 1>" in words
        index = next((one["index"] for one in ROWS if f"instruction {one['index']}\n" in words), None)
        about = (
            "consistency" if "ompare" in words.split("\n")[0] or "kept" in words or "alike" in words else "reasoning"
        )
        return chat_reply(f"I see.\n**Final Score:** **{marks.get((index, about), 1 if bit else 5)}**")

    return reply


def test_every_dimension_is_asked_with_its_pictures(ready):
    with serving(judge_of({("t1", "reasoning"): 4, ("c1", "consistency"): 3})) as judge:
        found = json.loads(run(*ready, "--judge", f"m@{judge.url}/v1", "--json").stdout)["systems"][0]
        asked = judge.requests
    # t1 has 4 for reasoning, c1 3 for consistency; l1 and l2 are not asked about plausibility, t2 not about consistency
    assert len(asked) == 3 + 2 + 3 + 3 + 2 + 2
    assert (
        found["groups"]["temporal"]["accuracy"]["value"] == 50 and found["groups"]["causal"]["accuracy"]["value"] == 0
    )
    assert found["groups"]["temporal"]["score"]["value"] == pytest.approx((25 * 3.5 + 100) / 2)
    assert found["groups"]["causal"]["score"]["value"] == pytest.approx(25 * (0.3 * 3 + 0.5 * 5 + 0.2 * 5 - 1))
    assert found["groups"]["logical"]["accuracy"]["value"] == 100
    assert found["overall"]["accuracy"]["value"] == pytest.approx(100 * 4 / 6)
    by_kind = {question_text(one).split("\n")[0][:40]: picture_count(one) for one in asked}
    assert by_kind["The first picture was to be edited as an"] == 2  # c1 compares with the given picture
    assert by_kind["A picture was edited as an instruction a"] == 1  # t1 and t2 do not
    assert by_kind["The first picture is the right answer to"] == 2
    assert by_kind["The picture is somebody's answer to a pu"] == 1


def test_the_graph_edits_the_given_picture(ready, tmp_path):
    scene = [row("t1", "temporal", reference="a red star") | {"instruction": "Add a small red star in the middle."}]
    write_json(tmp_path / "rise/datav2_total_w_subtask.json", scene)
    with serving(chat_reply("Final Score: 5")) as judge:
        found = json.loads(run(*ready[:3], "--judge", f"m@{judge.url}/v1", "--json", "--allow-partial").stdout)
    graph, alone = found["systems"]
    assert graph["overall"]["accuracy"]["value"] == 100 and alone["overall"]["accuracy"]["value"] == 100
    assert '<div class="given">' in (tmp_path / "out/eval/risebench/report.html").read_text()


MARKS = [
    ("Final Score: 4", False, 4),
    ("**Final Score:** **1**", True, 5),
    ("final score - x\nFinal Score: **0**", True, 1),
    ("### Final Score\n\n**5**", False, 5),
    ("**Final Score** 5", False, 5),
    ("**Final Scores:** 4", False, 4),
    ("Final Score: 5/5", False, 5),
    ("5", False, 5),
    ("**3**", False, 3),
    ("Score: 2", False, 2),
    ("1", True, 5),
]


@pytest.mark.parametrize(("text", "bit", "value"), MARKS)
def test_marks(text, bit, value):
    assert score_reader(bit)(text) == value


WRONG = [
    *("6", "I count 5 stars.", "5 of them, then 4", "4.5", "Final Score: 6", "Final Score: 4.5", "Final Score: -1"),
    *("Final Score: <1 to 5>", "Final Score: 0"),
]


@pytest.mark.parametrize(("text", "bit"), [*((text, False) for text in WRONG), ("Final Score: 2", True)])
def test_a_mark_is_never_guessed(text, bit):
    with pytest.raises(UnreadableAnswer):
        score_reader(bit)(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category": "moral_reasoning"}, "category 'moral' is unknown to RISEBench"),
        ({"image": "gone.png"}, "gone.png' (field 'image') does not exist"),
        ({"reference": float("nan")}, "the field 'reference' is missing, and there is no 'reference_txt'"),
    ],
)
def test_wrong_rows_are_told(ready, tmp_path, change, said):
    write_json(tmp_path / "rise/datav2_total_w_subtask.json", [ROWS[0] | change])
    assert said in run(*ready, code=2).output


def test_every_measure_by_category_and_pictures_that_are_none(ready, tmp_path):
    """A given picture that cannot be shown, and that the judge did not need, costs nobody the table."""
    (tmp_path / "rise/data/temporal/t2.png").write_bytes(b"no picture")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "MPO")  # what telephones write
    (tmp_path / "rise/data/causal/c1.png").write_bytes(buffer.getvalue())
    with serving(judge_of({("t1", "reasoning"): 4})) as judge:
        table = run(*ready, "--judge", f"m@{judge.url}/v1").stdout
    assert "| System | category | accuracy | score |" in table
    assert "| mine | temporal | 50.0 (0.0 to 100.0) | 93.8 (87.5 to 100.0) |" in table
    assert "<td>93.8<small>87.5 to 100.0</small></td>" in (tmp_path / "out/eval/risebench/report.html").read_text()


def test_the_benchmarks_own_prompts(ready, tmp_path):
    """Constants of a script of the same shape; what a question does not need may be missing."""
    names = {
        "prompt_consist": "consist",
        "prompt_reasoning": "reason {instruct} {reference}",
        "prompt_generation": "plausible",
        "prompt_spatial_cons": "spatial consist",
        "prompt_spatial_ref_img": "spatial reason",
        "prompt_spatial_qual": "spatial plausible",
        "prompt_logical_cons_ans": "logical consist {reference}",
        "prompt_logical_txt": "logical text {reference}",
        "prompt_logical_cons": "logical consist",
        "prompt_logical_img_wo_q": "logical picture",
        "prompt_reasoning_w_input": "shown {instruct}",
    }
    script = "".join(f'{name} = """\n{text}\n<1 to 5>"""\n' for name, text in names.items())
    (tmp_path / "utils.py").write_text(f"raise SystemExit('never run')\n{script}")
    with serving(
        lambda request: chat_reply(f"Final Score: {1 if 'logical' in question_text(request) else 5}")
    ) as judge:
        found = json.loads(run(*ready, "--judge", f"m@{judge.url}/v1", "--judge-prompts", "utils.py", "--json").stdout)[
            "systems"
        ][0]
        asked = {question_text(one) for one in judge.requests}
    assert "\nreason instruction t1 old\n<1 to 5>" in asked and "\nlogical text seven\n<1 to 5>" in asked
    assert found["groups"]["temporal"]["accuracy"]["value"] == 100 and found["missing"] == {}


def test_the_archive_of_the_hub_is_unpacked(ready, tmp_path):
    import shutil

    shutil.make_archive(str(tmp_path / "rise/data"), "zip", tmp_path / "rise/data")
    shutil.rmtree(tmp_path / "rise/data")
    with serving(judge_of({})) as judge:
        assert "| **mine** |" in run(*ready, "--judge", f"m@{judge.url}/v1").stdout


PLAIN, FREE, LOGICAL = (
    risebench.ScoredItem("causal"),
    risebench.ScoredItem("temporal", True),
    risebench.ScoredItem("logical"),
)


@pytest.mark.parametrize(
    ("item", "said", "percent"),
    [
        (PLAIN, (5, 5, 5), 100.0),
        (PLAIN, (4, 3, 2), 25 * (1.2 + 1.5 + 0.4 - 1)),
        (PLAIN, (5, 1, 5), 25 * ((1.5 + 0.5 + 1.0) / 2 - 1)),
        (PLAIN, (1, 1, 1), 0.0),  # half of one would be below the floor
        (FREE, (None, 4, 5), 25 * (3.2 + 1.0 - 1)),
        (FREE, (1, 5, 5), 100.0),  # its consistency, even if judged, does not count
        (LOGICAL, (5, 5, None), 100.0),
        (LOGICAL, (3, 5, 1), 25 * (0.9 + 3.5 - 1)),
        (LOGICAL, (5, 1, None), 25 * (2.2 / 2 - 1)),
    ],
)
def test_risebench_scores(item, said, percent):
    told = {
        name: value for name, value in zip(("consistency", "reasoning", "plausibility"), said, strict=True) if value
    }
    assert risebench.item_score(item, told) == pytest.approx(percent)
    assert risebench.is_accurate(item, told) == (percent == 100)


@pytest.mark.parametrize("value", [0, 6, None, math.nan, 4.5, True])
def test_risebench_takes_whole_numbers_in_range_alone(value):
    with pytest.raises(BadInput, match="plausibility is .*; scores of RISEBench are integers from 1 to 5"):
        risebench.item_score(PLAIN, {"consistency": 5, "reasoning": 5, "plausibility": value})


def test_risebench_table():
    items = {"a": PLAIN, "b": FREE, "c": LOGICAL, "d": PLAIN}
    said = {
        "a": {"consistency": 5, "reasoning": 5, "plausibility": 5},
        "b": {"reasoning": 4, "plausibility": 5},
        "c": {"consistency": 5, "reasoning": 1},
        "d": {"consistency": 4, "reasoning": 5, "plausibility": 5},
    }
    found = risebench.table(items, said)
    assert found.overall["accuracy"].value == 25.0
    assert found.groups["causal"]["accuracy"].value == 50.0
    assert found.overall["score"].value == pytest.approx((100 + 80 + 2.5 + 92.5) / 4)
    assert list(found.groups) == ["temporal", "causal", "logical"]
    assert not found.subgroups


def test_risebench_subtasks():
    """As in the official table: every subtask of a category has its own means, under the category's name."""
    items = {
        "a": risebench.ScoredItem("spatial", subtask="layout"),
        "b": risebench.ScoredItem("causal", subtask="structure"),
        "c": risebench.ScoredItem("causal", consistency_free=True, subtask="biology"),
        "d": risebench.ScoredItem("causal", subtask="biology"),
        "e": risebench.ScoredItem("logical"),
    }
    full = {"consistency": 5, "reasoning": 5, "plausibility": 5}
    table = risebench.table(items, dict.fromkeys("abde", full) | {"c": {"reasoning": 4, "plausibility": 5}})
    assert list(table.subgroups) == ["causal: biology", "causal: structure", "spatial: layout"]
    biology = table.subgroups["causal: biology"]
    assert (biology["accuracy"].value, biology["score"].value) == (50.0, pytest.approx((80 + 100) / 2))
    assert biology["consistency"].items == 1
