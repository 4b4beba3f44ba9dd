"""A flood by strangers, of a guard of MCP or of an authority: `strangers.py HOST PORT CONNECTIONS ADDRESSES KIND…`.

It says "began" when it has all its connections, and ends when its standard input does. It imports nothing but what
starts quickly. Each connection sends a request of one kind, waits for the answer, and sends the next one. What trickles
sends all but its last thousand bytes, and then a byte each second. KID in the environment is a live key of the
authority.
"""

import contextlib
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from itertools import count, cycle

MADE_UP = "capx1_" + "A" * 600


def _post(body: bytes, *fields: bytes) -> bytes:
    head = (b"POST /mcp HTTP/1.1", b"host: 127.0.0.1", b"content-type: application/json", *fields)
    return b"\r\n".join((*head, b"content-length: %d" % len(body), b"", body))


def _call(arguments: bytes, meta: bytes = b"{}") -> bytes:
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"a":%b},"_meta":%b}}'
        % (arguments, meta)
    )


def _nested(size: int, levels: int = 150) -> bytes:
    one = b"[" * levels + b"]" * levels
    return b"[" + b",".join([one] * (size // len(one))) + b"]"


_META = b'{"dev.capx/presentation":"%b"}' % MADE_UP.encode()
_OWN = b"capx-presentation: " + MADE_UP.encode()
MCP: dict[str, Callable[[], bytes]] = {
    "pings": lambda: _post(b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
    "calls": lambda: _post(_call(b"1")),
    "made up": lambda: _post(_call(b"1", _META)),
    "made up in the head": lambda: _post(_call(b"1", _META), _OWN),
    "nested": lambda: _post(_call(_nested(64_000))),
    "nested in an open method": lambda: _post(
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":%b}}' % _nested(64_000)
    ),
    "nested with a made up one": lambda: _post(_call(_nested(60_000), _META), _OWN),
    "lists": lambda: _post(_call(b"[" + b"[]," * 21_000 + b"0]")),
    "members": lambda: _post(_call(b"{" + b",".join(b'"%d":0' % number for number in range(6_000)) + b"}")),
    "one name": lambda: _post(_call(b"{" + b'"a":0,' * 9_000 + b'"a":0}')),
    "a MiB": lambda: _post(_call(_nested(1_000_000))),
    "a MiB with a made up one": lambda: _post(_call(_nested(1_000_000), _META), _OWN),
    "no JSON": lambda: _post(b"\0" * 60_000),
    "trickles": lambda: _post(_call(_nested(60_000))),
    "streams": lambda: b"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n",
    "resets": lambda: _post(_call(b"1")),
}


def _asked(method: bytes, target: bytes, shown: bytes = b"", size: int = 0, fields: bytes = b"") -> bytes:
    proof = b"authorization: %b\r\n" % shown if shown else b""
    head = b"%b %b HTTP/1.1\r\nhost: x\r\n%b%bcontent-length: %d\r\n\r\n" % (method, target, proof, fields, size)
    return head + b"{" + b" " * (size - 1) if size else head


def _person(name: bytes) -> bytes:
    parts = (name, b"%d" % time.time(), b"A" * 22, b"A" * 43, b"A" * 86)
    return b"Capx-Person principal=%b, at=%b, nonce=%b, body=%b, sig=%b" % parts


def _report() -> bytes:
    parts = (os.environ.get("KID", "").encode(), int(time.time()), b"A" * 43, b"A" * 43)
    return b"Capx-Resource audience=crm, kid=%b, at=%d, body=%b, mac=%b" % parts


_AGENT = b"Capx " + MADE_UP.encode()
_ANA = b"YW5h"
_number = count()
AUTHORITY: dict[str, Callable[[], bytes]] = {
    "health": lambda: _asked(b"GET", b"/healthz"),
    "figures": lambda: _asked(b"GET", b"/metrics"),
    "nothing": lambda: _asked(b"GET", b"/x"),
    "pages": lambda: _asked(b"GET", b"/feed?since=%d" % next(_number)),
    "news": lambda: _asked(b"GET", b"/feed?since=%d" % next(_number), fields=b"accept: text/event-stream\r\n"),
    "heads that trickle": lambda: _asked(b"GET", b"/x", fields=b"x: %b\r\n" % (b"x" * 2_000)),
    "people": lambda: _asked(b"POST", b"/people/tasks", _person(b"bm9ib2R5"), 300),
    "people of a known name": lambda: _asked(b"POST", b"/people/tasks", _person(_ANA), 300),
    "inboxes": lambda: _asked(b"GET", b"/people/requests", _person(_ANA), fields=b"accept: text/event-stream\r\n"),
    "bodies of people that trickle": lambda: _asked(b"POST", b"/people/tasks", _person(_ANA), 60_000),
    "reports": lambda: _asked(b"POST", b"/decisions", _report(), 1 << 20),
    "payments": lambda: _asked(b"POST", b"/spend", _report(), 30_000),
    "bodies of reports that trickle": lambda: _asked(b"POST", b"/decisions", _report(), 1 << 20),
    "agents": lambda: _asked(b"POST", b"/agent/ask", _AGENT, 300),
    "statements": lambda: _asked(b"POST", b"/agent/statement", _AGENT, 300),
    "bodies of agents that trickle": lambda: _asked(b"POST", b"/agent/ask", _AGENT, 60_000),
    "requests that are reset": lambda: _asked(b"POST", b"/people/tasks", _person(_ANA), 300),
}
REPLAYED: dict[str, Callable[[], bytes]] = {
    "one head": lambda: os.environb[b"HEAD"],
    "one head that is reset": lambda: os.environb[b"HEAD"],
}
"""Whoever has seen the head of a caller, and sends it again and again."""
KINDS = MCP | AUTHORITY | REPLAYED


class _Connection:
    def __init__(self, address: tuple[str, int], source: str, kind: str) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        with contextlib.suppress(BlockingIOError):
            self.socket.connect(address)
        self.kind = kind
        self.trickles = "trickle" in kind
        self.resets = "reset" in kind
        self.streams = kind in {"streams", "news", "inboxes"}
        self.rest = KINDS[kind]()
        self.next = 0.0


class _Flood:
    def __init__(self, address: tuple[str, int], connections: int, addresses: int, kinds: list[str]) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        sources = [f"127.0.0.{number + 1}" for number in range(addresses)]
        self._moved = False
        self._waiting = [pair for pair, _ in zip(cycle((s, k) for k in kinds for s in sources), range(connections))]

    def run(self) -> None:
        self._selector.register(0, selectors.EVENT_READ)
        self._connect()
        sys.stdout.write("began\n")
        sys.stdout.flush()
        while True:
            self._connect()
            ready = self._selector.select(0.01)
            random.shuffle(ready)
            self._moved = False
            for key, mask in ready:
                if key.data is None:
                    return
                try:
                    self._move(key.data, mask)
                except BlockingIOError:
                    pass
                except OSError:
                    self._end(key.data)
            if not self._moved:
                # Those that trickle are always ready.
                time.sleep(0.005)

    def _connect(self) -> None:
        waiting, self._waiting = self._waiting, []
        for source, kind in waiting:
            connection = _Connection(self._address, source, kind)
            self._selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _move(self, connection: _Connection, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            if not (answer := connection.socket.recv(1 << 16)):
                raise ConnectionError
            self._moved = True
            # Each answer here has one piece; a stream goes on.
            if not connection.streams or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                connection.rest = KINDS[connection.kind]()
                self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        if not mask & selectors.EVENT_WRITE or not connection.rest:
            return
        most = 1 << 16
        if connection.trickles:
            most = min(most, len(connection.rest) - 1_000)
            if most <= 0:
                if (now := time.monotonic()) < connection.next:
                    return
                most, connection.next = 1, now + 1
        self._moved = True
        sent = connection.socket.send(connection.rest[:most])
        connection.rest = connection.rest[sent:]
        if not connection.rest:
            if connection.resets:
                raise ConnectionError
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _end(self, connection: _Connection) -> None:
        source = connection.socket.getsockname()[0]
        self._selector.unregister(connection.socket)
        if connection.resets:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()
        self._waiting.append((source if source != "0.0.0.0" else "127.0.0.1", connection.kind))


if __name__ == "__main__":
    _Flood((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]).run()
