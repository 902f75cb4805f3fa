"""Deleting checkpoints: the newest one of a finished run is enough to show and to change its document."""

import aiosqlite
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import build_graph
from interleaver.graph.channels import RunChannel
from interleaver.graph.state import ENDING

CONFIG = {"configurable": {"thread_id": "t"}}


class ShallowMemorySaver(InMemorySaver):
    """Keeps the newest checkpoint of each thread alone, as the shallow savers of PostgreSQL and Redis do."""

    async def aput(self, config, checkpoint, metadata, new_versions):
        result = await super().aput(config, checkpoint, metadata, new_versions)
        thread, namespace = config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns", "")
        for identity in [i for i in self.storage[thread][namespace] if i != checkpoint["id"]]:
            del self.storage[thread][namespace][identity]
            self.writes.pop((thread, namespace, identity), None)
        return result


def compiled(images, saver, generator=None):
    return build_graph(
        planner=ScriptedPlanner(drawn_plan(3)), critic=ScriptedCritic(False), generator=generator or PlainGenerator(),
        images=images,
    ).compile(checkpointer=saver)  # fmt: skip


async def keep_newest(saver):
    newest = "select max(checkpoint_id) from checkpoints group by thread_id, checkpoint_ns"
    await saver.conn.execute(f"delete from checkpoints where checkpoint_id not in ({newest})")
    await saver.conn.execute("delete from writes where checkpoint_id not in (select checkpoint_id from checkpoints)")


async def test_a_finished_thread_is_whole_in_its_newest_checkpoint(images, tmp_path):
    async with aiosqlite.connect(tmp_path / "x.sqlite") as connection:
        saver, generator = AsyncSqliteSaver(connection), PlainGenerator()
        graph = compiled(images, saver, generator)
        await graph.ainvoke({"messages": [HumanMessage("Draw three")]}, CONFIG)
        for _ in range(2):
            before = (await graph.aget_state(CONFIG)).values
            await keep_newest(saver)
            after = (await graph.aget_state(CONFIG)).values
            assert after == before
            calls = len(generator.calls)
            result = await graph.ainvoke({"change": {"action": "redraw", "step": 3}}, CONFIG)
            assert result["status"] == "complete" and len(generator.calls) == calls + 1
            assert result["document"]["blocks"][:4] == before["document"]["blocks"][:4]


def test_the_last_node_has_every_growing_channel_stored():
    channels = build_graph().compile().channels
    assert {name for name, channel in channels.items() if type(channel) is RunChannel} - {"heard"} == set(ENDING)


async def test_an_unfinished_thread_without_its_checkpoints_is_refused_in_words(images, tmp_path):
    async with aiosqlite.connect(tmp_path / "x.sqlite") as connection:
        saver = AsyncSqliteSaver(connection)
        graph = compiled(images, saver)
        await graph.ainvoke({"request": "Draw three"}, CONFIG, context={"max_attempts": 1, "on_exhausted": "ask"})
        await keep_newest(saver)
        with pytest.raises(ValueError, match="checkpoints"):
            await graph.ainvoke(Command(resume={"action": "skip"}), CONFIG)
        fresh = await graph.ainvoke({"request": "Draw three again"}, CONFIG)
        assert fresh["status"] == "complete"


async def test_a_shallow_saver_keeps_finished_and_paused_runs(images):
    generator = PlainGenerator()
    graph = compiled(images, ShallowMemorySaver(), generator)
    context = {"review": True, "max_attempts": 1, "on_exhausted": "ask"}
    asked = await graph.ainvoke({"messages": [HumanMessage("Draw three")]}, CONFIG, context=context)
    assert asked["__interrupt__"][0].value["kind"] == "plan_review"
    asked = await graph.ainvoke(Command(resume={"action": "approve"}), CONFIG)
    assert asked["__interrupt__"][0].value["kind"] == "step_review"
    done = await graph.ainvoke(Command(resume={"action": "pick", "attempt": 1}), CONFIG)
    assert done["status"] == "complete" and len(generator.calls) == 3
    changed = await graph.ainvoke({"change": {"action": "redraw", "step": 3}}, CONFIG)
    assert changed["status"] == "complete" and len(generator.calls) == 4


async def test_checkpoints_and_messages_of_a_chat_grow_linearly(images, tmp_path):
    """Each turn adds a step; a turn late in the chat costs little more than an early one."""

    class Adding(ScriptedPlanner):
        async def revise(self, request, images, plan):
            step = plan.steps[-1]
            return plan.model_copy(update={"steps": [*plan.steps, step.model_copy(update={"prompt": request})]})

    path = tmp_path / "x.sqlite"
    async with aiosqlite.connect(path) as connection:
        graph = build_graph(
            planner=Adding(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        ).compile(checkpointer=AsyncSqliteSaver(connection))
        databases, messages = [], []
        for turn in range(24):
            result = await graph.ainvoke({"messages": [HumanMessage(f"turn {turn}")]}, CONFIG)
            await connection.execute("pragma wal_checkpoint(truncate)")
            databases.append(path.stat().st_size)
            messages.append(sum(len(message.model_dump_json()) for message in result["messages"]))
    early, late = (messages[11] - messages[3]) / 8, (messages[23] - messages[15]) / 8
    assert late < 2 * early
    early, late = (databases[11] - databases[3]) / 8, (databases[23] - databases[15]) / 8
    assert late < 3 * early
