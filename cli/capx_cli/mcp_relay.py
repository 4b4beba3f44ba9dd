"""Runs a relay of MCP in this process: from standard input and output to a server, until one of them ends, or a signal.

Laws: nothing but messages goes to standard output. The server ends before this process does, also after Ctrl-C and
SIGTERM. The exit code is 0 if the client has ended in order, and 3 if the server has ended first.
"""

import asyncio
import re
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from capx_cli import screen
from capx_cli.failure import DONE, INTERRUPTED, TERMINATED, UNUSABLE, Unusable

if TYPE_CHECKING:
    from capx.api.relay.connection import Server
    from capx.api.relay.relay import Handler

MIB: Final = 1 << 20
"""Bytes of a MiB."""
_MOST_SENTENCES: Final = 100
_CODES: Final = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED, signal.SIGHUP: 128 + signal.SIGHUP}
"""The signals that end a proxy in order, and its exit codes. A terminal that is closed sends SIGHUP."""

command_argument = click.argument("command", nargs=-1, type=click.UNPROCESSED)
upstream_option = click.option("--upstream", metavar="URL", help="The server, if it is reached over HTTP.")
max_message_option = click.option(
    "--max-message",
    type=click.IntRange(min=1, max=1024),
    metavar="MIB",
    help="The most MiB of one message. Without it, 16; for a guard with --listen, 1.",
)


def demand_one_server(command: Sequence[str], upstream: str | None) -> None:
    """Raise UsageError unless exactly one server is named."""
    if bool(command) == (upstream is not None):
        raise click.UsageError("name one server: -- COMMAND …, or --upstream URL")
    if upstream is not None:
        if not upstream.lower().startswith(("http://", "https://")):
            raise click.UsageError(f"--upstream: {upstream!r:.200} is not a URL: write https://… or http://…")
        if find_spec("httpx") is None:
            raise Unusable("a server over HTTP needs httpx: pip install 'capx-auth[httpx]'")


def demand_apart(command: Sequence[str], secrets: Iterable[str | None]) -> None:
    """Raise Unusable if the server was given a folder or a file that holds a secret of this process."""
    # `--root=/srv`, `-v /srv:/data`, `file:///srv` and `-d/srv` name a folder, too.
    parts = (part for each in command for part in (each, *re.split(r"[=:,]", each), each[max(each.find("/"), 0) :]))
    named = [re.sub(r"^//", "", part) for part in parts if part]
    there = [path.resolve() for path in map(Path, named) if _exists(path)]
    for secret in filter(None, secrets):
        place = Path(secret).resolve()
        for path in there:
            if place == path or path in place.parents:
                raise Unusable(
                    f"the server is given {path}, and {secret} is in it: its tools could read that file. Put it "
                    "elsewhere, where the server has no business"
                )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


async def server_of(command: Sequence[str], upstream: str | None, most: int, patience: float) -> "Server":
    """Start the server, or make the connection to it."""
    if upstream is not None:
        from capx.api.relay.http_server import HttpServer

        return HttpServer(upstream, most=most)
    from capx.api.relay.child import Child

    return await Child.start(command, most=most, patience=patience)


def run(
    handler: "Handler", command: Sequence[str], upstream: str | None, *, max_message: int | None, patience: float
) -> int:
    """Relay between the client of this process and the server, and return the exit code."""
    from capx.api.relay.relay import Relay
    from capx.api.relay.streams import own_streams

    most = (max_message or 16) * MIB

    async def relayed(hurry: list[Callable[[], None]]) -> int:
        server = await server_of(command, upstream, most, patience)
        hurry.append(server.hurry)
        try:
            async with own_streams(most) as client:
                ended = await Relay(client, server, handler, warn=warn).run()
        finally:
            await asyncio.shield(asyncio.ensure_future(server.close()))
        if ended == "server":
            warn(f"the server {server.ending()}")
            return UNUSABLE
        return DONE

    return until_signal(relayed)


async def definitions(command: Sequence[str], upstream: str | None) -> "list[dict[str, Any]]":
    """Start the server, and return the definitions of its tools."""
    from capx.guard.mcp.tool_list import tools_of

    server = await server_of(command, upstream, 64 * MIB, 1.0)
    try:
        return await tools_of(server)
    finally:
        await asyncio.shield(asyncio.ensure_future(server.close()))


def until_signal(work: "Callable[[list[Callable[[], None]]], Coroutine[Any, Any, int]]") -> int:
    """Run the work, and return its exit code; a signal cancels it, and what it has put into its list is called."""
    signalled: list[signal.Signals] = []

    async def main() -> int:
        loop, hurry = asyncio.get_running_loop(), list[Callable[[], None]]()
        working = asyncio.ensure_future(work(hurry))

        def end(number: signal.Signals) -> None:
            signalled.append(number)
            for call in hurry:
                call()
            working.cancel()

        for number in _CODES:
            loop.add_signal_handler(number, end, number)
        try:
            return await working
        except asyncio.CancelledError:
            if not signalled:
                raise
            return _CODES[signalled[0]]

    return asyncio.run(main())


_told: set[str] = set()


def warn(sentence: str) -> None:
    """Tell the operator a sentence on standard error, once: neither side of a relay may fill a log."""
    if sentence not in _told and len(_told) < _MOST_SENTENCES:
        _told.add(sentence)
        screen.warn(f"capx: {sentence}")
