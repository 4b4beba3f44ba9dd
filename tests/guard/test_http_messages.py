"""What the guard over HTTP reads of a request, and which headers pass in which direction."""

import asyncio
from typing import Any

import pytest

from capx.api.jsonrpc import Notification, Response
from capx.api.relay.lines import TooLong
from capx.guard.mcp.http_messages import (
    LARGE,
    ClientGone,
    HttpAnswer,
    body_of,
    headers_of,
    host_of,
    host_of_origin,
    sent_back,
    sent_on,
    until_gone,
)
from capx.guard.mcp.slots import NoSlot, Slots


def body(*messages: dict[str, Any], most: int = 10) -> bytes:
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0)

    return asyncio.run(body_of(receive, most, Slots(1, "large messages")))


def piece(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_is_read_to_its_end_and_no_further_than_a_bound() -> None:
    assert body(piece(b"ab", more=True), piece(b"c")) == b"abc"
    assert body({"type": "http.request"}) == b""
    with pytest.raises(TooLong):
        body(piece(b"x" * 8, more=True), piece(b"x" * 8))
    with pytest.raises(ClientGone):
        body(piece(b"ab", more=True), {"type": "http.disconnect"})


def test_few_large_bodies_are_read_at_once() -> None:
    slots = Slots(1, "large messages")

    async def read(pieces: "asyncio.Queue[Any]") -> bytes:
        return await body_of(pieces.get, 10 * LARGE, slots)

    async def main() -> None:
        one, two, small = (asyncio.Queue[Any]() for _ in range(3))
        first = asyncio.create_task(read(one))
        one.put_nowait(piece(b"x" * (LARGE + 1), more=True))
        await asyncio.sleep(0)
        two.put_nowait(piece(b"x" * (LARGE + 1), more=True))
        with pytest.raises(NoSlot, match="1 large messages"):
            await read(two)
        for pieces in (small, two):
            # A small one needs no slot, nor does one that comes whole.
            more = pieces is small
            pieces.put_nowait(piece(b"x" * (LARGE if more else 2 * LARGE), more=more))
            if more:
                pieces.put_nowait(piece(b"y"))
            assert len(await read(pieces)) > LARGE
        one.put_nowait(piece(b"y"))
        assert (await first).endswith(b"xy")
        two.put_nowait(piece(b"x" * (LARGE + 1), more=True))
        two.put_nowait(piece(b"z"))
        assert (await read(two)).endswith(b"xz")

    asyncio.run(main())


def test_headers_with_one_name_are_joined() -> None:
    scope = {"headers": [(b"Accept", b"a"), (b"accept", b"b"), (b"X", b"\xe4")]}
    assert headers_of(scope) == {"accept": "a, b", "x": "ä"}


def test_headers_of_one_connection_do_not_pass() -> None:
    given = {
        "authorization": "Bearer x",
        "mcp-session-id": "s",
        "connection": "close, X-Hop",
        "x-hop": "1",
        "host": "x",
        "content-length": "7",
        "transfer-encoding": "chunked",
        "accept-encoding": "gzip",
        "last-event-id": "7",
        "mcp-name": "write",
        "mcp-param-path": "/",
        "proxy-authorization": "Basic x",
    }
    assert sent_on(given) == {"authorization": "Bearer x", "mcp-session-id": "s"}


def test_only_headers_of_sessions_and_logins_go_back() -> None:
    given = {"mcp-session-id": "s", "www-authenticate": "Bearer", "set-cookie": "a=b", "server": "x", "location": "/"}
    assert sent_back(given) == {"mcp-session-id": "s", "www-authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:80", "localhost"), ("LOCALHOST", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")],
)
def test_the_host_is_named_without_its_port(header: str, name: str) -> None:
    assert host_of(header) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [("http://localhost:80", "localhost"), ("https://[::1]", "[::1]"), ("null", ""), ("", ""), ("localhost", "")],
)
def test_the_host_of_a_page_is_named(header: str, name: str) -> None:
    assert host_of_origin(header) == name


def test_an_answer_is_json_until_a_message_comes_before_it() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        plain, stream = HttpAnswer(send), HttpAnswer(send)
        await plain.message(Response(id=1, result=1), {"mcp-session-id": "s"})
        await stream.event(Notification("a"), {"mcp-session-id": "s"})
        await stream.message(Response(id=1, result=1), {})
        await stream.end_stream()

    asyncio.run(main())
    starts = [dict(one["headers"]) for one in sent if one["type"] == "http.response.start"]
    assert [one[b"content-type"] for one in starts] == [b"application/json", b"text/event-stream"]
    assert [one[b"mcp-session-id"] for one in starts] == [b"s", b"s"]
    bodies = [one for one in sent if one["type"] == "http.response.body"]
    assert bodies[0]["body"] == b'{"jsonrpc":"2.0","id":1,"result":1}'
    assert [one.get("more_body", False) for one in bodies] == [False, True, True, False]


def test_a_client_is_waited_for_until_it_has_left() -> None:
    left = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return left.pop(0)

    asyncio.run(until_gone(receive))
    assert left == []
