"""One message over HTTP: with which headers it goes, and what counts as its answer. Failures: test_http_server.py."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from capx.api.jsonrpc import Notification, Request, Response
from capx.api.relay.http_exchange import NotAnswered, exchange, headers_for, http_client, send
from tests.labs.serving import served_here

if TYPE_CHECKING:
    import httpx

EVENTS = (
    b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'
    b'data: {"jsonrpc":"2.0","id":"1","result":"of another request"}\n\n'
    b'data: {"jsonrpc":"2.0","id":1,"result":"mine"}\n\n'
    b'data: {"jsonrpc":"2.0","method":"notifications/late"}\n\n'
)


async def upstream(scope: Any, receive: Any, send_: Any) -> None:
    await receive()
    pairs = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-seen", b"yes")]
    await send_({"type": "http.response.start", "status": 200, "headers": pairs})
    # Cut in the middle of an event.
    await send_({"type": "http.response.body", "body": EVENTS[:70], "more_body": True})
    await send_({"type": "http.response.body", "body": EVENTS[70:]})


def test_the_answer_is_the_response_with_its_id() -> None:
    began: list[httpx.Response] = []
    beside: list[Request | Notification] = []

    async def note(message: Request | Notification) -> None:
        beside.append(message)

    async def main() -> Response:
        async with served_here(upstream) as origin, http_client() as client:
            return await exchange(
                client, origin, Request(1, "tools/call", {}), headers={}, began=began.append, beside=note
            )

    assert asyncio.run(main()) == Response(id=1, result="mine")
    assert beside == [Notification("notifications/progress")]
    assert (began[0].status_code, began[0].headers["x-seen"]) == (200, "yes")


def test_what_gets_no_answer_is_sent_without_reading_one() -> None:
    async def main() -> int:
        async with served_here(upstream) as origin, http_client() as client:
            return (await send(client, origin, Notification("notifications/initialized"), {})).status_code

    assert asyncio.run(main()) == 200


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_reads_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for one in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(one, raising=False)
    asked: list[str] = []

    async def proxy(scope: Any, receive: Any, send_: Any) -> None:
        asked.append(scope["path"])
        await upstream(scope, receive, send_)

    async def main() -> int:
        async with served_here(proxy) as other, served_here(upstream) as origin:
            monkeypatch.setenv(name, other)
            async with http_client() as client:
                return (await send(client, origin, Notification("notifications/initialized"), {})).status_code

    assert (asyncio.run(main()), asked) == (200, [])


def test_a_header_passes_byte_by_byte() -> None:
    texts = [b"\xe9", "€".encode()]
    seen: list[bytes] = []

    async def echo(scope: Any, receive: Any, send_: Any) -> None:
        await receive()
        seen.append(dict(scope["headers"])[b"x-sent"])
        await send_({"type": "http.response.start", "status": 202, "headers": [(b"x-back", seen[-1])]})
        await send_({"type": "http.response.body"})

    async def main() -> list[str]:
        async with served_here(echo) as origin, http_client() as client:
            answers = [
                await send(client, origin, Notification("notifications/a"), {"x-sent": text.decode("latin-1")})
                for text in texts
            ]
            return [answer.headers["x-back"] for answer in answers]

    assert [back.encode("latin-1") for back in asyncio.run(main())] == seen == texts


def test_a_message_goes_with_headers_of_its_own() -> None:
    given = {"authorization": "Bearer x", "accept": "text/html", "content-type": "text/plain"}
    assert headers_for(Request(1, "tools/call", {}), given) == {
        "authorization": "Bearer x",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "accept-encoding": "identity",
    }


async def answered(status: int, kind: bytes, body: bytes) -> Response:
    """What comes of a request, with id 1, that is answered so; other messages are dropped."""

    async def server(scope: Any, receive: Any, send_: Any) -> None:
        await receive()
        await send_({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send_({"type": "http.response.body", "body": body})

    async def drop(message: Request | Notification) -> None:
        del message

    async with served_here(server) as origin, http_client() as client:
        return await exchange(
            client, origin, Request(1, "tools/call", {}), headers={}, began=lambda _: None, beside=drop
        )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"error":"invalid_token"}'),
        (401, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"log in"}}'),
        (403, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"insufficient_scope"}}'),
        (404, b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no session"}}'),
        (500, b'{"detail":"broken"}'),
        (502, b"{"),
    ],
)
def test_a_status_counts_when_no_answer_comes(status: int, body: bytes) -> None:
    with pytest.raises(NotAnswered) as error:
        asyncio.run(answered(status, b"application/json", body))
    assert error.value.status == status


def test_an_error_of_the_server_is_its_answer() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}'
    found = asyncio.run(answered(400, b"application/json", body))
    assert found.error == {"code": -32601, "message": "no such method"}


@pytest.mark.parametrize(
    "before",
    [
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"n":NaN}}',
        b'{"jsonrpc":"2.0","id":2,"result":NaN}',
        b"no message",
        b"[]",
    ],
)
def test_an_event_that_cannot_be_read_costs_no_answer(before: bytes) -> None:
    body = b"data: " + before + b'\n\ndata: {"jsonrpc":"2.0","id":1,"result":"mine"}\n\n'
    assert asyncio.run(answered(200, b"text/event-stream", body)).result == "mine"


def test_an_answer_that_cannot_be_read_is_an_error_at_once() -> None:
    body = b'data: {"jsonrpc":"2.0","id":1,"result":NaN}\n\ndata: {"jsonrpc":"2.0","id":1,"result":"late"}\n\n'
    found = asyncio.run(answered(200, b"text/event-stream", body))
    assert "cannot be passed on" in str(found.error)
    alone = asyncio.run(answered(200, b"text/event-stream", b"data: no message\n\n"))
    assert "cannot be passed on" in str(alone.error)


def test_a_cookie_of_the_server_is_not_kept() -> None:
    seen: list[bytes | None] = []

    async def server(scope: Any, receive: Any, send_: Any) -> None:
        await receive()
        seen.append(dict(scope["headers"]).get(b"cookie"))
        headers = [(b"set-cookie", b"session=alice; Path=/")]
        await send_({"type": "http.response.start", "status": 202, "headers": headers})
        await send_({"type": "http.response.body"})

    async def main() -> None:
        async with served_here(server) as origin, http_client() as client:
            for headers in ({}, {}, {"cookie": "session=bob"}):
                await send(client, origin, Notification("notifications/a"), headers)

    asyncio.run(main())
    # A cookie that a client sends passes, like all its headers.
    assert seen == [None, None, b"session=bob"]
