"""A server that is reached over HTTP: one POST for each message, and one stream for what the server says by itself.

Laws: the session that the server has given goes with every later message, and ends with this connection. A request that
cannot be sent, or that is not answered, gets an error, so nobody waits for it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import httpx

from capx.api import remote_text
from capx.api.jsonrpc import (
    INTERNAL_ERROR,
    Id,
    Message,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    failure,
    read_message,
    write_message,
)
from capx.api.mcp_messages import INITIALIZE, INITIALIZED, cancelled_id
from capx.api.relay.connection import Gone
from capx.api.relay.event_stream import MEDIA_TYPE, events
from capx.api.relay.http_exchange import NotAnswered, end_session, exchange, http_client, latin_1, send
from capx.api.relay.http_headers import SESSION, VERSION, media_type, negotiated_version
from capx.api.relay.lines import MAX_MESSAGE, TooLong

_WAITING: Final = 64
"""How many messages of the server wait for the relay, before the server has to wait."""
_GOODBYE: Final = 2.0
"""Seconds for the server to end the session."""


class HttpServer:
    """The connection to a server at one URL."""

    def __init__(self, url: str, *, most: int = MAX_MESSAGE, **settings: Any) -> None:
        self._url = url
        self._most = most
        self._client = http_client(**settings)
        self._received: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        self._posts: dict[Id, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._headers: dict[str, str] = {}
        self._listens = False

    async def receive(self) -> bytes | None:
        """Return the next message of any stream."""
        return await self._received.get()

    async def send(self, message: Message) -> None:
        """Send a message; the answer to a request is received like any other message."""
        if isinstance(message, Request):
            begun = self._posts[message.id] = self._begin(self._ask(message))
            # Here, because a task that is cancelled at once does not begin.
            begun.add_done_callback(lambda _: self._posts.pop(message.id, None))
            return
        if (id := cancelled_id(message)) is not None and (post := self._posts.get(id)) is not None:
            # To close its stream is how a request ends in some versions of MCP, and harmless in the others.
            post.cancel()
        try:
            answer = await send(self._client, self._url, message, self._headers)
        except NotAnswered as error:
            raise Gone(str(error)) from None
        if isinstance(message, Notification) and message.method == INITIALIZED and answer.is_success:
            self._listen()

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask(self, request: Request) -> None:
        async def beside(message: Request | Notification) -> None:
            await self._received.put(write_message(message))

        came: dict[str, str] = {}
        try:
            response = await exchange(
                self._client,
                self._url,
                request,
                headers=self._headers,
                began=lambda answer: came.update(answer.headers),
                beside=beside,
                most=self._most,
            )
            if request.method == INITIALIZE:
                self._open(response, came.get(SESSION))
        except NotAnswered as error:
            response = failure(request.id, INTERNAL_ERROR, f"{error}{_cure(error, self._headers)}")
        await self._received.put(write_message(response))

    def _open(self, response: Response, session: str | None) -> None:
        version = negotiated_version(response.result)
        given = {SESSION: session, VERSION: version}
        self._headers = {name: value for name, value in given.items() if value is not None}

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._begin(self._read_stream())

    async def _read_stream(self) -> None:
        """Receive what the server says by itself, if it has a stream for that."""
        headers = latin_1({**self._headers, "accept": MEDIA_TYPE, "accept-encoding": "identity"})
        with suppress(httpx.HTTPError, TooLong):
            async with self._client.stream("GET", self._url, headers=headers) as answer:
                if media_type(answer.headers.get("content-type", "")) != MEDIA_TYPE:
                    return
                async for data in events(answer.aiter_raw(), self._most):
                    # Answers come with their own requests, and nowhere else.
                    if not isinstance(_read(data), Response | None):
                        await self._received.put(data)

    def hurry(self) -> None:
        """Nothing waits."""

    async def close(self) -> None:
        """End the session, and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if SESSION in self._headers:
            with suppress(NotAnswered, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await end_session(self._client, self._url, self._headers)
        await self._client.aclose()

    def ending(self) -> str:
        """How it has ended: a server over HTTP does not end."""
        return "cannot be reached"


def _read(data: bytes) -> Message | None:
    try:
        return read_message(data)
    except UnreadableMessage:
        return None


def _cure(error: NotAnswered, headers: dict[str, str]) -> str:
    if error.status == 404 and SESSION in headers:
        return ": it has ended this session, so start the client anew"
    if error.status == 401:
        challenge = remote_text.text(error.headers.get("www-authenticate", ""), 200)
        return f": it wants a login of its own ({challenge})"
    return ""
