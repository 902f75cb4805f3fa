"""The graph as a tool of a LangChain agent, with its progress streamed to the application."""

import asyncio

from langchain.agents import create_agent

from interleaver import Document, SandboxAssistant, as_tool


async def main() -> None:
    agent = create_agent(SandboxAssistant(), [as_tool()])  # or create_agent("openai:gpt-5", ...)
    request = {"messages": [("user", "a boat at sunset")]}
    async for mode, chunk in agent.astream(request, stream_mode=["custom", "values"]):
        if mode == "custom":
            print(chunk["type"])
        else:
            messages = chunk["messages"]
    document = Document.model_validate(messages[-2].artifact)
    print(f"{document.request}: {document.status}\n{messages[-1].text}")


asyncio.run(main())
