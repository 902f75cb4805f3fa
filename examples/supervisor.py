"""The graph as an agent under a supervisor: it reads the conversation and replies in it."""

import asyncio

from langchain_core.messages import HumanMessage
from langgraph_supervisor import create_supervisor

from interleaver import RunSettings, SandboxAssistant, build_graph

# Few models accept pictures in an assistant's message, so the reply only links to them.
illustrator = build_graph(settings=RunSettings(chat_pictures="links")).compile(name="illustrator")
team = create_supervisor([illustrator], model=SandboxAssistant()).compile()
result = asyncio.run(team.ainvoke({"messages": [HumanMessage("a boat at sunset")]}))
for message in result["messages"]:
    print(f"{message.name or message.type}: {message.text[:70]}")
