"""The conformance test with MCP between the model and the tools: a guarded server, and a client that presents."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mcp import Client
from mcp.server import MCPServer

from capx.agent.mcp_client import present
from capx.guard.mcp.server import MCPGuard
from capx.testing import Tool, Turn, conformance


async def run(tools: Sequence[Tool], turns: Sequence[Turn]) -> list[str]:
    server = MCPServer("desk")
    guard = MCPGuard(tools[0].authority.verifier("desk"))
    for tool in tools:
        guarded = guard.tool(tool.action, tenant=tool.tenant)(tool.function)
        server.add_tool(guarded, name=tool.name)
    guard.protect(server)
    async with Client(server) as client:
        present(client.session, "desk")
        texts: list[str] = []
        for turn in turns:
            results: list[Any] = await asyncio.gather(*(client.call_tool(name, dict(args)) for name, args in turn))
            texts += [result.content[0].text for result in results]
    return texts


test_mcp = conformance(run)
