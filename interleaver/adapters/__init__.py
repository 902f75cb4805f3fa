"""The graph inside other programs: as a tool of an agent, as an MCP server, and its pictures over HTTP."""
