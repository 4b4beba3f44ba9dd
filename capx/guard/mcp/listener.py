"""A guard of an MCP server that is reached over HTTP: an ASGI application before the server's URL.

Laws:

- A POST holds one message. A request goes through the gate, and its answer too, whether it comes as JSON or in an event
  stream. On a GET stream no answers pass, because nobody knows what they answer.
- Headers pass, such as those of OAuth, but for those that belong to one connection, and those that repeat what a
  message says: these are written anew.
- Of what the server answers, a status and messages pass, and the headers of sessions and logins; no other bytes.
- What a client answers passes only if the server has asked it in that session. What a server asks outside a session
  gets an error, because anybody could answer it.
- A request that is cancelled while it is judged is not sent on; also if its client is gone.
- No web page can send a message: it would have to ask for the content type of JSON first. Where only this machine can
  connect, a request for another host or from a page of another host is refused.
- Requests, their bytes and streams are bounded, and strangers get a part of each.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Final

import httpx
from msgspec import Struct

from capx.api import remote_text
from capx.api.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Id,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    failure,
    read_message,
)
from capx.api.mcp_messages import HEADER, OPEN, cancelled_id
from capx.api.relay.connection import Warn
from capx.api.relay.event_stream import MEDIA_TYPE, events
from capx.api.relay.http_exchange import JSON, NotAnswered, end_session, exchange, latin_1, send
from capx.api.relay.http_headers import SESSION, media_type
from capx.api.relay.lines import MAX_MESSAGE, TooLong
from capx.api.relay.relay import MOST_REQUESTS, OVERLOADED
from capx.guard.asgi.messages import Gone, Receive, Scope, Send, TooMuch, TooSlow, until_gone
from capx.guard.asgi.slots import NoSlot, Sender, Slots, capability_of, machine_at
from capx.guard.mcp.http_messages import (
    HttpAnswer,
    headers_of,
    host_of,
    host_of_origin,
    sent_back,
    sent_on,
)
from capx.guard.mcp.inbound import LARGE, Inbound, InboundMessages, Unread
from capx.guard.mcp.proxy import GuardHandler
from capx.guard.mcp.server_requests import ServerRequests
from capx.guard.mcp.sessions import Sessions
from capx.verify.verifier import Authentic

MAX_INBOUND: Final = 1 << 20
"""The most bytes of a client's message, unless somebody sets another bound. A server's may have MAX_MESSAGE."""
MOST_STREAMS: Final = 64
"""How many GET streams are open at once, unless somebody sets another bound."""


class Listener:
    """Guards the server at `url`, with a client whose connections its maker closes.

    `hosts` are the names that requests may be for; None for any. `max_message` bounds what clients send.
    """

    def __init__(
        self,
        handler: GuardHandler,
        client: httpx.AsyncClient,
        url: str,
        *,
        warn: Warn,
        hosts: Iterable[str] | None = None,
        max_message: int = MAX_INBOUND,
        most: int = MOST_REQUESTS,
        most_streams: int = MOST_STREAMS,
    ) -> None:
        self._handler = handler
        self._client = client
        self._url = url
        self._path = httpx.URL(url).path
        self._warn = warn
        self._hosts = None if hosts is None else frozenset(hosts)
        self._of_server = max(max_message, MAX_MESSAGE)
        self._slots = Slots(most, "requests")
        verifier = handler.verifier
        self._inbound = InboundMessages(self._slots, max_message, verifier.authenticate, verifier.has_ended)
        self._sessions = Sessions(most_streams, verifier.has_ended)
        self._asked = ServerRequests(self._sessions.is_of_caller)
        self._judged: dict[tuple[str, type, object], _Exchange] = {}
        """The requests of sessions, by session and id."""

    def sender_of(self, presentation: str | None, session: str | None, machine: str) -> Sender:
        """Who has sent a head from a machine, by the presentation and the session that it shows."""
        if (caller := self._sessions.caller_of(session)) is not None:
            return caller
        token = self._inbound.authentic(presentation)
        return machine if token is None else capability_of(token)

    async def __call__(self, scope: Scope, receive: Receive, send_: Send) -> None:
        """Serve one request of HTTP."""
        if scope["type"] != "http":
            raise RuntimeError(f"this application serves no {scope['type']}")
        answer = HttpAnswer(send_)
        headers = headers_of(scope)
        address = machine_at((scope.get("client") or ("",))[0])
        if self._hosts is not None and host_of(headers.get("host", "")) not in self._hosts:
            self._warn("refused a request for another host: a proxy has to send the address of --listen as Host")
            await answer.status(HTTPStatus.MISDIRECTED_REQUEST)
        elif self._hosts is not None and "origin" in headers and host_of_origin(headers["origin"]) not in self._hosts:
            self._warn("refused a request of a web page of another host (403)")
            await answer.status(HTTPStatus.FORBIDDEN)
        elif scope["path"] != self._path:
            await answer.status(HTTPStatus.NOT_FOUND)
        elif scope["method"] == "POST":
            await self._post(headers, receive, answer, address)
        elif scope["method"] == "GET":
            await self._get(headers, receive, answer, address)
        elif scope["method"] == "DELETE":
            await self._delete(headers, answer, address)
        else:
            await answer.status(HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "GET, POST, DELETE"})

    async def _post(self, headers: Mapping[str, str], receive: Receive, answer: HttpAnswer, address: str) -> None:
        if media_type(headers.get("content-type", "")) != JSON:
            await answer.status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        try:
            async with self._inbound.read(headers, receive, self._by(headers, address)) as found:
                if isinstance(found.message, Request):
                    await self._exchange(found.message, found, headers, receive, answer)
                else:
                    await self._told(found.message, headers, answer)
        except Unread as error:
            # Not what it says: that may differ each time.
            why = f"it has no length, is too large, or of more than {LARGE} bytes without a good {HEADER}"
            self._warn(f"refused a message, HTTP {error.status}: {why}")
            await answer.json(failure(None, INVALID_REQUEST, str(error)), error.status)
        except UnreadableMessage as error:
            await answer.json(error.response(), HTTPStatus.BAD_REQUEST)
        except NoSlot as error:
            await answer.json(failure(None, OVERLOADED, str(error)), HTTPStatus.SERVICE_UNAVAILABLE)
        except TooMuch:
            await answer.status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except TooSlow:
            await answer.status(HTTPStatus.REQUEST_TIMEOUT)
        except Gone:
            return

    def _by(self, headers: Mapping[str, str], address: str) -> Sender:
        """Return who sends a request: the caller whose session it is in, or the stranger at an address."""
        return self._sessions.caller_of(headers.get(SESSION)) or address

    async def _exchange(
        self, request: Request, found: Inbound, headers: Mapping[str, str], receive: Receive, answer: HttpAnswer
    ) -> None:
        session = headers.get(SESSION)
        key = None if session is None else (session, type(request.id), request.id)
        if key in self._judged:
            await answer.json(failure(None, INVALID_REQUEST, "this id is in use"), HTTPStatus.BAD_REQUEST)
            return
        exchanged = _Exchange(
            client=self._client,
            url=self._url,
            request=request,
            token=None if request.method in OPEN else found.token,
            answer=answer,
            sent=sent_on(headers),
            most=self._of_server,
            noted=self._handler.noted,
            sessions=self._sessions,
            asked=self._asked,
        )
        exchanged.task = asyncio.create_task(self._answered(exchanged, found.size))
        if key is not None:
            self._judged[key] = exchanged
        try:
            await _unless_gone(exchanged.task, receive)
        finally:
            if key is not None:
                del self._judged[key]
        if exchanged.is_cancelled:
            await answer.message(failure(request.id, INTERNAL_ERROR, "this request was cancelled"), {})

    async def _answered(self, exchanged: "_Exchange", size: int) -> None:
        request, answer = exchanged.request, exchanged.answer
        try:
            response = await self._handler.answer(request, size, exchanged.ask, exchanged.token)
        except NotAnswered as error:
            self._warn(f"a request got no answer: {error}")
            status = HTTPStatus.BAD_GATEWAY if error.status < 400 else error.status
            unanswered = failure(request.id, INTERNAL_ERROR, str(error))
            await answer.message(unanswered, sent_back(error.headers), status)
        except Exception as error:  # noqa: BLE001 # one request that fails must not end the others
            self._warn(f"a request could not be answered: {type(error).__name__}: {remote_text.text(str(error))}")
            failed = failure(request.id, INTERNAL_ERROR, "this guard failed: its standard error says why")
            await answer.message(failed, {}, HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            await answer.message(response, exchanged.headers)

    async def _told(self, message: Notification | Response, headers: Mapping[str, str], answer: HttpAnswer) -> None:
        """Pass on what gets no answer."""
        passing: Notification | Response | None = message
        if isinstance(message, Notification):
            if self._cancel(cancelled_id(message), headers.get(SESSION)):
                await answer.status(HTTPStatus.ACCEPTED)
                return
            passing = self._handler.passing(message)
        elif not self._asked.take(headers.get(SESSION), message.id):
            # Dropped, but no error: the server may have it already, and some clients end with an error here.
            await answer.status(HTTPStatus.ACCEPTED)
            return
        if passing is None:
            await answer.status(HTTPStatus.BAD_REQUEST)
            return
        try:
            came = await send(self._client, self._url, passing, sent_on(headers))
        except NotAnswered:
            await answer.status(HTTPStatus.BAD_GATEWAY)
        else:
            await answer.status(came.status_code, sent_back(came.headers))

    def _cancel(self, id: Id | None, session: str | None) -> bool:
        """Cancel a request that the server does not have yet; return whether there was one."""
        found = None if session is None or id is None else self._judged.get((session, type(id), id))
        if found is None or found.is_sent or found.task is None:
            return False
        found.is_cancelled = True
        found.task.cancel()
        return True

    async def _get(self, headers: Mapping[str, str], receive: Receive, answer: HttpAnswer, address: str) -> None:
        def end() -> None:
            streaming.cancel()

        try:
            with self._sessions.stream(headers.get(SESSION), address, end):
                streaming = asyncio.create_task(self._stream(headers, answer))
                await _unless_gone(streaming, receive)
        except NoSlot:
            pass
        if answer.has_begun:
            await answer.end_stream()
        else:
            await answer.status(HTTPStatus.SERVICE_UNAVAILABLE)

    async def _stream(self, headers: Mapping[str, str], answer: HttpAnswer) -> None:
        """Pass what the server says by itself."""
        passing = latin_1({**sent_on(headers), "accept": MEDIA_TYPE, "accept-encoding": "identity"})
        try:
            async with self._client.stream("GET", self._url, headers=passing) as came:
                back = sent_back(came.headers)
                if not (came.is_success and media_type(came.headers.get("content-type", "")) == MEDIA_TYPE):
                    await answer.status(HTTPStatus.BAD_GATEWAY if came.is_success else came.status_code, back)
                    return
                await answer.begin_stream(back)
                async with aclosing(events(came.aiter_raw(), self._of_server)) as found:
                    async for data in found:
                        await self._pass_event(data, headers, answer)
        except (httpx.HTTPError, TooLong):
            if not answer.has_begun:
                await answer.status(HTTPStatus.BAD_GATEWAY)

    async def _pass_event(self, data: bytes, headers: Mapping[str, str], answer: HttpAnswer) -> None:
        with suppress(UnreadableMessage):
            message = read_message(data)
            if isinstance(message, Notification):
                self._handler.noted(message)
            elif isinstance(message, Request) and not self._asked.note(headers.get(SESSION), message.id):
                await _refuse_question(self._client, self._url, message, sent_on(headers))
                return
            if not isinstance(message, Response):
                await answer.event(message)

    async def _delete(self, headers: Mapping[str, str], answer: HttpAnswer, address: str) -> None:
        try:
            with self._slots.taken(self._by(headers, address)):
                came = await end_session(self._client, self._url, sent_on(headers))
        except NoSlot:
            await answer.status(HTTPStatus.SERVICE_UNAVAILABLE)
        except NotAnswered:
            await answer.status(HTTPStatus.BAD_GATEWAY)
        else:
            if came.is_success:
                self._asked.forget(headers.get(SESSION))
                self._sessions.forget(headers.get(SESSION))
            await answer.status(came.status_code, sent_back(came.headers))


async def _refuse_question(client: httpx.AsyncClient, url: str, asked: Request, headers: Mapping[str, str]) -> None:
    """Tell a server that nobody can answer what it asks outside a session."""
    why = "this guard passes on what a server asks in a session only"
    # A server that does not take this has its own stream to answer nevertheless.
    with suppress(NotAnswered):
        await send(client, url, failure(asked.id, INVALID_REQUEST, why), headers)


async def _unless_gone(working: "asyncio.Task[None]", receive: Receive) -> None:
    """Wait for the work, or until the client has left: then it does not go on, nor when this task is cancelled."""
    leaving = asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class _Exchange(Struct, kw_only=True, eq=False):
    """One request of a client, while it is answered; `sent` are the headers that the server gets.

    `token` is that of the presentation that is judged, if there is one.
    """

    client: httpx.AsyncClient
    url: str
    request: Request
    token: Authentic | None
    answer: HttpAnswer
    sent: Mapping[str, str]
    most: int
    noted: Callable[[Notification], None]
    sessions: Sessions
    asked: ServerRequests
    task: asyncio.Task[None] | None = None
    is_sent: bool = False
    is_cancelled: bool = False
    headers: Mapping[str, str] = {}
    """The headers of the server's answer that go back."""

    async def ask(self, request: Request) -> Response:
        """Send the request, or one of the guard's own, whose answer and messages are for the guard alone."""
        is_own = request.id != self.request.id
        self.is_sent = self.is_sent or not is_own

        async def beside(message: Request | Notification) -> None:
            if isinstance(message, Notification):
                self.noted(message)
            if is_own:
                return
            # The answer to `initialize` is the first that names the session.
            session = self.sent.get(SESSION) or self.headers.get(SESSION)
            if isinstance(message, Request) and not self.asked.note(session, message.id):
                await _refuse_question(self.client, self.url, message, self.sent)
                return
            await self.answer.event(message, self.headers)

        def began(answer: httpx.Response) -> None:
            if is_own:
                return
            self.headers = sent_back(answer.headers)
            if answer.is_success and self.token is not None:
                self.sessions.note(self.sent.get(SESSION), self.token)

        return await exchange(
            self.client, self.url, request, headers=self.sent, began=began, beside=beside, most=self.most
        )
