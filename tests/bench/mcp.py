"""Time what the proxies of MCP add to a call over standard input and output.

python -m tests.bench.mcp              400 calls of each kind, interleaved; the bar beside them
python -m tests.bench.mcp --calls 50   a short one, for whoever changes it
python -m tests.bench.mcp --server node …/server-everything/dist/index.js     another server, with a tool `echo`
"""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from capx.api.mcp_messages import OwnMeta, bound_call, with_own
from capx.tokens.bundle import Bundle
from tests.labs.mcp_home import CHILD, McpHome
from tests.server.conftest import serving

CALLS: Final = 400
BAR: Final = 2.0
"""The milliseconds that both proxies together may add to the median."""
_WARM: Final = 10
_CALL: Final = "tools/call"


class Figure(Struct, frozen=True):
    """The times of the calls on one way, in milliseconds."""

    way: str
    p50: float
    p95: float
    added: float
    """What the way adds to the median of the direct one."""
    bar: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None if there is none."""
        return None if self.bar is None else self.added <= self.bar


class Way:
    """A server behind some proxies, and a client that calls its echo."""

    def __init__(self, name: str, command: Sequence[str], env: dict[str, str], presents: Bundle | None = None) -> None:
        self.name = name
        self.times: list[float] = []
        self._presents = presents
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._next = 0
        opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self._asked("initialize", opened)
        self._write({"method": "notifications/initialized"})

    def call(self) -> None:
        """Call once, and note how long it took; a presentation is made before."""
        arguments = {"name": "echo", "arguments": {"message": "hello"}}
        shown = None if self._presents is None else self._presents.present("files", bound_call(_CALL, arguments)).text
        params = with_own(arguments, OwnMeta(shown))
        began = time.perf_counter()
        answer = self._asked(_CALL, params)
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


@contextlib.contextmanager
def ways(home: McpHome, server: Sequence[str]) -> Generator[list[Way]]:
    """All ways, open at once."""
    reader = Bundle.parse((home.folder / "reader.token").read_text().strip())
    present_env = {**home.plain, **home.present_env("reader.token")}
    with serving(home.folder / "home") as served, contextlib.ExitStack() as kept:
        feed = {"CAPX_KEY_FILE": home.guard_env["CAPX_KEY_FILE"], "CAPX_FEED": served.url}
        guarded = home.guard(server)
        found = [
            Way("direct", server, home.plain),
            Way("present", home.present(server), present_env),
            Way("guard, in memory", _on_feed(guarded), {**home.plain, **feed}, reader),
            Way("guard, on a store", guarded, home.plain, reader),
            Way("both, on a store", home.present(guarded), present_env),
        ]
        for way in found:
            kept.callback(way.close)
        # A guard on the feed waits for its first news.
        time.sleep(6)
        yield found


def _on_feed(guarded: Sequence[str]) -> list[str]:
    """The command of a guard without the variables that name the store."""
    return [one for one in guarded if one != "env" and not one.startswith("CAPX_")]


def measured(calls: int, server: Sequence[str]) -> list[Figure]:
    """Call on all ways in turn, so that what disturbs one disturbs all."""
    with tempfile.TemporaryDirectory(prefix="capx-bench-") as folder:
        home = McpHome(Path(folder))
        table = 'audience = "files"\ntenant = "granted"\n[tool.echo]\naction = "files.read"\n'
        (home.folder / "files.toml").write_text(table)
        with ways(home, server) as found:
            for nth in range(_WARM + calls):
                for way in found:
                    way.call()
                    if nth < _WARM:
                        way.times.clear()
            direct = quantiles(found[0].times, n=20)[9]
            return [_figure(way, direct, BAR if way.name.startswith("both") else None) for way in found]


def _figure(way: Way, direct: float, bar: float | None) -> Figure:
    parts = quantiles(way.times, n=20)
    return Figure(way.name, parts[9], parts[18], parts[9] - direct, bar)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and show a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS, help="the calls on each way")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--server", nargs="+", default=list(CHILD), help="the command of a server with a tool `echo`")
    options = parser.parse_args(arguments)
    figures = measured(options.calls, options.server)
    if options.json:
        facts: list[Any] = [{**msgspec.to_builtins(one), "reached": one.reached} for one in figures]
        print(json.dumps(facts, indent=2))
        return
    title = f"MCP over stdio, in ms ({options.calls} calls each, {os.cpu_count()} cores)"
    table = Table("way", "p50", "p95", "adds to p50", "bar", title=title, title_justify="left")
    for one in figures:
        bar = "-" if one.bar is None else f"<= {one.bar:g}, {'reached' if one.reached else 'MISSED'}"
        table.add_row(one.way, f"{one.p50:.2f}", f"{one.p95:.2f}", f"{one.added:.2f}", bar)
    Console().print(table)


if __name__ == "__main__":
    main()
