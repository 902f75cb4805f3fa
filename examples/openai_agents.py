"""The graph as a tool of the OpenAI Agents SDK; `function_tool_of` adapts any LangChain tool."""

import asyncio
import json
from typing import Any

from agents import Agent, FunctionTool, Runner
from langchain_core.tools import BaseTool

from interleaver import as_tool


def function_tool_of(tool: BaseTool) -> FunctionTool:
    async def invoke(context: Any, arguments: str) -> str:
        return str(await tool.ainvoke(json.loads(arguments)))

    schema = tool.tool_call_schema.model_json_schema()
    return FunctionTool(tool.name, tool.description, schema, invoke, strict_json_schema=False)


async def main(request: str) -> None:
    artist = Agent("Artist", tools=[function_tool_of(as_tool())], model="gpt-5")
    print((await Runner.run(artist, request)).final_output)


if __name__ == "__main__":
    asyncio.run(main("a boat at sunset"))
