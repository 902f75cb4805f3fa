"""From traces to datasets: what becomes a row, what is left out and why, and files that trainers read."""

import asyncio
import base64
import io
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, plain_picture
from support.scripted_server import chat_reply, serving

from interleaver import build_graph
from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.chat import ChatPlanner
from interleaver.agents.prompts import template_text
from interleaver.batch.labelling import Labeller
from interleaver.batch.prompt_list import BatchItem
from interleaver.batch.workers import BatchWorker
from interleaver.calling import run_concurrently
from interleaver.cli import main
from interleaver.pictures import Picture, white_canvas
from interleaver.profile import Profile
from interleaver.runner import Runner
from interleaver.store.images import ImageStore
from interleaver.traces.labels import Label, Labels, read_labels, write_labels
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import Trace
from interleaver.training.data.pictures import RowPictures
from interleaver.training.data.rows import DroppedPart, RowRules, TrainingRow, rows_of
from interleaver.training.data.sequences import sequence_of
from interleaver.types import (
    Attempt,
    Exchange,
    ImageRef,
    Message,
    Outcome,
    PicturePolicy,
    Plan,
    Scores,
    Step,
    StepResult,
    Verdict,
)

THREAD = {"configurable": {"thread_id": "t"}}
LESSONS = ["cat", "house", "tree", "boat", "flower"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of sandbox runs with the exact judge's labels; it must never be changed by an export."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    requests = [f"How to draw a {thing} step by step?" for thing in LESSONS]
    requests += [f"a {one} beside a {other}" for one, other in itertools.pairwise(LESSONS)]

    async def make():
        worker = BatchWorker(Runner(Profile(), folder, documents=False), None)
        items = [
            BatchItem(line=n, request=request, images=[], tags={"category": request[:3]}, seed=n)
            for n, request in enumerate(requests)
        ]
        async for done in run_concurrently(items, worker.make, 4):
            assert done.status in ("complete", "partial"), done
        labeller = Labeller(Profile(), RunStore(folder), "judge", "judge")
        async for labels in labeller.label(4):
            assert not any(label.problems for label in labels.labels)

    asyncio.run(make())
    return folder


def files_below(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def data(kind, *arguments, code=0):
    result = CliRunner().invoke(main, ["data", kind, *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refused(kind, *arguments):
    result = CliRunner().invoke(main, ["data", kind, *map(str, arguments)])
    assert result.exit_code == 2, result.output
    return result.stderr


def loaded(folder, tmp_path):
    from datasets import load_dataset

    return load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def text_in(parts):
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)


def test_planner_rows_are_plans_in_the_tagged_format(made, tmp_path):
    before = files_below(made)
    report = data("planner-sft", made, "--out", tmp_path / "d", "--validation", 0.2)
    assert files_below(made) == before  # nothing is lost or changed by an export
    dataset = loaded(tmp_path / "d", tmp_path)
    assert {split: len(rows) for split, rows in dataset.items()} == {
        split: counts["rows"] for split, counts in report["splits"].items()
    }
    runs = RunStore(made)
    for row in (row for rows in dataset.values() for row in rows):
        trace = runs.trace(row["run_id"])
        assert trace.status == "complete" and row["request"] == trace.request
        asked = text_in(row["prompt"][0]["content"])
        assert trace.request in asked and asked.endswith(template_text("plan.tagged"))
        answer = text_in(row["completion"][0]["content"])
        assert re.fullmatch(r"<think>\n.*\n</think>\n<answer>\n\{.*\}\n</answer>", answer, re.DOTALL)
        assert parse_plan(answer).steps == trace.plan.steps
    assert report["traces"] == 9 and report["dropped"].get("the run is partial", 0) == 9 - report["traces_used"]


def test_critic_rows_show_before_and_after_and_repeat_the_verdict(made, tmp_path):
    report = data("critic-sft", made, "--out", tmp_path / "d", "--balance", "none", "--validation", 0.2)
    dataset = loaded(tmp_path / "d", tmp_path)
    runs = RunStore(made)
    seen = Counter()
    for row in (row for rows in dataset.values() for row in rows):
        trace = runs.trace(row["run_id"])
        (attempt,) = [a for a in trace.attempts_at(row["step"]) if a.attempt == row["attempt"]]
        verdict = parse_verdict(text_in(row["completion"][0]["content"]))
        assert verdict.accepted == attempt.verdict.accepted and verdict.reasoning == attempt.verdict.reasoning
        assert verdict.refined_prompt == (attempt.prompt if verdict.accepted else attempt.verdict.refined_prompt)
        before, after = row["images"]
        assert after.tobytes() == Image.open(io.BytesIO(runs.images.read(attempt.image))).tobytes()
        if attempt.sources:
            assert before.tobytes() == Image.open(io.BytesIO(runs.images.read(attempt.sources[-1]))).tobytes()
        else:
            assert before.getextrema() == ((255, 255),) * 3
        asked = row["prompt"][0]["content"]
        assert [part["type"] for part in asked] == ["image", "image", "text"]
        assert attempt.prompt in asked[2]["text"] and asked[2]["text"].endswith(template_text("verdict.tagged"))
        seen[verdict.accepted] += 1
        if not verdict.accepted:  # what was rejected led to something that was accepted
            assert any(a.verdict.accepted for a in trace.attempts_at(row["step"]) if a.attempt > attempt.attempt)
    assert seen[True] > seen[False] > 0
    assert sum(seen.values()) == report["candidates"] == sum(one["rows"] for one in report["splits"].values())


def test_no_request_is_in_both_splits_and_the_seed_decides(made, tmp_path):
    reports = [data("critic-sft", made, "--out", tmp_path / name, "--validation", 0.3, "--seed", seed)
               for name, seed in (("a", 1), ("b", 1), ("c", 2))]  # fmt: skip
    dataset = loaded(tmp_path / "a", tmp_path)
    train, validation = (set(dataset[split]["request"]) for split in ("train", "validation"))
    assert train and validation and not train & validation
    assert (
        len(train) + len(validation)
        == reports[0]["splits"]["train"]["requests"] + (reports[0]["splits"]["validation"]["requests"])
    )
    assert reports[0]["fingerprint"] == reports[1]["fingerprint"] != reports[2]["fingerprint"]


def test_accepts_rejects_and_kinds_are_balanced(made, tmp_path):
    report = data("critic-sft", made, "--out", tmp_path / "d", "--validation", 0)
    groups = report["groups"]["train"]
    assert groups["accepted"] == sum(count for group, count in groups.items() if group != "accepted")
    before = {group: count for group, count in report["groups"]["candidates"].items() if group != "accepted"}
    cap = round(2 * sum(before.values()) / len(before))
    assert all(groups[group] == min(count, cap) for group, count in before.items())
    kept = sum(counts["rows"] for counts in report["splits"].values())
    dropped = sum(count for reason, count in report["dropped"].items() if reason.startswith("balance"))
    assert report["candidates"] == kept + dropped


def test_ground_truth_comes_from_the_judge(made, tmp_path):
    data("critic-rl", made, "--out", tmp_path / "d", "--balance", "none")
    runs = RunStore(made)
    rows = [row for split in loaded(tmp_path / "d", tmp_path).values() for row in split]
    for row in rows:
        labels = read_labels(runs, row["run_id"], "judge")
        (label,) = [one for one in labels.labels if (one.step, one.attempt) == (row["step"], row["attempt"])]
        truth = label.scores
        assert (row["success"], row["semantics"], row["quality"]) == (truth.success, truth.semantics, truth.quality)
        assert len(row["images"]) == 2 and "completion" not in row
    assert {row["success"] for row in rows} == {True, False}


def test_a_dataset_needs_its_labels(made, tmp_path):
    said = refused("critic-rl", made, "--truth", "nobody", "--out", tmp_path / "d")
    assert "no run has labels 'nobody'" in said and not (tmp_path / "d").exists()
    said = refused("critic-rl", write_export(made, tmp_path), "--out", tmp_path / "e")
    assert "need labels, which only run stores have; first import the traces" in said
    assert not (tmp_path / "e").exists()


def write_export(made, folder):
    CliRunner().invoke(main, ["traces", "export", str(made), "--out", str(folder / "x.jsonl")])
    return folder / "x.jsonl"


def test_difficulty_and_disagreement(made, tmp_path):
    """What every sample gets right, or none, teaches nothing; where critic and judge differ teaches most."""
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    runs = RunStore(store)
    expected = Counter()
    for number, run_id in enumerate(runs.run_ids()):
        trace, truth = runs.trace(run_id), read_labels(runs, run_id, "judge")
        labels = Labels(run_id=run_id, name="difficulty", by="critic", model="m", samples=4)
        for attempt in trace.attempts:
            right = truth.of(attempt.step, attempt.attempt, attempt.image.sha256).scores.success
            hits = (number + attempt.step) % 5  # of 4 samples
            verdicts = [Verdict(accepted=right if n < hits else not right) for n in range(4)]
            labels.labels.append(
                Label(step=attempt.step, attempt=attempt.attempt, image=attempt.image.sha256, verdicts=verdicts)
            )
            expected[hits in (1, 2, 3)] += 1
            if number == 0:
                attempt.verdict.accepted = not right
        write_labels(runs, labels)
        runs.write_trace(trace)
    report = data("critic-rl", store, "--difficulty", "difficulty", "--out", tmp_path / "d", "--balance", "none")
    assert report["candidates"] + report["dropped"].get("duplicate row", 0) == expected[True]
    assert report["dropped"]["every sample gets it right"] and report["dropped"]["no sample gets it right"]
    report = data("critic-rl", store, "--max-rows", 4, "--out", tmp_path / "e", "--balance", "none", "--validation", 0)
    first = next(iter(runs.run_ids()))
    rows = loaded(tmp_path / "e", tmp_path)["train"]
    for row in rows:
        (attempt,) = [a for a in runs.trace(row["run_id"]).attempts_at(row["step"]) if a.attempt == row["attempt"]]
        assert attempt.verdict.accepted != row["success"]
    assert len(rows) == 4
    report = data("critic-sft", store, "--truth", "judge", "--out", tmp_path / "f")
    assert report["dropped"]["the judge does not share the verdict"] >= len(runs.trace(first).attempts)


def test_another_critic_takes_the_place_of_the_first(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    runs = RunStore(store)
    for run_id in list(runs.run_ids())[2:]:
        shutil.rmtree(store / run_id)

    async def label():
        labeller = Labeller(Profile(), runs, "critic", "second", samples=2)
        return [one async for one in labeller.label(4)]

    first = asyncio.run(label())
    assert all(len(one.verdicts) == 2 for labels in first for one in labels.labels)
    stamps = [labels.labelled_at for labels in first]
    assert sorted(stamps) == sorted(labels.labelled_at for labels in asyncio.run(label()))  # nothing is done twice
    for labels in first:
        for one in labels.labels:
            one.verdicts[0].reasoning = "The second critic says so."
        write_labels(runs, labels)
    data("critic-sft", store, "--critic", "second", "--out", tmp_path / "d")
    rows = loaded(tmp_path / "d", tmp_path)["train"]
    assert all("The second critic says so." in text_in(row["completion"][0]["content"]) for row in rows)


SEQUENCE = re.compile(
    r"<gthink>[^<]*</gthink>(?:(?:<plan>[^<]*</plan>(?:<image>\d+</image>(?:<critic><think>[^<]*</think>\{.*?\}</critic>)?)+)?"
    r"(?:<info>[^<]*</info>)?)+"
)


@pytest.mark.parametrize("mode", ["easy", "hard"])
def test_sequences_name_their_pictures_in_order(made, tmp_path, mode):
    data("sequences", made, "--mode", mode, "--format", "jsonl", "--out", tmp_path / "d", "--validation", 0)
    runs = RunStore(made)
    for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        trace = runs.trace(row["run_id"])
        assert SEQUENCE.fullmatch(row["text"])
        assert re.findall(r"<image>(\d+)</image>", row["text"]) == [str(n) for n in range(len(row["images"]))]
        kept = [result.image.sha256 for result in trace.results if result.image]
        shown = [Path(path).stem for path in row["images"]]
        assert shown == (kept if mode == "easy" else [attempt.image.sha256 for attempt in trace.attempts])
        verdicts = [json.loads(found) for found in re.findall(r"</think>(\{.*?\})</critic>", row["text"])]
        said = [attempt.verdict.accepted for attempt in trace.attempts] if mode == "hard" else []
        assert [verdict["previous_step_success"] for verdict in verdicts] == said
        for path in row["images"]:
            assert (tmp_path / "d" / path).read_bytes() == runs.images.read(trace.images_by_hash()[Path(path).stem])


PIECES = st.lists(
    st.sampled_from(
        ["a", " ", "<plan>", "</plan>", "<image>", "</IMAGE>", "<critic>", "</think>", "<info>", "<", ">", "é"]
    )
)


@given(texts=st.lists(PIECES, min_size=6, max_size=6), accepted=st.lists(st.booleans(), max_size=3), hard=st.booleans())
def test_the_tags_of_a_sequence_are_closed_whatever_the_texts(texts, accepted, hard):
    thought, prompt, info, reasoning, refined, instruction = ("".join(text) for text in texts)
    ref = ImageRef(sha256="0" * 64, media_type="image/png", width=1, height=1)
    attempts = [
        Attempt(step=0, attempt=n, prompt=prompt, seed=0, image=ref,
                verdict=Verdict(accepted=n == len(accepted) + 1, reasoning=reasoning, refined_prompt=refined))
        for n in range(1, len(accepted) + 2)
    ]  # fmt: skip
    trace = Trace(
        run_id="r", request="", status="complete",
        plan=Plan(reasoning=thought, steps=[Step(prompt="x" + prompt, instruction=instruction, auxiliary_text=info)]),
        attempts=attempts, results=[StepResult(outcome=Outcome.ACCEPTED, attempt=len(attempts), image=ref)],
    )  # fmt: skip
    text, images = sequence_of(trace, hard)
    open_tags = []
    for closing, tag in re.findall(r"<(/?)(gthink|plan|image|info|critic|think)>", text, re.IGNORECASE):
        if closing:
            assert open_tags.pop() == tag
        else:
            assert tag not in open_tags
            open_tags.append(tag)
    assert not open_tags
    assert text.count("<image>") == len(images) == (len(attempts) if hard else 1)


def exchange(role, content, answer, images=(), **fields):
    messages = [Message(role="user", content=content)]
    return Exchange(role=role, model="m", messages=messages, images=list(images), answer=answer, **fields)


async def test_rows_are_made_of_what_was_really_said(images):
    """A structured exchange becomes a tagged row; a tagged one keeps its question; unreadable ones give none."""
    before, after = [await images.put(plain_picture((n, n, n))) for n in (10, 20)]
    plan = {"reasoning": "because", "execution_plan": [
        {"step_number": 1, "step_name": "One", "instruction": "Do.", "prompt": "a <image> p", "auxiliary_text": None},
    ]}  # fmt: skip
    verdict = {"reasoning": "it is grey", "previous_step_success": False, "refine_prompt": "redder"}
    asked = f"Look: {{x}}\n{template_text('verdict.structured')}"
    attempts = [
        Attempt(step=0, attempt=1, prompt="p", seed=0, sources=[before], image=after,
                verdict=Verdict(accepted=False, refined_prompt="redder", reasoning="it is grey"), exchanges=[
                    exchange("critic", f"<image><image>{asked}", "nonsense", [before, after], problem="unreadable"),
                    exchange("critic", f"<image><image>{asked}", json.dumps(verdict), [before, after]),
                ]),
        Attempt(step=0, attempt=2, prompt="redder", seed=0, sources=[before], image=after,
                verdict=Verdict(accepted=True),
                exchanges=[exchange("critic", "<image><image>In your own way, please.", json.dumps(verdict),
                                    [before, after])]),
    ]  # fmt: skip
    structured = template_text("plan.structured")
    trace = Trace(
        run_id="r", request="go on with <image>", images=[before], status="complete",
        plan=Plan.model_validate({"steps": [{"number": 1, "instruction": "Do.", "prompt": "p"}]}),
        plan_exchanges=[exchange("planner", f"<image> ask\n{structured}", json.dumps(plan), [before])],
        attempts=attempts, results=[StepResult(outcome=Outcome.ACCEPTED, attempt=2, image=after)],
    )  # fmt: skip
    (row,) = rows_of(trace, RowRules("planner-sft"), {})
    assert row.prompt == f"<image> ask\n{template_text('plan.tagged')}" and row.images == [before]
    assert row.answer.startswith("<think>\nbecause\n</think>\n<answer>\n{")
    assert "<image>" not in row.answer and "[image]" in row.answer
    first, second = rows_of(trace, RowRules("critic-sft", runs="ended"), {})
    assert first.prompt == f"<image><image>Look: {{x}}\n{template_text('verdict.tagged')}"
    assert parse_verdict(first.answer).refined_prompt == "redder" and first.group == "rejected: other"
    assert second == DroppedPart("r, step 1, attempt 2", "the question asks for another format")
    trace.plan_exchanges[0].problem = "truncated"
    assert list(rows_of(trace, RowRules("planner-sft"), {})) == [DroppedPart("r", "no answer could be used")]
    trace.status = "partial"
    assert list(rows_of(trace, RowRules("planner-sft"), {})) == [DroppedPart("r", "the run is partial")]


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("policy", [None, PicturePolicy(), PicturePolicy(max_side=64)])
async def test_a_model_is_trained_with_pictures_as_it_is_asked(tmp_path, policy):
    """The rows of a planner that was asked about five pictures have the very bytes that it was sent."""
    plan = {"execution_plan": [{"step_number": 1, "instruction": None, "prompt": None, "auxiliary_text": "words"}]}
    images = ImageStore(str(tmp_path / "runs/.store/images"))
    photographs = [plain_picture((n, 0, 0), (1200, 900)) for n in range(5)]
    with serving(chat_reply(json.dumps(plan))) as server:
        chat = ChatPlanner(model="m", base_url=f"{server.url}/v1", pictures=policy)
        graph = build_graph(planner=chat, images=images).compile(checkpointer=InMemorySaver())
        refs = [(await images.put(one)).model_dump() for one in photographs]
        await graph.ainvoke({"request": "Describe them", "images": refs}, THREAD)
    trace = Trace.from_state((await graph.aget_state(THREAD)).values, "r", "run")
    (row,) = rows_of(trace, RowRules("planner-sft"), {})
    trained = [RowPictures(images).picture(ref, row.pictures).data for ref in row.images]
    asked = [
        base64.b64decode(part["image_url"]["url"].partition(",")[2])
        for part in server.requests[0].json["messages"][0]["content"]
        if part["type"] == "image_url"
    ]
    assert trained == asked
    widths = {None: 443, PicturePolicy(): 1200, PicturePolicy(max_side=64): 64}
    assert {Picture.stored(data).width for data in asked} == {widths[policy]}


texts_of_documents = st.text(st.characters(exclude_categories=["Cc"], include_characters="\t\n\r"), max_size=60)


@given(texts_of_documents, texts_of_documents, st.booleans())
def test_an_answer_that_is_written_is_read_back(reasoning, prompt, accepted):
    from interleaver.agents.tagged import verdict_answer

    written = verdict_answer(Verdict(accepted=accepted, refined_prompt=prompt, reasoning=reasoning), "the prompt used")
    read = parse_verdict(written)
    assert read.accepted == accepted
    if not accepted and prompt and "<image>" not in prompt and prompt.strip().lower() not in (
        "", "null", "none", "n/a",
    ):  # fmt: skip
        assert read.refined_prompt == prompt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.fixture
def poisoned(made, tmp_path):
    """A copy of the store with one of each bad thing, each in a run of its own."""
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    runs = RunStore(store)
    names = list(runs.run_ids())
    (store / names[0] / "trace.json").write_bytes((store / names[0] / "trace.json").read_bytes()[:500])
    (store / names[1] / "trace.json").write_text('{"version": 0, "plan": {"steps": []}}')

    def own(run_id):
        """A picture that no other run has."""
        others = {sha for name in names[2:] if name != run_id for sha in runs.trace(name).images_by_hash()}
        trace = runs.trace(run_id)
        ref = next(a.image for a in reversed(trace.attempts) if a.image.sha256 not in others and a.verdict.accepted)
        return trace, ref, Path(runs.images.path(ref))

    own(names[2])[2].unlink()
    own(names[3])[2].write_bytes(b"\x89PNG half")
    trace, ref, _ = own(names[4])
    text = Picture_less(b"hello, I am no picture")
    fake = ImageRef(sha256=text.sha256, media_type="image/png", width=9, height=9)
    runs.images.folder.write(f"{text.sha256[:2]}/{text.sha256}.png", text.data)
    data = trace.model_dump_json().replace(ref.sha256, fake.sha256)
    (store / names[4] / "trace.json").write_text(data)
    (store / names[5] / "trace.json").write_bytes(
        (store / names[5] / "trace.json").read_bytes().replace(b'"sha256":"', b'"sha256":"../../../etc/passwd')
    )
    return store


class Picture_less:
    def __init__(self, data):
        import hashlib

        self.data, self.sha256 = data, hashlib.sha256(data).hexdigest()


def test_bad_input_is_counted_listed_and_left_out(poisoned, tmp_path):
    report = data("critic-sft", poisoned, "--out", tmp_path / "d")
    assert report["traces"] == 6 and report["splits"]["train"]["rows"] > 5
    assert set(report["skipped"]) == {
        "truncated or damaged record", "trace of another format", "invalid trace", "missing picture",
        "damaged picture (its bytes are not those of its hash)", "not a picture",
    }  # fmt: skip
    assert all(report["skipped_examples"][reason] for reason in report["skipped"])
    card = (tmp_path / "d" / "README.md").read_text()
    assert all(reason in card for reason in report["skipped"])
    loaded(tmp_path / "d", tmp_path)


def test_bad_input_is_fatal_when_strict_and_leaves_nothing_half_done(poisoned, tmp_path):
    said = refused("critic-sft", poisoned, "--out", tmp_path / "new" / "d", "--strict")
    assert "truncated or damaged record" in said
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_written_over(made, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "precious").touch()
    assert "is not an empty folder; give a new folder" in refused("planner-sft", made, "--out", tmp_path / "d")
    assert [file.name for file in (tmp_path / "d").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("kind", "form", "said"),
    [
        ("planner-sft", "verl", "cannot hold planner-sft; choose one of: hf, llamafactory"),
        ("critic-rl", "llamafactory", "cannot hold critic-rl; choose one of: hf, verl"),
        ("sequences", "verl", "cannot hold sequences; choose one of: hf, jsonl"),
    ],
)
def test_a_format_that_does_not_fit_is_told(made, tmp_path, kind, form, said):
    assert said in refused(kind, made, "--format", form, "--out", tmp_path / "d")


def test_llama_factory_finds_its_description(made, tmp_path):
    data("critic-sft", made, "--format", "llamafactory", "--out", tmp_path / "d", "--validation", 0.2)
    info = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
    assert set(info) == {"critic_sft", "critic_sft_validation"}
    for entry in info.values():
        for line in (tmp_path / "d" / entry["file_name"]).read_text().splitlines():
            row = json.loads(line)
            assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
            assert sum(message["content"].count("<image>") for message in row["messages"]) == len(row["images"]) == 2
            assert all((tmp_path / "d" / path).is_file() for path in row["images"])


def test_verl_rows_have_the_fields_of_the_reference(made, tmp_path):
    data("critic-rl", made, "--format", "verl", "--out", tmp_path / "d", "--validation", 0)
    rows = [json.loads(line) for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines()]
    for row in rows:
        assert {"origin_prompt", "rewritten_prompt", "origin_image_path", "edited_image_path"} <= set(row)
        assert set(row["evaluation"]) == {"success", "semantics", "quality"}
        assert row["images"] == [row["origin_image_path"], row["edited_image_path"]]
        assert row["prompt"][0]["content"] == row["problem"] and row["problem"].count("<image>") == 2
        assert row["reward_model"]["ground_truth"] == row["answer"] == str(row["evaluation"]["success"]).lower()
    blanks = [row for row in rows if "data/interleave/white.png" in row["origin_image_path"]]
    assert blanks and {row["extra_info"]["step"] for row in blanks} == {0}
    for row in rows:
        before = Picture.stored((tmp_path / "d" / row["origin_image_path"]).read_bytes())
        assert (before.ref == white_canvas(before.width, before.height).ref) == (row in blanks)


def test_the_card_tells_what_is_in_it(made, tmp_path):
    report = data("critic-sft", made, "--out", tmp_path / "d", "--validation", 0.2)
    card = (tmp_path / "d" / "README.md").read_text()
    assert f"| train | {report['splits']['train']['rows']} |" in card and report["fingerprint"] in card
    for picture in re.findall(r"!\[\]\((.*?)\)", card):
        with Image.open(tmp_path / "d" / picture) as image:
            assert max(image.size) <= 256
    assert json.loads((tmp_path / "d" / "dataset.json").read_text()) == report


def test_rows_that_differ_in_nothing_that_matters_are_one():
    row = TrainingRow(
        run_id="a", step=0, attempt=1, request="r", prompt="q", images=[], answer="It is RED.", group="accepted"
    )
    same = row.model_copy(update={"run_id": "b", "answer": "it is  red", "seed": 3})
    other = row.model_copy(update={"group": "rejected: colour"})
    assert row.signature() == same.signature() != other.signature()


async def test_a_judge_labels_what_it_can_and_says_what_it_cannot(tmp_path, images):
    runs = RunStore(tmp_path / "runs")
    after = await runs.images.put(plain_picture())
    gone = ImageRef(sha256="1" * 64, media_type="image/png", width=64, height=64)
    plan = Plan(steps=[Step(number=1, instruction="Draw a red cat.", prompt="p")])
    attempts = [Attempt(step=0, attempt=n, prompt="p", seed=0, image=ref) for n, ref in ((1, after), (2, gone))]
    runs.adopt(Trace(run_id="r", request="x", status="partial", plan=plan, attempts=attempts, results=[None]))
    labeller = Labeller(Profile(), runs, "judge", "judge")
    (labels,) = [one async for one in labeller.label(2)]
    assert [one.scores for one in labels.labels] == [None, None]
    assert "sandbox's own pictures" in labels.labels[0].problems[0]
    assert "is not in the image store" in labels.labels[1].problems[0]
    scores = Scores(editing=9, preserving=4, naturalness=10, soundness=9, success=False)
    assert (scores.semantics, scores.quality, scores.overall) == (4, 9, 6)


def test_requests_that_are_nearly_the_same_stay_together(tmp_path):
    """Also through others between them, however the rows come."""
    from random import Random

    from interleaver.training.data.row_store import RowStore

    random = Random(1)
    texts = ["Show me how to fold a paper crane out of one square sheet of thin blue paper, step by step, please"]
    for _ in range(30):
        at = random.randrange(len(texts[-1]) - 1)
        texts.append(texts[-1][:at] + random.choice("abcdefgh") + texts[-1][at + 1 :])
    others = [f"Something else entirely, number {random.random()}, about {random.random()}" for _ in range(40)]
    rows = [TrainingRow(run_id=f"r{n}", request=text, prompt="", images=[]) for n, text in enumerate(texts + others)]
    random.shuffle(rows)
    for seed in range(4):
        spool = RowStore(tmp_path / f"{seed}.sqlite", 0.9, seed)
        for row in rows:
            spool.add(row, 0)
        spool.group_requests()
        spool.split(0.3)
        split = {row.request: name for name in ("train", "validation") for row, _ in spool.rows(name)}
        spool.close()
        assert len({split[text] for text in texts}) == 1 and set(split.values()) == {"train", "validation"}


def test_a_trace_that_makes_no_sense_costs_no_other(made, tmp_path):
    lines = write_export(made, tmp_path).read_text().splitlines()
    bad = json.loads(lines[0]) | {"results": []}
    pictureless = json.loads(lines[1])
    del pictureless["attempts"][-1]["image"]
    (tmp_path / "y.jsonl").write_text("\n".join(map(json.dumps, [bad, pictureless])) + "\n" + "\n".join(lines[2:]))
    images = made / ".store" / "images"
    report = data("sequences", tmp_path / "y.jsonl", "--images", images, "--out", tmp_path / "d", "--mode", "hard")
    assert sum(split["rows"] for split in report["splits"].values()) >= len(lines) - 3
    assert report["skipped"]["invalid trace"] >= 1


def test_other_labels_need_another_name(made, tmp_path):
    (tmp_path / "p.toml").write_text('[judge]\nbackend = "chat"\nmodel = "m"\nbase_url = "http://127.0.0.1:1/v1"\n')
    result = CliRunner().invoke(main, ["traces", "label", str(made), "--profile", str(tmp_path / "p.toml")])
    assert result.exit_code == 2 and "choose another --name" in result.stderr


TOKENS = ["<|image_pad|>", "<|vision_start|>", "<|im_end|>", "<|endoftext|>", "<video>", "</s>", "<audio>", "<pad>"]


@pytest.mark.parametrize("token", TOKENS)
def test_texts_that_look_like_special_tokens_are_changed(token):
    row = TrainingRow(run_id="r", request="q", prompt=f"<image> Draw {token}.", images=[], answer=f"a {token} b")
    safe = row.without_special_tokens()
    assert token not in safe.prompt + safe.answer and safe.prompt.startswith("<image> Draw [")
    assert safe.without_special_tokens() is safe


@pytest.mark.parametrize(
    "text", ["<image>", "a < b | c > d", "<think>x</think>", "<answer>", "|x|", "<||>", "<plan>", "<b>"]
)
def test_other_texts_stay(text):
    row = TrainingRow(run_id="r", request="q", prompt=text, images=[])
    assert row.without_special_tokens() is row


async def test_the_card_counts_changed_texts(tmp_path):
    images = ImageStore(str(tmp_path / "runs/.store/images"))
    plan = Plan.model_validate({"steps": [{"prompt": "a <|video_pad|> cat", "instruction": "A cat."}]})
    builder = build_graph(
        planner=ScriptedPlanner(plan), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    )
    graph = builder.compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"request": "Draw a <video> cat"}, THREAD)
    trace = Trace.from_state((await graph.aget_state(THREAD)).values, "r", "run")
    (tmp_path / "t.jsonl").write_text(trace.model_dump_json())
    out = tmp_path / "d"
    report = await asyncio.to_thread(data, "planner-sft", tmp_path / "t.jsonl", "--out", out, "--validation", 0)
    assert report["neutralised"] == 1
    assert "texts looked like special tokens" in (tmp_path / "d/README.md").read_text()


async def test_a_question_with_its_own_tagged_format_is_taken_as_it_is(images):
    """As the official prompts ask, whose instructions are none of ours."""
    before, after = [await images.put(plain_picture((n, n, n))) for n in (10, 20)]
    plan = {"execution_plan": [{"step_number": 1, "instruction": "Do.", "prompt": "p"}]}
    verdict = json.dumps({"previous_step_success": True, "refine_prompt": ""})
    question = "<image><image>Judge this, in tags of your own."
    planned = exchange("planner", "Plan it in tags.", f"<think>so</think><answer>{json.dumps(plan)}</answer>", [])
    judged = exchange("critic", question, f"<think>ok</think>\n<answer>{verdict}</answer>", [before, after])
    attempt = Attempt(step=0, attempt=1, prompt="p", seed=0, sources=[before], image=after,
                      verdict=Verdict(accepted=True), exchanges=[judged])  # fmt: skip
    trace = Trace(
        run_id="r",
        request="go on",
        status="complete",
        plan=Plan.model_validate({"steps": [{"number": 1, "instruction": "Do.", "prompt": "p"}]}),
        plan_exchanges=[planned],
        attempts=[attempt],
        results=[StepResult(outcome=Outcome.ACCEPTED, attempt=1, image=after)],
    )
    (row,) = rows_of(trace, RowRules("planner-sft"), {})
    assert row.prompt == "Plan it in tags."
    (row,) = rows_of(trace, RowRules("critic-sft"), {})
    assert (row.prompt, row.images) == (question, [before, after])
