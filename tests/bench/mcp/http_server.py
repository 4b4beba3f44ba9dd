"""An MCP server with one tool, guarded or not, over HTTP, as a process of its own.

Its first line of input names the guard, the key file and the store. It says its URL, and ends when its input does.
"""

import sys
from contextlib import ExitStack
from typing import Any, Final

from mcp.server import MCPServer

from capx.guard.mcp.server import MCPGuard
from tests.bench.authority.child import heard, say
from tests.bench.authority.source import Source
from tests.bench.guarding.requests import verifier
from tests.labs.serving import served

ACTION: Final = "files.echo"
ECHO: Final = "echo"
BARE: Final = "unguarded"


def main() -> None:
    """Serve."""
    source = Source.told(next(heard()))
    with ExitStack() as stack:
        server = MCPServer("files", log_level="ERROR")

        async def echo(message: str) -> str:
            return message

        if source.who == BARE:
            server.add_tool(echo, name=ECHO)
        else:
            guard = MCPGuard(verifier(stack, source)[0])
            server.add_tool(guard.tool(ACTION)(echo), name=ECHO)
            guard.protect(server)
        app: Any = server.streamable_http_app(json_response=True)
        say(stack.enter_context(served(app)) + "/mcp")
        sys.stdin.read()


if __name__ == "__main__":
    main()
