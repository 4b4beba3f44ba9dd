"""A line to an authority: its connections, and whoever ends them from outside.

Laws: no page for five seconds means that the connection is broken, whatever else comes over it: it is shut down by a
thread that reads nothing, so nothing that is sent can hold it up. The thread ends with the line. A redirect is not
followed, and nothing compressed is taken.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

import httpx

from capx.errors import StoreProblem
from capx.resource.feed.page import FeedCursor

SILENCE: Final = 5.0
"""Seconds without a page after which a connection counts as broken."""

# What is compressed has no bound.
_HEADERS: Final = {"Accept-Encoding": "identity", "Cache-Control": "no-store"}


class FeedRefused(StoreProblem):
    """Whoever answers gives nothing of the kind that was asked for, or not now."""


class Line:
    """Questions to the feed at `url`, one after the other, for as long as pages are `heard`."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client = client
        self._url = url
        self._process = os.getpid()
        self._socket: socket.socket | None = None
        self._spare: socket.socket | None = None
        self._why: str | None = None
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="capx-follower-silence", daemon=True)
        self.heard()

    def __enter__(self) -> Self:
        try:
            self._watcher.start()
        except (RuntimeError, MemoryError) as error:
            raise StoreProblem(f"no thread can be had to watch over a connection: {error}") from None
        return self

    def __exit__(self, *raised: object) -> None:
        # A forked child has none of its parent's threads, and may have a lock that one of them held.
        if self._process == os.getpid():
            self._end.set()
            self._watcher.join()
        self._socket = None
        self._drop_spare()

    def heard(self) -> None:
        """A page came: the next one is due."""
        self._due = time.monotonic() + SILENCE

    def hold(self) -> None:
        """No page is due until the next was `heard`: somebody is busy with the last one."""
        self._due = math.inf

    def pause(self, seconds: float) -> None:
        """Wait, unless the line is cut."""
        self._end.wait(seconds)

    def cut(self, why: str) -> None:
        """End what goes on over the line, from any thread; whoever reads is told why."""
        # A parent's connection is not a child's to end.
        if self._process == os.getpid():
            self._why = self._why or why
            self._end.set()
            self._shut_down()

    @contextmanager
    def answer(self, asked: FeedCursor, kind: str) -> Generator[Iterator[bytes]]:
        """The answer to a question, in pieces, of the kind of media that was asked for.

        Refused, if the status says so; what httpx raises comes as a StoreProblem.
        """
        headers = {"Accept": kind, **_HEADERS}
        try:
            self._demand_uncut()
            with self._client.stream(
                "GET", self._url, params=asked.query(), headers=headers, extensions={"trace": self._connect}
            ) as response:
                _demand(response, kind, self._url)
                yield self._pieces(response)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise unheard(self._url, self._why or error) from None

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        for piece in response.iter_raw():
            self._demand_uncut()
            yield piece
        # What was cut may look like what has ended.
        self._demand_uncut()

    def _demand_uncut(self) -> None:
        if self._why is not None:
            raise unheard(self._url, self._why)

    def _watch(self) -> None:
        # Whatever is due later was heard later: never too late for it.
        while not self._end.wait(min(max(0.0, self._due - time.monotonic()), SILENCE)):
            if self._due <= time.monotonic():
                self.cut(f"no page came for {SILENCE:.0f} seconds: the connection is broken")

    def _connect(self, name: str, info: Mapping[str, Any]) -> None:
        """Note the connection while it is made, so that whoever cuts it need not wait for an answer."""
        if name.endswith(".start_tls.started") and self._socket is not None:
            # The socket is taken from its object for the handshake.
            self._socket = self._spare = self._socket.dup()
        elif name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            self._drop_spare()
        else:
            return
        if self._why is not None:
            self._shut_down()

    def _shut_down(self) -> None:
        connected = self._socket
        if connected is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which would take its state away from the thread that reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None


def unheard(url: str, why: Exception | str) -> StoreProblem:
    """That nothing came from there, and why."""
    return StoreProblem(f"nothing is heard from {url}: {str(why) or type(why).__name__}")


def _demand(response: httpx.Response, kind: str, url: str) -> None:
    if response.is_redirect:
        where = response.headers.get("location", "")
        raise StoreProblem(f"{url} redirects to {where!a:.200}, which is not followed: configure that if it is right")
    if response.status_code != 200:
        raise FeedRefused(f"{url} answers {response.status_code}, and not with a feed")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind or response.headers.get("content-encoding", "identity") != "identity":
        raise StoreProblem(f"{url} answers with {found!a:.80}, encoded or not, and not with plain {kind}")
