"""A stranger without credentials who floods the network's face, and what operators and followers notice of it.

The flood runs in a process of its own: `python -m tests.labs.flooding HOST PORT KIND SECONDS`. Nothing is faked.
"""

import contextlib
import random
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from itertools import count

import httpx
from msgspec import Struct

from capx.authority.authority import Authority
from capx.authority.remote.client import RemoteAuthority
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from capx.server.waiting.stream_limits import STREAMS_OF_ONE
from tests.labs.waiting import until
from tests.server.conftest import Served

CONNECTIONS = 300
BYTES_PER_SECOND = 1_600_000
_FIRST = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
_number = count()


def _next_page(fields: bytes) -> bytes:
    # Each asks from another position on, so a page of its own is made for it.
    return b"GET /feed?since=%d HTTP/1.1\r\nhost: x\r\n%b\r\n" % (next(_number), fields)


KINDS: dict[str, Callable[[], bytes]] = {
    # Within 16 KiB, which h11 takes by itself.
    "5 400 lines": lambda: _FIRST + b"a:\n" * 5_400 + b"\n",
    # More, in one piece.
    "15 000 lines": lambda: _FIRST + b"a:\r\n" * 15_000 + b"\r\n",
    "as many lines as are taken": lambda: _FIRST + b"a:\r\n" * 98 + b"\r\n",
    "tiny requests": lambda: b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "tiny chunks": lambda: (
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000
    ),
    "no HTTP": lambda: b"\0\r\n\r\n",
    # Each field once took the parser of queries as long as a whole small request.
    "query": lambda: b"GET /healthz?%b HTTP/1.1\r\nhost: x\r\n\r\n" % (b"%41&" * 5_900),
    "upgrades": lambda: b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "resets": lambda: _FIRST + b"a:\n" * 5_400 + b"\n",
    "streams": lambda: _next_page(b"accept: text/event-stream\r\n"),
    "single pages": lambda: _next_page(b""),
}


def killed(served: Served, count: int) -> None:
    """Bring so many deaths into the store of a served authority."""
    with Authority.open_home(served.home) as beside, beside.store.write() as transaction:
        event = transaction.append("noted", b"{}", at=1)
        for number in range(count):
            transaction.kill(number.to_bytes(16), "revoked", at=1, position=event.position)


@contextlib.contextmanager
def streams_taken(served: Served) -> Generator[None]:
    """A block in which this machine has all the streams of the feed that one machine may have."""

    def refused(client: httpx.Client) -> bool:
        with client.stream("GET", "/feed", headers={"accept": "text/event-stream"}) as answer:
            return answer.status_code == 503

    address = served.url.split("://")[1].split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS_OF_ONE):
            connection = stack.enter_context(socket.create_connection((address[0], int(address[1]))))
            connection.sendall(b"GET /feed?since=%d HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n" % 10**9)
        with served.everybody() as client:
            until(lambda: refused(client))
        yield


class Noticed(Struct):
    """In seconds: the greatest age of what followers know, how long a new one took to know, and each revocation."""

    age: float = 0.0
    begun: float = 0.0
    revocations: list[float] = []


@contextlib.contextmanager
def flooded(served: Served, kind: str, seconds: float) -> Generator[None]:
    """A block of so many seconds, or longer, at the beginning of which the flood begins."""
    host, port = served.url.split("://")[1].split(":")
    command = [sys.executable, "-m", "tests.labs.flooding", host, port, kind, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None
        # All connections are there.
        assert flood.stdout.readline() == b"began\n"
        try:
            yield
        finally:
            flood.wait(timeout=seconds + 60)
    assert flood.returncode == 0


def noticed_during(served: Served, kind: str, seconds: float) -> Noticed:
    """What followers, and an operator who revokes task after task, notice of a flood of so many seconds."""
    found = Noticed()
    over = threading.Event()
    keys = served.keys("crm").feed
    followers = [Follower(FeedSource(served.url, keys)) for _ in range(2)]

    def begin() -> None:
        began = time.monotonic()
        later.start()
        while later.age() > 5 and not over.is_set():
            time.sleep(0.02)
        found.begun = time.monotonic() - began

    def watch() -> None:
        while not over.wait(0.02):
            found.age = max(found.age, *(follower.age() for follower in followers))

    watching = threading.Thread(target=watch)
    later = Follower(FeedSource(served.url, keys))
    beginning = threading.Thread(target=begin)
    try:
        until(lambda: all(follower.age() < 1.5 for follower in followers))
        with flooded(served, kind, seconds), RemoteAuthority(served.place) as operator:
            watching.start()
            beginning.start()
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                task = operator.open(allow=["crm.read"])
                began = time.monotonic()
                operator.revoke(task.id)
                found.revocations.append(time.monotonic() - began)
                over.wait(0.1)
            over.set()
            watching.join()
            beginning.join()
    finally:
        over.set()
        for follower in (*followers, later):
            follower.close()
    return found


class _Attacker:
    def __init__(self, host: str, port: int, kind: str) -> None:
        self._address = host, port
        self._kind = kind
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, bytes | None] = {}
        """What is still to send on each connection; None while it waits for an answer."""
        self._room = 0.0

    def run(self, seconds: float) -> None:
        began = last = time.monotonic()
        self._connect()
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
                assert isinstance(connection, socket.socket)
                try:
                    self._turn(connection, mask)
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
            self._open[connection] = KINDS[self._kind]()
            self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _turn(self, connection: socket.socket, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            answer = connection.recv(1 << 16)
            if not answer:
                raise ConnectionError
            # The whole answer: a problem, or what is well, ends so. A stream never does.
            if answer.endswith(b"}"):
                self._open[connection] = KINDS[self._kind]()
        rest = self._open[connection]
        if not mask & selectors.EVENT_WRITE or self._room <= 0 or not rest:
            return
        sent = connection.send(rest)
        self._room -= sent
        self._open[connection] = rest[sent:]
        if self._kind == "resets" and sent == len(rest):
            raise ConnectionError

    def _end(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._open[connection]
        if self._kind == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


if __name__ == "__main__":
    _Attacker(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run(float(sys.argv[4]))
