"""Streams of server-sent events: the log, and the feed of deaths.

A *death* is the store's record that something is revoked, or that a task has ended.

Laws:

- A stream ends only when its client leaves or the authority stops. While the store cannot be read, it sends nothing.
- A slow client delays only itself.
- Open streams at one position share one page. Callers who take turns find a page that a turn before them made.
- While others wait for pages, a page that one of them must wait for is short. So whoever asks for pages, each from
  another position, cannot keep them waiting for long.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from capx.api.messages.base import encode
from capx.authority.remote.messages import Happened, LogQuery
from capx.errors import InvalidRequest, StoreProblem
from capx.guard.asgi.slots import machine_at
from capx.resource.feed.page import DEATHS_IN_A_PAGE, FeedCursor, SignedPage, sign_page
from capx.server.service import Service
from capx.server.turns import Turns
from capx.server.waiting.head_watch import HEARTBEAT
from capx.server.waiting.stream_limits import OpenStreams
from capx.store.continuity import unconfirmed
from capx.store.log import Event

EVENT_STREAM = "text/event-stream"

SHORT = 500
"""The most deaths in a page while others wait for theirs."""

_PIECE = 500
_STILL_HERE = 15.0
_AFTER_TROUBLE = 0.5
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(data: bytes, **fields: object) -> bytes:
    """One server-sent event."""
    head = "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()
    # A line break in the data would end the field, so each line is a data field of its own.
    lines = b"".join(b"data: %b\n" % line for line in data.splitlines())
    return b"%b%b\n" % (head, lines)


async def follow_log(service: Service, asked: LogQuery) -> Response:
    """The events after `since`, and all new ones. The `id` of each is its position in the log."""
    if asked.newest or asked.before is not None:
        raise InvalidRequest("a stream of the log is always in order: leave out newest and before")
    # Read before the stream begins, because only then can an error still be an HTTP answer.
    first = await service.operators.run(_events, service, asked.since)
    return Stream(service.streams, "log", None, _log(service, asked.since, first))


async def _log(service: Service, since: int, found: list[Event]) -> AsyncGenerator[bytes]:
    # A comment at once, so that the client and every proxy see that the stream has begun.
    yield b": the log\n\n"
    with service.watch.followed():
        while not service.stopping:
            if found:
                since = found[-1].position
                yield b"".join([event(encode(Happened.of(one)), id=one.position, event="event") for one in found])
            elif not await service.watch.beyond(since, _STILL_HERE):
                yield b": still here\n\n"
            try:
                found = await service.operators.run(_events, service, since)
            except StoreProblem:
                found = []
                await service.watch.due.wait(_AFTER_TROUBLE)


def _events(service: Service, since: int) -> list[Event]:
    return list(service.authority.log(since, _PIECE))


class Feed:
    """The pages of the feed, kept until the next round of the watch."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._rounds = -1
        self._fresh_until = 0.0
        # Of open streams: they must not wait for a page that waits for its turn.
        self._making: dict[FeedCursor, asyncio.Task[SignedPage]] = {}
        # Made in turn, for new followers and single pages.
        self._made: dict[FeedCursor, SignedPage] = {}

    async def follow(self, asked: FeedCursor, host: str) -> Response:
        """Pages as events: first what the follower has missed, then one after each death and one every second.

        `host` is the address of the follower.
        """
        machine = machine_at(host)
        # Counted before a page is made for it: a stream that is refused costs next to nothing.
        with self._service.streams.opened("feed", machine):
            # The round is read before the page is made. A death in between then makes another page.
            rounds = self._service.watch.rounds
            page = await self._in_turn(asked, machine, self._service.beginners)
        return Stream(self._service.streams, "feed", machine, self._follow(page, machine, rounds))

    def kept(self, asked: FeedCursor) -> SignedPage | None:
        """The page, if a turn has made it a moment ago: to give it keeps nobody waiting."""
        self._drop_old()
        return self._made.get(asked)

    async def page(self, asked: FeedCursor, host: str) -> SignedPage:
        """One page, for a caller at `host` who wants no stream. It is made apart, so it does not delay streams."""
        return await self._in_turn(asked, machine_at(host), self._service.readers)

    async def _follow(self, page: SignedPage, machine: str, rounds: int) -> AsyncGenerator[bytes]:
        service, watch = self._service, self._service.watch
        with watch.followed():
            yield event(page.text.encode())
            while not service.stopping:
                if not page.has_more and watch.rounds == rounds:
                    await watch.due.wait(2 * HEARTBEAT)
                    continue
                rounds = watch.rounds
                try:
                    # A follower that has much to catch up must not delay those that know all.
                    if page.has_more:
                        page = await self._in_turn(page.then, machine, service.beginners)
                    else:
                        page = await self._at_once(page.then)
                except StoreProblem:
                    # Silence is safe: the follower counts the age of its last page, and denies when that is too old.
                    await watch.due.wait(_AFTER_TROUBLE)
                else:
                    yield event(page.text.encode())

    def _drop_old(self) -> None:
        rounds, now = self._service.watch.rounds, time.monotonic()
        # Rounds are counted only while somebody follows. Without followers, the time says when a page is too old.
        if rounds != self._rounds or now > self._fresh_until:
            self._rounds, self._fresh_until = rounds, now + HEARTBEAT / 2
            # Others: a page that is being made now belongs to those before.
            self._making, self._made = {}, {}

    async def _at_once(self, asked: FeedCursor) -> SignedPage:
        self._drop_old()
        pages = self._making
        making = pages.get(asked)
        if making is None:
            making = pages[asked] = asyncio.create_task(self._service.followers.run(self._sign, asked))
        # Shielded, because others wait for the same page: a client that leaves must not cancel it.
        try:
            return await asyncio.shield(making)
        except StoreProblem:
            pages.pop(asked, None)
            raise

    async def _in_turn(self, asked: FeedCursor, machine: str, turns: Turns) -> SignedPage:
        async def made() -> SignedPage:
            self._drop_old()
            pages = self._made
            if asked not in pages:
                at_most = SHORT if turns.is_crowded else DEATHS_IN_A_PAGE
                pages[asked] = await turns.thread.run(self._sign, asked, at_most)
            return pages[asked]

        return await turns.take(machine, made)

    def _sign(self, asked: FeedCursor, at_most: int = DEATHS_IN_A_PAGE) -> SignedPage:
        now = time.time()
        with self._service.authority.store.read() as reading:
            # As old as what the server has confirmed: one that was cut off still answers.
            age = reading.confirmation_age()
            if math.isinf(age) and (problem := unconfirmed(age)) is not None:
                raise problem
            now = min(now, time.time() - age)
            page = sign_page(reading, self._service.signer(), asked, now=now, at_most=at_most)
        self._service.metrics.pages.inc()
        return page


class Stream(StreamingResponse):
    """A stream, counted among the open ones of its kind from before it begins until it has ended."""

    def __init__(self, streams: OpenStreams, kind: str, whose: str | None, pieces: AsyncGenerator[bytes]) -> None:
        super().__init__(pieces, media_type=EVENT_STREAM, headers=_HEADERS)
        self._streams = streams
        self._kind, self._whose = kind, whose
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client leaves or the authority stops; HttpRefusal when there is no room."""
        try:
            with self._streams.opened(self._kind, self._whose):
                await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()
