"""The state machine: nodes and edges."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from langgraph.graph import START, StateGraph

from interleaver.agents import Critic, Planner
from interleaver.graph import routing
from interleaver.graph.backends import Backends
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.nodes import Nodes, in_present_format
from interleaver.graph.state import RunInput, RunOutput, RunState
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator

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
    builder = StateGraph(RunState, context_schema=Context, input_schema=RunInput, output_schema=RunOutput)
    builder.add_node("planner", nodes.planner)
    for node in (nodes.review, nodes.generator, nodes.critic, nodes.refine, nodes.accept, nodes.compose):
        builder.add_node(node.__name__, in_present_format(node))

    builder.add_edge(START, "planner")
    builder.add_conditional_edges("planner", routing.route_plan)
    builder.add_conditional_edges("review", routing.route_review)
    builder.add_conditional_edges("generator", routing.route_picture)
    builder.add_conditional_edges("critic", routing.route_verdict)
    builder.add_edge("refine", "generator")
    builder.add_conditional_edges("accept", routing.route_step)
    builder.set_finish_point("compose")
    return builder
