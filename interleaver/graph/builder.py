"""The state machine: nodes and edges."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from langgraph.graph import START, StateGraph

from interleaver.agents import Critic, Planner
from interleaver.graph import routing
from interleaver.graph.backends import Backends
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.nodes import Nodes
from interleaver.graph.state import RunInput, RunOutput, RunState
from interleaver.tools import ImageGenerator
from interleaver.traces.images import ImageStore

Builder = StateGraph[RunState, Context, RunInput, RunOutput]


def build_graph(
    *,
    planner: Planner | None = None,
    critic: Critic | None = None,
    generator: ImageGenerator | None = None,
    images: ImageStore | None = None,
    settings: RunSettings | None = None,
    image_hosts: Collection[str] = (),
    concurrency: Mapping[str, int | None] | None = None,
) -> Builder:
    """Build the state machine, uncompiled: call `.compile(checkpointer=..., store=...)` on it.

    Args:
        planner: writes the plan; the sandbox's by default.
        critic: judges each picture; the sandbox's by default.
        generator: draws and edits; the sandbox's by default.
        images: where the pictures are kept; the folder `out/.store/images` by default.
        settings: what a run does unless its `Context` says otherwise.
        image_hosts: hosts from which the pictures of a request may be fetched although their addresses are private.
        concurrency: how many calls `planner`, `critic` and `generator` take at a time, over all runs of the graph in
            this process; no limit where it says nothing.

    Returns:
        A builder whose graph takes `RunInput` and gives `RunOutput`. A run that cannot be finished does not raise: it
        ends with `status` partial or failed and a document that says why. Only settings that do not fit `Context`
        raise, a `pydantic.ValidationError`, before anything is done.
    """
    nodes = Nodes(
        Backends(planner, critic, generator, concurrency or {}),
        images or ImageStore(),
        settings or RunSettings(),
        image_hosts,
    )
    builder = StateGraph(RunState, context_schema=Context, input_schema=RunInput, output_schema=RunOutput)
    builder.add_node("planner", nodes.planner)
    builder.add_node("review", nodes.review)
    builder.add_node("generator", nodes.generator)
    builder.add_node("critic", nodes.critic)
    builder.add_node("refine", nodes.refine)
    builder.add_node("accept", nodes.accept)
    builder.add_node("compose", nodes.compose)

    builder.add_edge(START, "planner")
    builder.add_conditional_edges("planner", routing.route_plan)
    builder.add_conditional_edges("review", routing.route_review)
    builder.add_conditional_edges("generator", routing.route_picture)
    builder.add_conditional_edges("critic", routing.route_verdict)
    builder.add_edge("refine", "generator")
    builder.add_conditional_edges("accept", routing.route_step)
    builder.set_finish_point("compose")
    return builder
