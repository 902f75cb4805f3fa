"""Human in the loop: the run pauses for a decision on its plan, and on a step whose attempts are all rejected."""

import asyncio

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from interleaver import build_graph


async def main() -> None:
    graph = build_graph().compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    settings = {"review": True, "on_exhausted": "ask", "max_attempts": 1}
    result = await graph.ainvoke({"request": "a boat and a tree"}, config, context=settings)
    while "__interrupt__" in result:
        question = result["__interrupt__"][0].value
        print(question["action_requests"][0]["description"])
        answer = {"action": "approve"} if question["kind"] == "plan_review" else {"action": "pick", "attempt": 1}
        result = await graph.ainvoke(Command(resume=answer), config, context=settings)
    print(result["status"])


asyncio.run(main())
