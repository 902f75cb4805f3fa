"""A chat that creates a document and then changes it: only the steps affected by a change are drawn again."""

import asyncio

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from interleaver import build_graph


async def main() -> None:
    graph = build_graph().compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for message in ("a boat and a lighthouse and a moon", "make the second picture a night scene", "add a star"):
        result = await graph.ainvoke({"messages": [HumanMessage(message)]}, config)
        state = (await graph.aget_state(config)).values
        print(f"{message}: {len(state['plan']['steps'])} steps, {state['kept_steps']} kept")
        for block in result["messages"][-1].content:  # small previews, and links to the full pictures
            print("  ", block.get("text") or f"({block['mime_type']}, {len(block['base64'])} characters)")


asyncio.run(main())
