"""A run traced in LangSmith: set LANGSMITH_TRACING=true and LANGSMITH_API_KEY; without them nothing is sent."""

import asyncio

from interleaver import build_graph

graph = build_graph().compile(name="interleaver")
config = {"run_name": "a boat for the docs", "tags": ["docs"], "metadata": {"run": "2026-11", "customer": "42"}}
result = asyncio.run(graph.ainvoke({"request": "a boat at sunset"}, config))
print(result["document"]["request"], result["status"])
