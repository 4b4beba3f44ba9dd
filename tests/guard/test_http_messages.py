"""What the guard over HTTP reads of a request, and which headers pass in which direction."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from capx.api.jsonrpc import Notification, Response
from capx.guard.asgi.messages import Gone, TooMuch, arrived, until_gone
from capx.guard.mcp.http_messages import (
    HttpAnswer,
    headers_of,
    host_of,
    host_of_origin,
    sent_back,
    sent_on,
)


def body(*messages: dict[str, Any], most: int = 10) -> bytes:
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0)

    return asyncio.run(arrived(receive, most))


def piece(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_is_read_to_its_end_and_no_further_than_a_bound() -> None:
    assert body(piece(b"ab", more=True), piece(b"c")) == b"abc"
    assert body({"type": "http.request"}) == b""
    assert body(piece(b"x" * 5, more=True), piece(b"x" * 5)) == b"x" * 10
    with pytest.raises(TooMuch):
        body(piece(b"x" * 8, more=True), piece(b"yyy", more=True))
    with pytest.raises(Gone):
        body(piece(b"ab", more=True), {"type": "http.disconnect"})


def test_headers_with_one_name_are_joined() -> None:
    scope = {"headers": [(b"Accept", b"a"), (b"accept", b"b"), (b"X", b"\xe4")]}
    assert headers_of(scope) == {"accept": "a, b", "x": "ä"}


def test_headers_of_one_connection_do_not_pass() -> None:
    given = {
        "authorization": "Bearer x",
        "mcp-session-id": "s",
        "connection": "close, X-Hop,x-other",
        "x-hop": "1",
        "x-other": "2",
        "host": "x",
        "content-length": "7",
        "transfer-encoding": "chunked",
        "accept-encoding": "gzip",
        "last-event-id": "7",
        "mcp_name": "other",
        "capx_presentation": "x",
        "x-http-method-override": "DELETE",
        "mcp-name": "write",
        "capx-presentation": "x",
        "mcp-param-path": "/",
        "proxy-authorization": "Basic x",
    }
    assert sent_on(given) == {"authorization": "Bearer x", "mcp-session-id": "s"}
    assert sent_on({"mcp-session-id": "s"}) == {"mcp-session-id": "s"}


def test_only_headers_of_sessions_and_logins_go_back() -> None:
    given = {"mcp-session-id": "s", "www-authenticate": "Bearer", "set-cookie": "a=b", "server": "x", "location": "/"}
    assert sent_back(given) == {"mcp-session-id": "s", "www-authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:80", "localhost"), ("LOCALHOST", "localhost"), ("[::1]:80", "[::1]"), ("[::1]]", "[::1]"), ("", "")],
)
def test_the_host_is_named_without_its_port(header: str, name: str) -> None:
    assert host_of(header) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [("http://localhost:80", "localhost"), ("https://[::1]", "[::1]"), ("null", ""), ("", ""), ("localhost", "")],
)
def test_the_host_of_a_page_is_named(header: str, name: str) -> None:
    assert host_of_origin(header) == name


def sent(act: Callable[[HttpAnswer], Awaitable[None]]) -> list[tuple[Any, ...]]:
    """What the client gets: the status with the headers, and each piece of the body with whether more comes."""
    found: list[tuple[Any, ...]] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            found.append((message["status"], headers))
        else:
            assert message["type"] == "http.response.body"
            found.append((message.get("body", b""), message.get("more_body", False)))

    async def main() -> None:
        answer = HttpAnswer(send)
        assert answer.has_begun is False
        await act(answer)
        assert answer.has_begun

    asyncio.run(main())
    return found


SESSION = {"mcp-session-id": "s"}
DONE = Response(id=1, result=1)
DONE_JSON = b'{"jsonrpc":"2.0","id":1,"result":1}'
# The last piece is sent when the client has read the one before it.
ONE_BODY = [(DONE_JSON, True), (b"", False)]
JSON_HEADERS = {"content-type": "application/json", "content-length": "35", "cache-control": "no-store"}
STREAM_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store"}


def test_the_only_message_is_answered_as_json() -> None:
    found = sent(lambda answer: answer.message(DONE, SESSION))
    assert found == [(200, {**JSON_HEADERS, **SESSION}), *ONE_BODY]
    found = sent(lambda answer: answer.message(DONE, {"allow": "\xe4"}, 404))
    assert found == [(404, {**JSON_HEADERS, "allow": "\xe4"}), *ONE_BODY]
    assert sent(lambda answer: answer.json(DONE)) == [(200, JSON_HEADERS), *ONE_BODY]


def test_a_message_before_the_answer_begins_a_stream() -> None:
    async def act(answer: HttpAnswer) -> None:
        await answer.event(Notification("a"), SESSION)
        await answer.message(DONE, {"retry-after": "1"}, 404)
        await answer.end_stream()

    first = b'event: message\ndata: {"jsonrpc":"2.0","method":"a"}\n\n'
    last = b"event: message\ndata: " + DONE_JSON + b"\n\n"
    assert sent(act) == [(200, {**STREAM_HEADERS, **SESSION}), (first, True), (last, True), (b"", False)]


def test_a_stream_that_has_begun_keeps_its_headers() -> None:
    async def act(answer: HttpAnswer) -> None:
        await answer.begin_stream({})
        await answer.event(Notification("a"), SESSION)

    assert [one[0] for one in sent(act)] == [200, b'event: message\ndata: {"jsonrpc":"2.0","method":"a"}\n\n']
    assert sent(act)[0] == (200, STREAM_HEADERS)
    assert sent(lambda answer: answer.event(Notification("a")))[0] == (200, STREAM_HEADERS)


def test_a_status_has_no_body() -> None:
    assert sent(lambda answer: answer.status(202)) == [(202, {"content-length": "0"}), (b"", False)]
    found = sent(lambda answer: answer.status(401, {"www-authenticate": "Bearer"}))
    assert found == [(401, {"content-length": "0", "www-authenticate": "Bearer"}), (b"", False)]


@pytest.mark.parametrize(("status", "told"), [(204, 204), (418, 418), (520, 502), (999, 502), (600, 502)])
def test_a_status_that_http_does_not_name_is_a_bad_gateway(status: int, told: int) -> None:
    assert sent(lambda answer: answer.status(status))[0][0] == told


def test_a_client_is_waited_for_until_it_has_left() -> None:
    left = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return left.pop(0)

    asyncio.run(until_gone(receive))
    assert left == []
