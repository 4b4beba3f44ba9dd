"""One process that serves both faces of an authority, from start to graceful stop.

Laws:

- Each face has an event loop of its own: operators in the main thread, with the signals and the upkeep; the network in
  another thread. So nothing that happens on the network keeps the loop of the operators busy.
- When the address is announced, both faces accept connections.
- The first signal (SIGTERM, SIGINT) stops the process in order: it removes the socket, accepts no new connections, ends
  streams, and finishes requests within a limited time. The code that opened the authority then closes it, which writes
  the decisions that wait.
- A second signal ends the process at once, unless it comes together with the first one.
- Each place in the code writes a limited number of lines to standard error, whatever strangers send.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

import prometheus_client
import uvicorn
from msgspec import Struct
from starlette.types import ASGIApp

from capx.api.person_auth import origin_of
from capx.authority.authority import Authority
from capx.server import app
from capx.server.log_limit import LogLimit
from capx.server.net.connections import Limits, Listener, Loop
from capx.server.net.head_queue import HeadQueue
from capx.server.net.http_protocol import bounded_config
from capx.server.net.sockets import Address, OwnSocket, listen
from capx.server.notify.figures import Figures
from capx.server.notify.hook import Hook
from capx.server.notify.runner import Notifier
from capx.server.service import Service
from capx.server.upkeep import Upkeep

GRACE: Final = 10
"""Seconds for requests that are under way when the process stops."""
TOGETHER: Final = 0.5
"""Seconds within which two signals are one: `timeout` and others signal a process, and then the group of it."""
_KEEP_ALIVE = 30
_LOGGERS: Final = ("uvicorn.error", "asyncio", "capx", "capx.serve")
"""The loggers that can write because of what a stranger sends."""


class Plan(Struct, frozen=True):
    """Where to serve. `keys` is the file of the root keys; `settings` are uvicorn's, for the face on the network.

    `people` are the origins at which people dial the authority. Without one, and on a loopback address, these are its
    own. `hooks` are told what happens.
    """

    listen: Address
    socket: OwnSocket
    keys: Path | None = None
    settings: dict[str, Any] = {}
    people: tuple[str, ...] = ()
    hooks: tuple[Hook, ...] = ()

    @property
    def scheme(self) -> str:
        """`https` or `http`: what the face on the network speaks."""
        return "https" if "ssl_certfile" in self.settings else "http"

    def people_at(self, port: int) -> tuple[str, ...]:
        """The origins at which people dial an authority that listens on this port."""
        if self.people or not self.listen.is_local:
            return self.people
        names = dict.fromkeys((str(Address(self.listen.host, port)), f"localhost:{port}"))
        return tuple(origin_of(f"{self.scheme}://{name}") for name in names)


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
        with LogLimit().on(*_LOGGERS), authority.store.beating(), asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(_serve(authority, plan, network, started))
    finally:
        network.close()


class _Face:
    """One face of the process, in the event loop that calls `serve`."""

    def __init__(self, name: str, service: Service, app: ASGIApp, listening: Listener, **settings: Any) -> None:
        self._service = service
        self._listening = listening
        config = bounded_config(
            app,
            HeadQueue(service.callers.sender_of, slows_strangers=name == "everybody"),
            partial(service.metrics.count, name, "other", "other"),
            timeout_keep_alive=_KEEP_ALIVE,
            # One second after the abort, when only requests are left that wait for the store.
            timeout_graceful_shutdown=GRACE + 1,
            # Listener counts connections. This limit is for requests that go on after their client has left.
            limit_concurrency=listening.limit + 1,
            **settings,
        )
        self.server = _Server(config)

    async def serve(self) -> None:
        """Serve until `stop`."""
        async with self._service.open():
            await self.server.serve(sockets=[self._listening])

    def run(self) -> None:
        """Serve in an event loop of its own, in the calling thread."""
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self.serve())

    def stop(self) -> None:
        """End normally. May be called from any thread."""
        self._service.soon(self._service.stop)
        self.server.should_exit = True


async def _serve(authority: Authority, plan: Plan, network: Listener, started: Callable[[Address], None]) -> int:
    at = Address(plan.listen.host, network.getsockname()[1])
    public = Service(authority, people_at=plan.people_at(at.port))
    own = Service(authority, feed=public)
    operators = _Face("operators", own, app.operators(own), plan.socket.listening)
    everybody = _Face("everybody", public, app.everybody(public), network, **plan.settings)
    loop = asyncio.get_running_loop()
    stopping = _Stopping(plan.socket, operators, everybody)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.signalled, number)
    told = Notifier(authority, plan.hooks, Figures(public.metrics.registry))
    # The hooks end last: what happens while the faces end is told, too.
    async with told.running(), Upkeep(authority, plan.keys, wake=public.wake).running():
        serving = [asyncio.create_task(operators.serve()), asyncio.create_task(asyncio.to_thread(everybody.run))]
        try:
            # uvicorn has no event for this, only a flag. If a server fails to start, `gather` raises its error.
            while not (operators.server.started and everybody.server.started):
                if any(task.done() for task in serving):
                    break
                await asyncio.sleep(0.005)
            else:
                started(at)
            await asyncio.gather(*serving)
        finally:
            operators.stop()
            everybody.stop()
            # A thread cannot be cancelled: it ends when its face has stopped.
            await asyncio.gather(*serving, return_exceptions=True)
            plan.socket.remove()
    return 0


class _Stopping:
    """What signals do: the first one stops the faces normally, and a later one the process."""

    def __init__(self, socket: OwnSocket, *faces: _Face) -> None:
        self._socket = socket
        self._faces = faces
        self._since: float | None = None

    def signalled(self, number: int) -> None:
        # Removed first: new clients see at once that nobody serves, and another process can start.
        self._socket.remove()
        if self._since is None:
            self._since = time.monotonic()
            for face in self._faces:
                face.stop()
        elif time.monotonic() > self._since + TOGETHER:
            # _exit does not wait for threads. This is safe: nothing was answered that is not durable.
            os._exit(128 + number)
