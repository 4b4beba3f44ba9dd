"""Reads requests and writes answers over ASGI: the credential, the target, the body, problem details.

Laws: the guard reads the head first, without the body. The target is what the client sent, as far as the server
reports it. The application gets the same body, unchanged. Sources: RFC 9110, RFC 9457, the ASGI specification 2.x.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from capx.background import within
from capx.errors import CapxError, ConfigurationProblem, InvalidRequest
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Denied
from capx.verify.problem_details import problem_details
from capx_caveats import Refusal

Scope = MutableMapping[str, Any]
"""The facts about a connection that ASGI gives to an application."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
"""Gives an ASGI application the next message."""
Send = Callable[[Message], Awaitable[None]]
"""Takes a message that an ASGI application sends."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""

MAX_BODY: Final = 1 << 20
"""The most bytes of a request's body that a guard buffers: the digest covers all of it, so all is in memory."""


BODY_SECONDS: Final = 20.0
"""The seconds within which a body has to arrive: while it trickles, it holds a connection and its memory."""


class UnreadableHead(CapxError):
    """A head with several credentials, or whose content is ambiguous: `refusal` says which."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class TooMuch(CapxError):
    """The body is longer than the limit."""


class TooSlow(CapxError):
    """The body did not arrive in time."""


class Gone(CapxError):
    """The client disconnected before the end of its body."""


def credential(scope: Scope) -> str:
    """Return the token in `Capx-Token` or `Authorization: Capx`, or an empty text if there is none.

    Raises UnreadableHead for two tokens.
    """
    # Never choose one of two: a proxy in front and the guard could choose differently.
    authorization = _single(scope, "authorization", "malformed") or ""
    token = _single(scope, "capx-token", "malformed")
    scheme, _, presented = authorization.partition(" ")
    if scheme.lower() != "capx":
        return token or ""
    if token is not None:
        raise UnreadableHead(Refusal("malformed", "two tokens were presented", "one presentation"))
    return presented.strip(" \t")


def http_request(scope: Scope, body: bytes, prefix: str) -> HttpRequest:
    """Return the received request in the form that a presentation covers; a WebSocket handshake is a GET.

    Raises UnreadableHead for a target or header that no presentation can cover.
    """
    try:
        return HttpRequest(
            method=scope.get("method", "GET"),
            target=_target(scope, prefix),
            content_type=_single(scope, "content-type", "call_mismatch"),
            content_encoding=_single(scope, "content-encoding", "call_mismatch"),
            body=body,
        )
    except (InvalidRequest, UnicodeDecodeError):
        raise _unpresentable("is not ASCII") from None


def _unpresentable(why: str) -> UnreadableHead:
    return UnreadableHead(
        Refusal("call_mismatch", f"the target {why}, so no presentation can cover it", "a raw path, in ASCII")
    )


def _target(scope: Scope, prefix: str) -> str:
    # The raw path and not `path`, which is decoded: different targets could have the same decoded path.
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        raise ConfigurationProblem("this server gives no raw path, so no presentation can be checked: use uvicorn")
    path = raw.decode("ascii").partition("?")[0]
    if not path.startswith("/"):
        raise _unpresentable("is not in origin form (RFC 9112, 3.2.1): it does not start with a path")
    query: str = scope.get("query_string", b"").decode("ascii")
    # Some servers leave the root path, which a proxy removed, out of the raw path. The client sent it, and its
    # presentation covers it.
    root = quote(scope.get("root_path", "").rstrip("/"), safe="/:@!$&'()*+,;=~")
    before = prefix or ("" if path == root or path.startswith(f"{root}/") else root)
    return f"{before}{path}?{query}" if query else before + path


def _single(scope: Scope, name: str, code: str) -> str | None:
    wanted = name.encode()
    values = [value for key, value in scope["headers"] if key.lower() == wanted]
    if len(values) > 1:
        raise UnreadableHead(Refusal(code, f"the header {name} is repeated", f"one {name}"))
    return values[0].decode("latin-1").strip(" \t") if values else None


async def read_body(scope: Scope, receive: Receive, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """Return the whole body.

    Raises TooMuch if it is longer than `limit` bytes, at once if the head says so; TooSlow if it does not arrive within
    so many seconds; Gone if the client disconnected.
    """
    declared = _single(scope, "content-length", "malformed")
    # Of the first 20 digits: a number of thousands of digits would be slow to read.
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise TooMuch
    return await arrived(receive, limit, seconds)


async def arrived(receive: Receive, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """`read_body` for a head that was judged already."""
    try:
        return await within(seconds, _arrived(receive, limit))
    except TimeoutError:
        raise TooSlow from None


async def _arrived(receive: Receive, limit: int) -> bytes:
    # Count while reading, too: a chunked body has no declared length.
    chunks: list[bytes] = []
    room = limit
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        chunk: bytes = message.get("body", b"")
        room -= len(chunk)
        if room < 0:
            raise TooMuch
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left. The body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


def giving_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, and then the messages of the server."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


async def answer_denied(scope: Scope, send: Send, denied: Denied) -> None:
    """Answer with the denial, as problem details."""
    headers = [(b"www-authenticate", b"Capx"), (b"capx-decision", denied.decision.id.encode())]
    await _answer(scope, send, denied.status, denied.problem(), headers)


async def answer_problem(scope: Scope, send: Send, status: int, code: str, detail: str) -> None:
    """Answer that the request cannot be served, as problem details."""
    # The rest of an unread body must not hold the connection. HTTP/2 has no such header.
    unread = status in (408, 413) and scope.get("http_version", "").startswith("1")
    headers = [(b"connection", b"close")] if unread else []
    await _answer(scope, send, status, problem_details("problem", status, code, detail), headers)


async def _answer(
    scope: Scope, send: Send, status: int, problem: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]
) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        # Without this extension of the server a denied handshake can only be closed, with a code as the reason.
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": problem["code"]})
            return
        kind = "websocket.http.response"
    body = msgspec.json.encode(problem)
    head = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        # A cache must not give this answer to another bearer, or after a grant.
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": head})
    await send({"type": f"{kind}.body", "body": body})
