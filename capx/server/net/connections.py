"""How many connections there are at once, and how long one may keep silent.

Laws: a connection beyond the limit is aborted as it is taken, before anything is kept for it, TLS or not. One that has
sent no whole head in time is dropped, the first one and every later one. The faces together never take the file
descriptors that the store needs; who fills one face leaves the other its own.
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
"""Connections to one face at once, where the system gives that many file descriptors."""
HEAD_SECONDS: Final = 10.0
"""Seconds within which a head, and before it the handshake of TLS, has to be there."""
WAITING: Final = 512
"""Connections that the system holds until they are taken."""
TAKEN_AT_ONCE: Final = 32
"""Connections that are taken in one turn of the event loop."""

_log = logging.getLogger("capx.serve")

_RESERVE = 128
_LEAST = 32
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TOLD_EVERY = 60.0
# On, and no second: what is closed so is gone at once.
_ABORT = struct.pack("ii", 1, 0)


class Limits(Struct, frozen=True, kw_only=True):
    """How many connections each face may have."""

    operators: int
    network: int

    @classmethod
    def within(cls, descriptors: int) -> "Limits":
        """What so many file descriptors allow for; ConfigurationProblem when that is next to nothing."""
        room = descriptors - _RESERVE
        if room < _LEAST:
            raise ConfigurationProblem(
                f"a process may have {descriptors} files open here, and serving takes at least "
                f"{_RESERVE + _LEAST}: raise it with ulimit -n"
            )
        operators = min(CONNECTIONS, room // 4)
        return cls(operators=operators, network=min(CONNECTIONS, room - operators))

    @classmethod
    def of_process(cls) -> "Limits":
        """What this process may have, once it has asked for as many file descriptors as it can use."""
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
    """A socket that takes connections up to `limit`; asyncio sees of the others that they were aborted."""

    limit = CONNECTIONS

    def __init__(self, family: int, kind: int, protocol: int = 0) -> None:
        super().__init__(family, kind, protocol)
        self.taken: WeakSet[_Taken] = WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection, and whose it is; ConnectionAbortedError when there are enough."""
        connection, peer = super().accept()
        if len(self.taken) >= self.limit:
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            raise ConnectionAbortedError(errno.ECONNABORTED, "too many connections")
        return _Taken(self, connection), peer


class _Taken(socket.socket):
    """A connection that counts until it is closed, or nobody knows it any more."""

    def __init__(self, listener: Listener, taken: socket.socket) -> None:
        super().__init__(taken.family, taken.type, taken.proto, taken.detach())
        self._listener = listener
        listener.taken.add(self)

    def close(self) -> None:
        """Close it, and count it no more."""
        self._listener.taken.discard(self)
        super().close()


class HeadTimeoutProtocol(H11Protocol):
    """HTTP/1.1 for one connection, which is dropped when a head that it owes does not come."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first head."""
        super().connection_made(transport)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take in what came; between two requests, it is the beginning of a head."""
        super().data_received(data)
        # None before the first request, whatever uvicorn says of its type.
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._forgive()
        else:
            # Not anew with every byte.
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
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
    """An event loop that takes few connections at a turn, and does not wait long for a handshake."""

    _told = -_TOLD_EVERY

    async def create_server(self, *args: Any, sock: Any = None, ssl: Any = None, **named: Any) -> Any:
        """As asyncio does."""
        if ssl is not None:
            named["ssl_handshake_timeout"] = HEAD_SECONDS
        named["backlog"] = TAKEN_AT_ONCE
        server = await super().create_server(*args, sock=sock, ssl=ssl, **named)
        if sock is not None:
            # asyncio takes as many at a turn as the system may hold: the system goes on holding more.
            sock.listen(WAITING)
        return server

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio does; but that no connection can be taken is told in a line, and not for each."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED or "socket" not in context:
            super().call_exception_handler(context)
        elif time.monotonic() - self._told >= _TOLD_EVERY:
            self._told = time.monotonic()
            _log.error("no connection can be taken in for now: %s", error.strerror)
