"""A relay between a client and a server: each request of the client goes through a handler, everything else by its id.

    client ── request ──▶ handler ── ask ──▶ server       the handler may refuse, ask twice, or change the answer
    client ◀── request ── server                          sampling, elicitation, roots; the client's answer goes back

Laws:

- A message that cannot be read gets one error, and nothing else is lost.
- A request whose id is in use is refused. An id is in use until the request is answered or cancelled. The number 1 and
  the text "1" are two ids.
- The server gets ids of the relay, each once. So no answer can come for another request than the one that it is for,
  however the server reads ids and however late it answers.
- A request that is cancelled before it was sent on is never sent on, and a request that is cancelled gets no answer.
- An answer reaches the client, or the server, only if its id was asked.
- At most so many requests of one side are in flight; more are refused at once, so answers and cancellations still pass.
- When the server ends, every request in flight gets an error. When the client ends, requests in flight have a moment.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

from msgspec.structs import replace

from capx.api import remote_text
from capx.api.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Id,
    Message,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    failure,
    read_message,
)
from capx.api.mcp_messages import CANCELLED, cancelled_id
from capx.api.relay.connection import Connection, Gone, Server, Warn
from capx.api.relay.lines import TooLong

MOST_REQUESTS: Final = 64
"""How many requests of one side may be in flight."""
OVERLOADED: Final = 503
"""The code of the error for a request beyond that, as of HTTP."""
_MOMENT: Final = 2.0
"""Seconds for which requests are still answered after the client has closed its side."""

Ask = Callable[[Request], Awaitable[Response]]
"""Sends a request to the server, and waits for its answer; raises Gone."""


class Handler(Protocol):
    """What a proxy does with the requests of the client, and with what passes."""

    async def answer(self, request: Request, size: int, ask: Ask) -> Response:
        """Return the answer to a request of `size` bytes; `ask` sends requests to the server."""
        ...

    def passing(self, notification: Notification) -> Notification | None:
        """Return what the server gets of a notification of the client; None if it must not get it."""
        ...

    def noted(self, notification: Notification) -> None:
        """Note a notification of the server, which then passes to the client."""
        ...


def own_id() -> Id:
    """Make an id for a request of the proxy itself, which no client can guess."""
    return f"capx-{secrets.token_urlsafe(16)}"


class _Flight:
    """A request of the client that is being answered."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.sent: Id | None = None
        """The id with which the server has it; None if it has not got it."""


class Relay:
    """Relays until one side ends; `most` requests of one side may be in flight."""

    def __init__(
        self, client: Connection, server: Server, handler: Handler, *, warn: Warn, most: int = MOST_REQUESTS
    ) -> None:
        self._client = client
        self._server = server
        self._handler = handler
        self._warn = warn
        self._most = most
        self._flights: dict[Id, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[Id, asyncio.Future[Response]] = {}
        self._sent = 0
        """The last id with which the server got a request."""
        self._of_server: set[Id] = set()
        """The ids of the requests that the server has sent to the client."""
        self._gone: Gone | None = None
        self._warned: set[str] = set()
        self._unread = asyncio.Event()
        """Set when the client does not read any more."""

    async def run(self) -> Literal["client", "server"]:
        """Relay until one side ends, and return which one. It closes no side."""
        client = asyncio.create_task(self._from_client())
        server = asyncio.create_task(self._from_server())
        unread = asyncio.create_task(self._unread.wait())
        try:
            await asyncio.wait({client, server, unread}, return_when=asyncio.FIRST_COMPLETED)
            if server.done():
                server.result()
                await self._answer_all_that_is_left()
                return "server"
            if client.done():
                client.result()
                await self._answered(server, unread)
            return "client"
        finally:
            for task in (client, server, unread, *self._tasks):
                task.cancel()
            await asyncio.gather(client, server, unread, *self._tasks, return_exceptions=True)

    async def _answered(self, *ends: "asyncio.Task[object]") -> None:
        """Wait for a moment until all requests are answered, or one of the ends is there."""
        until = asyncio.get_running_loop().time() + _MOMENT
        while self._tasks and not any(end.done() for end in ends):
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.wait({*self._tasks, *ends}, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def _answer_all_that_is_left(self) -> None:
        self._gone = Gone(f"the server {self._server.ending()}")
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(self._gone)
        await self._answered()

    # From the client.

    async def _from_client(self) -> None:
        while True:
            try:
                data = await self._client.receive()
                if data is None:
                    return
                await self._read_from_client(data)
            except TooLong as error:
                await self._to_client(failure(None, INVALID_REQUEST, str(error)))
            except Gone:
                return

    async def _read_from_client(self, data: bytes) -> None:
        try:
            message = read_message(data)
        except UnreadableMessage as error:
            # With the id of a request in flight, the client would take it for the answer to that.
            await self._to_client(failure(self._free(error.id), error.code, str(error)))
            return
        if isinstance(message, Request):
            await self._begin(message, len(data))
        elif isinstance(message, Notification):
            await self._notify(message)
        elif message.id in self._of_server:
            self._of_server.discard(message.id)
            await self._to_server(message)
        else:
            self._warn_once("an answer of the client was dropped: the server has not asked for it")

    def _free(self, id: Id | None) -> Id | None:
        return None if id is None or id in self._flights else id

    async def _begin(self, request: Request, size: int) -> None:
        if self._free(request.id) is None:
            why = f"the id {remote_text.value(request.id)!r} is in use: give each request an id of its own"
            await self._to_client(failure(None, INVALID_REQUEST, why))
            return
        if len(self._tasks) >= self._most:
            why = f"{self._most} requests are being answered already: wait for an answer, then try again"
            await self._to_client(failure(request.id, OVERLOADED, why))
            return
        flight = self._flights[request.id] = _Flight()
        flight.task = asyncio.create_task(self._answer(request, size, flight))
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        # It runs up to where it waits: what needs no waiting reaches the server before the messages after it.
        await asyncio.sleep(0)

    async def _answer(self, request: Request, size: int, flight: _Flight) -> None:
        async def ask(asked: Request) -> Response:
            self._sent += 1
            if asked.id == request.id:
                flight.sent = self._sent
            return replace(await self._ask(replace(asked, id=self._sent)), id=asked.id)

        try:
            response = await self._handler.answer(request, size, ask)
        except Gone as error:
            response = failure(request.id, INTERNAL_ERROR, f"{error}: nobody can answer this request")
        except Exception as error:  # noqa: BLE001 # one request that fails must not end the others
            self._warn(f"a request could not be answered: {type(error).__name__}: {remote_text.text(str(error))}")
            response = failure(request.id, INTERNAL_ERROR, "this proxy failed: its standard error says why")
        finally:
            # Before the client can read the answer: then it may use the id again. After a cancellation it may have.
            if self._flights.get(request.id) is flight:
                del self._flights[request.id]
        await self._to_client(response)

    async def _ask(self, request: Request) -> Response:
        if self._gone is not None:
            raise self._gone
        waiting: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._asked[request.id] = waiting
        try:
            await self._server.send(request)
            return await waiting
        finally:
            del self._asked[request.id]

    async def _notify(self, notification: Notification) -> None:
        if notification.method == CANCELLED:
            if (sent := self._cancel(cancelled_id(notification))) is None:
                return
            notification = Notification(CANCELLED, {**(notification.params or {}), "requestId": sent})
        if (passing := self._handler.passing(notification)) is not None:
            await self._to_server(passing)

    def _cancel(self, id: Id | None) -> Id | None:
        """Cancel a request of the client; return the id with which the server has it, and has to be told."""
        if id is None or (flight := self._flights.get(id)) is None or flight.task is None:
            return None
        flight.task.cancel()
        del self._flights[id]
        return flight.sent

    async def _to_client(self, message: Message) -> None:
        try:
            await self._client.send(message)
        except Gone:
            self._unread.set()

    async def _to_server(self, message: Message) -> None:
        try:
            await self._server.send(message)
        except Gone as error:
            self._warn_once(str(error))

    # From the server.

    async def _from_server(self) -> None:
        while True:
            try:
                data = await self._server.receive()
                if data is None:
                    return
                message = read_message(data)
            except TooLong as error:
                self._unreadable(str(error), error.answers())
            except UnreadableMessage as error:
                self._unreadable(str(error), error.answers)
            else:
                await self._read_from_server(message)

    async def _read_from_server(self, message: Message) -> None:
        if isinstance(message, Response):
            self._answered_by_server(message)
        elif isinstance(message, Request):
            await self._ask_client(message)
        else:
            if (id := cancelled_id(message)) is not None:
                self._of_server.discard(id)
            self._handler.noted(message)
            await self._to_client(message)

    def _answered_by_server(self, response: Response) -> None:
        waiting = None if response.id is None else self._asked.get(response.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(response)
            return
        # Late answers to requests that were cancelled, too: nobody can tell them from answers that were made up.
        self._warn_once("an answer of the server was dropped: nobody waits for it")

    async def _ask_client(self, request: Request) -> None:
        if request.id in self._of_server:
            await self._to_server(failure(request.id, INVALID_REQUEST, "this id is in use"))
        elif len(self._of_server) >= self._most:
            await self._to_server(failure(request.id, OVERLOADED, f"{self._most} requests wait for the client already"))
        else:
            self._of_server.add(request.id)
            await self._to_client(request)

    def _unreadable(self, why: str, id: Id | None) -> None:
        """Drop a message of the server; the request that it may have answered fails, so that nobody waits for ever."""
        self._warn_once(f"a message of the server was dropped: {remote_text.text(why)}")
        if id is not None and (waiting := self._asked.get(id)) is not None and not waiting.done():
            waiting.set_result(failure(id, INTERNAL_ERROR, f"the answer of the server cannot be passed on: {why}"))

    def _warn_once(self, sentence: str) -> None:
        # Each sentence once: the other side must not fill a log.
        if sentence not in self._warned and len(self._warned) < self._most:
            self._warned.add(sentence)
            self._warn(sentence)
