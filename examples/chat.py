"""A chat that makes a document and then changes it: only what depends on the change is drawn again."""

import asyncio

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from interleaver import build_graph


async def main() -> None:
    graph = build_graph().compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    for said in ("a boat and a lighthouse and a moon", "make the second picture a night scene", "add a star"):
        result = await graph.ainvoke({"messages": [HumanMessage(said)]}, config)
        state = (await graph.aget_state(config)).values
        print(f"{said}: {len(state['plan']['steps'])} steps, {state['kept']} kept")
        for block in result["messages"][-1].content:  # small previews, and links to the whole pictures
            print("  ", block.get("text") or f"({block['mime_type']}, {len(block['base64'])} characters)")


asyncio.run(main())
