"""One process that serves both faces of an authority, from start to graceful stop.

Laws:

- When the address is announced, both faces accept connections.
- The first signal (SIGTERM, SIGINT) stops the process in order: it removes the socket, accepts no new connections, ends
  streams, and finishes requests within a limited time. The code that opened the authority then closes it, which writes
  the decisions that wait.
- The second signal ends the process at once.
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
"""Seconds for requests that are under way when the process stops."""
_KEEP_ALIVE = 30


class Plan(Struct, frozen=True):
    """Where to serve. `keys` is the file of the root keys; `settings` are uvicorn's, for the face on the network."""

    listen: Address
    socket: OwnSocket
    keys: Path | None = None
    settings: dict[str, Any] = {}


class _Server(uvicorn.Server):
    """One of the two servers of a process. The process handles signals, not the server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do not handle signals: `_serve` does, for both servers."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish, then abort the connections that have not sent or read all within GRACE seconds."""
        aborting = asyncio.get_running_loop().call_later(GRACE, self._abort_all)
        try:
            await super().shutdown(sockets)
        finally:
            aborting.cancel()

    def _abort_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(authority: Authority, plan: Plan, *, started: Callable[[Address], None]) -> int:
    """Serve until a signal comes, and return the exit code. Calls `started` with the address once both faces answer."""
    # The time at which each figure was first counted would double the size of a scrape, and is of no use.
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
            # uvicorn has no event for this, only a flag. If a server fails to start, `gather` raises its error.
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
        # One second after the abort, when only requests are left that wait for the store.
        timeout_graceful_shutdown=GRACE + 1,
        # Listener counts connections. This limit is for requests that go on after their client has left.
        limit_concurrency=listening.limit + 1,
        **settings,
    )


def _quietly(face: ASGIApp) -> ASGIApp:
    """A face whose requests log no traceback when they are cancelled at the end: their clients are gone by then."""

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await face(scope, receive, send)

    return ending


def _stop(number: int, socket: OwnSocket, service: Service, servers: tuple[_Server, ...]) -> None:
    if service.stopping:
        # The second signal. _exit does not wait for threads. This is safe: nothing was answered that is not durable.
        socket.remove()
        os._exit(128 + number)
    # Removed first: new clients see at once that nobody serves, and another process can start.
    socket.remove()
    service.stop()
    for server in servers:
        server.should_exit = True
