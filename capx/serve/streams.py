"""Answers that go on: the log as it is written, the feed of deaths as they happen (server-sent events).

Laws: a stream ends when its client leaves or the authority stops, and at no other time; while the store cannot be read
it says nothing. What a client cannot take in waits with that client. A page is made once for all who stand at the same
place.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.responses import Response, StreamingResponse

from capx.errors import StoreProblem
from capx.feed import Asked, SignedPage, sign_page
from capx.log import Event
from capx.serve.desk import Desk
from capx.serve.forms import Happened, LogQuery, encode
from capx.serve.problems import Stop
from capx.serve.pulse import HEARTBEAT
from capx.serve.workers import Workers

EVENT_STREAM = "text/event-stream"
MAX_STREAMS = 400
"""Streams of one kind that are open at once."""

_PIECE = 500
_STILL_HERE = 15.0
_AFTER_TROUBLE = 0.5
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(data: bytes, **fields: object) -> bytes:
    """One server-sent event."""
    head = "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()
    # A line that data breaks is another line of data.
    lines = b"".join(b"data: %b\n" % line for line in data.splitlines())
    return b"%b%b\n" % (head, lines)


async def follow_log(desk: Desk, asked: LogQuery) -> Response:
    """The events after `since`, and those that happen from now on; `id` is the position of each."""
    if asked.newest or asked.before is not None:
        raise Stop(400, "invalid_request", "a log that is followed is told in order: leave out newest and before")
    first = await desk.operators.run(_events, desk, asked.since)
    return _streamed(desk, "log", _log(desk, asked.since, first))


async def _log(desk: Desk, since: int, found: list[Event]) -> AsyncGenerator[bytes]:
    yield b": the log\n\n"
    with desk.pulse.followed():
        while not desk.stopping:
            if found:
                since = found[-1].position
                yield b"".join([event(encode(Happened.of(one)), id=one.position, event="event") for one in found])
            elif not await desk.pulse.moved.wait(_STILL_HERE):
                yield b": still here\n\n"
            try:
                found = await desk.operators.run(_events, desk, since)
            except StoreProblem:
                found = []
                await desk.pulse.beat.wait(_AFTER_TROUBLE)


def _events(desk: Desk, since: int) -> list[Event]:
    with desk.authority.store.read() as reading:
        return list(reading.events(after=since, limit=_PIECE))


class Feed:
    """The pages of the feed, each made once for all who stand at the same place between two beats of the pulse."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._beat = -1
        self._fresh_until = 0.0
        self._pages: dict[Asked, asyncio.Task[SignedPage]] = {}

    async def follow(self, asked: Asked) -> Response:
        """Pages as events: those that are missing first, one as soon as somebody died, and one every second."""
        beat = self._desk.pulse.count
        return _streamed(self._desk, "feed", self._follow(await self._page(asked, self._desk.followers), beat))

    async def page(self, asked: Asked) -> SignedPage:
        """One page, for whoever asks once; made where it holds up no follower."""
        return await self._page(asked, self._desk.readers)

    async def _follow(self, page: SignedPage, beat: int) -> AsyncGenerator[bytes]:
        desk, pulse = self._desk, self._desk.pulse
        with pulse.followed():
            yield event(page.text.encode())
            while not desk.stopping:
                if not page.has_more and pulse.count == beat:
                    await pulse.beat.wait(2 * HEARTBEAT)
                    continue
                beat = pulse.count
                try:
                    page = await self._page(page.then, desk.followers)
                except StoreProblem:
                    # Whoever hears nothing grows stale, and knows it.
                    await pulse.beat.wait(_AFTER_TROUBLE)
                else:
                    yield event(page.text.encode())

    async def _page(self, asked: Asked, workers: Workers) -> SignedPage:
        beat, now = self._desk.pulse.count, time.monotonic()
        if beat != self._beat or now > self._fresh_until:
            self._beat, self._fresh_until = beat, now + HEARTBEAT / 2
            self._pages.clear()
        making = self._pages.get(asked)
        if making is None:
            making = asyncio.create_task(workers.run(self._sign, asked))
            self._pages[asked] = making
        # Whoever leaves does not take the page from the others.
        try:
            return await asyncio.shield(making)
        except StoreProblem:
            self._pages.pop(asked, None)
            raise

    def _sign(self, asked: Asked) -> SignedPage:
        now = time.time()
        with self._desk.authority.store.read() as reading:
            page = sign_page(reading, self._desk.signer(), asked, now=now)
        self._desk.metrics.pages.inc()
        return page


def _streamed(desk: Desk, of: str, pieces: AsyncGenerator[bytes]) -> Response:
    counted = desk.metrics.followers.labels(of)
    open_now: dict[str, int] = desk.streams
    if open_now.get(of, 0) >= MAX_STREAMS:
        raise Stop(503, "unavailable", f"{MAX_STREAMS} streams are open already: try again later")

    async def told() -> AsyncIterator[bytes]:
        open_now[of] = open_now.get(of, 0) + 1
        counted.set(open_now[of])
        try:
            async for piece in pieces:
                yield piece
        finally:
            open_now[of] -= 1
            counted.set(open_now[of])
            await pieces.aclose()

    return StreamingResponse(told(), media_type=EVENT_STREAM, headers=_HEADERS)
