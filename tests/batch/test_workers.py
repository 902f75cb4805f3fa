"""Many runs at once: bounded, resumable, and not brought down by one of them."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import aclosing

import pytest
from click.testing import CliRunner
from support.batches import item
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver.batch.workers import BatchWorker, make_all_runs
from interleaver.calling import run_concurrently
from interleaver.cli import main
from interleaver.errors import BackendError, BadInput
from interleaver.graph.builder import build_graph
from interleaver.profile import Prices, Profile
from interleaver.runner import Runner
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import Trace
from interleaver.types import Exchange, Usage

REQUESTS = ["a cat beside a house", "a house beside a tree", "a tree beside a boat", "a flower beside a tree"]


def prompts(folder, *rows):
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def batch(*arguments, code=0):
    result = CliRunner().invoke(main, ["batch", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_every_row_gets_its_run_and_none_is_made_twice(tmp_path):
    (tmp_path / "start.png").write_bytes(plain_picture((190, 220, 240), (128, 128)).data)
    rows = [{"request": request, "tags": {"category": "c"}} for request in REQUESTS]
    rows.append({"request": "<image> Add a sun.", "images": ["start.png"], "seed": 7})
    path = prompts(tmp_path, *rows)
    told = batch(path, "--out", tmp_path / "runs", "--workers", 3)
    assert (told["runs"], told["made_now"], told["statuses"], told["problems"]) == (5, 5, {"complete": 5}, [])
    runs = RunStore(tmp_path / "runs")
    traces = [runs.trace(run_id) for run_id in runs.run_ids()]
    assert {trace.request for trace in traces} == {row["request"] for row in rows}
    assert {trace.seed for trace in traces if trace.images} == {7}
    assert all(trace.tags == {"category": "c"} for trace in traces if not trace.images)
    assert not list((tmp_path / "runs").rglob("document.html"))
    again = batch(path, "--out", tmp_path / "runs")
    assert (again["made_now"], again["statuses"]) == (0, {"complete": 5})
    repeated = batch(path, "--out", tmp_path / "runs", "--repeat", 2, "--documents")
    assert (repeated["runs"], repeated["made_now"]) == (10, 5)
    assert len(list((tmp_path / "runs").rglob("document.html"))) == 10  # also of the runs that were made before


def test_what_cannot_be_made_is_told_and_stops_nothing(tmp_path):
    path = prompts(
        tmp_path, {"request": REQUESTS[0]}, "{half", {"reqest": "x"}, {"request": ""}, {"request": "<image> go on"},
        {"request": "<image> go on", "images": ["none.png"]}, {"request": "a zzz"}, {"request": REQUESTS[1]},
    )  # fmt: skip
    told = batch(path, "--out", tmp_path / "runs", code=3)
    assert told["statuses"] == {"complete": 2, "refused": 2, "failed": 1}
    problems = {problem["line"]: problem["problem"] for problem in told["problems"]}
    assert set(problems) == {2, 3, 4, 5, 6, 7}
    assert "unknown field" in problems[3] or "request" in problems[3]
    assert "1 <image>" in problems[5] and "none.png" in problems[6] and "does not know" in problems[7]


def test_a_batch_that_would_have_to_ask_is_refused(tmp_path):
    (tmp_path / "p.toml").write_text("[run]\nreview = true\n")
    arguments = ["batch", str(prompts(tmp_path, {"request": "a"})), "--profile", str(tmp_path / "p.toml")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "a batch cannot ask for reviews" in result.stderr


def test_a_list_that_cannot_be_read_is_told(tmp_path):
    result = CliRunner().invoke(main, ["batch", str(tmp_path / "none.jsonl")])
    assert result.exit_code == 2 and "cannot be read" in result.stderr


class Slow(PlainGenerator):
    """Takes a while, and notes how many are at work."""

    def __init__(self, seconds=0.02):
        super().__init__()
        self.seconds = seconds
        self.now = self.most = 0

    async def generate(self, prompt, sources, seed, size):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        return await super().generate(prompt, sources, seed, size)


def runner_with(tmp_path, generator, critic=None, planner=None, concurrency=None):
    runner = Runner(Profile(), tmp_path / "runs", documents=False)
    runner.builder = build_graph(
        planner=planner or ScriptedPlanner(drawn_plan(2)), critic=critic or ScriptedCritic(), generator=generator,
        images=runner.runs.images, concurrency=concurrency,
    )  # fmt: skip
    return runner


@pytest.mark.parametrize(("limit", "most"), [({}, None), ({"generator": 2}, 2)])
async def test_as_many_calls_at_a_time_as_the_backend_takes(tmp_path, limit, most):
    generator = Slow()
    worker = BatchWorker(runner_with(tmp_path, generator, concurrency=limit), None)
    items = [item(f"request {n}", n) for n in range(12)]
    done = [one async for one in run_concurrently(items, worker.make, 6)]
    assert [one.status for one in done] == ["complete"] * 12 and len(generator.calls) == 24
    assert generator.most == most if limit else generator.most > 2


async def test_waiting_for_a_slot_does_not_count_as_work(tmp_path):
    worker = BatchWorker(runner_with(tmp_path, Slow(0.1), concurrency={"generator": 1}), None)
    async for _ in run_concurrently([item(f"r{n}", n) for n in range(8)], worker.make, 8):
        pass
    runs = worker.runner.runs
    seconds = [attempt.draw_seconds for run_id in runs.run_ids() for attempt in runs.trace(run_id).attempts]
    assert len(seconds) == 16 and max(seconds) < 0.6  # the last one waited 0.7 s


async def test_one_item_that_breaks_does_not_stop_the_others(tmp_path):
    class Breaking(ScriptedPlanner):
        async def plan(self, request, images):
            if "2" in request:
                raise RuntimeError("out of luck")
            return await super().plan(request, images)

    worker = BatchWorker(runner_with(tmp_path, PlainGenerator(), planner=Breaking(drawn_plan(1))), None)
    done = {one.line: one async for one in run_concurrently([item(f"r{n}", n) for n in range(4)], worker.make, 2)}
    assert [done[n].status for n in range(4)] == ["complete", "complete", "failed", "complete"]
    assert "out of luck" in done[2].problem
    (tmp_path / "runs" / done[1].run_id / "run.json").write_text("{}")  # and so does damage on the disk
    (tmp_path / "runs" / done[1].run_id / "trace.json").write_text("{}")
    assert (await worker.make(item("r1", 1))).status == "refused"


async def test_partial_runs_are_carried_on_when_asked_for(tmp_path):
    generator = PlainGenerator({1: BackendError("no"), 2: BackendError("no")})
    worker = BatchWorker(runner_with(tmp_path, generator), None)
    assert (await worker.make(item("r"))).status == "partial"
    assert (await worker.make(item("r"))).worked is False
    worker.retry = True
    first = await worker.make(item("r"))
    assert (first.status, first.worked) == ("partial", True)
    assert (await worker.make(item("r"))).status == "complete"
    assert [call[0] for call in generator.calls] == ["p1", "p2", "p2", "p2"]  # the first picture was drawn once


async def test_two_workers_on_one_output_share_the_work(tmp_path):
    workers = [BatchWorker(runner_with(tmp_path, Slow()), None) for _ in range(2)]
    items = [item(f"r{n}", n) for n in range(8)]

    async def work(worker):
        return [one async for one in make_all_runs(items, worker.make, 2)]

    results = await asyncio.gather(*map(work, workers))
    assert all(one.status == "complete" for done in results for one in done)
    made = [sum(one.worked for one in done) for done in results]
    assert sum(made) == 8 and min(made) >= 2  # neither waits for what the other is making


async def test_rows_that_repeat_each_other_are_one_run(tmp_path):
    worker = BatchWorker(runner_with(tmp_path, PlainGenerator()), None)
    done = [one async for one in make_all_runs([item("r", 1), item("r", 2), item("s", 3)], worker.make, 3)]
    assert [one.worked for one in done] == [True, True]


def started(folder, path, *more):
    command = [sys.executable, "-m", "interleaver.cli", "batch", str(path), "--out", "runs", "--workers", "2", *more]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def pictures_in(folder):
    """How many pictures a batch has stored so far."""
    return len(list((folder / "runs" / ".store" / "images").rglob("*.png")))


def lessons(folder):
    return prompts(
        folder, *({"request": f"How to draw a {thing} step by step?"} for thing in ("tree", "boat", "flower"))
    )


def drawn_in(folder):
    """What was drawn in each run of a batch."""
    runs = RunStore(folder / "runs")
    attempts = {run_id: runs.trace(run_id).attempts for run_id in runs.run_ids()}
    return {run_id: [(a.prompt, a.seed, a.image) for a in made] for run_id, made in attempts.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same batch, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    assert batch(lessons(folder), "--out", folder / "runs")["statuses"] == {"complete": 3}
    return drawn_in(folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_batch_carries_on_where_it_was(tmp_path, whole, how):
    path = lessons(tmp_path)
    process = started(tmp_path, path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and pictures_in(tmp_path) < 6:
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in said
        assert re.search(r"continue with: interleaver batch \S+ --out runs --workers 2", said)
    before = {file.stem for file in (tmp_path / "runs" / ".store" / "images").rglob("*.png")}
    assert batch(path, "--out", tmp_path / "runs")["statuses"] == {"complete": 3}
    assert drawn_in(tmp_path) == whole
    lost = before - {image.sha256 for made in whole.values() for _, _, image in made}
    assert len(lost) <= 1  # the white page; a picture drawn before the end is a picture of the end


def test_two_processes_on_one_output(tmp_path):
    path = prompts(tmp_path, *({"request": request} for request in REQUESTS))
    told = [json.loads(p.communicate(timeout=120)[0]) for p in [started(tmp_path, path, "--json") for _ in range(2)]]
    assert [one["statuses"] for one in told] == [{"complete": 4}] * 2
    assert sum(one["made_now"] for one in told) == 4


def test_a_batch_on_a_store_elsewhere(tmp_path):
    path = prompts(tmp_path, *({"request": request} for request in REQUESTS[:2]))
    told = batch(path, "--out", "memory://elsewhere", "--documents")
    assert told["statuses"] == {"complete": 2}
    store = RunStore("memory://elsewhere")
    for run_id in store.run_ids():
        assert isinstance(store.trace(run_id), Trace)
        assert store.document(run_id).status == "complete"
        assert store.root.exists(f".store/checkpoints/{run_id}.sqlite")
    assert not [file for file in store.root.files() if "locks/" in file.path]


async def test_a_run_elsewhere_is_resumed_from_its_checkpoints():
    generator = PlainGenerator()
    runner = Runner(Profile(), "memory://resumed", documents=False)
    runner.builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=generator, images=runner.runs.images
    )
    record = await runner.begin("r", [], {})
    async with aclosing(runner.work(record)) as events:
        async for event in events:
            if event.type == "step_ended":
                break
    assert runner.runs.trace(record.run_id) is None
    async for _ in runner.work(record):
        pass
    assert runner.runs.trace(record.run_id).status == "complete"
    assert [call[0] for call in generator.calls] == ["p1", "p2"]


def test_prices_are_summed_over_tokens_and_pictures(images):
    exchange = Exchange(
        role="critic", model="m", messages=[], usage=Usage(input_tokens=2_000_000, output_tokens=500_000)
    )
    assert Prices.model_validate({"critic": {"input": 1.5, "output": 4}, "picture": 0.5}).of([exchange], 2) == 6.0


async def test_what_a_batch_took_is_what_it_took_now(tmp_path):
    worker = BatchWorker(runner_with(tmp_path, PlainGenerator(), critic=ScriptedCritic(*[False] * 20)), retry=True)
    first, second = await worker.make(item("r")), await worker.make(item("r"))
    assert (first.status, first.worked, first.drawings) == ("partial", True, 10)
    assert (second.status, second.worked, second.drawings, second.cost) == ("partial", False, 0, 0)


async def test_a_run_whose_checkpoints_are_gone_is_not_drawn_again(tmp_path):
    generator = PlainGenerator()
    runner = runner_with(tmp_path, generator)
    record = await runner.begin("r", [], {}, run_id="r")
    async for _ in runner.work(record):
        pass
    trace = (tmp_path / "runs" / "r" / "trace.json").read_bytes()
    shutil.rmtree(tmp_path / "runs" / ".store" / "checkpoints")
    runner.documents = True
    assert [event async for event in runner.work(record)] == []
    assert (tmp_path / "runs" / "r" / "trace.json").read_bytes() == trace and len(generator.calls) == 2
    assert runner.runs.document("r").status == "complete"
    (tmp_path / "runs" / "r" / "trace.json").write_text("{half")
    with pytest.raises(BadInput, match="cannot be resumed: truncated or damaged record"):
        async for _ in runner.work(record):
            pass


async def test_a_damaged_trace_is_made_anew_from_the_checkpoints(tmp_path):
    runner = runner_with(tmp_path, PlainGenerator())
    worker = BatchWorker(runner, None)
    run_id = (await worker.make(item("r"))).run_id
    (tmp_path / "runs" / run_id / "trace.json").write_text("{half")
    assert (await worker.make(item("r"))).status == "complete"
    assert runner.runs.trace(run_id).status == "complete"
