"""The graph as a subgraph: one node of a larger graph, with which it shares state, checkpointer and context."""

import asyncio
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from interleaver import build_graph


class Report(TypedDict, total=False):
    topic: str
    request: str  # read by the subgraph
    document: dict[str, Any]  # written by the subgraph


builder = StateGraph(Report)
builder.add_node("ask", lambda state: {"request": f"a {state['topic']} at sunset"})
builder.add_node("illustrate", build_graph().compile())
builder.add_edge(START, "ask").add_edge("ask", "illustrate")
graph = builder.compile(checkpointer=InMemorySaver())
result = asyncio.run(graph.ainvoke({"topic": "boat"}, {"configurable": {"thread_id": "1"}}))
print([block["alt"] for block in result["document"]["blocks"] if block["type"] == "image"])
