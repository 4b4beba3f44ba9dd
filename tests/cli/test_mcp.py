"""`capx mcp guard` and `capx mcp present` between a client of the SDK and a server of FastMCP."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.labs.mcp_home import SERVER, McpHome
from tests.server.conftest import Served, serving

pytest.importorskip("mcp", reason="needs the SDK of MCP: pip install mcp")
pytest.importorskip("fastmcp", reason="needs FastMCP: pip install fastmcp")

from mcp import StdioServerParameters
from mcp.client import Client

APPROVE = """
id=$(capx requests list | awk 'NR == 2 { print $1 }')
capx requests approve --key-file lea.key --yes $id
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> McpHome:
    return McpHome(tmp_path_factory.mktemp("mcp"))


@pytest.fixture(scope="module")
def authority(home: McpHome) -> Iterator[Served]:
    with serving(home.folder / "home") as served:
        yield served


@asynccontextmanager
async def client(
    command: list[str], env: dict[str, str], mode: str = "auto", **settings: Any
) -> AsyncGenerator[Client]:
    started = StdioServerParameters(command=command[0], args=command[1:], env=env)
    async with asyncio.timeout(60), Client(started, mode=mode) as session:
        yield session


def said(result: Any) -> str:
    text: str = result.content[0].text
    return text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_unmodified_client_uses_an_unmodified_server(home: McpHome, authority: Served, mode: str) -> None:
    env = home.present_env(url=authority.url)
    async with client(home.present(home.guard(SERVER)), env, mode) as session:
        assert {tool.name for tool in (await session.list_tools()).tools} == {"read", "write", "delete", "count"}
        assert said(await session.call_tool("read", {"path": "/a"})) == "/a: 100 lines"
        # Granted at once, on request.
        assert said(await session.call_tool("write", {"path": "/a", "text": "x"})) == "wrote 1 characters to /a"
        resource = await session.read_resource("files://readme")
        assert getattr(resource.contents[0], "text", None) == "read me"
        prompt = await session.get_prompt("review", {"path": "/a"})
        assert getattr(prompt.messages[0].content, "text", None) == "Review /a."
        assert [one.name for one in (await session.list_prompts()).prompts] == ["review"]


async def test_progress_passes_through_both(home: McpHome) -> None:
    seen: list[float] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with client(home.present(home.guard(SERVER)), home.present_env(), "legacy") as session:
        result = await session.call_tool("count", {"to": 3}, progress_callback=noted)
        assert said(result) == "counted to 3"
    assert seen == [0, 1, 2]


async def test_without_present_nothing_is_listed_and_nothing_called(home: McpHome) -> None:
    async with client(home.guard(SERVER), {}) as session:
        assert (await session.list_tools()).tools == []
        result = await session.call_tool("read", {"path": "/a"})
        assert (result.is_error, said(result)) == (True, "no token was presented")


async def test_a_call_waits_for_a_person_and_passes_when_approved(home: McpHome, authority: Served) -> None:
    env = {**home.plain, "CAPX_HOME": str(home.folder / "home")}
    shown = home.present_env(url=authority.url)
    async with client(home.present(home.guard(SERVER), "--wait", "0.2"), shown) as session:
        waiting = await session.call_tool("delete", {"path": "/old"})
        assert waiting.is_error
        assert "needs the consent of a person" in said(waiting)
        done = await asyncio.create_subprocess_exec("bash", "-c", APPROVE, env=env, cwd=home.folder)
        assert await done.wait() == 0
        assert said(await session.call_tool("delete", {"path": "/old"})) == "deleted /old"


async def test_a_cancelled_call_that_waited_never_runs(home: McpHome, authority: Served) -> None:
    env = {**home.plain, "CAPX_HOME": str(home.folder / "home")}
    log = "capx log --json"
    shown = home.present_env(url=authority.url)
    async with client(home.present(home.guard(SERVER), "--wait", "30"), shown) as session:
        calling = asyncio.create_task(session.call_tool("delete", {"path": "/never"}))
        await asyncio.sleep(1.5)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        done = await asyncio.create_subprocess_exec("bash", "-c", APPROVE, env=env, cwd=home.folder)
        assert await done.wait() == 0
        await asyncio.sleep(1)
        assert said(await session.call_tool("read", {"path": "/a"})) == "/a: 100 lines"
    found = subprocess.run(["bash", "-c", log], env=env, cwd=home.folder, capture_output=True, text=True, check=True)
    assert "files.delete" in found.stdout
    allowed = [line for line in found.stdout.splitlines() if '"allowed"' in line and "/never" in line]
    assert allowed == []
