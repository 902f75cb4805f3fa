"""The graph as a tool in a swarm: the first agent hands off to the one that can illustrate."""

import asyncio

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_swarm import create_handoff_tool, create_swarm

from interleaver import SandboxAssistant, as_tool

model = SandboxAssistant()
receptionist = create_agent(model, [create_handoff_tool(agent_name="artist")], name="receptionist")
artist = create_agent(model, [as_tool()], name="artist")
swarm = create_swarm([receptionist, artist], default_active_agent="receptionist").compile(checkpointer=InMemorySaver())
config = {"configurable": {"thread_id": "1"}}
result = asyncio.run(swarm.ainvoke({"messages": [("user", "a boat at sunset")]}, config))
for message in result["messages"]:
    print(f"{message.name or message.type}: {message.text}")
