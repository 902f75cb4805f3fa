"""The compiled graph: LangGraph's own, with what embedding programs need around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.channels import DeltaChannel
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from interleaver.graph.boundary.contexts import read_context
from interleaver.graph.context import Context
from interleaver.graph.state import NO_LIMIT, RunInput, RunOutput, RunState

LANGCHAIN_LIMIT = 25
"""LangChain's default `recursion_limit`. Chains, batches and retries pass it on as if somebody had chosen it."""


class RunGraph(CompiledStateGraph[RunState, Context, RunInput, RunOutput]):
    """The compiled state machine.

    It differs from LangGraph's in three things: a context may hold what other programs put there (see
    `read_context`); a `recursion_limit` of exactly 25, which LangChain sets where nobody chose a limit, counts as
    unset; and the nodes can be called synchronously.
    """

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Iterator[Any]:
        """Run synchronously, see `Pregel.stream`."""
        return super().stream(input, self._with_limit(config), **_with_context(options))

    def astream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AsyncIterator[Any]:
        """Run, see `Pregel.astream`."""
        return super().astream(input, self._with_limit(config), **_with_context(options))

    def _with_limit(self, config: RunnableConfig | None) -> RunnableConfig:
        limits = (ensure_config(config)["recursion_limit"], (self.config or {}).get("recursion_limit"))
        limit = next((limit for limit in limits if limit not in (None, LANGCHAIN_LIMIT)), NO_LIMIT)
        return {**(config or {}), "recursion_limit": limit}


class GraphBuilder(StateGraph[RunState, Context, RunInput, RunOutput]):
    """The uncompiled state machine."""

    def compile(self, checkpointer: Any = None, **options: Any) -> RunGraph:
        """Compile the graph, see `StateGraph.compile`."""
        graph = super().compile(checkpointer, **options)
        graph.__class__ = RunGraph  # StateGraph.compile offers no choice of class
        assert isinstance(graph, RunGraph)
        if "Shallow" in type(checkpointer).__name__:  # it keeps the newest checkpoint alone, which has to be whole
            # Copies, since the builder may be compiled again with another saver.
            graph.channels = {name: _stored_whole(channel) for name, channel in graph.channels.items()}
        return graph


def _stored_whole(channel: Any) -> Any:
    """Return a channel that is stored whole in every checkpoint."""
    if isinstance(channel, DeltaChannel):
        channel = channel.copy()
        channel.snapshot_frequency = 1
    return channel


def _with_context(options: dict[str, Any]) -> dict[str, Any]:
    context = options.get("context")
    return options | {"context": read_context(context)} if isinstance(context, Mapping) else options
