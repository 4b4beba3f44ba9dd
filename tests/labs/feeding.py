"""An authority's feed: a real store, its key, and what serves it."""

import asyncio
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from capx.crypto.keys import KeyRing, RootKey
from capx.resource.feed.page import DEATHS_IN_A_PAGE, FeedCursor, SignedPage, sign_page
from capx.resource.feed.reader import PageReader
from capx.resource.revocations import View
from capx.store.records import Head, News
from capx.store.sqlite.store import SQLiteStore
from tests.labs.copies import copied

NOW = 1_800_000_000
KEY = RootKey(bytes(range(32)))
OTHER = RootKey(bytes(range(1, 33)))
KEYS = KeyRing(KEY, [OTHER]).exported("crm").feed


def node(number: int) -> bytes:
    return number.to_bytes(16)


class Feed:
    """A store whose deaths are signed."""

    def __init__(self, path: Path) -> None:
        self.store = SQLiteStore.create(path)
        self.signer = KEY.feed_signer()

    def kill(self, *keys: bytes | str, reason: str = "revoked", at: int = NOW) -> None:
        with self.store.write() as transaction:
            for key in keys:
                event = transaction.append("died", msgspec.json.encode({"key": str(key)}), at=at)
                transaction.kill(key, reason, at=at, position=event.position)

    def note(self) -> None:
        with self.store.write() as transaction:
            transaction.append("noted", b"{}", at=NOW)

    def forget(self, before: int) -> None:
        with self.store.write() as transaction:
            transaction.forget(before)

    def begin_epoch(self, seconds: int) -> None:
        with self.store.write() as transaction:
            transaction.begin_epoch(f"{transaction.head().epoch.partition('.')[0]}.{seconds}")

    def head(self) -> Head:
        with self.store.read() as reading:
            return reading.head()

    def page(self, asked: FeedCursor | None = None, *, now: float = NOW, at_most: int = DEATHS_IN_A_PAGE) -> SignedPage:
        with self.store.read() as reading:
            return sign_page(reading, self.signer, asked or FeedCursor(), now=now, at_most=at_most)

    def pages(
        self, asked: FeedCursor | None = None, *, now: float = NOW, at_most: int = DEATHS_IN_A_PAGE
    ) -> Iterator[str]:
        """One after the other, until there are no more."""
        page = self.page(asked, now=now, at_most=at_most)
        while page.has_more:
            yield page.text
            page = self.page(page.then, now=now, at_most=at_most)
        yield page.text

    def copied(self, path: Path) -> "Feed":
        """The same store once more, as it is now."""
        copy = Feed.__new__(Feed)
        copy.store, copy.signer = SQLiteStore(copied(self.store.path, path)), self.signer
        return copy

    def close(self) -> None:
        self.store.close()


class ReaderWithView:
    """A reader with its view."""

    def __init__(self) -> None:
        self.reader = PageReader(KEYS)
        self.view = View()

    def take(self, *texts: str, now: float = NOW) -> News | None:
        news = None
        for text in texts:
            news = self.reader.take(text, now=now)
            if news is not None:
                self.view.learn(news)
        return news

    def catch_up(self, feed: Feed, at_most: int = DEATHS_IN_A_PAGE) -> None:
        while self.take(feed.page(self.reader.cursor, at_most=at_most).text) is None:
            pass


class FeedApp:
    """An ASGI application that serves a feed, well or badly, as a test sets it."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.before: Callable[[], bytes] = lambda: b""
        """Sent before the first page, and in place of all others while `only`."""
        self.only = False
        self.mute = threading.Event()
        """While set, connections stay and nothing comes over them."""
        self.cut = threading.Event()
        """While set, connections end."""
        self.clock: Callable[[], float] = time.time
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []
        self.connected = 0
        self.open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        self.asked.append((query, headers))
        self.connected += 1
        if self.cut.is_set():
            await self._answer(send, 503, [], b"")
            return
        if self.status != 200 or scope["path"] != "/feed":
            await self._answer(send, self.status if scope["path"] == "/feed" else 404, self.headers, b"")
            return
        asked = FeedCursor.read(query)
        if headers["accept"] == "application/json":
            text = self.feed.page(asked, now=self.clock()).text.encode()
            await self._answer(send, 200, [(b"content-type", b"application/json"), *self.headers], text)
            return
        self.open += 1
        try:
            gone = asyncio.ensure_future(_gone(receive))
            await self._stream(send, asked, gone)
        finally:
            self.open -= 1

    async def _stream(self, send: Any, asked: FeedCursor, gone: "asyncio.Future[None]") -> None:
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-type", b"text/event-stream"), *self.headers]})
        await send({"type": "http.response.body", "body": self.before(), "more_body": True})
        told = -math.inf
        while not self.cut.is_set() and not gone.done():
            if self.only:
                await send({"type": "http.response.body", "body": self.before(), "more_body": True})
            elif not self.mute.is_set():
                head = self.feed.head()
                if (head.epoch, head.deaths) != (asked.epoch, asked.since) or time.monotonic() > told + 1:
                    page, told = self.feed.page(asked, now=self.clock()), time.monotonic()
                    asked = page.then
                    await send({"type": "http.response.body", "body": event(page.text), "more_body": True})
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(text: str) -> bytes:
    """A page as a server-sent event."""
    return b"data: " + text.encode() + b"\n\n"


def replaced(path: Path, text: str) -> None:
    """Put a file in the place of another in one step."""
    beside = path.with_name("beside")
    beside.write_text(text)
    shutil.move(beside, path)


class Polled:
    """A store on this machine as a stream of news."""

    def __init__(self, feed: Feed) -> None:
        self._source = feed.store.source()
        self._end = threading.Event()
        self.streams = 0

    def stream(self, known: Callable[[], Head | None]) -> Iterator[News]:
        self.streams += 1
        while not self._end.wait(0.005):
            yield self._source.news(known())

    def close(self) -> None:
        self._end.set()
        self._source.close()
