"""The end of a connection on which the other side keeps somebody waiting.

Laws: a thread that reads nothing shuts the connection down, so nothing that is sent can hold the end up, be it in a
handshake of TLS, a head or a body. The thread ends with its block. A forked child has neither of them: a parent's
connection is not a child's to end.
"""

import math
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from capx.background import begin_in_each_process
from capx.errors import StoreProblem


class Watchdog:
    """Shuts down the connection that is made in its block, when nothing was `heard` for so many seconds.

    With infinite seconds it never does, and needs no thread. `overdue` is the reason that it gives. Entering the block
    raises StoreProblem if no thread can be had.
    """

    def __init__(self, seconds: float, overdue: str) -> None:
        self._seconds = seconds
        self._overdue = overdue
        self._why: str | None = None
        self._socket: socket.socket | None = None
        begin_in_each_process(self._begin)
        self.heard()

    def _begin(self) -> None:
        self._forget()
        self._end = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._seconds < math.inf:
            watcher = threading.Thread(target=self._watch, name="capx-watchdog", daemon=True)
            try:
                watcher.start()
            except (RuntimeError, MemoryError) as error:
                raise StoreProblem(f"no thread can be had to watch over a connection: {error}") from None
            self._watcher = watcher
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.set()
        if self._watcher is not None:
            self._watcher.join()
        self._forget()

    @property
    def why(self) -> str | None:
        """Why the connection is over; None while it is not."""
        if self._why is None and self._due <= time.monotonic():
            return self._overdue
        return self._why

    def heard(self) -> None:
        """What was due came: from now on the next is."""
        self._due = time.monotonic() + self._seconds

    def hold(self) -> None:
        """Nothing is due until the next was `heard`: somebody is busy with the last."""
        self._due = math.inf

    def pause(self, seconds: float) -> None:
        """Wait, unless the connection is cut."""
        self._end.wait(seconds)

    def cut(self, why: str) -> None:
        """End what goes on over the connection, from any thread."""
        self._why = self._why or why
        self._end.set()
        self._shut_down()

    def note(self, name: str, info: Mapping[str, Any]) -> None:
        """Note a connection while it is made; httpx calls it (its request extension `trace`)."""
        if name.endswith((".connect_tcp.complete", ".connect_unix_socket.complete")):
            self._forget()
            self._socket = _copy(info["return_value"])
            if self._why is not None:
                self._shut_down()

    def _watch(self) -> None:
        # Whatever is due later was heard later: never too late for it.
        while not self._end.wait(min(max(0.0, self._due - time.monotonic()), self._seconds)):
            if self._due <= time.monotonic():
                self.cut(self._overdue)

    def _shut_down(self) -> None:
        connected = self._socket
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


def _copy(stream: Any) -> socket.socket | None:
    """A socket of our own for the connection: a handshake of TLS, or whoever reads, may take the other one away."""
    connected: socket.socket | None = stream.get_extra_info("socket")
    try:
        return None if connected is None else connected.dup()
    except OSError as error:
        stream.close()
        raise StoreProblem(f"no connection can be watched over: {error.strerror}") from None
