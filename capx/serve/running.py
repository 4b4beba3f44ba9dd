"""One process that serves an authority on both faces, from start to graceful stop.

Laws: whoever is told where it listens can connect. The first signal (SIGTERM, SIGINT) ends it in order: nobody else is
let in, streams end, what is under way is finished within a bound, decisions are written, the socket is removed. The
second one ends it at once.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import prometheus_client
import uvicorn
from msgspec import Struct

from capx.authority import Authority
from capx.serve import app
from capx.serve.service import Service
from capx.serve.sockets import Address, OwnSocket, listen

GRACE: Final = 10
"""Seconds within which what is under way at the end has to be finished."""
CONNECTIONS: Final = 1_000
"""Connections to one face at once."""
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


def serve(authority: Authority, plan: Plan, *, started: Callable[[Address], None]) -> int:
    """Serve until a signal comes; gives the exit code. `started` is told the address once both faces answer."""
    # When each figure was first counted doubles what a scrape carries, and nobody asks for it.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    network = listen(plan.listen)
    try:
        return asyncio.run(_serve(authority, plan, network, started))
    finally:
        network.close()


async def _serve(authority: Authority, plan: Plan, network: Any, started: Callable[[Address], None]) -> int:
    service = Service(authority, plan.keys)
    servers = (
        _Server(_config(app.operators(service))),
        _Server(_config(app.everybody(service), **plan.settings)),
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


def _config(face: Any, **settings: Any) -> uvicorn.Config:
    return uvicorn.Config(
        face,
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=CONNECTIONS,
        backlog=512,
        **settings,
    )


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
