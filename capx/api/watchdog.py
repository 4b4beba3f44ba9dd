"""Shuts down a connection if the other side keeps us waiting.

Laws: the thread that shuts it down does not read from it. So no sender can prevent the end, neither in a TLS handshake
nor in a head or a body. The thread ends with its block. A forked child has neither the thread nor the connection: it
must not end a connection of its parent.
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
    """Shuts down the connection that its block makes, if nothing calls `heard` for `seconds` seconds.

    With infinite seconds it never does that, and starts no thread. `overdue` is the reason that it gives. Entering the
    block raises StoreProblem if no thread can be started.
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
                raise StoreProblem(f"cannot start a thread to watch a connection: {error}") from None
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
        # The thread may not have run yet. The time decides, not the thread.
        if self._why is None and self._due <= time.monotonic():
            return self._overdue
        return self._why

    def heard(self) -> None:
        """Start to wait for the next piece: the one before has come."""
        self._due = time.monotonic() + self._seconds

    def hold(self) -> None:
        """Stop the clock until the next call of `heard`, while the caller works on the last piece."""
        self._due = math.inf

    def pause(self, seconds: float) -> None:
        """Wait, unless the connection is cut."""
        self._end.wait(seconds)

    def cut(self, why: str) -> None:
        """Shut the connection down, from any thread."""
        # The reason before the shutdown: the reader wakes up and asks why.
        self._why = self._why or why
        self._end.set()
        self._shut_down()

    def note(self, name: str, info: Mapping[str, Any]) -> None:
        """Note a connection while it is made; httpx calls it (its request extension `trace`)."""
        if name.endswith((".connect_tcp.complete", ".connect_unix_socket.complete")):
            self._forget()
            self._socket = _copy(info["return_value"])
            # `cut` may have come while this was connecting. Then there was no socket yet that it could shut down.
            if self._why is not None:
                self._shut_down()

    def _watch(self) -> None:
        # At most `seconds` at a time: after `hold` the end is infinite, and `heard` may then set it to `seconds` from
        # now.
        while not self._end.wait(min(max(0.0, self._due - time.monotonic()), self._seconds)):
            if self._due <= time.monotonic():
                self.cut(self._overdue)

    def _shut_down(self) -> None:
        connected = self._socket
        if connected is not None:
            # Shut down and not close: only this wakes a thread that is blocked in a read of the same connection.
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


def _copy(stream: Any) -> socket.socket | None:
    """Duplicate the socket: a TLS handshake detaches the original, and a reader may close it."""
    connected: socket.socket | None = stream.get_extra_info("socket")
    try:
        return None if connected is None else connected.dup()
    except OSError as error:
        stream.close()
        raise StoreProblem(f"cannot watch the connection: {error.strerror}") from None
