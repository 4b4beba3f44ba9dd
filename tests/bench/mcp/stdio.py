"""What the proxies of MCP add to a call over standard input and output: each way is a server behind its proxies.

Laws: a client calls on all ways in turn, so that what disturbs one disturbs all. Where the guard alone is measured, the
client has made its presentation before the clock runs.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from capx.api.mcp_messages import CALL, OwnMeta, bound_request, with_own
from capx.tokens.bundle import Bundle
from tests.bench.authority.child import Child
from tests.bench.authority.figures import Figure
from tests.bench.mcp.way import Way, in_turn
from tests.labs.mcp_home import CHILD, McpHome
from tests.server.conftest import serving

STDIO: Final = "MCP over stdio"
DIRECT, PRESENT, GUARD_FEED, GUARD_STORE, BOTH = (
    "unguarded",
    "`capx mcp present`",
    "`capx mcp guard`, in memory",
    "`capx mcp guard`, on a store",
    "both, on a store",
)
ADDED: Final = "ms more"
"""What a way adds to the median of the unguarded one, call by call."""
MOST_ADDED: Final = 2.0
"""The milliseconds that both proxies together may add."""
_CALL: Final = {"name": "echo", "arguments": {"message": "hello"}}
_TABLE: Final = 'audience = "files"\ntenant = "granted"\n[tool.echo]\naction = "files.read"\n'
_NEWS: Final = 6
"""The seconds that a guard on a feed waits before it trusts its memory."""


class _Server(Child):
    """A server behind some proxies, and a client that calls its echo."""

    def __init__(self, command: Sequence[str], env: dict[str, str], presents: Bundle | None = None) -> None:
        self._presents = presents
        self._start("a server of MCP", command, env=env, stderr=subprocess.DEVNULL)
        self._next = 0
        opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self._asked("initialize", opened)
        self.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def call(self) -> float:
        """Call once; gives the milliseconds that it took."""
        shown = None if self._presents is None else self._presents.present("files", bound_request(CALL, _CALL)).text
        params = with_own(_CALL, OwnMeta(shown))
        began = time.perf_counter()
        answer = self._asked(CALL, params)
        taken = (time.perf_counter() - began) * 1_000
        assert not answer["result"].get("isError"), answer
        return taken

    def _asked(self, method: str, params: dict[str, Any]) -> Any:
        self._next += 1
        self.tell({"jsonrpc": "2.0", "id": self._next, "method": method, "params": params})
        while True:
            answer = self.hear()
            if answer.get("id") == self._next and "method" not in answer:
                return answer


def measure_stdio(folder: Path, calls: int, told: Callable[[], None]) -> list[Figure]:
    """All ways; `told` after each round of calls, of which there are `WARM` more."""
    folder.mkdir()
    home = McpHome(folder)
    (home.folder / "files.toml").write_text(_TABLE)
    reader = Bundle.parse((home.folder / "reader.token").read_text().strip())
    presents = {**home.plain, **home.present_env("reader.token")}
    guarded = home.guard(CHILD)
    with serving(home.folder / "home") as served, ExitStack() as stack:
        feed = {**home.plain, "CAPX_KEY_FILE": home.guard_env["CAPX_KEY_FILE"], "CAPX_FEED": served.url}
        behind = {
            DIRECT: _Server(CHILD, home.plain),
            PRESENT: _Server(home.present(CHILD), presents),
            GUARD_FEED: _Server(_without_store(guarded), feed, reader),
            GUARD_STORE: _Server(guarded, home.plain, reader),
            BOTH: _Server(home.present(guarded), presents),
        }
        for server in behind.values():
            stack.enter_context(server)
        time.sleep(_NEWS)
        ways = [Way(name, server.call) for name, server in behind.items()]
        return asyncio.run(in_turn(STDIO, ways, calls, told, _added))


def _added(mine: list[float], direct: list[float]) -> tuple[str, float]:
    return ADDED, median(one - bare for one, bare in zip(mine, direct, strict=True))


def _without_store(guarded: Sequence[str]) -> list[str]:
    return [one for one in guarded if one != "env" and not one.startswith("CAPX_")]
