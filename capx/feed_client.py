"""The feed over HTTP: server-sent events from an authority, as news for a follower.

    GET URL/feed?since=SEQ&position=POSITION&epoch=EPOCH     Accept: text/event-stream; or application/json, one page

Laws: whoever answers is believed nothing but what is signed, and sent no secret; so it may be asked through anybody.
What it sends is bounded: a line, and the time until a line is a page. A redirect is not followed. No page for five
seconds means that the connection is broken, whatever else comes over it.
"""

import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx

from capx.errors import ConfigurationProblem, StoreProblem
from capx.feed import MAX_PAGES, MAX_TEXT, Asked
from capx.feed_reader import PageReader
from capx.store import Head, News

SILENCE: Final = 5.0
"""Seconds without a page after which a connection counts as broken."""
_LINE = MAX_TEXT + len(b"data: \r")
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9/._~%+-]*)?")
_TOO_LONG = "the authority sends what is longer than a page: it is no feed"
_SILENT = f"no page came for {SILENCE:.0f} seconds: the connection is broken"


class FeedSource:
    """What the authority at `url` tells; for a `Follower`.

    `keys` are the feed's public keys by kid. `tls` is whom to believe certificates, by default as httpx does; over
    plain HTTP pages are as trustworthy, and readable for all. Proxies are taken from the environment.
    """

    def __init__(
        self,
        url: str,
        keys: Mapping[str, bytes],
        *,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._url = _feed_url(url)
        self._keys = dict(keys)
        self._reader = PageReader(keys)
        self._tls = tls
        self._wall = wall
        self._closed = False
        self._connected: tuple[int, socket.socket] | None = None

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """News as they come; a StoreProblem ends it. One stream at a time in each process."""
        self._reader.begin(known())
        with self._answer(self._reader.asked, "text/event-stream") as response:
            events = _Events()
            heard = time.monotonic()
            for chunk in response.iter_raw():
                for text in events.take(chunk):
                    news = self._reader.take(text, now=self._wall())
                    if news is not None:
                        yield news
                    heard = time.monotonic()
                if time.monotonic() - heard > SILENCE:
                    raise StoreProblem(_SILENT)
            raise StoreProblem(f"{self._url} ended its stream")

    def pages(self) -> list[str]:
        """The pages that tell all deaths, checked, each asked for by itself: a line each, they are a `Snapshot`."""
        reader = PageReader(self._keys)
        texts: list[str] = []
        while len(texts) < MAX_PAGES:
            with self._answer(reader.asked, "application/json") as response:
                texts.append(_body(response.iter_raw()))
            if reader.take(texts[-1], now=self._wall()) is not None:
                return texts
        raise StoreProblem(f"{self._url} tells of more deaths than {MAX_PAGES} pages hold")

    def close(self) -> None:
        """End the stream that another thread waits for; there is no other after it."""
        self._closed = True
        self._shut_down()

    @contextmanager
    def _answer(self, asked: Asked, kind: str) -> Generator[httpx.Response]:
        """The answer to a question, of the kind of media that was asked for; what httpx raises as a StoreProblem."""
        # What is compressed has no bound.
        headers = {"Accept": kind, "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        try:
            self._tls = self._tls or httpx.create_ssl_context()
            with (
                httpx.Client(verify=self._tls, timeout=SILENCE) as client,
                client.stream(
                    "GET", self._url, params=asked.query(), headers=headers, extensions={"trace": self._connect}
                ) as response,
            ):
                _demand(response, kind, self._url)
                yield response
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            why = "it was closed" if self._closed else str(error) or type(error).__name__
            raise StoreProblem(f"nothing is heard from {self._url}: {why}") from None
        finally:
            self._connected = None

    def _connect(self, name: str, info: Mapping[str, Any]) -> None:
        """Note the connection while it is made, so that whoever closes need not wait for an answer."""
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._connected = os.getpid(), info["return_value"].get_extra_info("socket")
            if self._closed:
                self._shut_down()

    def _shut_down(self) -> None:
        connected = self._connected
        # A forked child has its parent's connection in mind, which is not its to end.
        if connected is not None and connected[0] == os.getpid():
            with suppress(OSError):
                # Not the method of a TLS socket, which would take its state away from the thread that reads.
                socket.socket.shutdown(connected[1], socket.SHUT_RDWR)


def _feed_url(url: str) -> str:
    feed = f"{url.rstrip('/')}/feed"
    with suppress(httpx.InvalidURL):
        if _URL.fullmatch(feed) and (httpx.URL(feed).port or 0) < 1 << 16:
            return feed
    raise ConfigurationProblem("the authority's URL is like https://authority.internal, without name, query or #")


def _demand(response: httpx.Response, kind: str, url: str) -> None:
    if response.is_redirect:
        where = response.headers.get("location", "")
        raise StoreProblem(f"{url} redirects to {where!a:.200}, which is not followed: configure that if it is right")
    if response.status_code != 200:
        raise StoreProblem(f"{url} answers {response.status_code}, and not with a feed")
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind or response.headers.get("content-encoding", "identity") != "identity":
        raise StoreProblem(f"{url} answers with {found!a:.80}, encoded or not, and not with plain {kind}")


def _body(chunks: Iterable[bytes]) -> str:
    """A whole answer, one line of ASCII."""
    body = bytearray()
    ends = time.monotonic() + SILENCE
    for chunk in chunks:
        body += chunk
        if len(body) > _LINE:
            raise StoreProblem(_TOO_LONG)
        if time.monotonic() > ends:
            raise StoreProblem(_SILENT)
    return body.decode("ascii", "replace").removesuffix("\n")


class _Events:
    """Takes a stream of server-sent events (WHATWG HTML, 9.2) apart; the data of each is one line of ASCII."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: str | None = None

    def take(self, chunk: bytes) -> Iterator[str]:
        """The data of the events that end in this chunk."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = bytes(self._line + end).removesuffix(b"\r")
            self._line.clear()
            if not line and self._data is not None:
                yield self._data
                self._data = None
            elif line.startswith(b"data:"):
                if self._data is not None:
                    raise StoreProblem(_TOO_LONG)
                self._data = line[5:].removeprefix(b" ").decode("ascii", "replace")
        self._line += rest
        if len(self._line) > _LINE:
            raise StoreProblem(_TOO_LONG)
