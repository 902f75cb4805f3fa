"""The graph in your own program: build it, compile it with your own checkpointer, and read the document."""

import asyncio

from langgraph.checkpoint.memory import InMemorySaver

from interleaver import Document, ImageStore, build_graph


async def main() -> None:
    images = ImageStore("out/pictures")
    graph = build_graph(images=images).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    result = await graph.ainvoke({"request": "a boat at sunset"}, config, context={"seed": 7})
    for block in Document.model_validate(result["document"]).blocks:
        print(block.text if block.type == "text" else f"[{block.alt}] {images.path(block.image)}")


asyncio.run(main())
