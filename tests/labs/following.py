"""A follower of a served feed.

Faked are a clock that can be set, an authority that somebody spoofs, and one that gives no more streams.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.feeding import KEYS, Feed, FeedApp


class ShiftedClock:
    """A clock that can be set."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.by = 0.0

    def __call__(self) -> float:
        return self._clock() + self.by


class Line:
    """A feed that is served, and whoever follows it."""

    def __init__(self, feed: Feed, url: str, app: FeedApp) -> None:
        self.feed, self.url, self.app = feed, url, app
        self.source = FeedSource(url, KEYS)
        self.follower = Follower(self.source)


class Spoofed:
    """Answers for an authority, and holds whoever asks; passes all on to the true one once it is `over`."""

    def __init__(self, authority: str, start: bytes, drip: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._authority = "127.0.0.1", int(authority.rpartition(":")[2])
        self._start, self._drip, self._tls = start, drip, tls
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self.over = threading.Event()
        self.held = 0
        self.left = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._run(self._listen)

    def close(self) -> None:
        self._end.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _run(self, what: Callable[..., None], *given: socket.socket) -> None:
        thread = threading.Thread(target=what, args=given)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while not self._end.is_set():
                connection, _ = self._listening.accept()
                self._run(self._pass_on if self.over.is_set() else self._hold, connection)

    def _hold(self, connection: socket.socket) -> None:
        self.held += 1
        with suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(1 << 16)
                connection.sendall(self._start)
                while self._drip and not self._end.wait(0.02):
                    connection.sendall(self._drip)
                connection.recv(1)
        self.left += 1

    def _pass_on(self, asking: socket.socket) -> None:
        with socket.create_connection(self._authority) as answering, asking:
            self._run(self._pump, answering, asking)
            self._pump(asking, answering)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_RDWR)


class Crowded:
    """Before an authority: while it is `full` of streams, it gives no other."""

    def __init__(self, app: FeedApp) -> None:
        self._app = app
        self.full = threading.Event()
        self.full.set()
        self.refused: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self.full.is_set() and (b"accept", b"text/event-stream") in scope["headers"]:
            self.refused.append(time.monotonic())
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"400 streams are open already"})
            return
        await self._app(scope, receive, send)


IN_A_CHILD = """
import math, os, sys, threading
import capx.resource.feed.stream
from capx.resource.feed.client import FeedSource
from capx.resource.feed.follower import Follower
from tests.labs.feeding import KEYS
from tests.labs.waiting import eventually

def in_a_child(*holds):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if all(hold() for hold in holds) else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
"""


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("capx-follower", "capx-watchdog"))]
