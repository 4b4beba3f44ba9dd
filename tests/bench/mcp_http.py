"""Time what the guard of an MCP server in its own process adds to a call over HTTP.

python -m tests.bench.mcp_http              400 calls to each server, in turn; the bar beside them
python -m tests.bench.mcp_http --calls 50   a short one, for whoever changes it
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from statistics import median
from typing import Any, Final

import msgspec
from mcp import Client
from mcp.server import MCPServer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from capx.agent.mcp_client import present
from capx.authority.authority import Authority
from capx.guard.mcp.server import GRANTED, MCPGuard
from tests.labs.serving import served

CALLS: Final = 400
BAR: Final = 1.3
"""How many times the median of the unguarded server that of the guarded one may be."""
_WARM: Final = 10

Call = Callable[[], Awaitable[Any]]


class Figure(Struct, frozen=True):
    """The median of the calls to one server, in milliseconds, and its ratio to that of the unguarded one."""

    way: str
    p50: float
    ratio: float
    bar: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None if there is none."""
        return None if self.bar is None else self.ratio <= self.bar


def _servers(lab: Authority) -> dict[str, MCPServer]:
    """The same server without a guard, and with one whose function judges."""

    async def echo(message: str) -> str:
        return message

    plain, guarded = (MCPServer("files", log_level="ERROR") for _ in range(2))
    guard = MCPGuard(lab.verifier("files"))
    plain.add_tool(echo, name="echo")
    guarded.add_tool(guard.tool("files.echo", tenant=GRANTED)(echo), name="echo")
    guard.protect(guarded)
    return {"unguarded": plain, "guarded": guarded}


async def measured(calls: int) -> list[Figure]:
    """Call both servers in turn, so that what disturbs one disturbs the other."""
    with Authority.temporary() as lab, ExitStack() as serving:
        bundle = lab.open(tenant="Acme", allow=["files.echo"]).bundle
        async with AsyncExitStack() as clients:
            ways: dict[str, Call] = {}
            for name, server in _servers(lab).items():
                app: Any = server.streamable_http_app(json_response=True)
                client = await clients.enter_async_context(Client(serving.enter_context(served(app)) + "/mcp"))
                if name == "guarded":
                    present(client.session, "files", bundle)
                ways[name] = lambda client=client: client.call_tool("echo", {"message": "hello"})  # type: ignore[misc]
            times: dict[str, list[float]] = {name: [] for name in ways}
            for nth in range(_WARM + calls):
                for name, call in ways.items():
                    began = time.perf_counter()
                    result = await call()
                    if nth >= _WARM:
                        times[name].append((time.perf_counter() - began) * 1_000)
                    assert result.content[0].text == "hello", result
    plain = median(times["unguarded"])
    return [
        Figure("unguarded", plain, 1.0),
        Figure("guarded, and presented", median(times["guarded"]), median(times["guarded"]) / plain, BAR),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and show a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS, help="the calls to each server")
    parser.add_argument("--json", action="store_true", help="write JSON")
    options = parser.parse_args(arguments)
    figures = asyncio.run(measured(options.calls))
    if options.json:
        facts: list[Any] = [{**msgspec.to_builtins(one), "reached": one.reached} for one in figures]
        print(json.dumps(facts, indent=2))
        return
    title = f"MCP over HTTP, one process, in ms ({options.calls} calls each, {os.cpu_count()} cores)"
    table = Table("server", "p50", "ratio", "bar", title=title, title_justify="left")
    for one in figures:
        bar = "-" if one.bar is None else f"<= {one.bar:g}, {'reached' if one.reached else 'MISSED'}"
        table.add_row(one.way, f"{one.p50:.2f}", f"{one.ratio:.2f}", bar)
    Console().print(table)


if __name__ == "__main__":
    main()
