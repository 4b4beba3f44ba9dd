"""The guard over HTTP, before a FastMCP server that is reached over HTTP, with clients of the SDK."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from mcp import MCPError

from capx.agent.mcp_client import present
from capx.guard.mcp.inbound import LARGE
from capx.tokens.bundle import Bundle
from tests.cli.test_mcp import client, said
from tests.labs.commands import COMMAND
from tests.labs.mcp_home import LABS, McpHome
from tests.labs.processes import ended_with_test
from tests.labs.serving_process import reachable

pytest.importorskip("fastmcp", reason="needs FastMCP: pip install fastmcp")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> McpHome:
    return McpHome(tmp_path_factory.mktemp("mcp"))


@contextlib.contextmanager
def upstream(*options: str) -> Generator[str]:
    """A FastMCP server that anybody can reach."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, str(LABS / "mcp_server.py"), port, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not reachable(["127.0.0.1", port]) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module", params=["events", "json"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with upstream(request.param) as url:
        yield url


def guard(home: McpHome, url: str, *options: str) -> "tuple[subprocess.Popen[str], str]":
    table = str(home.folder / "files.toml")
    process = ended_with_test(
        subprocess.Popen(
            [*COMMAND, "mcp", "guard", "--table", table, "--upstream", url, "--listen", "127.0.0.1:0", *options],
            env={**home.plain, **home.guard_env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    assert process.stdout is not None
    told = process.stdout.readline()
    found = re.fullmatch(rf"guarding {re.escape(url)} at (http://127\.0\.0\.1:\d+/mcp)\n", told)
    assert found is not None, (told, process.communicate(timeout=20))
    return process, found[1]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_behind_present_uses_a_server_behind_the_guard(home: McpHome, server: str, mode: str) -> None:
    process, url = guard(home, server)
    command = [*COMMAND, "mcp", "present", "--audience", "files", "--upstream", url]
    async with client(command, home.present_env(), mode) as session:
        tools = {tool.name for tool in (await session.list_tools()).tools}
        assert tools == {"read", "count"}
        assert said(await session.call_tool("read", {"path": "/a"})) == "/a: 100 lines"
        denied = await session.call_tool("write", {"path": "/a", "text": "x"})
        assert (denied.is_error, "allows only" in said(denied)) == (True, True)
        assert said(await session.call_tool("count", {"to": 2})) == "counted to 2"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_large_call_is_presented_in_the_head(home: McpHome, server: str, mode: str) -> None:
    """A guard reads it only if its head shows a presentation; both of our clients do that."""
    from mcp.client import Client

    _, url = guard(home, server)
    path = "/" + "a" * (LARGE + 1)
    command = [*COMMAND, "mcp", "present", "--audience", "files", "--upstream", url]
    async with client(command, home.present_env(), mode) as session:
        assert said(await session.call_tool("read", {"path": path})) == f"{path}: 100 lines"
    async with asyncio.timeout(30), Client(url, mode=mode) as session:
        present(session.session, "files", Bundle.load(home.folder / "agent.token"))
        assert said(await session.call_tool("read", {"path": path})) == f"{path}: 100 lines"
    # Where only the message presents, a small one has to come first in the session.
    async with asyncio.timeout(30), Client(url, mode="legacy") as session:
        dispatcher: Any = vars(session.session)["_dispatcher"]
        before = dispatcher.send_raw_request
        present(session.session, "files", Bundle.load(home.folder / "agent.token"))
        dispatcher.send_raw_request = before
        with pytest.raises(MCPError):
            await session.call_tool("read", {"path": path})
        assert said(await session.call_tool("read", {"path": "/a"})) == "/a: 100 lines"
        assert said(await session.call_tool("read", {"path": path})) == f"{path}: 100 lines"


async def test_a_client_without_present_gets_nothing(home: McpHome, server: str) -> None:
    from mcp.client import Client

    _, url = guard(home, server)
    async with asyncio.timeout(30), Client(url) as session:
        assert (await session.list_tools()).tools == []
        assert said(await session.call_tool("read", {"path": "/a"})) == "no token was presented"


async def test_a_guard_of_standard_input_reaches_a_server_over_http(home: McpHome, server: str) -> None:
    variables = [f"{name}={value}" for name, value in home.guard_env.items()]
    table = str(home.folder / "files.toml")
    inner = ["env", *variables, *COMMAND, "mcp", "guard", "--table", table, "--upstream", server]
    async with client(home.present(inner), home.present_env(), "legacy") as session:
        assert said(await session.call_tool("read", {"path": "/a"})) == "/a: 100 lines"


def test_the_tools_of_a_server_over_http_are_mapped(home: McpHome, server: str) -> None:
    done = subprocess.run(
        [*COMMAND, "mcp", "map", "--audience", "files", "--upstream", server, "--json"],
        env=home.plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [tool["name"] for tool in json.loads(done.stdout)["tools"]] == ["read", "write", "delete", "count"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--listen", "8009"), "'8009' is not an address"),
        (("--listen", "0.0.0.0:0"), "without encryption: put a proxy with TLS before it"),
        (("--listen", "127.0.0.1:9001", "--insecure-public"), "let a proxy on this machine send Host: 127.0.0.1:9001"),
    ],
)
def test_where_it_must_not_listen_it_does_not(home: McpHome, options: tuple[str, ...], says: str) -> None:
    command = [*COMMAND, "mcp", "guard", "--table", "files.toml", "--upstream", "http://127.0.0.1:1/mcp", *options]
    env = {**home.plain, **home.guard_env}
    done = subprocess.run(command, env=env, cwd=home.folder, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, says in done.stderr, done.stdout) == (2, True, ""), done
