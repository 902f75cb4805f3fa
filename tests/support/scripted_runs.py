"""Runs of the graph with scripted models, and the sources that their traces are read from."""

from interleaver import build_graph
from interleaver.traces.runs import RunStore
from interleaver.traces.sources import open_source
from interleaver.traces.trace import Trace
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan


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
