"""Traces out of LangGraph's checkpoints."""

import sqlite3

import aiosqlite
import pytest
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from support.scripted_runs import opened, read, scripted
from typing_extensions import TypedDict

from interleaver.errors import BadInput
from interleaver.traces.trace import SkippedRecord, Trace


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
    assert [(one.name, one.reason) for one in found if isinstance(one, SkippedRecord)] == [
        ("c", "not a run of this graph")
    ]


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


async def test_a_thread_of_another_graph_is_skipped_by_its_name(tmp_path, images):
    path = tmp_path / "checkpoints.sqlite"
    async with aiosqlite.connect(path) as connection:
        builder = StateGraph(Other)
        builder.add_node("work", lambda state: {"n": 2})
        builder.add_edge(START, "work")
        graph = builder.compile(checkpointer=AsyncSqliteSaver(connection))
        await graph.ainvoke({"n": 0}, {"configurable": {"thread_id": "foreign"}})
        await graph.ainvoke({"n": 1}, {"configurable": {"thread_id": "foreign"}})
    (skipped,) = await read(opened(f"sqlite:{path}", images))
    assert isinstance(skipped, SkippedRecord)
    assert (skipped.name, skipped.reason) == ("foreign", "not a run of this graph")


async def test_what_is_no_database_is_told(tmp_path, images):
    with pytest.raises(BadInput, match="there is no SQLite database"):
        opened(f"sqlite:{tmp_path / 'none'}", images)
    (tmp_path / "text").write_text("hello" * 1000)
    with pytest.raises(BadInput, match="is not an SQLite database of checkpoints"):
        await read(opened(f"sqlite:{tmp_path / 'text'}", images))


async def test_a_database_that_is_read_is_not_changed(tmp_path, images):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (n)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="is not an SQLite database of checkpoints"):
        await read(opened(f"sqlite:{path}", images))
    assert path.read_bytes() == before
