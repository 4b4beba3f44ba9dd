"""`capx mcp`: proxies for MCP clients and servers that know nothing of capx, and the table of a server's tools."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import mcp_relay, phrases, screen
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.guard.mcp.table import ToolTable
    from capx.resource.connection import Connection

_NEAR, _FAR = 1.5, 3.0
"""Seconds for each step in which the server of `guard`, and that of `present`, ends: the latter may have one itself."""
_VERBATIM = {"allow_interspersed_args": False}
"""The words of COMMAND are its own, whatever they begin with."""
_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=phrases.InOrder)
def mcp() -> None:
    """Guard an MCP server, and present the calls of an MCP client, without changing either.

    capx mcp guard stands before the server: it judges each call. capx mcp present stands behind the client: it presents
    each call, and asks for more when one is denied. capx mcp map writes the table that says which action each tool is.

    Example: capx mcp map --audience files -- python files_server.py
    """


@mcp.command(short_help="Judge each call before an MCP server gets it.", context_settings=_VERBATIM)
@click.option("--table", type=_THERE, required=True, metavar="FILE", help="Which action each tool is: capx mcp map.")
@mcp_relay.upstream_option
@mcp_relay.max_message_option
@mcp_relay.command_argument
def guard(*, table: Path, upstream: str | None, max_message: int, command: tuple[str, ...]) -> int:
    """Start the MCP server COMMAND, and let a client of standard input and output use it as far as its token allows.

    A call that no presentation allows is answered with the reasons, and the server never gets it. Lists show only what
    the token allows. CAPX_KEY_FILE names the keys of the audience, and CAPX_STORE, CAPX_FEED or CAPX_SNAPSHOT the
    place where revocations are. COMMAND gets no variable of capx.

    Example: capx mcp guard --table files.toml -- python files_server.py < initialize.jsonl
    """
    mcp_relay.demand_one_server(command, upstream)
    environ = os.environ
    mcp_relay.demand_apart(
        command, [environ.get(name) for name in ("CAPX_KEY_FILE", "CAPX_LEDGER_KEY_FILE", "CAPX_STORE")]
    )
    from capx.guard.mcp.gate import Gate
    from capx.guard.mcp.proxy import GuardHandler
    from capx.guard.mcp.table import ToolTable

    read = ToolTable.load(table)
    connection = _connected(read)
    try:
        handler = GuardHandler(Gate(connection.verifier(), read), mcp_relay.warn)
        return mcp_relay.run(handler, command, upstream, max_message=max_message, patience=_NEAR)
    finally:
        connection.close()


def _connected(table: "ToolTable") -> "Connection":
    """Return the parts of the verifier that the environment describes, for the audience of the table."""
    from capx.resource.connection import connect_from_env

    named = os.environ.get("CAPX_AUDIENCE") or table.audience
    if named != table.audience:
        raise Unusable(
            f"CAPX_AUDIENCE is {named:.80}, and the table is for {table.audience}: unset it, or take another"
        )
    if os.environ.get("CAPX_FEED"):
        screen.note(
            "capx: a guard on a feed remembers presentations only in its own process: where each client starts a guard "
            "of its own, name the store with CAPX_STORE, or give each guard an audience of its own"
        )
    return connect_from_env({**os.environ, "CAPX_AUDIENCE": table.audience})


@mcp.command(short_help="Present each call of an MCP client.", context_settings=_VERBATIM)
@click.option("--audience", required=True, help="The audience of the server.")
@click.option(
    "--wait",
    type=phrases.Seconds(min=0, max=86_400),
    default=30.0,
    show_default=True,
    help="For how many seconds a call waits for a person.",
)
@mcp_relay.upstream_option
@mcp_relay.max_message_option
@mcp_relay.command_argument
def present(*, audience: str, wait: float, upstream: str | None, max_message: int, command: tuple[str, ...]) -> int:
    """Start the MCP server COMMAND, which is guarded, and present to it what a client of standard input sends.

    When the guard denies a call, it is asked for at the authority of CAPX_AUTHORITY_URL, and sent again when it was
    granted. CAPX_TOKEN_FILE names the token. It stays here: the server gets presentations, each worth one call, and no
    variable of capx.

    Example: capx mcp present --audience files -- python guarded_server.py < initialize.jsonl
    """
    mcp_relay.demand_one_server(command, upstream)
    mcp_relay.demand_apart(command, [os.environ.get(name) for name in ("CAPX_TOKEN_FILE", "CAPX_AGENT_KEY_FILE")])
    from capx_caveats import is_audience

    if not is_audience(audience):
        raise click.UsageError(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")
    from capx.agent.agent import Agent
    from capx.agent.mcp_presenter import PresentHandler

    with Agent.from_env(wait=wait) as agent:
        handler = PresentHandler(agent, audience)
        return mcp_relay.run(handler, command, upstream, max_message=max_message, patience=_FAR)
