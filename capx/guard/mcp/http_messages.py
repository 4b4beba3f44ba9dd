"""HTTP as an MCP guard serves it: what it reads of a request, and how it answers, in JSON or in an event stream.

Laws: headers pass but for those that belong to one connection, and those that repeat what a message says. Back go the
headers of sessions and of logins. A body has an end, within a bound and within a time.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from capx.api.jsonrpc import Message, write_message
from capx.api.relay.event_stream import MEDIA_TYPE, write_event
from capx.api.relay.http_exchange import JSON
from capx.api.relay.http_headers import SESSION, repeats_message
from capx.guard.asgi.messages import Scope, Send

_NOT_SENT_ON: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("host", "content-length", "content-type", "content-encoding", "accept", "accept-encoding"),
        *("proxy-authorization", "last-event-id"),
        *("x-http-method", "x-http-method-override", "x-method-override"),
    }
)
_STATUSES: Final = frozenset(map(int, HTTPStatus))
_SENT_BACK: Final = frozenset({SESSION, "www-authenticate", "retry-after", "allow"})


class HttpAnswer:
    """The response of HTTP to the client: one message as JSON, or an event stream once a message comes before it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self._streams = False

    async def status(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a status and no body."""
        await self._start(status, {"content-length": "0", **(headers or {})})
        await self._send({"type": "http.response.body"})

    async def json(
        self, message: Message, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with one message."""
        body = write_message(message)
        fixed = {"content-type": JSON, "content-length": str(len(body)), "cache-control": "no-store"}
        await self._start(status, {**fixed, **(headers or {})})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        # This one waits until the client has read the body: until then, the request holds what it has taken.
        await self._send({"type": "http.response.body"})

    async def message(self, message: Message, headers: Mapping[str, str], status: int = HTTPStatus.OK) -> None:
        """Answer with the last message."""
        if not self._streams:
            await self.json(message, status, headers)
            return
        await self.event(message)
        await self.end_stream()

    async def begin_stream(self, headers: Mapping[str, str]) -> None:
        """Begin an event stream."""
        self._streams = True
        await self._start(HTTPStatus.OK, {"content-type": MEDIA_TYPE, "cache-control": "no-store", **headers})

    async def event(self, message: Message, headers: Mapping[str, str] | None = None) -> None:
        """Send a message of an event stream, which begins with these headers if it has not begun."""
        if not self.has_begun:
            await self.begin_stream(headers or {})
        await self._send({"type": "http.response.body", "body": write_event(message), "more_body": True})

    async def end_stream(self) -> None:
        """End the event stream, if there is one."""
        if self._streams:
            self._streams = False
            await self._send({"type": "http.response.body"})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.has_begun = True
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        # Of a status that HTTP does not name, uvicorn knows no phrase.
        known = status if status in _STATUSES else HTTPStatus.BAD_GATEWAY
        await self._send({"type": "http.response.start", "status": int(known), "headers": pairs})


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by name, in lower case; of two with one name, both, joined as HTTP joins them."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def sent_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a client that the server gets."""
    named = {one.strip().lower() for one in headers.get("connection", "").split(",")}
    return {
        name: value
        for name, value in headers.items()
        # Some servers read `_` as `-`.
        if name not in _NOT_SENT_ON and name not in named and "_" not in name and not repeats_message(name)
    }


def sent_back(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the server that a client gets."""
    return {name: value for name in _SENT_BACK if (value := headers.get(name)) is not None}


def host_of(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name = header.partition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
    return name.lower()


def host_of_origin(header: str) -> str:
    """Return the name in an Origin header; nothing for `null`, the origin of a page that has none."""
    return host_of(header.partition("://")[2])
