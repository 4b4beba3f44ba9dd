"""An answer over HTTP that has to be there, whole, by a certain time, whatever its sender does.

Laws: the time is for the whole, head and body, and not for each piece; so a thread that reads nothing shuts the
connection down when it is over. What is longer than was agreed is not read to its end. Nothing compressed is asked for,
nor unpacked. Each question has a connection of its own, so that none is shut down that another one uses.
"""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Self

import httpx
from msgspec import Struct

from capx.errors import StoreProblem

SINGLE: Final = httpx.Limits(max_keepalive_connections=0)
"""For a client whose every question is to have a connection of its own."""

_PLAIN: Final = {"Accept-Encoding": "identity"}
_CONNECTED: Final = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")


class WholeResponse(Struct, frozen=True):
    """A whole answer."""

    status: int
    content: bytes


def whole_response(
    client: httpx.Client,
    method: str,
    path: str,
    *,
    seconds: float | None,
    most: int,
    watching: Callable[[str, Mapping[str, Any]], None] | None = None,
    **asked: Any,
) -> WholeResponse:
    """What is answered within so many seconds (None: whenever) in at most so many bytes.

    `watching` is called with what httpx tells of its connections (its extension `trace`). Raises what httpx raises,
    httpx.ReadTimeout when the time is over, and StoreProblem for what is too long.
    """
    headers = {**_PLAIN, **asked.pop("headers", {})}
    with _Deadline(seconds, watching) as deadline:
        try:
            with client.stream(
                method, path, headers=headers, extensions={"trace": deadline.watch}, **asked
            ) as response:
                content = bytearray()
                for piece in response.iter_raw():
                    content += piece
                    if len(content) > most:
                        raise StoreProblem(f"{client.base_url} answers with more than {most} bytes: it is no authority")
                    deadline.demand()
        except (httpx.HTTPError, httpx.StreamError, OSError):
            deadline.demand()
            raise
        # What was cut may look like what has ended.
        deadline.demand()
    return WholeResponse(response.status_code, bytes(content))


def seconds_of(timeout: Any) -> float | None:
    """The seconds for a whole answer that a timeout of httpx means: those for which it would wait for a piece."""
    return httpx.Timeout(timeout).read


class _Deadline:
    """Shuts the connection of one question down when its time is over."""

    def __init__(self, seconds: float | None, watching: Callable[[str, Mapping[str, Any]], None] | None) -> None:
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._watching = watching
        self._socket: socket.socket | None = None
        self._over = False
        self._timer = None if seconds is None else threading.Timer(seconds, self._end)

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.name = "capx-deadline"
            try:
                self._timer.start()
            except (RuntimeError, MemoryError) as error:
                raise StoreProblem(f"no thread can be had to watch over a connection: {error}") from None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._socket = None

    def demand(self) -> None:
        """Raise httpx.ReadTimeout when the time is over."""
        if self._over or (self._ends is not None and time.monotonic() > self._ends):
            raise httpx.ReadTimeout(f"no whole answer came within {self._seconds:g} s")

    def watch(self, name: str, info: Mapping[str, Any]) -> None:
        """Note the connection while it is made; httpx calls it."""
        if self._watching is not None:
            self._watching(name, info)
        if name.endswith(".start_tls.started"):
            # The socket is taken from its object for the handshake, which has a time of its own.
            self._socket = None
        elif name.endswith(_CONNECTED):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._over:
                self._shut_down()

    def _end(self) -> None:
        self._over = True
        self._shut_down()

    def _shut_down(self) -> None:
        connected = self._socket
        if connected is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which would take its state away from the thread that reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)
