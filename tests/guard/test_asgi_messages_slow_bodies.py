"""Bodies that trickle or are too large, over real HTTP: the guard ends them, and nothing is burnt or recorded."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Annotated

import pytest
import trio
from fastapi import Body, FastAPI

from capx.authority.authority import Authority
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import BODY_SECONDS, App, Gone, Message, Receive, Scope, Send, TooMuch, TooSlow, read_body
from capx.guard.fastapi import FastAPIGuard
from capx.tokens.binding import HttpRequest
from tests.labs.raw_answers import Answer, answer, connected, is_closed
from tests.labs.serving import served

SECONDS = 0.7
SLOW = f"the body did not arrive within {SECONDS:g} s"
BODY = b'{"text":"%b"}' % (b"a" * 89)
LIMIT = 1000
Guarded = Callable[[Authority], App]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await passage(scope).judge_async("crm.echo", {})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


def any_asgi(lab: Authority) -> App:
    return ASGIGuard(application, lab.verifier("crm"), max_body=LIMIT, body_seconds=SECONDS)


def fastapi(lab: Authority) -> App:
    guard = FastAPIGuard(lab.verifier("crm"), max_body=LIMIT, body_seconds=SECONDS)
    app = FastAPI(openapi_url=None)
    guard.protect(app)

    @app.post("/x")
    @guard.action("crm.echo")
    async def echo(text: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        return {}

    return app


@pytest.fixture(scope="module", params=[any_asgi, fastapi])
def guarded(lab: Authority, request: pytest.FixtureRequest) -> App:
    make: Guarded = request.param
    return make(lab)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def origin(guarded: App, request: pytest.FixtureRequest) -> Iterator[str]:
    with served(guarded, lifespan="off", http=request.param) as url:
        yield url


def head(lab: Authority, length: str, body: bytes = BODY, version: str = "1.1") -> bytes:
    capability = next(one for one in lab.open(allow=["crm.echo"]).bundle if one.audience == "crm")
    sent = HttpRequest(method="POST", target="/x", content_type="application/json", body=body)
    authorization = capability.present(sent).authorization
    lines = (f"POST /x HTTP/{version}", "host: x", f"authorization: {authorization}", "content-type: application/json")
    return "\r\n".join([*lines, length, "", ""]).encode()


@contextmanager
def trickle(connection: socket.socket, body: bytes, *, chunked: bool) -> Generator[None]:
    """A block in which a byte goes out each 0.2 s."""
    over = threading.Event()

    def send() -> None:
        for at in range(len(body)):
            with contextlib.suppress(OSError):
                one = body[at : at + 1]
                connection.sendall(b"1\r\n%b\r\n" % one if chunked else one)
            if over.wait(0.2):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def entries(lab: Authority) -> int:
    return sum(1 for event in lab.log() if event.kind == "decision")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_trickles_is_ended(lab: Authority, origin: str, *, chunked: bool) -> None:
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(BODY)}"
    whole = head(lab, length)
    before = entries(lab)
    with connected(origin) as connection:
        connection.sendall(whole)
        began = time.monotonic()
        with trickle(connection, BODY, chunked=chunked):
            found = answer(connection)
        assert SECONDS * 0.9 < time.monotonic() - began < 10
        # The rest of the body would hold the connection.
        assert is_closed(connection)
    assert (found.status, found.code, found.body["detail"]) == (408, "body_too_slow", SLOW)
    assert found.headers["connection"] == "close"
    assert "capx-decision" not in found.headers
    assert entries(lab) == before
    # Nothing was burnt: the same presentation is good once more.
    assert sent_at_once(origin, head_of(whole, f"content-length: {len(BODY)}") + BODY).status == 200
    assert sent_at_once(origin, head_of(whole, f"content-length: {len(BODY)}") + BODY).code == "replayed"


def head_of(whole: bytes, length: str) -> bytes:
    *lines, _, _, _ = whole.decode().split("\r\n")
    return "\r\n".join([*lines, length, "", ""]).encode()


def sent_at_once(origin: str, request: bytes) -> Answer:
    with connected(origin) as connection:
        connection.sendall(request)
        return answer(connection)


def test_a_body_whose_length_a_middleware_removed_is_ended(lab: Authority) -> None:
    guard = any_asgi(lab)

    async def decompressing(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope.get("headers", ()) if name != b"content-length"]
        await guard({**scope, "headers": headers}, receive, send)

    with served(decompressing, lifespan="off") as origin, connected(origin) as connection:
        connection.sendall(head(lab, f"content-length: {len(BODY)}") + BODY[:2])
        assert answer(connection).code == "body_too_slow"


def test_a_body_of_which_nothing_comes_is_ended(lab: Authority, origin: str) -> None:
    with connected(origin) as connection:
        connection.sendall(head(lab, f"content-length: {len(BODY)}"))
        assert answer(connection).code == "body_too_slow"
        assert is_closed(connection)


def test_a_body_in_pieces_that_comes_in_time_is_answered(lab: Authority, origin: str) -> None:
    with connected(origin) as connection:
        connection.sendall(head(lab, f"content-length: {len(BODY)}"))
        for piece in (BODY[:50], BODY[50:]):
            time.sleep(0.05)
            connection.sendall(piece)
        found = answer(connection)
        assert found.status == 200
        # It stays open for the next request, long after the time of the first body.
        time.sleep(SECONDS + 0.1)
        connection.sendall(head(lab, f"content-length: {len(BODY)}") + BODY)
        assert answer(connection).status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_closes_the_connection(lab: Authority, origin: str, *, chunked: bool) -> None:
    body = b"a" * (LIMIT + 1)
    before = entries(lab)
    with connected(origin) as connection:
        if chunked:
            connection.sendall(head(lab, "transfer-encoding: chunked") + b"%x\r\n%b\r\n" % (len(body), body))
        else:
            # By its head alone: not a byte of it is sent.
            connection.sendall(head(lab, f"content-length: {len(body)}"))
        found = answer(connection)
        assert is_closed(connection)
    assert (found.status, found.code, found.headers["connection"]) == (413, "body_too_large", "close")
    assert entries(lab) == before


def drive(guard: App, scope: Scope, *messages: Message) -> list[Message]:
    """What a server would be told by a guard to which these messages come, and then nothing."""
    told: list[Message] = []
    coming = iter(messages)

    async def receive() -> Message:
        for message in coming:
            return message
        await asyncio.sleep(60)
        raise AssertionError("the guard waited for a minute")

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    return told


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
def test_only_http_1_has_a_header_that_closes(lab: Authority, version: str, *, closes: bool) -> None:
    lines = head(lab, "content-length: 9").decode().split("\r\n")[1:-2]
    headers = [(name.encode(), value.strip().encode()) for name, _, value in (one.partition(":") for one in lines)]
    scope = {
        "type": "http", "method": "POST", "path": "/x", "raw_path": b"/x", "root_path": "", "query_string": b"",
        "headers": headers, "http_version": version,
    }  # fmt: skip
    for limit, status in ((LIMIT, 408), (8, 413)):
        guard = ASGIGuard(application, lab.verifier("crm"), max_body=limit, body_seconds=0.01)
        start, _ = drive(guard, scope)
        assert start["status"] == status
        assert ((b"connection", b"close") in start["headers"]) is closes


def test_a_body_has_twenty_seconds_unless_said_otherwise() -> None:
    assert BODY_SECONDS == 20


# read_body itself, under both event loops

SCOPE: Scope = {"headers": []}


def run(library: str, *messages: Message, limit: int = 10, seconds: float = 5, scope: Scope = SCOPE) -> bytes:
    """Read a body of these messages, after which nothing comes."""
    coming = iter(messages)

    async def receive() -> Message:
        for message in coming:
            return message
        await (asyncio.sleep if library == "asyncio" else trio.sleep)(60)
        raise AssertionError("the guard waited for a minute")

    async def read() -> bytes:
        return await read_body(scope, receive, limit, seconds)

    return asyncio.run(read()) if library == "asyncio" else trio.run(read)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_body_is_read_to_its_end_or_its_limit(library: str) -> None:
    assert run(library, part(b"12345"), part(b"67890", more=False)) == b"1234567890"
    assert run(library, {"type": "http.request"}) == b""
    with pytest.raises(TooMuch):
        run(library, part(b"12345"), part(b"678901", more=False))
    with pytest.raises(Gone):
        run(library, part(b"12345"), {"type": "http.disconnect"})
    with pytest.raises(TooSlow) as slow:
        run(library, part(b"12345"), seconds=0.05)
    assert slow.value.__cause__ is None
    assert slow.value.__suppress_context__


@pytest.mark.parametrize("length", [b"11", b" 11", b"9" * 30, b"9" * 5000])
def test_a_declared_length_is_too_much_at_once(length: bytes) -> None:
    with pytest.raises(TooMuch):
        run("asyncio", scope={"headers": [(b"content-length", length)]})


@pytest.mark.parametrize("length", [b"10", b"-11", b"1e9", b"", "\u0661\u0661".encode("utf-8")])
def test_a_length_within_the_limit_or_unreadable_is_counted(length: bytes) -> None:
    assert run("asyncio", part(b"1234567890", more=False), scope={"headers": [(b"content-length", length)]})
