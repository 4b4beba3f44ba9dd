"""A server that is reached over HTTP, as a relay sees it: sessions, streams, and what goes wrong."""

import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from capx.api.jsonrpc import Notification, Request, Response, read_message
from capx.api.relay.connection import Gone
from capx.api.relay.http_exchange import NotAnswered
from capx.api.relay.http_server import HttpServer
from tests.labs.serving import served_here


class Upstream:
    """Answers as a test says, and notes what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200
        self.kind = "application/json"
        self.messages: list[dict[str, Any]] = []
        self.on_stream: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        said: dict[str, Any] = json.loads(body) if body else {}
        self.got.append((scope["method"], headers, said))
        kind, messages, status = self.kind, self.messages, self.status
        if scope["method"] == "GET":
            kind, messages, status = "text/event-stream", self.on_stream, 200
        elif not messages:
            messages = [{"id": said.get("id"), "result": {"protocolVersion": "2025-06-18"}}]
        texts = [msgspec.json.encode({"jsonrpc": "2.0", **message}) for message in messages]
        is_stream = kind == "text/event-stream"
        pairs = [(b"content-type", kind.encode()), (b"mcp-session-id", b"s1"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        sent = b"".join(b"data: %b\n\n" % text for text in texts) if is_stream else texts[0]
        await send({"type": "http.response.body", "body": sent})


Act = Callable[[HttpServer, Upstream], Awaitable[None]]


def run(act: Act, most: int = 1 << 20) -> Upstream:
    async def main() -> Upstream:
        upstream = Upstream()
        async with served_here(upstream) as origin:
            server = HttpServer(f"{origin}/mcp", most=most)
            try:
                await asyncio.wait_for(act(server, upstream), 20)
            finally:
                await server.close()
        return upstream

    return asyncio.run(main())


async def received(server: HttpServer) -> Any:
    data = await asyncio.wait_for(server.receive(), 10)
    assert data is not None
    return read_message(data)


def test_the_session_goes_with_every_later_message_and_is_ended() -> None:
    async def act(server: HttpServer, upstream: Upstream) -> None:
        upstream.on_stream = [{"id": 9, "result": {}}, {"method": "notifications/message"}]
        await server.send(Request(1, "initialize", {}))
        assert (await received(server)).id == 1
        await server.send(Notification("notifications/initialized"))
        # Its own stream has begun; answers there are nobody's.
        assert await received(server) == Notification("notifications/message")

    got = run(act).got
    assert [(method, body.get("method")) for method, _, body in got] == [
        ("POST", "initialize"),
        ("POST", "notifications/initialized"),
        ("GET", None),
        ("DELETE", None),
    ]
    assert "mcp-session-id" not in got[0][1]
    for _, headers, _ in got[1:]:
        assert (headers["mcp-session-id"], headers["mcp-protocol-version"]) == ("s1", "2025-06-18")


def test_a_stream_gives_its_messages_and_its_own_answer() -> None:
    async def act(server: HttpServer, upstream: Upstream) -> None:
        upstream.kind = "text/event-stream"
        upstream.messages = [{"method": "notifications/progress"}, {"id": 2, "result": 2}, {"id": 1, "result": 1}]
        await server.send(Request(1, "tools/call", {}))
        assert await received(server) == Notification("notifications/progress")
        assert await received(server) == Response(id=1, result=1)

    run(act)


@pytest.mark.parametrize(
    ("status", "kind", "message", "says"),
    [
        (500, "text/html", {}, "has answered HTTP 500"),
        (307, "text/html", {}, "has answered HTTP 307"),
        (401, "text/html", {}, "wants a login of its own (Bearer)"),
        (200, "text/html", {}, "without an answer"),
        (200, "application/json", {"id": 2, "result": 1}, "without an answer"),
        (200, "application/json", {"id": 1, "result": 1, "more": 2}, "cannot be passed on"),
        (200, "application/json", {"id": 1, "result": "x" * 2_000}, "cannot be passed on"),
        (200, "text/event-stream", {"id": 1, "result": "x" * 2_000}, "cannot be passed on"),
        (400, "application/json", {"id": 1, "error": {"code": 1, "message": "its own"}}, "its own"),
    ],
)
def test_what_is_no_answer_fails_the_request(status: int, kind: str, message: dict[str, Any], says: str) -> None:
    async def act(server: HttpServer, upstream: Upstream) -> None:
        upstream.status, upstream.kind, upstream.messages = status, kind, [message]
        await server.send(Request(1, "tools/call", {}))
        answer = await received(server)
        assert answer.id == 1
        assert says in answer.error["message"]

    run(act, most=1_000)


def test_a_session_that_has_ended_is_told() -> None:
    async def act(server: HttpServer, upstream: Upstream) -> None:
        await server.send(Request(1, "initialize", {}))
        await received(server)
        upstream.status, upstream.kind = 404, "text/plain"
        await server.send(Request(2, "tools/list", {}))
        assert "start the client anew" in (await received(server)).error["message"]

    run(act)


def test_a_server_that_is_away_fails_requests_and_is_gone() -> None:
    async def main() -> None:
        server = HttpServer("http://127.0.0.1:1/mcp")
        await server.send(Request(1, "initialize", {}))
        assert (await received(server)).error["message"] == "the server cannot be reached (ConnectError)"
        with pytest.raises(Gone):
            await server.send(Notification("notifications/initialized"))
        server.hurry()
        assert server.ending() == "cannot be reached"
        await server.close()

    asyncio.run(main())


def test_a_cancelled_request_leaves_its_stream() -> None:
    async def act(server: HttpServer, upstream: Upstream) -> None:
        upstream.messages = [{"id": 1, "result": 1}]
        await server.send(Request(1, "tools/call", {}))
        await server.send(Notification("notifications/cancelled", {"requestId": 1}))
        await server.send(Notification("notifications/cancelled", {"requestId": [1]}))
        await asyncio.sleep(0.1)
        await server.send(Request(2, "ping"))
        upstream.messages = [{"id": 2, "result": 2}]
        assert (await received(server)).id == 2

    run(act)


def test_the_error_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(NotAnswered("no", 404, {"a": "b"})))
    assert (str(again), again.status, again.headers) == ("no", 404, {"a": "b"})
