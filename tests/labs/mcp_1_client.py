"""A client of mcp 1, which runs in an environment of its own: calls guarded tools, and writes what it read as JSON.

Its arguments are the command of the guard, as JSON. The environment says who acts: CAPX_TOKEN_FILE, CAPX_AUTHORITY_URL.
"""

import asyncio
import json
import os
import sys
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from capx.agent.agent import Agent
from capx.agent.mcp_client import present


async def main(command: list[str]) -> dict[str, Any]:
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    with Agent.from_env(wait=0) as agent:
        async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
            await session.initialize()
            present(session, "files", agent)
            listed = await session.list_tools()
            read = {}
            for tool in ("read", "write", "delete", "export"):
                result: Any = await session.call_tool(tool, {"path": "/a"})
                read[tool] = [result.isError, result.content[0].text]
    return {"tools": sorted(tool.name for tool in listed.tools), "read": read}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))  # noqa: T201 # the test reads it
