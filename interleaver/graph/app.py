"""The compiled graph that `langgraph.json` names; the server brings its own checkpointer."""

from interleaver.graph.builder import build_graph

graph = build_graph().compile(name="interleaver")
