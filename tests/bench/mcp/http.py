"""What the guard of an MCP server in its own process costs a call over HTTP, beside the same server without one.

Laws: each server is a process, and a client calls all in turn. Where the guard alone is measured, the client has made
its presentation before the clock runs.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from mcp import Client
from msgspec.structs import replace

from capx.agent.mcp_client import present
from capx.api.mcp_messages import CALL, PRESENTATION, bound_request
from capx.tokens.bundle import Bundle
from tests.bench.authority.child import Child
from tests.bench.authority.figures import SQLITE, Figure
from tests.bench.authority.places import AUDIENCE, Places
from tests.bench.guarding.requests import MEMORY
from tests.bench.mcp.http_server import ACTION, BARE, ECHO
from tests.bench.mcp.way import Way, in_turn

HTTP: Final = "MCP over HTTP"
PRESENTED: Final = f"{SQLITE}, and presented"
TIMES: Final = "times unguarded"
MOST_TIMES: Final = 1.3
"""How many times as long as at the unguarded server a call may take at the guarded one."""
_CALL: Final[dict[str, Any]] = {"name": ECHO, "arguments": {"message": "hello"}}


def measure_http(folder: Path, calls: int, told: Callable[[], None]) -> list[Figure]:
    """All ways; `told` after each round of calls, of which there are `WARM` more."""
    return asyncio.run(_measured(folder, calls, told))


async def _measured(folder: Path, calls: int, told: Callable[[], None]) -> list[Figure]:
    folder.mkdir()
    with ExitStack() as stack:
        place = stack.enter_context(Places(folder, ExitStack()).authority(SQLITE))
        bundle = place.authority.open(allow=[f"{ACTION}@{AUDIENCE}"], expires="1h").bundle
        async with AsyncExitStack() as clients:
            ways: list[Way] = []
            for name in (BARE, MEMORY, SQLITE, PRESENTED):
                settings = replace(place.source, who=name.partition(",")[0]).settings()
                child = stack.enter_context(Child("tests.bench.mcp.http_server", **settings))
                client = await clients.enter_async_context(Client(child.hear()))
                await client.list_tools(meta=_shown(bundle, "tools/list", {}))
                ways.append(_way(name, client, bundle))
            return await in_turn(HTTP, ways, calls, told, lambda mine, bare: (TIMES, median(mine) / median(bare)))


def _way(name: str, client: Client, bundle: Bundle) -> Way:
    if name == PRESENTED:
        present(client.session, AUDIENCE, bundle)

    async def call() -> float:
        meta = _shown(bundle, CALL, _CALL) if name in {MEMORY, SQLITE} else None
        began = time.perf_counter()
        result = await client.call_tool(**_CALL, meta=meta)
        taken = time.perf_counter() - began
        assert not result.is_error, result
        return taken * 1_000

    return Way(name, call)


def _shown(bundle: Bundle, method: str, params: dict[str, Any]) -> Any:
    return {PRESENTATION: bundle.present(AUDIENCE, bound_request(method, params)).text}
