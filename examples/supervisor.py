"""The graph as a member of a supervisor's team: it takes the chat and answers in it."""

import asyncio

from langchain_core.messages import HumanMessage
from langgraph_supervisor import create_supervisor

from interleaver import build_graph
from interleaver.graph.context import RunSettings
from interleaver.sandbox.assistant import SandboxAssistant

# Few models accept pictures in somebody's answer, so the answer only links to them.
illustrator = build_graph(settings=RunSettings(chat_pictures="links")).compile(name="illustrator")
team = create_supervisor([illustrator], model=SandboxAssistant()).compile()
result = asyncio.run(team.ainvoke({"messages": [HumanMessage("a boat at sunset")]}))
for message in result["messages"]:
    print(f"{message.name or message.type}: {message.text[:70]}")
