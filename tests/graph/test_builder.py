"""The shape of the state machine, and what it leaves in a checkpoint."""

import os
import subprocess
import sys
import warnings

import aiosqlite
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import build_graph
from interleaver.graph.attempts import attempt_seed
from interleaver.graph.channels import merge_records
from interleaver.graph.context import Context

EDGES = {
    "__start__": {"begin"},
    "begin": {"planner", "review", "generator", "critic", "refine", "accept", "compose"},
    "planner": {"review", "generator", "accept", "compose"},
    "review": {"planner", "generator", "accept", "compose"},
    "generator": {"critic", "generator", "accept", "review", "compose"},
    "critic": {"accept", "refine", "review", "compose"},
    "refine": {"generator"},
    "accept": {"generator", "accept", "compose"},
    "compose": {"__end__"},
}


def test_studio_draws_exactly_the_designed_edges():
    drawn = {}
    for edge in build_graph().compile().get_graph().edges:
        drawn.setdefault(edge.source, set()).add(edge.target)
    assert drawn == EDGES


def test_every_setting_has_a_description_for_the_form():
    schema = build_graph().compile().get_context_jsonschema()
    assert set(schema["properties"]) == set(Context.model_fields)
    assert all(field.get("description") for field in schema["properties"].values())


def test_seeds_depend_on_run_step_and_attempt_alone():
    seeds = {attempt_seed(run, step, attempt) for run in range(5) for step in range(20) for attempt in range(1, 6)}
    assert len(seeds) == 5 * 20 * 5
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert attempt_seed(7, 2, 3) == 2028187224


def test_merging_is_independent_of_batching():
    writes = [{"0/1": {"a": 1}}, {"0/1": {"b": 2}}, None, {"0/1": {"c": 3}}, {"1/1": {"d": 4}}]
    whole = merge_records({}, writes)
    for cut in range(len(writes) + 1):
        assert merge_records(merge_records({}, writes[:cut]), writes[cut:]) == whole
    assert whole == {"0/1": {"c": 3}, "1/1": {"d": 4}}


def test_state_passes_strict_checkpointing_without_a_warning():
    code = """
import asyncio, logging, tempfile, warnings
warnings.simplefilter("error")
logging.basicConfig(level=logging.WARNING)
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from interleaver import ImageStore, build_graph
async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/c.sqlite") as saver:
            graph = build_graph(images=ImageStore("memory://strict")).compile(checkpointer=saver)
            config = {"configurable": {"thread_id": "t"}}
            await graph.ainvoke({"messages": [HumanMessage("a star above a boat")]}, config)
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/c.sqlite") as saver:
            state = await build_graph().compile(checkpointer=saver).aget_state(config)
            assert state.values["status"] == "complete" and len(state.values["attempts"]) >= 2
            assert state.values["messages"][-1].type == "ai"
asyncio.run(main())
"""
    environment = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


async def database_bytes(path, steps, images):
    async with aiosqlite.connect(path) as connection:
        script = [False, True] * steps
        compiled = build_graph(
            planner=ScriptedPlanner(drawn_plan(steps)), critic=ScriptedCritic(*script), generator=PlainGenerator(),
            images=images,
        ).compile(checkpointer=AsyncSqliteSaver(connection))  # fmt: skip
        config = {"configurable": {"thread_id": "t"}, "recursion_limit": 1000}
        supersteps = 0
        async for _ in compiled.astream({"request": "x"}, config, stream_mode="updates", durability="sync"):
            supersteps += 1
    return path.stat().st_size, supersteps


async def test_the_checkpoint_database_grows_linearly(tmp_path, images):
    small, few = await database_bytes(tmp_path / "small.sqlite", 5, images)
    large, many = await database_bytes(tmp_path / "large.sqlite", 40, images)
    assert large / many < 8192
    assert large / many < 1.25 * small / few


@pytest.mark.parametrize("cut", [1, 4, 7, 9])
async def test_a_run_continues_from_any_checkpoint_to_the_same_document(images, cut):
    """Interrupting after any superstep changes nothing about the result."""

    def compiled(saver):
        return build_graph(images=images).compile(checkpointer=saver)

    config = {"configurable": {"thread_id": "t"}}
    whole = await compiled(InMemorySaver()).ainvoke({"request": "a cat and two birds"}, config)
    saver = InMemorySaver()
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        async for _ in compiled(saver).astream(
            {"request": "a cat and two birds"}, config, stream_mode="updates", durability="sync"
        ):
            count += 1
            if count == cut:
                break
    resumed = await compiled(saver).ainvoke(None, config)
    assert resumed["document"] == whole["document"]
