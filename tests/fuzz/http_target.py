"""Whatever request comes, a guarded application runs only what was presented for it and is allowed, and it answers.

An input reads like a request: a line of method, path, query, root path and shape; header lines; an empty line; the
body. In the shape, `F` asks FastAPI, `W` opens a WebSocket of the other application, `D` leaves while the body is read,
and its length is the number of chunks. The
header `present` stands for a fresh presentation of whatever the request turns out to be; `TOKEN` in a header's value
for the one presentation that was made of one request.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Body, FastAPI
from msgspec import Struct

from capx.errors import CapxError
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import App, Message, Receive, Scope, Send
from capx.guard.fastapi import FastAPIGuard
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Allowed
from capx_caveats import action, allow, between, one_of, prefix
from tests.fuzz.memory import Memory
from tests.labs.lab import NOW, Lab, minted

MAX_BODY = 2000
GRANT = minted(
    allowed=allow(
        action("a.read", id=between(1, 5), limit=between(None, 10), q=one_of(None, "x")),
        action("a.write", sku=prefix("sku-"), amount=between(1, 3)),
        "a.echo",
    )
)
KNOWN = HttpRequest(method="POST", target="/echo?a=1", content_type="text/plain", body=b"hello")
TOKEN = GRANT.present(KNOWN, now=NOW, nonce="A" * 16).text.encode()


ran: list[object] = []
memory = Memory()
lab = Lab(replay=memory)
loop = asyncio.new_event_loop()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, judged."""
    body = (await receive()).get("body", b"")
    passage(scope).judge("a.echo", {})
    ran.append(body)
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def application() -> FastAPI:
    """Two endpoints with arguments; each asserts what the caveats of the grant demand of them."""
    app = FastAPI(openapi_url=None)
    guard = FastAPIGuard(lab.verifier, max_body=MAX_BODY)
    guard.protect(app)

    @app.get("/accounts/{id}")
    @guard.action("a.read")
    async def read(allowed: Allowed, id: int, limit: int = 5, q: str | None = None) -> int:
        ran.append(allowed)
        assert 1 <= id <= 5, "an id that no caveat allows"
        assert limit <= 10, "a limit that no caveat allows"
        assert q in (None, "x"), "a text that no caveat allows"
        return id

    @app.post("/orders")
    @guard.action("a.write")
    async def write(sku: Annotated[str, Body()], amount: Annotated[int, Body()] = 1) -> str:
        ran.append(sku)
        assert sku.startswith("sku-"), "a text that no caveat allows"
        assert 1 <= amount <= 3, "an amount that no caveat allows"
        return sku

    return app


APPS: dict[bool, App] = {False: ASGIGuard(echo, lab.verifier, max_body=MAX_BODY), True: application()}


class Input(Struct):
    """A request as a server passes it on."""

    method: str
    path: bytes
    query: bytes
    root: str
    shape: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    presented: list[tuple[HttpRequest, bytes]]

    def scope(self) -> Scope:
        """What an application gets of its head."""
        kind: Scope = {"type": "websocket"} if self.socket else {"type": "http", "method": self.method}
        return {
            **kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "path": unquote_to_bytes(self.path.partition(b"?")[0]).decode(errors="replace"),
            "raw_path": self.path,
            "query_string": self.query,
            "root_path": self.root,
            "headers": self.headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }

    @property
    def socket(self) -> bool:
        """Whether it opens a WebSocket."""
        return "W" in self.shape and "F" not in self.shape

    def messages(self) -> list[Message]:
        """What it gets of its body."""
        if self.socket:
            return [{"type": "websocket.connect"}]
        count = max(1, len(self.shape))
        size = len(self.body) // count + 1
        chunks = [self.body[at * size : (at + 1) * size] for at in range(count)]
        sent: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        sent[-1]["more_body"] = False
        return sent[:-1] if "D" in self.shape else sent

    def values(self, name: bytes) -> list[bytes]:
        """A header's values."""
        return [value.strip(b" \t") for key, value in self.headers if key == name]

    def covered(self) -> HttpRequest | None:
        """What a presentation of it covers; None where it has none."""
        kinds, encodings = self.values(b"content-type"), self.values(b"content-encoding")
        if len(kinds) > 1 or len(encodings) > 1:
            return None
        try:
            return HttpRequest(
                method="GET" if self.socket else self.method,
                # A raw path is one up to its query, which some servers leave there.
                target=(self.path.partition(b"?")[0] + (b"?" + self.query if self.query else b"")).decode("ascii"),
                content_type=kinds[0].decode("latin-1") if kinds else None,
                content_encoding=encodings[0].decode("latin-1") if encodings else None,
                body=b"" if self.socket else self.body,
            )
        except (CapxError, UnicodeDecodeError):
            return None


def seeds() -> Iterable[bytes]:
    yield b"POST /echo a=1  p\ncontent-type: text/plain\nauthorization: Capx TOKEN\n\nhello"
    yield b"POST /echo a=1  ppp\nContent-Type: text/plain\ncapx-token: TOKEN\n\nhello"
    yield b"POST /echo a=1 /root p\ncontent-type: text/plain\nauthorization: Capx TOKEN\n\nhello"
    yield b"GET /echo   p\npresent:\ncontent-length: 3000\n\n"
    yield b"GET /a%2Fb/../caf%C3%A9 x=%20&y=1  pD\npresent:\n\nbody"
    for path in (b"/accounts/3 limit=5&q=x", b"/accounts/3 ", b"/accounts/6 limit=11", b"/accounts/x q=a&q=x"):
        yield b"GET " + path + b"  F\npresent:\n\n"
    for body in (b'{"sku":"sku-1","amount":2}', b'{"sku":"x"}', b'{"sku":"sku-1","amount":"2"}', b"{", b'{"sku":1e3}'):
        yield b"POST /orders   F\npresent:\ncontent-type: application/json\n\n" + body
    yield b"GET /socket a=1  W\npresent:\n\n"
    yield b"GET /socket a=1 /root W\ncapx-token: TOKEN\n\n"
    yield b"GET /nowhere   F\npresent:\n\n"
    yield b"POST /accounts/1   FF\npresent:\ncontent-encoding: gzip\n\n"


def read(data: bytes) -> Input:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, path, query, root, shape = [*first.split(b" "), b"", b"", b"", b"", b""][:5]
    request = Input(
        method.decode("latin-1"), path, query, root.decode("latin-1"), shape.decode("latin-1")[:16], [], body, []
    )
    fresh = 0
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        fresh += name == b"present"
        request.headers.append((name, value.replace(b"TOKEN", TOKEN)))
    covered = request.covered()
    request.headers = [(name, value) for name, value in request.headers if name != b"present"]
    if any(TOKEN in value for _, value in request.headers):
        request.presented.append((KNOWN, TOKEN))
    if covered is not None:
        for at in range(min(fresh, 2)):
            try:
                token = GRANT.present(covered, now=NOW, nonce="BC"[at] * 16).text.encode()
            except CapxError:  # a method that is no text
                break
            request.headers.append((b"capx-token" if at else b"authorization", b"Capx " * (not at) + token))
            request.presented.append((covered, token))
    return request


def check(data: bytes) -> None:
    request = read(data)
    ran.clear()
    memory.seen.clear()
    lab.records.decisions.clear()
    first = asked(request)
    assert bool(ran) == (first is not None and 200 <= first < 300), "it ran and did not say so, or did not and does"
    if ran:
        demand_presented(request)
        ran.clear()
        again = asked(request)
        assert again == 401, "one presentation was answered twice"
        assert not ran
    elif plain(request):
        assert first == 200, "the very request that was presented is refused"


def asked(request: Input) -> int | None:
    """The status of the answer; None when the client had left."""
    pending = request.messages()
    sent: list[Message] = []

    async def receive() -> Message:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    loop.run_until_complete(APPS["F" in request.shape](request.scope(), receive, send))
    if request.socket:
        kinds = [message["type"] for message in sent]
        assert kinds in (["websocket.close"], ["websocket.accept", "websocket.close"]), "no answer to a WebSocket"
        return 200 if "websocket.accept" in kinds else 401
    if not sent:
        assert "D" in request.shape, "no answer"
        return None
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in bodies] == ["http.response.body"] * len(bodies)
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    status: int = start["status"]
    assert status < 500 or unspeakable(request.body), "an error of the service's own"
    return status


def unspeakable(body: bytes) -> bool:
    """Whether a body holds a number that FastAPI reads, and fails over when it tells what was wrong with it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    try:
        json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return True
    return False


def demand_presented(request: Input) -> None:
    """One presentation came, and it is of this request; behind a root path, also of what the client had asked."""
    schemes = [value.partition(b" ") for value in request.values(b"authorization")]
    tokens = [token.strip(b" \t") for scheme, _, token in schemes if scheme.lower() == b"capx"]
    (token,) = tokens + request.values(b"capx-token")
    made_for = {made: covered for covered, made in request.presented}[token]
    covered = request.covered()
    assert covered is not None, "what no presentation can cover was allowed"
    rooted = {field: getattr(covered, field) for field in covered.__struct_fields__}
    rooted["target"] = request.root.rstrip("/") + covered.target
    assert made_for == covered or made_for == HttpRequest(**rooted), "what ran is not what was presented"


def plain(request: Input) -> bool:
    """Whether nothing about a request could refuse it."""
    return (
        len(request.presented) == 1
        and request.presented[0][0] == request.covered()
        and not {"F", "D"}.intersection(request.shape)
        and not request.root
        and b"?" not in request.path
        and len(request.body) <= MAX_BODY
        and [name for name, _ in request.headers].count(b"authorization") == 1
        and not {b"capx-token", b"content-length"}.intersection(name for name, _ in request.headers)
        and request.values(b"authorization")[0] == b"Capx " + request.presented[0][1]
    )
