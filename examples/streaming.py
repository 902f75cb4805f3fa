"""Stream a document: show each paragraph and picture as soon as it is final, in document order."""

import asyncio

from interleaver import AttemptStarted, BlockReady, ImageStore, VerdictGiven, build_graph, read_event


async def main() -> None:
    images = ImageStore("out/pictures")
    graph = build_graph(images=images).compile()
    request = {"request": "How to draw a boat?"}
    async for chunk in graph.astream(request, context={"lookahead": True}, stream_mode="custom"):
        match read_event(chunk):
            case AttemptStarted(number=number, prompt=prompt):
                print(f"... step {number}: {prompt}")
            case VerdictGiven(verdict=verdict) if not verdict.accepted:
                print(f"... again: {verdict.reasoning}")
            case BlockReady(block=block):
                print(block.text if block.type == "text" else images.path(block.image))


asyncio.run(main())
