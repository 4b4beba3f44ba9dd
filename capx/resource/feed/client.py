"""The feed over HTTP: server-sent events from an authority, as news for a follower.

    GET URL/feed?since=SEQ&position=POSITION&epoch=EPOCH     Accept: text/event-stream; or application/json, one page

Laws: whoever answers is believed nothing but what is signed, and sent no secret; so it may be asked through anybody.
What it sends is bounded: a line, and the time until a line is a page. Where no stream can be had, page after page is
asked for, and a stream again now and then: strangers who take every stream make nobody stale.
"""

import re
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import httpx

from capx.errors import ConfigurationProblem, StoreProblem
from capx.resource.feed.page import MAX_PAGES, MAX_TEXT
from capx.resource.feed.reader import PageReader
from capx.resource.feed.stream import SILENCE, FeedRefused, Line, unheard
from capx.store.records import Head, News

PAGE_EVERY: Final = 1.0
"""Seconds between pages that are asked for one by one."""
STREAM_AGAIN: Final = 30.0
"""Seconds after which a stream is asked for again where it was refused."""

_LINE = MAX_TEXT + len(b"data: \r")
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9/._~%+-]*)?")
_TOO_LONG = "the authority sends what is longer than a page: it is no feed"
_CLOSED = "it was closed"


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
        self._lines: set[Line] = set()

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """News as they come; a StoreProblem ends it. One stream at a time in each process."""
        self._reader.begin(known())
        with self._opened() as line:
            while True:
                try:
                    yield from self._streamed(line)
                except FeedRefused:
                    yield from self._one_by_one(line)

    def pages(self) -> list[str]:
        """The pages that tell all deaths, checked, each asked for by itself: a line each, they are a `Snapshot`."""
        reader = PageReader(self._keys)
        texts: list[str] = []
        with self._opened() as line:
            while len(texts) < MAX_PAGES:
                texts.append(_page(line, reader))
                if reader.take(texts[-1], now=self._wall()) is not None:
                    return texts
                line.heard()
        raise StoreProblem(f"{self._url} tells of more deaths than {MAX_PAGES} pages hold")

    def close(self) -> None:
        """End the stream that another thread waits for; there is no other after it."""
        self._closed = True
        for line in tuple(self._lines):
            line.cut(_CLOSED)

    @contextmanager
    def _opened(self) -> Generator[Line]:
        try:
            self._tls = self._tls or httpx.create_ssl_context()
        except OSError as error:
            raise unheard(self._url, error) from None
        with httpx.Client(verify=self._tls, timeout=SILENCE) as client, Line(client, self._url) as line:
            self._lines.add(line)
            try:
                if self._closed:
                    line.cut(_CLOSED)
                yield line
            finally:
                self._lines.discard(line)

    def _streamed(self, line: Line) -> Iterator[News]:
        with line.answer(self._reader.cursor, "text/event-stream") as pieces:
            events = _Events()
            for piece in pieces:
                for text in events.take(piece):
                    yield from self._taken(line, text)
        raise StoreProblem(f"{self._url} ended its stream")

    def _one_by_one(self, line: Line) -> Iterator[News]:
        """News for as long as a stream need not be asked for again."""
        ends = time.monotonic() + STREAM_AGAIN
        while time.monotonic() < ends:
            yield from self._taken(line, _page(line, self._reader))
            if not self._reader.is_amid:
                line.pause(PAGE_EVERY)

    def _taken(self, line: Line, text: str) -> Iterator[News]:
        news = self._reader.take(text, now=self._wall())
        if news is not None:
            line.hold()
            yield news
        line.heard()


def _feed_url(url: str) -> str:
    feed = f"{url.rstrip('/')}/feed"
    with suppress(httpx.InvalidURL):
        if _URL.fullmatch(feed) and (httpx.URL(feed).port or 0) < 1 << 16:
            return feed
    raise ConfigurationProblem("the authority's URL is like https://authority.internal, without name, query or #")


def _page(line: Line, reader: PageReader) -> str:
    """The page that comes next, asked for by itself."""
    with line.answer(reader.cursor, "application/json") as pieces:
        return _body(pieces)


def _body(chunks: Iterable[bytes]) -> str:
    """A whole answer, one line of ASCII."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > _LINE:
            raise StoreProblem(_TOO_LONG)
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
