"""Limits on connections: how many there are at once, and how long one may stay silent.

Laws:

- A connection beyond the limit is aborted when it is accepted, before it uses memory, with TLS or without.
- A connection is dropped if the head of a request is not complete in time. This holds for each request on it.
- The faces together never use the file descriptors that the store needs. Each face has its own limit, so nobody can
  use up the connections of the other face.
"""

import asyncio
import errno
import logging
import resource
import socket
import struct
import time
from typing import Any, Final
from weakref import WeakSet

from msgspec import Struct
from uvicorn.protocols.http.h11_impl import H11Protocol

from capx.errors import ConfigurationProblem

CONNECTIONS: Final = 1_000
"""Connections to one face at once, if the system gives enough file descriptors."""
HEAD_SECONDS: Final = 10.0
"""Seconds for the head of a request, and also for the TLS handshake before it."""
WAITING: Final = 512
"""Connections that the system queues until they are accepted."""
TAKEN_AT_ONCE: Final = 32
"""Connections that are accepted in one turn of the event loop."""

_log = logging.getLogger("capx.serve")

_RESERVE = 128
_LEAST = 32
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOGGED_EVERY = 60.0
# SO_LINGER: on, zero seconds. Closing the socket then sends a reset, and nothing of it stays behind.
_ABORT = struct.pack("ii", 1, 0)


class Limits(Struct, frozen=True, kw_only=True):
    """The most connections of each face."""

    operators: int
    network: int

    @classmethod
    def within(cls, descriptors: int) -> "Limits":
        """The limits for this many file descriptors; ConfigurationProblem if they are too few."""
        # The reserve is for the store, the logs and the sockets that listen.
        room = descriptors - _RESERVE
        if room < _LEAST:
            raise ConfigurationProblem(
                f"a process may have {descriptors} files open here, and capx serve needs at least "
                f"{_RESERVE + _LEAST}: raise the limit with ulimit -n"
            )
        operators = min(CONNECTIONS, room // 4)
        return cls(operators=operators, network=min(CONNECTIONS, room - operators))

    @classmethod
    def of_process(cls) -> "Limits":
        """The limits for this process, after raising its limit of file descriptors as far as it is useful."""
        wanted = 4 * CONNECTIONS + _RESERVE
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = _raised(wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), soft, hard)
        return cls.within(wanted if soft == resource.RLIM_INFINITY else soft)


def _raised(to: int, soft: int, hard: int) -> int:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (to, hard))
    except (OSError, ValueError):
        return soft
    return to


class Listener(socket.socket):
    """A socket that accepts up to `limit` connections. For one more, asyncio sees an aborted connection."""

    limit = CONNECTIONS

    def __init__(self, family: int, kind: int, protocol: int = 0) -> None:
        super().__init__(family, kind, protocol)
        self.taken: WeakSet[_Taken] = WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, and its address; ConnectionAbortedError when there are too many."""
        connection, peer = super().accept()
        if len(self.taken) >= self.limit:
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            raise ConnectionAbortedError(errno.ECONNABORTED, "too many connections")
        return _Taken(self, connection), peer


class _Taken(socket.socket):
    """A connection that counts until it is closed or garbage-collected."""

    def __init__(self, listener: Listener, taken: socket.socket) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._listener = listener
        listener.taken.add(self)

    def close(self) -> None:
        """Close it, and stop counting it."""
        self._listener.taken.discard(self)
        super().close()


class HeadTimeoutProtocol(H11Protocol):
    """HTTP/1.1 for one connection, which is dropped when the head of a request does not come in time."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Handle data. If no request is under way, the data begins a head."""
        super().data_received(data)
        # None before the first request, although uvicorn's type says otherwise.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._forgive()
        else:
            # Does not restart a running timer: otherwise a client could send a byte now and then forever.
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._forgive()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._overdue is None and not self.transport.is_closing():
            self._overdue = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forgive(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class Loop(asyncio.SelectorEventLoop):
    """An event loop that accepts few connections at a turn, and does not wait long for a handshake."""

    _logged = -_LOGGED_EVERY

    async def create_server(self, *args: Any, sock: Any = None, ssl: Any = None, **named: Any) -> Any:
        """Create the server as asyncio does, with other limits for handshakes and for connections that wait."""
        if ssl is not None:
            named["ssl_handshake_timeout"] = HEAD_SECONDS
        named["backlog"] = TAKEN_AT_ONCE
        server = await super().create_server(*args, sock=sock, ssl=ssl, **named)
        if sock is not None:
            # asyncio accepts up to `backlog` at a turn, and also sets the queue of the system to that. Make it longer.
            sock.listen(WAITING)
        return server

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error as asyncio does, but log only once a minute that connections cannot be accepted."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED or "socket" not in context:
            super().call_exception_handler(context)
        elif time.monotonic() - self._logged >= _LOGGED_EVERY:
            self._logged = time.monotonic()
            _log.error("cannot accept connections now: %s", error.strerror)
