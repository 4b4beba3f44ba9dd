"""Strangers who flood the guard of an MCP server over HTTP: a caller goes on.

In `make nightly`, every kind of flood runs for a minute. By day, all kinds together run until the caller has had some
answers.
"""

import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from capx.api.mcp_messages import OwnMeta, bound_request, with_own
from capx.tokens.bundle import Bundle
from tests.cli.test_mcp_listen import guard, upstream
from tests.labs import strangers
from tests.labs.counts import NIGHTLY
from tests.labs.flooding import strangers_at
from tests.labs.mcp_home import McpHome

if TYPE_CHECKING:
    import subprocess

CALLS = 400 if NIGHTLY else 20
MOST_MEMORY = 256 << 20
# Measured on two idle cores: 1.0 to 2.0 times as long as without a flood. By day, other tests run meanwhile.
MEDIAN = 0.2 if NIGHTLY else 2.0
EVERY = tuple(strangers.MCP)
FLOODS = [(kind,) for kind in EVERY] + [EVERY] if NIGHTLY else [EVERY]


class Guarded:
    """A guard as a process, and a caller who has a token for it."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, home: McpHome) -> None:
        self.process = process
        self.url = url
        self.bundle = Bundle.load(home.folder / "agent.token")

    def called(self, client: httpx.Client) -> float:
        """Call a tool, and return the seconds until it was answered."""
        params = {"name": "read", "arguments": {"path": "/a"}}
        shown = self.bundle.present("files", bound_request("tools/call", params)).text
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": with_own(params, OwnMeta(shown))}
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        began = time.perf_counter()
        answer = client.post(
            self.url, content=msgspec.json.encode(request), headers={**headers, "capx-presentation": shown}
        )
        assert (answer.status_code, "100 lines" in answer.text) == (200, True), answer.text
        return time.perf_counter() - began

    def peak(self) -> int:
        """The most bytes that the guard has had in memory."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    pytest.importorskip("fastmcp", reason="needs FastMCP: pip install fastmcp")
    home = McpHome(tmp_path_factory.mktemp("mcp"))
    with upstream("stateless") as url:
        process, own = guard(home, url)
        yield Guarded(process, own, home)
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has so many addresses of its own")
@pytest.mark.parametrize("addresses", [1, 4] if NIGHTLY else [4])
@pytest.mark.parametrize("kinds", FLOODS, ids=lambda kinds: "all" if kinds == EVERY else kinds[0])
@pytest.mark.timeout(300)
def test_strangers_at_a_guard_keep_no_caller_waiting(guarded: Guarded, kinds: tuple[str, ...], addresses: int) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        guarded.called(client)
        with strangers_at(guarded.url, kinds, addresses):
            time.sleep(1)
            times = [guarded.called(client) for _ in range(CALLS)]
    assert statistics.median(times) < MEDIAN
    assert guarded.peak() < MOST_MEMORY
