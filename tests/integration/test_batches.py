"""Batches on a real Ray cluster, object storage and PostgreSQL, each broken in the middle."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from support.postgres import PostgresServer
from support.processes import free_port

from interleaver import Profile, Runner, build_graph
from interleaver.cli.traces import open_sources
from interleaver.traces.runs import RunStore
from interleaver.traces.trace import Trace

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
THINGS = ["cat", "house", "tree", "boat", "flower", "snowman"]
ROWS = len(THINGS) + 1


def write_prompts(folder):
    (folder / "start.png").write_bytes(plain_picture((190, 220, 240), (128, 128)).data)
    rows = [{"request": f"How to draw a {thing} step by step?"} for thing in THINGS]
    rows.append({"request": "<image> Add a sun.", "images": ["start.png"], "seed": 7})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


def batch(folder, *arguments, **environment):
    command = [sys.executable, "-m", "interleaver.cli", "batch", "prompts.jsonl", "--json", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process, code=0):
    said, problem = process.communicate(timeout=280)
    assert process.returncode == code, problem[-3000:]
    return json.loads(said)


def shape(trace):
    return [(attempt.step, attempt.attempt, attempt.seed, attempt.image.sha256) for attempt in trace.attempts]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What every other way must come to as well: the same batch in one process, left alone."""
    folder = tmp_path_factory.mktemp("alone")
    write_prompts(folder)
    assert told(batch(folder, "--out", "runs"))["statuses"] == {"complete": ROWS}
    store = RunStore(folder / "runs")
    return {run_id: shape(store.trace(run_id)) for run_id in store.run_ids()}


@pytest.fixture(scope="module")
def s3():
    """An object store that speaks S3 on loopback."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    settings = {
        "FSSPEC_S3_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    import s3fs

    filesystem = s3fs.S3FileSystem(endpoint_url=address, key="a", secret="b", skip_instance_cache=True)
    wait_for(lambda: answers(port))
    filesystem.mkdir("bucket")
    yield settings, filesystem
    server.terminate()
    server.wait(10)


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def worker_processes(parent):
    """The processes of Ray's actors below a process."""
    import psutil

    return [one for one in psutil.Process(parent).children(recursive=True) if "_Actor" in " ".join(one.cmdline())]


def wait_for(found, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("where", ["here", "s3"])
def test_a_ray_worker_may_die_in_the_middle(tmp_path, alone, s3, where):
    settings, filesystem = s3
    write_prompts(tmp_path)
    out = "runs" if where == "here" else "s3://bucket/ray"

    def pictures():
        if where == "here":
            return len(list((tmp_path / "runs" / ".store" / "images").rglob("*.png")))
        filesystem.invalidate_cache()
        return len(filesystem.find("bucket/ray/.store/images"))

    process = batch(tmp_path, "--out", out, "--workers", 2, "--ray", **settings)
    try:
        wait_for(lambda: process.poll() is not None or pictures() >= 5)
        victim = worker_processes(process.pid)[0]
        victim.send_signal(signal.SIGKILL)
        summary = told(process)
    finally:
        if process.poll() is None:
            process.kill()
    assert not victim.is_running() or victim.status() == "zombie"
    assert summary["statuses"] == {"complete": ROWS} and summary["problems"] == []
    if where == "here":
        store = RunStore(tmp_path / "runs")
        assert {run_id: shape(store.trace(run_id)) for run_id in store.run_ids()} == alone
    else:
        names = [name.rpartition("/")[2] for name in filesystem.ls("bucket/ray") if "/.store" not in name]
        read = {name: json.loads(filesystem.cat_file(f"bucket/ray/{name}/trace.json")) for name in names}
        assert {name: shape(Trace.model_validate(trace)) for name, trace in read.items()} == alone


def test_a_batch_on_object_storage_is_killed_and_carried_on(tmp_path, alone, s3):
    settings, filesystem = s3
    write_prompts(tmp_path)
    arguments = ["--out", "s3://bucket/killed", "--workers", 2]
    process = batch(tmp_path, *arguments, **settings)

    def pictures():
        filesystem.invalidate_cache()
        return len(filesystem.find("bucket/killed/.store/images")) >= 5

    wait_for(pictures)
    process.kill()
    process.communicate()
    # The leases of the dead process hold for a minute, then another one takes its runs over where they were.
    summary = told(batch(tmp_path, *arguments, **settings))
    assert summary["statuses"] == {"complete": ROWS}
    for name, expected in alone.items():
        trace = Trace.model_validate_json(filesystem.cat_file(f"bucket/killed/{name}/trace.json"))
        assert shape(trace) == expected
    command = [
        sys.executable,
        "-m",
        "interleaver.cli",
        "data",
        "critic-sft",
        "s3://bucket/killed",
        "--out",
        "d",
        "--json",
    ]
    made = subprocess.run(command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["traces_used"] == ROWS


@pytest.fixture(scope="module")
def postgres_server(tmp_path_factory):
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def postgres(postgres_server):
    return postgres_server.address


async def test_checkpoints_in_postgres(tmp_path, alone, postgres, monkeypatch):
    """By profile: killed in the middle, carried on, and read back as traces."""
    write_prompts(tmp_path)
    (tmp_path / "interleaver.toml").write_text(f'[store]\ncheckpoints = "{postgres}"\n')
    arguments = ["--out", "runs", "--workers", 3]
    process = batch(tmp_path, *arguments, PGPASSWORD="pg-secret")
    wait_for(lambda: len(list((tmp_path / "runs" / ".store" / "images").rglob("*.png"))) >= 5)
    process.kill()
    process.communicate()
    assert told(batch(tmp_path, *arguments, PGPASSWORD="pg-secret"))["statuses"] == {"complete": ROWS}
    store = RunStore(tmp_path / "runs")
    assert {run_id: shape(store.trace(run_id)) for run_id in store.run_ids()} == alone
    assert not (tmp_path / "runs" / ".store" / "checkpoints").exists()

    monkeypatch.setenv("PGPASSWORD", "pg-secret")
    monkeypatch.chdir(tmp_path)
    (source,) = open_sources((postgres,), None, "runs/.store/images")
    found = [one async for one in source.read()]
    assert all(isinstance(one, Trace) for one in found)
    assert sorted(map(shape, found)) == sorted(alone.values())

    wrong = batch(tmp_path, "--out", "other", PGPASSWORD="wrong-secret")
    summary = told(wrong, 3)
    problem = summary["problems"][0]["problem"]
    assert summary["statuses"] == {"error": ROWS} and "password authentication failed" in problem
    assert "secret" not in json.dumps(summary)


class Gate(PlainGenerator):
    """Draws nothing before all runs are at work."""

    def __init__(self, runs):
        super().__init__()
        self.gate = asyncio.Barrier(runs)

    async def generate(self, prompt, sources, seed, size):
        await asyncio.wait_for(self.gate.wait(), 300)
        return await super().generate(prompt, sources, seed, size)


async def test_120_runs_at_once_share_a_few_connections(tmp_path, postgres_server, monkeypatch):
    import psycopg

    monkeypatch.setenv("PGPASSWORD", "pg-secret")
    runner = Runner(Profile(store={"checkpoints": postgres_server.address}), tmp_path, documents=False)
    gate = Gate(120)
    runner.builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=gate, images=runner.runs.images
    )
    counts = []

    async def make(number):
        async for event in runner.make("Draw it", [], {"seed": number}, f"run-{number}", {}):
            if event.type == "picture_ready" and number == 0:
                with psycopg.connect(postgres_server.address) as connection:
                    counts.append(connection.execute("SELECT count(*) FROM pg_stat_activity").fetchone()[0])

    await asyncio.gather(*map(make, range(120)))
    traces = [runner.runs.trace(run_id) for run_id in runner.runs.run_ids()]
    assert [trace.status for trace in traces] == ["complete"] * 120
    assert sorted(trace.seed for trace in traces) == list(range(120))
    assert counts[0] < 30  # ten of ours, this one, and the server's own


async def test_a_run_waits_for_a_database_that_has_gone_away(tmp_path, postgres_server, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pg-secret")
    runner = Runner(Profile(store={"checkpoints": postgres_server.address}), tmp_path, documents=False)
    record = await runner.begin("a boat and a tree and a star", [], {"seed": 1}, run_id="r")
    pictures = 0
    async for event in runner.work(record):
        if event.type == "picture_ready":
            pictures += 1
            if pictures in (1, 3):
                await asyncio.to_thread(postgres_server.stop)
                asyncio.get_running_loop().call_later(3, postgres_server.start)
    trace = runner.runs.trace("r")
    assert trace.status == "complete" and len(trace.attempts) == pictures  # nothing was drawn twice


async def test_two_programs_may_begin_on_an_empty_database(tmp_path, postgres):
    import psycopg

    with psycopg.connect(postgres, password="pg-secret", autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    write_prompts(tmp_path)
    fresh = postgres.rpartition("/")[0] + "/fresh"
    (tmp_path / "interleaver.toml").write_text(f'[store]\ncheckpoints = "{fresh}"\n')
    both = [batch(tmp_path, "--out", f"runs{n}", "--workers", 2, PGPASSWORD="pg-secret") for n in range(2)]
    assert [told(process)["statuses"] for process in both] == [{"complete": ROWS}] * 2


def compiled(images, saver):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(3)), critic=ScriptedCritic(False), generator=PlainGenerator(), images=images
    )
    return graph.compile(checkpointer=saver)


async def test_the_newest_checkpoint_is_enough_in_postgres(images, postgres, monkeypatch):
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    monkeypatch.setenv("PGPASSWORD", "pg-secret")
    config = {"configurable": {"thread_id": "retention"}}
    async with AsyncPostgresSaver.from_conn_string(postgres) as saver:
        await saver.setup()
        graph = compiled(images, saver)
        await graph.ainvoke({"messages": [HumanMessage("Draw three")]}, config)
        before = (await graph.aget_state(config)).values
        newest = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = 'retention'"
        for table in ("checkpoints", "checkpoint_writes"):
            await saver.conn.execute(
                f"DELETE FROM {table} WHERE thread_id = 'retention' AND checkpoint_id NOT IN ({newest})"
            )
        assert (await graph.aget_state(config)).values == before
        result = await graph.ainvoke({"change": {"action": "redraw", "step": 3}}, config)
        assert result["status"] == "complete"
        assert result["document"]["blocks"][:4] == before["document"]["blocks"][:4]


@pytest.mark.filterwarnings("ignore:AsyncShallowPostgresSaver is deprecated")
async def test_a_shallow_saver_of_postgres(images, postgres, monkeypatch):
    import psycopg
    from langgraph.checkpoint.postgres.shallow import AsyncShallowPostgresSaver

    monkeypatch.setenv("PGPASSWORD", "pg-secret")
    config = {"configurable": {"thread_id": "shallow"}}
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shallow")
    async with AsyncShallowPostgresSaver.from_conn_string(postgres.rpartition("/")[0] + "/shallow") as saver:
        await saver.setup()
        graph = compiled(images, saver)
        asked = await graph.ainvoke({"request": "Draw three"}, config, context={"review": True})
        assert asked["__interrupt__"][0].value["kind"] == "plan_review"
        done = await graph.ainvoke(Command(resume={"action": "approve"}), config)
        assert done["status"] == "complete"
        result = await graph.ainvoke({"change": {"action": "redraw", "step": 3}}, config)
        assert result["status"] == "complete"
        assert result["document"]["blocks"][:4] == done["document"]["blocks"][:4]
