"""Two services that note what they receive: one without a guard, and one whose guard judges each request."""

from capx.guard.asgi.guard import passage
from capx.guard.asgi.messages import Receive, Scope, Send

received: list[tuple[str, dict[str, str]]] = []
"""The path of each request, and its headers if no guard has seen it. `tests/agent` clears it before each test."""


async def unguarded(scope: Scope, receive: Receive, send: Send) -> None:
    """Note what comes in; `/to?URL` redirects there."""
    del receive
    received.append((scope["path"], {name.decode(): value.decode() for name, value in scope["headers"]}))
    location = scope["query_string"] if scope["path"] == "/to" else b""
    headers = [(b"location", location)] if location else []
    await send({"type": "http.response.start", "status": 307 if location else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"noted"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what was sent, with a cookie; `/forbidden` is refused by the service itself."""
    body = (await receive())["body"]
    status = 403 if scope["path"] == "/forbidden" else 200
    passage(scope).judge("crm.echo", {}, attributes={"region": "US"})
    received.append((scope["path"], {}))
    await send({"type": "http.response.start", "status": status, "headers": [(b"set-cookie", b"a=b")]})
    await send({"type": "http.response.body", "body": body})
