"""`capx mcp`: proxies for MCP clients and servers that know nothing of capx, and the table of a server's tools."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import mcp_relay, phrases, screen
from capx_cli.arguments import out_option
from capx_cli.failure import DONE, Unusable
from capx_cli.token_output import demand_free
from capx_cli.view import json_option

if TYPE_CHECKING:
    from capx.guard.mcp.table import ToolTable
    from capx.resource.connection import Connection
    from capx_cli.mcp_table import Update

_NEAR, _FAR = 1.5, 3.0
"""Seconds for each step in which the server of `guard`, and that of `present`, ends: the latter may have one itself."""
_VERBATIM = {"allow_interspersed_args": False}
"""The words of COMMAND are its own, whatever they begin with."""
_TO_SERVE = ("httpx", "prometheus_client", "starlette", "uvicorn")
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
@click.option("--listen", "at", metavar="HOST:PORT", help="With --upstream: serve clients over HTTP here.")
@click.option("--insecure-public", is_flag=True, help="Listen without TLS at an address that other machines can reach.")
@mcp_relay.max_message_option
@mcp_relay.command_argument
def guard(
    *,
    table: Path,
    upstream: str | None,
    at: str | None,
    insecure_public: bool,
    max_message: int | None,
    command: tuple[str, ...],
) -> int:
    """Start the MCP server COMMAND, and let a client of standard input and output use it as far as its token allows.

    A call that no presentation allows is answered with the reasons, and the server never gets it. Lists show only what
    the token allows. CAPX_KEY_FILE names the keys of the audience, and CAPX_STORE, CAPX_FEED or CAPX_SNAPSHOT the
    place where revocations are. COMMAND gets no variable of capx.

    With --upstream, the server is one that is reached over HTTP already. With --listen too, so are the clients: give
    them this address, and let nobody but the guard reach the server's.

    Example: capx mcp guard --table files.toml -- python files_server.py
    """
    mcp_relay.demand_one_server(command, upstream)
    environ = os.environ
    mcp_relay.demand_apart(
        command, [environ.get(f"CAPX_{name}") for name in ("KEY_FILE", "LEDGER_KEY_FILE", "SPOOL", "STORE")]
    )
    from capx.guard.mcp.gate import Gate
    from capx.guard.mcp.proxy import GuardHandler
    from capx.guard.mcp.table import ToolTable

    if at is not None and upstream is None:
        raise click.UsageError("--listen needs --upstream URL: the clients of COMMAND use standard input and output")
    if at is not None and (missing := [name for name in _TO_SERVE if find_spec(name) is None]):
        raise Unusable(f"--listen needs {', '.join(missing)}: pip install 'capx-auth[serve]'")
    read = ToolTable.load(table)
    connection = _connected(read, is_alone=at is not None)
    try:
        handler = GuardHandler(Gate(connection.verifier(), read), mcp_relay.warn)
        if at is not None:
            from capx_cli import mcp_listen

            address = mcp_listen.address(at, insecure_public=insecure_public)
            return mcp_listen.serve(handler, address, upstream or "", most=(max_message or 1) * mcp_relay.MIB)
        return mcp_relay.run(handler, command, upstream, max_message=max_message, patience=_NEAR)
    finally:
        connection.close()


def _connected(table: "ToolTable", *, is_alone: bool) -> "Connection":
    """Return the parts of the verifier that the environment describes, for the audience of the table."""
    from capx.resource.connection import connect_from_env

    named = os.environ.get("CAPX_AUDIENCE") or table.audience
    if named != table.audience:
        raise Unusable(
            f"CAPX_AUDIENCE is {named:.80}, and the table is for {table.audience}: unset it, or take another"
        )
    if os.environ.get("CAPX_FEED") and not is_alone:
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
def present(
    *, audience: str, wait: float, upstream: str | None, max_message: int | None, command: tuple[str, ...]
) -> int:
    """Start the MCP server COMMAND, which is guarded, and present to it what a client sends to standard input.

    When the guard denies a call, it is asked for at the authority of CAPX_AUTHORITY_URL, and sent again when it was
    granted. CAPX_TOKEN_FILE names the token. It stays here: the server gets presentations, each worth one call, and no
    variable of capx.

    Example: capx mcp present --audience files --upstream https://files.internal/mcp
    """
    mcp_relay.demand_one_server(command, upstream)
    mcp_relay.demand_apart(command, [os.environ.get(name) for name in ("CAPX_TOKEN_FILE", "CAPX_AGENT_KEY_FILE")])
    _demand_audience(audience)
    from capx.agent.agent import Agent
    from capx.agent.mcp_presenter import PresentHandler

    with Agent.from_env(wait=wait) as agent:
        handler = PresentHandler(agent, audience)
        return mcp_relay.run(handler, command, upstream, max_message=max_message, patience=_FAR)


@mcp.command("map", short_help="Write the table of an MCP server's tools.", context_settings=_VERBATIM)
@click.option("--audience", metavar="NAME", help="The audience that the server is. With --update, it is in the file.")
@click.option(
    "--tenant",
    type=click.Choice(["granted", "none"]),
    default="granted",
    show_default=True,
    help="The tenant of each call: the one that the token names, or none.",
)
@out_option("Write the table to a new file, not to standard output (-).")
@click.option("--update", type=_THERE, metavar="FILE", help="Bring this table up to date, and keep what was written.")
@json_option
@mcp_relay.upstream_option
@mcp_relay.command_argument
def map_(
    *,
    audience: str | None,
    tenant: str,
    out: Path | None,
    update: Path | None,
    as_json: bool,
    upstream: str | None,
    command: tuple[str, ...],
) -> int:
    """Start the MCP server COMMAND, list its tools, and write a table in which each tool is an action of its own.

    Edit the table as you like: several tools may be one action. It holds a digest of each tool as the server describes
    it now: capx mcp guard refuses a tool whose description or schema has changed since. With --update, this command
    approves what was added or has changed, and shows the whole definition of each: read it.

    Example: capx mcp map --audience files --out new.toml -- python files_server.py
    """
    import asyncio

    from capx_cli import mcp_table

    mcp_relay.demand_one_server(command, upstream)
    if (audience is None) == (update is None):
        raise click.UsageError("give --audience NAME for a new table, or --update FILE")
    if audience is not None:
        _demand_audience(audience)
    if update is not None and out is not None:
        raise click.UsageError("--update writes to its own file: leave out --out")
    if out is not None:
        demand_free(out)
    if update is not None:
        mcp_table.demand_table(update)
    with screen.busy("listing the tools"):
        found = mcp_table.tools(asyncio.run(mcp_relay.definitions(command, upstream)))
    if update is not None:
        _tell_update(update, mcp_table.bring_up_to_date(update, found), as_json)
        return DONE
    table = mcp_table.new_table(audience or "", tenant, found)
    if out is not None:
        from capx.crypto import private_file

        private_file.save(out, table.encode, Unusable, over=False)
    if as_json:
        wrote = {} if out is None else {"wrote": str(out)}
        screen.as_json({**wrote, "audience": audience, "tools": found})
    elif out is None:
        screen.bare(table.removesuffix("\n"))
    else:
        screen.note(f"wrote {out}: {phrases.counted(len(found), 'tool')}, each an action of its own", screen.GOOD)
    return DONE


def _tell_update(file: Path, update: "Update", as_json: bool) -> None:
    if as_json:
        screen.as_json({"wrote": str(file), "added": update.added, "changed": update.changed, "gone": update.gone})
        return
    for what, tools in (("added", update.added), ("changed", update.changed)):
        for tool in tools:
            # All that the digest covers: what is not shown here would be approved unseen.
            screen.say(f"{what}: {tool.name}", screen.STRONG)
            for line in tool.whole.splitlines():
                screen.say(f"  {line}")
    for name in update.gone:
        screen.say(f"gone, left in the file: {name}")
    if not (update.added or update.changed):
        screen.say(f"{file} names all tools as the server has them: nothing was changed", screen.GOOD)


def _demand_audience(audience: str) -> None:
    from capx_caveats import is_audience

    if not is_audience(audience):
        raise click.UsageError(f"{audience!r:.80} is not an audience: lower-case letters, digits, dots and dashes")
