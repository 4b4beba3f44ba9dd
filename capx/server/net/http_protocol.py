"""HTTP/1.1 on one connection: what comes before h11, which parses, and uvicorn, which calls the application.

Laws:

- h11 gets a head when it is whole, small, and its turn has come; then as many bytes of body as this head says.
- The head must be complete in time. This holds for each request on a connection.
- A client that sends the next request before it has the answer gets this answer, and the connection ends. So a
  connection holds no more than one request.
- A client has to read what it is sent, or the connection ends: all of it, or UNREAD_BYTES, each READ_SECONDS. What is
  unread waits here, and holds up whoever answers.
- A connection that has ended is forgotten at once, also if the client has reset it: no timer keeps it in memory.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from capx.api.messages.base import encode
from capx.api.problems import HttpRefusal, to_problem
from capx.guard.asgi.messages import App, Receive, Scope, Send
from capx.guard.asgi.slots import machine_at
from capx.server.net.connections import HEAD_SECONDS, READ_BYTES, READ_SECONDS, UNREAD_BYTES
from capx.server.net.head_queue import HeadQueue
from capx.server.net.heads import NO_HTTP, Head, HeadReader


class BoundedHeadProtocol(H11Protocol):
    """HTTP/1.1 for one connection. `refused` gets the status of each request that is refused for its head."""

    def __init__(self, *, heads: HeadQueue, refused: Callable[[int], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._heads = heads
        self._refused = refused
        self._reader = HeadReader()
        self._machine = ""
        self._waiting: Callable[[], None] | None = None
        self._body_left = 0
        self._overdue: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self._machine = "" if self.client is None else machine_at(self.client[0])
        # What comes behind a head stays in memory while the head waits.
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        # Not 0: with TLS, a buffer that is empty would then be full, and nothing would be written any more.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._mind_time()

    def data_received(self, data: bytes) -> None:
        """Pass on what belongs to a body; collect the rest as the next head."""
        self._unset_keepalive_if_required()
        body, rest = data[: self._body_left], data[self._body_left :]
        if body:
            self._body_left -= len(body)
            super().data_received(body)
        if rest and not self.transport.is_closing():
            self._take(rest)
        self._mind_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers, and wait no more."""
        if self._waiting is not None:
            self._heads.leave(self._waiting)
        self._forgive()
        self._stop_watching()
        # uvicorn stops this one only if the client has closed the connection normally.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch how much the client reads."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Watch no more: the client has read all of it."""
        self._stop_watching()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 cannot parse, as problem details."""
        del msg
        self._refuse(HttpRefusal(400, "bad_request", NO_HTTP))

    @property
    def _is_answering(self) -> bool:
        # None before the first request, although uvicorn's type says otherwise.
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _take(self, piece: bytes) -> None:
        if self._is_answering:
            self.cycle.keep_alive = False
            return
        try:
            found = self._reader.take(piece)
        except HttpRefusal as refusal:
            self._refuse(refusal)
            return
        if found is None:
            return
        self._waiting = partial(self._begin_later, found)
        if self._heads.enter(found.head, self._machine, self._waiting, self.transport):
            self._waiting = None
            self._begin(found)
        else:
            self.flow.pause_reading()

    def _begin_later(self, found: Head) -> None:
        """Begin the request, now that its turn has come."""
        self._waiting = None
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._begin(found)
            self._mind_time()

    def _begin(self, found: Head) -> None:
        try:
            self.headers = []
            super().data_received(found.head)
            if not self.transport.is_closing():
                # As h11 has read it: if this class read the length itself, the two could differ.
                self._body_left = int(dict(self.headers).get(b"content-length", b"0"))
                if found.after:
                    self.data_received(found.after)
        except Exception:
            self.transport.abort()
            raise

    def _refuse(self, refusal: HttpRefusal) -> None:
        problem = to_problem(refusal).problem
        self._refused(problem.status)
        body = encode(problem)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _watch(self, unread: int) -> None:
        self._unread = self.loop.call_later(READ_SECONDS, self._demand_read, unread)

    def _demand_read(self, before: int) -> None:
        if (unread := self.transport.get_write_buffer_size()) > before - UNREAD_BYTES:
            self.transport.abort()
        else:
            self._watch(unread)

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _mind_time(self) -> None:
        """Run the timer while a head is due, or the end of a body that nobody waits for any more."""
        if self._waiting is not None or self._is_answering or self.transport.is_closing():
            self._forgive()
        elif self._overdue is None:
            # Never restarted while it runs: otherwise a client could send a byte now and then for ever.
            self._overdue = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forgive(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def bounded_config(app: App, heads: HeadQueue, refused: Callable[[int], None], **settings: Any) -> uvicorn.Config:
    """How uvicorn serves an application by this protocol, without lines of its own."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        # No traceback of requests that are cancelled at the end: their clients are gone by then.
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return uvicorn.Config(
        quiet,
        loop="asyncio",
        http=partial(BoundedHeadProtocol, heads=heads, refused=refused),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] # anything that makes one
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        **settings,
    )
