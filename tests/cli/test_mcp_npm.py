"""Servers of others, from npm, behind both proxies: set CAPX_NPM_SERVERS to the folder in which they are installed.

    npm install --prefix FOLDER @modelcontextprotocol/server-filesystem @modelcontextprotocol/server-everything \
        @modelcontextprotocol/sdk
"""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.labs.commands import COMMAND
from tests.labs.mcp_home import TABLE, McpHome

pytest.importorskip("mcp", reason="needs the SDK of MCP: pip install mcp")

from tests.cli.test_mcp import client, said

FOLDER = Path(os.environ.get("CAPX_NPM_SERVERS") or "/nowhere") / "node_modules" / "@modelcontextprotocol"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None or not (FOLDER / "server-everything").is_dir(),
    reason="CAPX_NPM_SERVERS names no folder with servers of npm, or there is no node",
)


def server(name: str, *args: str) -> list[str]:
    return [str(NODE), str(FOLDER / name / "dist" / "index.js"), *args]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> McpHome:
    return McpHome(tmp_path_factory.mktemp("npm"))


def mapped(home: McpHome, command: list[str]) -> str:
    done = subprocess.run(
        [*COMMAND, "mcp", "map", "--audience", "files", "--", *command],
        env=home.plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_the_file_system_server_is_mapped_and_guarded(home: McpHome, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    command = server("server-filesystem", str(tmp_path))
    table = mapped(home, command)
    assert "\n[tool.read_text_file]\n" in table
    for tool in ("read_text_file", "list_directory"):
        table = table.replace(f'"files.{tool}"', '"files.read"')
    (home.folder / "files.toml").write_text(table)
    path = str(tmp_path / "a.txt")

    async def main() -> None:
        async with client(home.present(home.guard(command)), home.present_env("reader.token")) as session:
            assert {tool.name for tool in (await session.list_tools()).tools} == {"read_text_file", "list_directory"}
            assert said(await session.call_tool("read_text_file", {"path": path})) == "alpha"
            assert "a.txt" in said(await session.call_tool("list_directory", {"path": str(tmp_path)}))
            denied = await session.call_tool("write_file", {"path": path, "content": "x"})
            assert denied.is_error

    asyncio.run(main())
    assert (tmp_path / "a.txt").read_text() == "alpha"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_server_with_everything_works_behind_both(home: McpHome, mode: str) -> None:
    command = server("server-everything")
    text = mapped(home, command)
    assert "[tool.echo]" in text
    (home.folder / "files.toml").write_text(re_mapped(text))
    seen: list[float] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with client(home.present(home.guard(command)), home.present_env("reader.token"), mode) as session:
        assert said(await session.call_tool("echo", {"message": "hello"})) == "Echo: hello"
        long = {"duration": 0.3, "steps": 3}
        await session.call_tool("trigger-long-running-operation", long, progress_callback=noted)
    assert seen == sorted(seen)
    assert len(seen) == 3


def re_mapped(table: str) -> str:
    """The table in which each tool is one action that the token has."""
    lines = ('action = "files.read"' if line.startswith("action = ") else line for line in table.splitlines())
    return "\n".join(lines) + "\n"


CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
const [command, ...args] = JSON.parse(process.env.CAPX_TEST_COMMAND);
const transport = new StdioClientTransport({ command, args, env: JSON.parse(process.env.CAPX_TEST_ENV) });
const client = new Client({ name: "test", version: "1" });
await client.connect(transport);
const tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
const allowed = await client.callTool({ name: "read", arguments: { path: "/a" } });
const denied = await client.callTool({ name: "write", arguments: { path: "/a", text: "x" } });
await client.close();
console.log(JSON.stringify({ tools, allowed: allowed.content[0].text, denied: denied.isError }));
"""


@pytest.mark.skipif(not (FOLDER / "sdk").is_dir(), reason="the TypeScript SDK is not installed beside the servers")
def test_a_client_of_the_typescript_sdk_is_served(home: McpHome) -> None:
    pytest.importorskip("fastmcp", reason="needs FastMCP: pip install fastmcp")
    from tests.labs.mcp_home import SERVER

    (home.folder / "files.toml").write_text(TABLE)
    script = FOLDER.parent.parent / "capx-test-client.mjs"
    script.write_text(CLIENT)
    env = {**home.plain, **home.present_env("reader.token")}
    told = {"CAPX_TEST_COMMAND": json.dumps(home.present(home.guard(SERVER))), "CAPX_TEST_ENV": json.dumps(env)}
    try:
        done = subprocess.run(
            [str(NODE), str(script)],
            env={**home.plain, **told},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    finally:
        script.unlink()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"tools": ["read"], "allowed": "/a: 100 lines", "denied": True}
