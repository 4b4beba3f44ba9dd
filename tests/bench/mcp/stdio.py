"""What the proxies of MCP add to a call over standard input and output: each way is a server behind its proxies.

Laws: a client calls on all ways in turn, so that what disturbs one disturbs all. Where the guard alone is measured, the
client has made its presentation before the clock runs.
"""

import json
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from capx.api.mcp_messages import CALL, OwnMeta, bound_request, with_own
from capx.tokens.bundle import Bundle
from tests.bench.authority.figures import P50, P99, Figure, percentile
from tests.bench.measuring import rounded
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
WARM: Final = 10
"""The first calls, which do not count."""
_CALL: Final = {"name": "echo", "arguments": {"message": "hello"}}
_TABLE: Final = 'audience = "files"\ntenant = "granted"\n[tool.echo]\naction = "files.read"\n'
_NEWS: Final = 6
"""The seconds that a guard on a feed waits before it trusts its memory."""


class Way:
    """A server behind some proxies, and a client that calls its echo."""

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], presents: Bundle | None = None) -> None:
        self.name = name
        self.times: list[float] = []
        self._presents = presents
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._next = 0
        opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self._asked("initialize", opened)
        self._write({"method": "notifications/initialized"})

    def call(self) -> None:
        """Call once, and note how many milliseconds it took."""
        shown = None if self._presents is None else self._presents.present("files", bound_request(CALL, _CALL)).text
        params = with_own(_CALL, OwnMeta(shown))
        began = time.perf_counter()
        answer = self._asked(CALL, params)
        self.times.append((time.perf_counter() - began) * 1_000)
        assert not answer["result"].get("isError"), answer

    def _asked(self, method: str, params: dict[str, Any]) -> Any:
        self._next += 1
        self._write({"id": self._next, "method": method, "params": params})
        assert self._process.stdout is not None
        while True:
            answer = json.loads(self._process.stdout.readline())
            if answer.get("id") == self._next and "method" not in answer:
                return answer

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the client, and so everything behind it."""
        self._process.communicate(timeout=30)


def measure_stdio(folder: Path, calls: int, told: Callable[[], None]) -> list[Figure]:
    """All ways; `told` after each round of calls, of which there are `WARM` more."""
    folder.mkdir()
    home = McpHome(folder)
    (home.folder / "files.toml").write_text(_TABLE)
    with _ways(home) as ways:
        for _ in range(WARM + calls):
            for way in ways:
                way.call()
            told()
        direct = ways[0].times[WARM:]
        return [_figure(way, direct) for way in ways]


def _figure(way: Way, direct: Sequence[float]) -> Figure:
    mine = way.times[WARM:]
    found = {P50: median(mine), P99: percentile(sorted(mine), 99)}
    if way.name != DIRECT:
        found[ADDED] = median(one - bare for one, bare in zip(mine, direct, strict=True))
    return Figure(STDIO, way.name, 1, {name: rounded(value) for name, value in found.items()})


@contextmanager
def _ways(home: McpHome) -> Generator[list[Way]]:
    reader = Bundle.parse((home.folder / "reader.token").read_text().strip())
    present_env = {**home.plain, **home.present_env("reader.token")}
    with serving(home.folder / "home") as served, ExitStack() as kept:
        feed = {"CAPX_KEY_FILE": home.guard_env["CAPX_KEY_FILE"], "CAPX_FEED": served.url}
        guarded = home.guard(CHILD)
        ways = [
            Way(DIRECT, CHILD, home.plain),
            Way(PRESENT, home.present(CHILD), present_env),
            Way(GUARD_FEED, _without_store(guarded), {**home.plain, **feed}, reader),
            Way(GUARD_STORE, guarded, home.plain, reader),
            Way(BOTH, home.present(guarded), present_env),
        ]
        for way in ways:
            kept.callback(way.close)
        time.sleep(_NEWS)
        yield ways


def _without_store(guarded: Sequence[str]) -> list[str]:
    return [one for one in guarded if one != "env" and not one.startswith("CAPX_")]
