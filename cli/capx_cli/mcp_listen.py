"""Serves the guard of an MCP server over HTTP, until a signal. Import it only where uvicorn is installed.

Law: the address is told on standard output when it answers, and nothing else goes there.
"""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

import click
import httpx
import uvicorn

from capx.api.relay.http_exchange import http_client
from capx.api.relay.http_headers import PRESENTED, SESSION
from capx.errors import ConfigurationProblem
from capx.guard.asgi.slots import Sender
from capx.guard.mcp.listener import Listener
from capx.server.net.connections import Limits, Loop
from capx.server.net.head_queue import HeadQueue
from capx.server.net.http_protocol import bounded_config
from capx.server.net.sockets import Address, listen
from capx_cli import mcp_relay, screen
from capx_cli.failure import DONE

if TYPE_CHECKING:
    from capx.guard.mcp.proxy import GuardHandler

_GRACE: Final = 2
"""Seconds for requests that are under way when the guard stops."""
_SHOWN: Final = re.compile(rb"\n(%b|%b):[ \t]*(\S+)" % (PRESENTED.encode(), SESSION.encode()), re.IGNORECASE)
"""The fields of a head that show who is a caller."""
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")


def address(at: str, *, insecure_public: bool) -> Address:
    """Return where to listen; UsageError for what is no address, or one that needs TLS."""
    try:
        found = Address.parse(at)
    except ConfigurationProblem as error:
        raise click.UsageError(f"--listen: {error}") from None
    if not found.is_local and not insecure_public:
        cure = "put a proxy with TLS before it, and give --insecure-public"
        raise click.UsageError(f"other machines can connect to {found} without encryption: {cure}")
    if found.is_local and insecure_public:
        cure = f"let a proxy on this machine send Host: {found}, and leave out --insecure-public"
        raise click.UsageError(f"only this machine can connect to {found}: {cure}")
    return found


def serve(handler: "GuardHandler", at: Address, upstream: str, *, most: int) -> int:
    """Serve until a signal, and return the exit code. A client's message has at most `most` bytes."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(_serve(handler, at, upstream, most))


async def _serve(handler: "GuardHandler", at: Address, upstream: str, most: int) -> int:
    hosts = (*_LOCAL, at.host.lower()) if at.is_local else None
    async with http_client() as client:
        app = Listener(handler, client, upstream, warn=mcp_relay.warn, hosts=hosts, max_message=most)

        def sender_of(head: bytes, machine: str) -> Sender:
            shown = {name.lower(): value.decode("latin-1") for name, value in _SHOWN.findall(head)}
            return app.sender_of(shown.get(PRESENTED.encode()), shown.get(SESSION.encode()), machine)

        heads = HeadQueue(sender_of, slows_strangers=True)
        server = _Server(bounded_config(app, heads, lambda _: None, timeout_graceful_shutdown=_GRACE))
        with listen(at) as listening:
            listening.limit = Limits.of_process().network
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            # uvicorn has no event for this, only a flag.
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            bound = Address(at.host, listening.getsockname()[1])
            screen.say(f"guarding {upstream} at http://{bound}{httpx.URL(upstream).path}", screen.STRONG)
            sys.stdout.flush()
            await serving
    return DONE


class _Server(uvicorn.Server):
    """A server that ends with a signal, and not by it: then the guard writes the decisions that wait."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals while it serves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
