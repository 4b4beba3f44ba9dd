"""Reads the feed over HTTP: server-sent events from an authority become news for a follower.

    GET URL/feed?since=SEQ&position=POSITION&epoch=EPOCH     Accept: text/event-stream; or application/json, one page

Laws: the client trusts only what is signed, and sends no secret, so any proxy may be in between. Everybody may read the
feed; a service proves who asks all the same, because proven callers begin before strangers. Who sees such a proof can
only take this audience's turns in the queue with it, for a minute. The client bounds what it reads: the length of a
line, and the time until a page is complete. If the authority refuses a stream, the client asks for page after page, and
for a stream again from time to time. So strangers who occupy all streams make no service stale.
"""

import re
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import httpx

from capx.api import resource_auth
from capx.api.sse import EventReader
from capx.crypto.keys import AudienceKeys
from capx.errors import ConfigurationProblem, StoreProblem
from capx.resource.feed.page import MAX_PAGES, MAX_TEXT
from capx.resource.feed.reader import PageReader
from capx.resource.feed.stream import SILENCE, FeedRefused, Line, no_news
from capx.store.records import Head, News

PAGE_EVERY: Final = 1.0
"""Seconds between single pages."""
STREAM_AGAIN: Final = 30.0
"""Seconds until the client asks for a stream again, after the authority refused one."""

_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9/._~%+-]*)?")
_TOO_LONG = "the authority sent more than a page can hold: it is not a feed"
_CLOSED = "it was closed"


class FeedSource:
    """The feed of the authority at `url`, as a source for a `Follower`.

    `keys` are the feed's public keys by kid, and `authority` is the id of their authority. `tls` says which
    certificates to trust; the default is that of httpx. Over plain HTTP the pages are as trustworthy, but everybody on
    the way can read them. Proxies come from the environment. With `proven_by`, the keys of an audience prove who asks,
    and a flood of strangers keeps this source waiting less.
    """

    def __init__(
        self,
        url: str,
        keys: Mapping[str, bytes],
        *,
        authority: str | None = None,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
        proven_by: AudienceKeys | None = None,
    ) -> None:
        self._url = _feed_url(url)
        self._keys = dict(keys)
        self._authority = authority
        self._reader = PageReader(keys, authority)
        self._tls = tls
        self._wall = wall
        self._proven_by = proven_by
        self._closed = False
        self._lines: set[Line] = set()

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        """Yield news as they come, until a StoreProblem is raised. One stream at a time in each process."""
        self._reader.begin(known())
        with self._opened() as line:
            while True:
                try:
                    yield from self._streamed(line)
                except FeedRefused:
                    yield from self._one_by_one(line)

    def pages(self) -> list[str]:
        """Fetch and check all pages, one by one. Written one in a line, they are the file of a `Snapshot`."""
        # A reader of its own: another thread may be in a stream.
        reader = PageReader(self._keys, self._authority)
        texts: list[str] = []
        with self._opened() as line:
            while len(texts) < MAX_PAGES:
                texts.append(_page(line, reader))
                if reader.take(texts[-1], now=self._wall()) is not None:
                    return texts
                line.heard()
        raise StoreProblem(f"{self._url} has more deaths than {MAX_PAGES} pages hold")

    def close(self) -> None:
        """End the stream, also while another thread waits for it; no other stream can begin after that."""
        self._closed = True
        for line in tuple(self._lines):
            line.cut(_CLOSED)

    @contextmanager
    def _opened(self) -> Generator[Line]:
        # Once, and not for each stream: it reads all certificates of the machine.
        try:
            self._tls = self._tls or httpx.create_ssl_context()
        except OSError as error:
            raise no_news(self._url, error) from None
        with httpx.Client(verify=self._tls, timeout=SILENCE) as client, Line(client, self._url, self._proof) as line:
            # Add first, then look: whichever order `close` comes in, it cuts this line or this line sees it.
            self._lines.add(line)
            try:
                if self._closed:
                    line.cut(_CLOSED)
                yield line
            finally:
                self._lines.discard(line)

    def _proof(self, target: str) -> str | None:
        """The header that proves who asks for this target, if that is to be proven."""
        live = () if self._proven_by is None else self._proven_by.live
        if not live:
            return None
        return resource_auth.prove(live[0], method="GET", target=target, body=b"", at=int(self._wall()))

    def _streamed(self, line: Line) -> Iterator[News]:
        with line.answer(self._reader.cursor, "text/event-stream") as pieces:
            events = EventReader(MAX_TEXT, _TOO_LONG)
            for piece in pieces:
                for _, data in events.take(piece):
                    yield from self._taken(line, data.decode("ascii", "replace"))
        raise StoreProblem(f"{self._url} ended its stream")

    def _one_by_one(self, line: Line) -> Iterator[News]:
        """Yield news from single pages, until it is time to ask for a stream again."""
        ends = time.monotonic() + STREAM_AGAIN
        while time.monotonic() < ends:
            yield from self._taken(line, _page(line, self._reader))
            if not self._reader.is_amid:
                line.pause(PAGE_EVERY)

    def _taken(self, line: Line, text: str) -> Iterator[News]:
        news = self._reader.take(text, now=self._wall())
        if news is not None:
            # The follower works on the news meanwhile: that time is not a silence of the authority.
            line.hold()
            yield news
        line.heard()


def _feed_url(url: str) -> str:
    feed = f"{url.rstrip('/')}/feed"
    with suppress(httpx.InvalidURL):
        if _URL.fullmatch(feed) and (httpx.URL(feed).port or 0) < 1 << 16:
            return feed
    raise ConfigurationProblem(
        "the authority's URL cannot be used: give one like https://authority.internal, without a user name, query or #"
    )


def _page(line: Line, reader: PageReader) -> str:
    """Fetch the next page by itself."""
    with line.answer(reader.cursor, "application/json") as pieces:
        return _body(pieces)


def _body(chunks: Iterable[bytes]) -> str:
    """Read a whole answer, one line of ASCII."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_TEXT + len(b"\n"):
            raise StoreProblem(_TOO_LONG)
    return body.decode("ascii", "replace").removesuffix("\n")
