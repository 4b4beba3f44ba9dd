"""Limits on connections: how many there are at once, and how fast new ones are accepted.

Laws:

- A connection beyond the limit is aborted when it is accepted, before it uses memory, with TLS or without.
- A connection that is gone is forgotten at once, also one whose TLS handshake failed.
- The faces together never use the file descriptors that the store needs. Each face has its own limit, so nobody can
  use up the connections of the other face.
"""

import asyncio
import errno
import resource
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from msgspec import Struct

from capx import diagnostics
from capx.errors import ConfigurationProblem

CONNECTIONS: Final = 1_000
"""Connections to one face at once, if the system gives enough file descriptors."""
HEAD_SECONDS: Final = 10.0
"""Seconds for the head of a request, and also for the TLS handshake before it."""
READ_SECONDS: Final = 20.0
UNREAD_BYTES: Final = 64 * 1024
"""How many bytes of what waits for it a client reads at least in READ_SECONDS, unless that is all."""
READ_BYTES: Final = 16 * 1024
"""Bytes that are read of a connection at once: so many may stand behind a head that waits. With TLS, 256 KiB may."""
WAITING: Final = 512
"""Connections that the system queues until they are accepted."""
TAKEN_AT_ONCE: Final = 8
"""Connections that are accepted in one turn of the event loop: a TLS handshake takes up to some milliseconds."""

_RESERVE = 128
_LEAST = 32
_RETRY = 1.0
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
    """A socket that accepts up to `limit` connections, and aborts one more."""

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


class Acceptor:
    """Accepts the connections of a socket that listens, and makes a protocol for each. uvicorn closes it like a server.

    asyncio's own server keeps each connection whose handshake failed, with a quarter of a MiB, until the garbage
    collector looks at everything.
    """

    def __init__(
        self, listening: Listener, protocol: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more connections."""
        self._loop.remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()

    async def wait_closed(self) -> None:
        """Drop the connections whose handshake is not complete."""
        for task in self._beginning:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                connection, _peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # Mostly there is no file descriptor. The connection stays in the queue of the system.
                diagnostics.warn_once(f"cannot accept connections now: {error.strerror}")
                self._loop.remove_reader(self._listening)
                self._retry = self._loop.call_later(_RETRY, self._loop.add_reader, self._listening, self._accept)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HEAD_SECONDS,
            )
        except OSError as error:
            # No handshake. The frames of the traceback refer to the error, so without this it would stay in memory.
            error.__traceback__ = None


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers accept connections as an `Acceptor` does."""

    async def create_server(self, *args: Any, sock: Any = None, ssl: Any = None, **named: Any) -> Any:
        """An Acceptor, where uvicorn creates a server for a Listener."""
        if isinstance(sock, Listener):
            return Acceptor(sock, args[0], ssl)
        return await super().create_server(*args, sock=sock, ssl=ssl, **named)
