"""The state machine: nodes and edges."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from langgraph._internal._runnable import RunnableCallable  # the only way to give a node two functions
from langgraph.graph import START

from interleaver.agents import Critic, Planner
from interleaver.graph import routing
from interleaver.graph.backends import Backends
from interleaver.graph.compiled import GraphBuilder
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.nodes import Nodes, in_present_format
from interleaver.graph.state import LoopState, RunInput, RunOutput, RunState
from interleaver.graph.sync import as_sync
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator


def build_graph(
    *,
    planner: Planner | None = None,
    critic: Critic | None = None,
    generator: ImageGenerator | None = None,
    images: ImageStore | None = None,
    settings: RunSettings | None = None,
    image_hosts: Collection[str] = (),
    concurrency: Mapping[str, int | None] | None = None,
) -> GraphBuilder:
    """Build the uncompiled state machine; compile it with `.compile(checkpointer=..., store=...)`.

    Args:
        planner: writes the plan; the sandbox's planner by default.
        critic: reviews each picture; the sandbox's critic by default.
        generator: draws and edits pictures; the sandbox's generator by default.
        images: the image store; the folder `out/.store/images` by default.
        settings: default settings of a run, which its `Context` overrides.
        image_hosts: hosts with private addresses from which the pictures of a request may be fetched.
        concurrency: maximum number of concurrent calls by `planner`, `critic` and `generator`, over all runs of the
            graph in this process; no limit for a kind that is missing.

    Returns:
        A builder whose graph takes `RunInput` and returns `RunOutput`. A run that cannot be finished does not raise: it
        ends with `status` partial or failed, and with a document that says why. Only settings that do not fit `Context`
        raise an error, a `pydantic.ValidationError`, before anything is done.
    """
    nodes = Nodes(
        Backends(planner, critic, generator, concurrency or {}),
        images or ImageStore(),
        settings or RunSettings(),
        image_hosts,
    )
    builder = GraphBuilder(RunState, context_schema=Context, input_schema=RunInput, output_schema=RunOutput)
    builder.add_node("begin", RunnableCallable(as_sync(nodes.begin), nodes.begin, trace=False), input_schema=RunState)
    loop = (nodes.planner, nodes.review, nodes.generator, nodes.critic, nodes.refine, nodes.accept, nodes.compose)
    for node in map(in_present_format, loop):
        runnable = RunnableCallable(as_sync(node), node, trace=False)
        builder.add_node(node.__name__, runnable, input_schema=LoopState)

    builder.add_edge(START, "begin")
    builder.add_conditional_edges("begin", routing.route_begin)
    builder.add_conditional_edges("planner", routing.route_plan)
    builder.add_conditional_edges("review", routing.route_review)
    builder.add_conditional_edges("generator", routing.route_picture)
    builder.add_conditional_edges("critic", routing.route_verdict)
    builder.add_edge("refine", "generator")
    builder.add_conditional_edges("accept", routing.route_step)
    builder.set_finish_point("compose")
    return builder
