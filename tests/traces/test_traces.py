"""One type of trace, whatever it is read from."""

import asyncio
import gzip
import json
import os
import shutil
import sqlite3

import aiosqlite
import pytest
from click.testing import CliRunner
from conftest import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from interleaver import build_graph
from interleaver.cli import main
from interleaver.config import Profile
from interleaver.errors import BackendError, BadInput, shown
from interleaver.runner import Runner
from interleaver.traces.images import ImageStore
from interleaver.traces.runs import RunStore
from interleaver.traces.sources import open_source
from interleaver.traces.trace import Skipped, Trace, read_trace
from interleaver.types import Exchange, Outcome, Plan, Step


def opened(address, images):
    """A source; what brings its own pictures puts them into `images`."""
    return open_source(
        address,
        lambda root: RunStore(root or "unused", images),
        lambda saver: build_graph().compile(checkpointer=saver),
    )


def scripted(images, *verdicts, steps=2, **more):
    return build_graph(
        planner=more.get("planner") or ScriptedPlanner(drawn_plan(steps)), critic=ScriptedCritic(*verdicts),
        generator=more.get("generator") or PlainGenerator(), images=images,
    )  # fmt: skip


async def traced(images, *verdicts, run_id="r", **more):
    """The trace of a run of the graph with scripted models."""
    context = more.pop("context", None)
    graph = scripted(images, *verdicts, **more).compile()
    async for state in graph.astream({"request": "Draw it"}, context=context, stream_mode="values"):
        pass
    return Trace.from_state(state, run_id, "run")


async def read(source):
    return [found async for found in source.read()]


async def test_a_trace_holds_everything_that_happened(images):
    trace = await traced(images, False, True, generator=PlainGenerator({2: BackendError("refused")}))
    assert (trace.status, trace.request, len(trace.plan.steps)) == ("partial", "Draw it", 2)
    assert [(one.step, one.attempt, one.prompt) for one in trace.attempts] == [
        (0, 1, "p1"),
        (0, 2, "p1!"),
        (1, 1, "p2"),
    ]
    assert trace.outcome(0) is Outcome.ACCEPTED and trace.outcome(1) is Outcome.FAILED
    assert trace.attempts[2].error == "refused" and trace.attempts_at(0)[1].verdict.accepted
    refs = {ref.sha256 for attempt in trace.attempts for ref in [*attempt.sources, attempt.image] if ref}
    assert set(trace.pictures()) == refs
    assert read_trace(trace.model_dump_json(exclude_none=True).encode(), "x") == trace


async def test_exchanges_of_plan_attempts_and_drafts_are_found(images):
    trace = await traced(images)
    said = Exchange(role="critic", model="m", messages=[], images=[plain_picture().ref])
    trace.attempts[0].exchanges = [said]
    trace.plan_exchanges = [said.model_copy(update={"role": "planner"})]
    assert [one.role for one in trace.exchanges()] == ["planner", "critic"]
    assert plain_picture().ref.sha256 in trace.pictures()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "truncated or damaged record"),
        (lambda text: b"", "truncated or damaged record"),
        (lambda text: b"[1, 2]", "not a trace"),
        (lambda text: b'{"status": "complete"}', "not a trace"),
        (lambda text: text.replace(b'"version":1', b'"version":0'), "trace of another version"),
        (lambda text: text.replace(b'"version":1,', b""), "trace of another version"),
        (lambda text: text.replace(b'"status":"complete"', b'"status":"fine"'), "invalid trace"),
        (lambda text: text.replace(b'"sha256":"', b'"sha256":"../../'), "invalid trace"),
    ],
)
async def test_what_is_no_trace_is_told_and_not_raised(images, change, reason):
    text = (await traced(images)).model_dump_json(exclude_none=True).encode()
    found = read_trace(change(text), "here")
    assert isinstance(found, Skipped) and found.reason == reason and found.what == "here"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told(data):
    assert isinstance(read_trace(data, "x"), Skipped)


@given(cut=st.integers(0, 10_000))
def test_a_trace_that_is_cut_anywhere_is_told(cut):
    plan = Plan(steps=[Step(prompt="p")])
    data = Trace(run_id="r", request="é" * 40, status="complete", plan=plan, results=[None]).model_dump_json().encode()
    found = read_trace(data[:cut], "x")
    assert isinstance(found, Skipped) == (cut < len(data))


async def test_an_export_is_read_back_line_by_line(tmp_path, images):
    traces = [await traced(images, run_id=f"r{n}") for n in range(3)]
    lines = [trace.model_dump_json(exclude_none=True) for trace in traces]
    lines.insert(1, lines[0][:100])
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("x.jsonl", "x.jsonl.gz"):
        found = await read(opened(str(tmp_path / name), images))
        assert [one.run_id for one in found if isinstance(one, Trace)] == ["r0", "r1", "r2"]
        assert found[1].reason == "truncated or damaged record" and "line 2" in found[1].what
    (tmp_path / "cut.jsonl.gz").write_bytes((tmp_path / "x.jsonl.gz").read_bytes()[:-60])
    found = await read(opened(str(tmp_path / "cut.jsonl.gz"), images))
    assert found[-1].reason == "truncated or damaged record"


async def test_a_checkpointer_gives_a_trace_for_each_thread_and_turn(tmp_path, images):
    path = tmp_path / "checkpoints.sqlite"
    async with aiosqlite.connect(path) as connection:
        graph = scripted(images, False).compile(checkpointer=AsyncSqliteSaver(connection))
        for thread, request in (("a", "one"), ("b", "two"), ("b", "three")):
            await graph.ainvoke({"request": request}, {"configurable": {"thread_id": thread}})
        other = StateGraph(Other)
        other.add_node("work", lambda state: {"n": 1})
        other.add_edge(START, "work")
        saver = AsyncSqliteSaver(connection)
        await other.compile(checkpointer=saver).ainvoke({"n": 0}, {"configurable": {"thread_id": "c"}})
    found = await read(opened(f"sqlite:{path}", images))
    traces = {one.run_id: one for one in found if isinstance(one, Trace)}
    assert {name: trace.request for name, trace in traces.items()} == {"a": "one", "b-1": "two", "b-2": "three"}
    assert [len(trace.attempts) for trace in traces.values()] == [3, 2, 2]
    assert all(trace.status == "complete" and trace.source == "checkpoint" for trace in traces.values())
    assert [(one.what, one.reason) for one in found if isinstance(one, Skipped)] == [("c", "not a run of this graph")]


class Other(TypedDict, total=False):
    n: int


class Report(TypedDict, total=False):
    request: str
    document: dict


async def test_a_run_inside_another_graph_is_found_in_its_thread(tmp_path, images):
    path = tmp_path / "checkpoints.sqlite"
    async with aiosqlite.connect(path) as connection:
        builder = StateGraph(Report)
        builder.add_node("illustrate", scripted(images, False).compile())
        builder.add_edge(START, "illustrate")
        graph = builder.compile(checkpointer=AsyncSqliteSaver(connection))
        await graph.ainvoke({"request": "inner"}, {"configurable": {"thread_id": "parent"}})
    (found,) = await read(opened(f"sqlite:{path}", images))
    assert found.request == "inner" and len(found.attempts) == 3 and found.run_id.startswith("parent-")


async def test_what_is_no_database_is_told(tmp_path, images):
    with pytest.raises(BadInput, match="there is no SQLite database"):
        opened(f"sqlite:{tmp_path / 'none'}", images)
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(BadInput, match="is not an SQLite database of checkpoints"):
        await read(opened(f"sqlite:{tmp_path / 'text'}", images))


def write_record(folder, **changes):
    """A record as the reference implementation writes it, with two steps and a rejected attempt."""
    folder.mkdir(parents=True)
    for name, colour in (("s1_0.png", (9, 9, 9)), ("s1_1.png", (200, 0, 0)), ("s2_0.png", (0, 0, 200))):
        (folder / name).write_bytes(plain_picture(colour).data)
    steps = [
        {"step": 1, "prompt": "a hat", "refine_prompt": "a red hat", "source_img": None, "target_img": "s1_0.png",
         "success": False, "reasoning": "It is grey."},
        {"step": 1, "prompt": "a red hat", "refine_prompt": "a red hat", "source_img": None,
         "target_img": "/old/machine/run/s1_1.png", "success": True, "reasoning": "Good."},
        {"step": 2, "prompt": "a blue hat", "refine_prompt": "", "source_img": "s1_1.png", "target_img": "s2_0.png",
         "success": True, "reasoning": "Good."},
    ]  # fmt: skip
    plan = [
        {"step_number": n, "step_name": "hat", "instruction": "A hat.", "prompt": prompt, "auxiliary_text": None}
        for n, prompt in ((1, "a hat"), (2, "a blue hat"))
    ]
    plan.append({"step_number": 3, "step_name": "", "instruction": None, "prompt": None, "auxiliary_text": "The end."})
    record = {"user_input": "hats", "global_context": {"reasoning": "two", "execution_plan": plan}, "steps": steps}
    for path, value in changes.items():
        place, *keys = path.split("__")
        target = record[place]
        for key in keys[:-1]:
            target = target[int(key) if key.isdigit() else key]
        target[keys[-1]] = value
    (folder / "execution_record.json").write_text(json.dumps(record))


async def test_records_of_the_reference_implementation_are_read(tmp_path, images):
    write_record(tmp_path / "records" / "s1")
    (trace,) = await read(opened(str(tmp_path / "records"), images))
    assert (trace.request, trace.status, trace.source) == ("hats", "complete", "record")
    assert [(one.step, one.attempt, one.verdict.accepted) for one in trace.attempts] == [
        (0, 1, False), (0, 2, True), (1, 1, True),
    ]  # fmt: skip
    assert trace.attempts[0].verdict.refined_prompt == "a red hat"
    assert trace.attempts[2].sources == [trace.attempts[1].image]
    assert [str(result.outcome) for result in trace.results] == ["accepted", "accepted", "text"]
    assert (await images.get(trace.attempts[1].image)).data == plain_picture((200, 0, 0)).data


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps__0__target_img": "../../../etc/passwd"}, "path outside its folder"),
        ({"steps__0__target_img": "/etc/passwd"}, "path outside its folder"),
        ({"steps__0__target_img": "../other.png"}, "path outside its folder"),
        ({"steps__0__target_img": "gone.png"}, "missing picture"),
        ({"steps__0__target_img": "execution_record.json"}, "not a picture"),
        ({"steps__0__success": "yes"}, "invalid trace"),
        ({"steps__0__step": 9}, "invalid trace"),
        ({"steps__0__prompt": None}, "invalid trace"),
        ({"global_context__execution_plan": None}, "invalid trace"),
    ],
)
async def test_a_poisoned_record_is_left_out_and_told(tmp_path, images, changes, reason):
    (tmp_path / "other.png").write_bytes(plain_picture().data)
    write_record(tmp_path / "records" / "bad", **changes)
    write_record(tmp_path / "records" / "good")
    found = await read(opened(str(tmp_path / "records"), images))
    assert [one.reason for one in found if isinstance(one, Skipped)] == [reason]
    assert [one.run_id for one in found if isinstance(one, Trace)] == ["good"]


async def test_a_link_out_of_the_folder_is_not_followed(tmp_path, images):
    (tmp_path / "secret.png").write_bytes(plain_picture().data)
    write_record(tmp_path / "records" / "bad", steps__0__target_img="link.png")
    (tmp_path / "records" / "bad" / "link.png").symlink_to(tmp_path / "secret.png")
    (found,) = await read(opened(str(tmp_path / "records"), images))
    assert found.reason == "path outside its folder"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run store with two runs of the sandbox, made without documents."""
    folder = tmp_path_factory.mktemp("made") / "runs"

    async def make():
        runner = Runner(Profile(), folder, documents=False)
        for request in ("a cat beside a tree", "How to draw a boat in 2 steps?"):
            record = await runner.begin(request, [], {"seed": 3}, tags={"category": "x"})
            async for _ in runner.work(record):
                pass

    asyncio.run(make())
    return folder


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_run_store_is_listed_shown_and_counted(made):
    rows = [json.loads(line) for line in invoke("traces", "list", made, "--json").splitlines()]
    assert [row["request"] for row in rows] == ["a cat beside a tree", "How to draw a boat in 2 steps?"]
    shown = invoke("traces", "show", made, rows[0]["run_id"])
    assert "a cat beside a tree" in shown and "accepted" in shown and "planner: sandbox" in shown
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    invoke("traces", "show", made, rows[0]["run_id"], "--out", made.parent / "page")
    assert "a cat beside a tree" in (made.parent / "page" / "document.html").read_text()
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    told = json.loads(invoke("traces", "stats", made, "--json"))
    assert told["runs"] == 2 and told["tags"] == {"category": {"x": 2}}
    assert told["drawings"] == sum(at["judged"] for at in told["accepted_at_attempt"].values())
    assert sum(told["failure_kinds"].values()) == told["drawings"] - told["outcomes"]["accepted"]
    assert "attempt 1" in invoke("traces", "stats", made)


def test_what_is_exported_can_be_imported_with_its_pictures(made, tmp_path):
    file, copy = tmp_path / "x.jsonl.gz", tmp_path / "copy"
    invoke("traces", "export", made, "--out", file, "--pictures", tmp_path / "pictures")
    assert "2 imported" in invoke("traces", "import", file, "--images", tmp_path / "pictures", "--out", copy)
    assert "2 there already" in invoke("traces", "import", file, "--images", tmp_path / "pictures", "--out", copy)
    first, second = (RunStore(folder) for folder in (made, copy))
    assert list(first.run_ids()) == list(second.run_ids())
    for run_id in first.run_ids():
        assert first.trace(run_id) == second.trace(run_id)
        for ref in second.trace(run_id).pictures().values():
            assert second.images.read(ref) == first.images.read(ref)


def test_what_cannot_be_read_is_counted_and_strictly_fatal(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    first, _ = RunStore(store).run_ids()
    (store / first / "trace.json").write_text('{"version": 1, "plan"')
    told = json.loads(invoke("traces", "stats", store, "--json"))
    assert told["runs"] == 1 and told["skipped"] == {"truncated or damaged record": 1}
    assert "truncated or damaged record" in CliRunner().invoke(main, ["traces", "stats", str(store), "--strict"]).stderr
    (store / first / "trace.json").unlink()
    (store / first / "document.json").write_text("{}")
    assert json.loads(invoke("traces", "stats", store, "--json"))["skipped"] == {"trace of another version": 1}
    assert invoke("runs", "list", "--out", store).count("unreadable") == 1


def test_gc_finds_what_no_run_needs_and_nothing_else(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    runs = RunStore(store)
    stray = plain_picture((1, 2, 3), (9, 9))
    runs.images.folder.write(f"{stray.ref.sha256[:2]}/{stray.ref.sha256}.png", stray.data)
    (store / ".store" / "images" / "ab").mkdir(exist_ok=True)
    (store / ".store" / "images" / "ab" / ".draft.png.0123").write_bytes(b"half")
    needed = {sha for run_id in runs.run_ids() for sha in runs.trace(run_id).pictures()}
    said = invoke("traces", "gc", store)
    assert "0 pictures" in said and "0 checkpoint files" in said  # they are young
    for file in (store / ".store").rglob("*"):
        os.utime(file, (0, 0))
    said = invoke("traces", "gc", store, "--delete")
    assert "2 checkpoint files of complete runs, 1 leftovers" in said
    assert {file.path.rpartition("/")[2].partition(".")[0] for file in runs.images.folder.files()} == needed
    assert json.loads(invoke("traces", "stats", store, "--json"))["runs"] == 2


async def test_gc_keeps_the_pictures_of_a_run_that_is_not_finished(tmp_path):
    runner = Runner(Profile(), tmp_path / "runs")
    record = await runner.begin("How to draw a cat step by step?", [], {})
    verdicts = 0
    async for event in runner.work(record):
        verdicts += event.type == "verdict_given"
        if verdicts == 3:
            break
    before = {file.path for file in runner.runs.images.folder.files()}
    for file in (tmp_path / "runs" / ".store").rglob("*"):
        os.utime(file, (0, 0))
    await asyncio.to_thread(invoke, "traces", "gc", tmp_path / "runs", "--delete")
    gone = before - {file.path for file in runner.runs.images.folder.files()}
    assert len(gone) <= 1  # the white page, which is made anew when it is needed
    async for event in runner.work(record):
        pass
    assert runner.runs.trace(record.run_id).status == "complete"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing", "there are no runs in 'nothing'"),
        ("langsmith:p?sinse=2026-01-01", "no parameter 'sinse' \\(did you mean 'since'\\?\\)"),
        ("langsmith:p?since=yesterday", "since is 'yesterday'; give a date"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(tmp_path, address, said):
    with pytest.raises(BadInput, match=said):
        opened(address, ImageStore(str(tmp_path)))


def told_error(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_name_that_leads_out_of_the_store_is_refused(made, tmp_path):
    invoke("traces", "export", made, "--out", tmp_path / "x.jsonl")
    trace = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    (tmp_path / "x.jsonl").write_text(json.dumps(trace | {"run_id": "../../escaped"}))
    result = CliRunner().invoke(
        main, ["traces", "import", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "a" / "b" / "c")]
    )
    assert "1 skipped" in result.stdout and "run_id" in result.stderr
    assert not list(tmp_path.rglob("escaped*"))


def test_a_page_is_not_written_over_what_is_there(made, tmp_path):
    (tmp_path / "home" / "pictures").mkdir(parents=True)
    (tmp_path / "home" / "pictures" / "wedding.jpg").write_bytes(b"precious")
    run_id = next(iter(RunStore(made).run_ids()))
    assert "is there already" in told_error("traces", "show", made, run_id, "--out", tmp_path / "home")
    assert (tmp_path / "home" / "pictures" / "wedding.jpg").exists()


def test_gc_deletes_nothing_when_it_does_not_know_what_is_needed(made, tmp_path):
    store = tmp_path / "runs"
    shutil.copytree(made, store)
    first, _ = RunStore(store).run_ids()
    (store / first / "trace.json").write_text("{half")
    said = told_error("traces", "gc", store, "--delete", "--older-than", 0)
    assert f"run {first} cannot be read" in said and "nothing is deleted" in said
    assert "there are no runs" in told_error("traces", "gc", tmp_path / "typo", "--delete", "--older-than", 0)
    (tmp_path / "p.toml").write_text(f'[store]\nimages = "{tmp_path / "shared"}"\n')
    said = told_error("traces", "gc", made, "--profile", tmp_path / "p.toml", "--delete")
    assert "may have other users; name them with --keep" in said


async def test_an_import_leaves_a_run_that_is_being_made_alone(made, tmp_path):
    file = tmp_path / "x.jsonl"
    await asyncio.to_thread(invoke, "traces", "export", made, "--out", file)
    trace = json.loads(file.read_text().splitlines()[0])
    runner = Runner(Profile(), tmp_path / "runs", documents=False)
    record = await runner.begin(trace["request"], [], {}, run_id=trace["run_id"])
    said = await asyncio.to_thread(invoke, "traces", "import", file, "--images", made / ".store/images",
                              "--out", tmp_path / "runs")  # fmt: skip
    assert "1 there already" in said and "1 imported" in said
    assert runner.runs.record(record.run_id) == record and runner.runs.trace(record.run_id) is None


def test_a_second_import_brings_pictures_that_were_missing(made, tmp_path):
    file, copy = tmp_path / "x.jsonl", tmp_path / "copy"
    invoke("traces", "export", made, "--out", file)
    said = invoke("traces", "import", file, "--images", tmp_path / "nothing", "--out", copy)
    assert "2 imported" in said and "pictures missing" in said
    said = invoke("traces", "import", file, "--images", made / ".store" / "images", "--out", copy)
    assert "2 there already" in said and "missing" not in said
    runs = RunStore(copy)
    assert all(runs.images.read(ref) for run_id in runs.run_ids() for ref in runs.trace(run_id).pictures().values())


async def test_records_with_like_names_stay_apart(tmp_path, images):
    for name in ("x/y", "x-y", "my record", "_u"):
        write_record(tmp_path / "records" / name)
    names = [trace.run_id for trace in await read(opened(str(tmp_path / "records"), images))]
    assert len(set(names)) == 4 and "x-y" in names


async def test_a_database_that_is_read_is_not_changed(tmp_path, images):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (n)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="is not an SQLite database of checkpoints"):
        await read(opened(f"sqlite:{path}", images))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("postgresql://u:hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:hun@ter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?password=hunter2&x=1", "postgresql://h/d?password=***&x=1"),
        ("http://u:hunter2@h:1", "http://u:***@h:1"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("http://h:2024/a:b", "http://h:2024/a:b"),
    ],
)
def test_a_password_in_an_address_is_not_told(tmp_path, address, safe):
    assert shown(address) == safe
    if address.startswith("http://u"):
        assert "hunter2" not in CliRunner().invoke(main, ["traces", "list", address]).output
