"""One request in, an illustrated document out: planner, image generator and critic as a LangGraph state machine."""

from interleaver.adapters.tool import as_tool
from interleaver.graph.builder import build_graph
from interleaver.graph.context import Context
from interleaver.traces.images import ImageStore
from interleaver.types import Document, ImageRef, Plan, Step, Verdict

graph = build_graph().compile(name="interleaver")
"""The graph with the sandbox behind it, for a caller's own checkpointer; servers take `interleaver.graph.app`."""

__all__ = [
    "Context",
    "Document",
    "ImageRef",
    "ImageStore",
    "Plan",
    "Step",
    "Verdict",
    "as_tool",
    "build_graph",
    "graph",
]
