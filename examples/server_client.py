"""The graph on a LangGraph server (`langgraph dev`): stream a run, then fork it with an edited plan."""

import asyncio
import sys

from langgraph_sdk import get_client

from interleaver import Plan, edit_plan


async def main(url: str) -> None:
    client = get_client(url=url)
    thread = (await client.threads.create())["thread_id"]
    request = {"request": "a boat and a tree"}
    async for part in client.runs.stream(thread, "interleaver", input=request, stream_mode="custom"):
        print(part.event, part.data.get("type"))
    state = (await client.threads.get_state(thread))["values"]
    plan = Plan.model_validate(state["plan"])
    plan.steps[1].instruction = plan.steps[1].prompt = "Draw a large red house on the right."
    await client.threads.update_state(thread, edit_plan(state, plan), as_node="review")
    result = await client.runs.wait(thread, "interleaver")
    print([block["alt"] for block in result["document"]["blocks"] if block["type"] == "image"])


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:2024"))
