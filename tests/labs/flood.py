"""The flood itself: `python flood.py HOST PORT KIND SECONDS`. It says "began" when it has all its connections.

It imports nothing but what starts quickly. It ends after so many seconds, or when its standard input ends.
"""

import contextlib
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from itertools import count

CONNECTIONS = 300
BYTES_PER_SECOND = 1_600_000
_FIRST = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
_MANY_LINES = _FIRST + b"a:\n" * 5_400 + b"\n"
_number = count()


def _next_page(fields: bytes) -> bytes:
    # Each asks from another position on, so a page of its own is made for it.
    return b"GET /feed?since=%d HTTP/1.1\r\nhost: x\r\n%b\r\n" % (next(_number), fields)


KINDS: dict[str, Callable[[], bytes]] = {
    # Within 16 KiB, which h11 takes by itself.
    "5 400 lines": lambda: _MANY_LINES,
    # More, in one piece.
    "15 000 lines": lambda: _FIRST + b"a:\r\n" * 15_000 + b"\r\n",
    "as many lines as are taken": lambda: _FIRST + b"a:\r\n" * 98 + b"\r\n",
    "tiny requests": lambda: b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "tiny chunks": lambda: (
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000
    ),
    "no HTTP": lambda: b"\0\r\n\r\n",
    # A parser of queries may take as long for each field as for a whole small request.
    "query": lambda: b"GET /healthz?%b HTTP/1.1\r\nhost: x\r\n\r\n" % (b"%41&" * 5_900),
    "upgrades": lambda: b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "resets": lambda: _MANY_LINES,
    "streams": lambda: _next_page(b"accept: text/event-stream\r\n"),
    "single pages": lambda: _next_page(b""),
}


class _Attacker:
    def __init__(self, host: str, port: int, kind: str) -> None:
        self._address = host, port
        self._kind = kind
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, bytes] = {}
        """What is still to send on each connection; nothing while it waits for an answer."""
        self._room = 0.0

    def run(self, seconds: float) -> None:
        began = last = time.monotonic()
        self._connect()
        self._selector.register(0, selectors.EVENT_READ)
        sys.stdout.write("began\n")
        sys.stdout.flush()
        while (now := time.monotonic()) - began < seconds:
            self._room = min(self._room + (now - last) * BYTES_PER_SECOND, BYTES_PER_SECOND / 4)
            last = now
            self._connect()
            ready = self._selector.select(0.01)
            random.shuffle(ready)
            for key, mask in ready:
                connection = key.fileobj
                if connection == 0:
                    return
                assert isinstance(connection, socket.socket)
                try:
                    self._read_and_write(connection, mask)
                except BlockingIOError:
                    pass
                except OSError:
                    self._end(connection)
            if self._room <= 0:
                time.sleep(0.005)

    def _connect(self) -> None:
        while len(self._open) < CONNECTIONS:
            connection = socket.socket()
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect(self._address)
            self._selector.register(connection, selectors.EVENT_READ)
            self._ask(connection)

    def _ask(self, connection: socket.socket) -> None:
        self._open[connection] = KINDS[self._kind]()
        self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _read_and_write(self, connection: socket.socket, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            answer = connection.recv(1 << 16)
            if not answer:
                raise ConnectionError
            # The whole answer: a problem, or what is well, ends so. A stream never does.
            if answer.endswith(b"}"):
                self._ask(connection)
        rest = self._open[connection]
        if not mask & selectors.EVENT_WRITE or self._room <= 0 or not rest:
            return
        sent = connection.send(rest)
        self._room -= sent
        self._open[connection] = rest[sent:]
        if sent < len(rest):
            return
        if self._kind == "resets":
            raise ConnectionError
        # Until it is answered, it is always ready to be written to: select would never wait.
        self._selector.modify(connection, selectors.EVENT_READ)

    def _end(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._open[connection]
        if self._kind == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


if __name__ == "__main__":
    _Attacker(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run(float(sys.argv[4]))
