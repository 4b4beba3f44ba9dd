"""One message that is sent to a server over HTTP, and what comes back for it.

Laws: the answer to a request is the response with its id, in JSON or in an event stream; a response with another id is
dropped. No redirect is followed. Nothing but messages comes back: of any other body, only the status is told. No proxy
of the environment is used: it would read each presentation. No cookie of the server is kept. Headers are latin-1 in
both directions, so each byte of one passes as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from capx.api import remote_text
from capx.api.jsonrpc import (
    INTERNAL_ERROR,
    Message,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    failure,
    read_message,
    write_message,
)
from capx.api.relay.event_stream import MEDIA_TYPE, events
from capx.api.relay.http_headers import media_type, message_headers
from capx.api.relay.lines import MAX_MESSAGE, TooLong
from capx.api.tls import reads_certificates
from capx.errors import CapxError

JSON: Final = "application/json"
_LOGIN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
CONNECT_SECONDS: Final = 10.0
"""Seconds in which a connection must be there, and a message taken that gets no answer.

An answer may take any time: whoever asked cancels."""

Beside = Callable[[Request | Notification], Awaitable[None]]
"""Gets the messages of a server that come before the answer."""
Began = Callable[[httpx.Response], None]
"""Gets the head of a server's answer, before anything else of it."""


class NotAnswered(CapxError):
    """A server has not answered a request: its status, 0 if it cannot be reached, and its headers."""

    def __init__(self, message: str, status: int = 0, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def http_client(**settings: Any) -> httpx.AsyncClient:
    """Make a client for the exchanges with one server."""
    # Each stream of a session is a connection: a bound here would let one client lock out the others.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    # The environment says nothing but which authorities of TLS are trusted (SSL_CERT_FILE, SSL_CERT_DIR).
    with reads_certificates():
        tls = httpx.create_ssl_context()
    # A cookie that one client of a listener was given would go with the requests of all others.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        limits=limits,
        trust_env=False,
        verify=tls,
        cookies=no_cookies,
        event_hooks={"response": [_read_as_latin_1]},
        **settings,
    )


async def _read_as_latin_1(answer: httpx.Response) -> None:
    # httpx guesses an encoding, in which a header cannot be written back.
    answer.headers.encoding = "latin-1"


def latin_1(headers: Mapping[str, str]) -> httpx.Headers:
    """Return headers as they are sent."""
    # Of a text that is not ASCII, httpx would raise UnicodeEncodeError.
    return httpx.Headers(headers, encoding="latin-1")


def headers_for(message: Message, given: Mapping[str, str]) -> httpx.Headers:
    """Return the headers with which a message is sent: those that are given, and its own."""
    # The body must come as it is: unpacked, it could have any length.
    own = {"accept": f"{JSON}, {MEDIA_TYPE}", "content-type": JSON, "accept-encoding": "identity"}
    return latin_1({**given, **own, **message_headers(message)})


async def exchange(
    client: httpx.AsyncClient,
    url: str,
    request: Request,
    *,
    headers: Mapping[str, str],
    beside: Beside,
    began: Began,
    most: int = MAX_MESSAGE,
) -> Response:
    """Send a request, and return its answer; raises NotAnswered. Other messages of its stream go to `beside`."""
    try:
        async with client.stream(
            "POST", url, content=write_message(request), headers=headers_for(request, headers)
        ) as answer:
            began(answer)
            found = await _answer(answer, request, beside, most)
            if found is not None:
                return found
            if answer.is_success:
                return failure(request.id, INTERNAL_ERROR, "the server has ended its answer without an answer")
            raise NotAnswered(f"the server has answered HTTP {answer.status_code}", answer.status_code, answer.headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotAnswered(f"the server cannot be reached ({type(error).__name__})") from None


async def _answer(answer: httpx.Response, request: Request, beside: Beside, most: int) -> Response | None:
    """Return the answer in a response of HTTP; None if there is none."""
    kind = media_type(answer.headers.get("content-type", ""))
    try:
        if kind == MEDIA_TYPE and answer.is_success:
            return await _in_stream(answer, request, beside, most)
        # A client goes by these to log in, whatever stands in the body.
        if kind == JSON and answer.status_code not in _LOGIN:
            message = read_message(await bounded(answer, most))
            return message if isinstance(message, Response) and message.id == request.id else None
    except (TooLong, UnreadableMessage) as error:
        return _unreadable(request, error) if answer.is_success else None
    return None


async def _in_stream(answer: httpx.Response, request: Request, beside: Beside, most: int) -> Response | None:
    unread: UnreadableMessage | None = None
    async with aclosing(events(answer.aiter_raw(), most)) as found:
        async for data in found:
            try:
                message = read_message(data)
            except UnreadableMessage as error:
                unread = error
                if error.answers == request.id:
                    break
                continue
            if not isinstance(message, Response):
                await beside(message)
            elif message.id == request.id:
                return message
    return None if unread is None else _unreadable(request, unread)


def _unreadable(request: Request, error: TooLong | UnreadableMessage) -> Response:
    why = f"the answer of the server cannot be passed on: {remote_text.text(str(error))}"
    return failure(request.id, INTERNAL_ERROR, why)


async def bounded(answer: httpx.Response, most: int) -> bytes:
    """Return the body of a response; raises TooLong."""
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > most:
            raise TooLong(most, bytes(body[:most]))
    return bytes(body)


async def send(
    client: httpx.AsyncClient, url: str, message: Notification | Response, headers: Mapping[str, str]
) -> httpx.Response:
    """Send a message that gets no answer; return the response of HTTP, unread. Raises NotAnswered."""
    return await _unread(client, "POST", url, headers_for(message, headers), write_message(message))


async def end_session(client: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> httpx.Response:
    """Ask the server to end the session that the headers name; return the response, unread. Raises NotAnswered."""
    return await _unread(client, "DELETE", url, latin_1(headers))


async def _unread(
    client: httpx.AsyncClient, method: str, url: str, headers: httpx.Headers, content: bytes | None = None
) -> httpx.Response:
    try:
        # Within a time as a whole: a server that sends a byte now and then would be waited for.
        async with (
            asyncio.timeout(CONNECT_SECONDS),
            client.stream(method, url, content=content, headers=headers, timeout=CONNECT_SECONDS) as answer,
        ):
            return answer
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise NotAnswered(f"the server cannot be reached ({type(error).__name__})") from None
