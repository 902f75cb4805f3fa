"""The graph over MCP: the client starts `interleaver mcp`, requests a document and fetches its last picture."""

import asyncio
import base64
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def progress(done: float, total: float | None, message: str | None) -> None:
    print(f"{done:.1f} of {total}: {message}")


async def main() -> None:
    server = StdioServerParameters(command=sys.executable, args=["-m", "interleaver.cli", "mcp"])
    async with stdio_client(server) as streams, ClientSession(*streams) as client:
        await client.initialize()
        result = await client.call_tool("illustrate", {"request": "a boat at sunset"}, progress_callback=progress)
        uri = result.structuredContent["parts"][-1]["uri"]
        (picture,) = (await client.read_resource(uri)).contents
        print(uri, len(base64.b64decode(picture.blob)), "bytes")


asyncio.run(main())
