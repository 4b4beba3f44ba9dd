"""One process that serves an authority on both faces, from start to graceful stop.

Laws: whoever is told where it listens can connect. The first signal (SIGTERM, SIGINT) ends it in order: nobody else is
let in, streams end, what is under way is finished within a bound, decisions are written, the socket is removed. The
second one ends it at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import prometheus_client
import uvicorn
from msgspec import Struct
from starlette.types import ASGIApp, Receive, Scope, Send

from capx.authority.authority import Authority
from capx.server import app
from capx.server.net.connections import HeadTimeoutProtocol, Limits, Listener, Loop
from capx.server.net.sockets import Address, OwnSocket, listen
from capx.server.service import Service

GRACE: Final = 10
"""Seconds within which what is under way at the end has to be finished."""
_KEEP_ALIVE = 30


class Plan(Struct, frozen=True):
    """Where to serve; `keys` is the file of the root keys, `settings` are uvicorn's, for the face on the network."""

    listen: Address
    socket: OwnSocket
    keys: Path | None = None
    settings: dict[str, Any] = {}


class _Server(uvicorn.Server):
    """One of two servers in a process: signals are not its own to handle."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to whoever runs both."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what is under way finish; whose request is not there by then, or takes no answer in, is let go."""
        letting_go = asyncio.get_running_loop().call_later(GRACE, self._let_go)
        try:
            await super().shutdown(sockets)
        finally:
            letting_go.cancel()

    def _let_go(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(authority: Authority, plan: Plan, *, started: Callable[[Address], None]) -> int:
    """Serve until a signal comes; gives the exit code. `started` is told the address once both faces answer."""
    # When each figure was first counted doubles what a scrape carries, and nobody asks for it.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    limits = Limits.of_process()
    network = listen(plan.listen)
    network.limit, plan.socket.listening.limit = limits.network, limits.operators
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(_serve(authority, plan, network, started))
    finally:
        network.close()


async def _serve(authority: Authority, plan: Plan, network: Listener, started: Callable[[Address], None]) -> int:
    service = Service(authority, plan.keys)
    servers = (
        _Server(_config(app.operators(service), plan.socket.listening)),
        _Server(_config(app.everybody(service), network, **plan.settings)),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, number, plan.socket, service, servers)
    at = Address(plan.listen.host, network.getsockname()[1])
    async with service.open():
        serving = [
            asyncio.create_task(server.serve(sockets=[listening]))
            for server, listening in zip(servers, (plan.socket.listening, network), strict=True)
        ]
        try:
            while not all(server.started for server in servers):
                if any(task.done() for task in serving):
                    break
                await asyncio.sleep(0.005)
            else:
                started(at)
            await asyncio.gather(*serving)
        finally:
            for task in serving:
                task.cancel()
            plan.socket.remove()
    return 0


def _config(face: ASGIApp, listening: Listener, **settings: Any) -> uvicorn.Config:
    return uvicorn.Config(
        _quietly(face),
        loop="asyncio",
        http=HeadTimeoutProtocol,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        # What is let go after that time ends by itself, but for what waits for the store.
        timeout_graceful_shutdown=GRACE + 1,
        # Connections are counted where they are taken; this is for what goes on when its client has left.
        limit_concurrency=listening.limit + 1,
        **settings,
    )


def _quietly(face: ASGIApp) -> ASGIApp:
    """A face whose requests end without a trace when the time for an orderly end is over: nobody hears them then."""

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await face(scope, receive, send)

    return ending


def _stop(number: int, socket: OwnSocket, service: Service, servers: tuple[_Server, ...]) -> None:
    if service.stopping:
        # Whatever a thread waits for: what is not durable was not answered.
        socket.remove()
        os._exit(128 + number)
    # Who comes from here on is told that nobody serves, and another process may begin to.
    socket.remove()
    service.stop()
    for server in servers:
        server.should_exit = True
