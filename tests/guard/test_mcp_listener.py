"""The guard of a server over HTTP: JSON and event streams, headers, cancellation, and what must not pass."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from capx.api.mcp_messages import OwnMeta, bound_request, with_own
from capx.api.relay import http_exchange
from capx.api.relay.http_exchange import http_client
from capx.authority.authority import Authority
from capx.guard.call_facts import GRANTED
from capx.guard.mcp import inbound
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.inbound import LARGE
from capx.guard.mcp.listener import Listener
from capx.guard.mcp.proxy import GuardHandler
from capx.guard.mcp.table import ToolSpec, ToolTable
from tests.labs.serving import served, served_here

TOOLS = [
    {"name": "read", "inputSchema": {"type": "object"}},
    {"name": "write", "inputSchema": {"type": "object"}},
]


class Upstream:
    """A server over HTTP that answers as a test says, and notes what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.how = "json"
        self.hold = 0.0
        self.session = [(b"mcp-session-id", b"s1")]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        said: dict[str, Any] = json.loads(body) if body else {}
        self.got.append((scope["method"], headers, said))
        if scope["method"] == "GET" and self.how == "stays open":
            await self._plain(send, 200, [(b"content-type", b"text/event-stream")], b":\n\n", more=True)
            await receive()
        elif scope["method"] == "GET" and self.how == "asks":
            await self._events(send, [{"id": "7", "method": "roots/list"}])
        elif scope["method"] == "GET":
            await self._events(send, [answer(7, {"leaked": True}), {"method": "notifications/tools/list_changed"}])
        elif scope["method"] == "DELETE":
            if self.how == "silent":
                await receive()
            endless = self.how == "endless"
            await self._plain(send, 200 if endless else 204, body=b"x" if endless else b"", more=endless)
            # 125 MiB: nobody waits for them.
            for _ in range(2_000 if endless else 0):
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        elif "id" not in self.got[-1][2] or "method" not in self.got[-1][2]:
            await self._plain(send, 202)
        else:
            await self._answer(self.got[-1][2], send)

    async def _answer(self, request: dict[str, Any], send: Any) -> None:
        await asyncio.sleep(self.hold)
        result: dict[str, Any] = (
            {"tools": TOOLS} if request["method"] == "tools/list" else {"content": [], "for": request["id"]}
        )
        message = answer(request["id"], result)
        if self.how == "login":
            await self._plain(send, 401, [(b"www-authenticate", b"Bearer"), (b"x-other", b"1")], b"secret page")
        elif self.how == "redirect":
            await self._plain(send, 307, [(b"location", b"http://127.0.0.1:1/")])
        elif self.how == "page":
            await self._plain(send, 200, [(b"content-type", b"text/html")], b"<p>secret page")
        elif self.how == "other id":
            await self._plain(send, 200, [(b"content-type", b"application/json")], encoded(answer(99, result)))
        elif self.how == "events":
            begun = {"method": "notifications/progress", "params": {"progress": 1}}
            asked: dict[str, Any] = {"id": 1, "method": "elicitation/create", "params": {}}
            await self._events(send, [begun, asked, answer(99, {"other": True}), message, begun])
        elif self.how == "no answer":
            await self._events(send, [])
        else:
            pairs = [(b"content-type", b"application/json"), (b"mcp-session-id", b"s1"), (b"x-other", b"1")]
            await self._plain(send, 200, pairs, encoded(message))

    async def _plain(self, send: Any, status: int, headers: Any = (), body: bytes = b"", *, more: bool = False) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _events(self, send: Any, messages: list[dict[str, Any]]) -> None:
        pairs = [(b"content-type", b"text/event-stream"), *self.session]
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        for nth, message in enumerate(messages):
            event = b"id: %d\r\nevent: message\r\ndata: %b\r\n\r\n" % (nth, encoded(message))
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})


def answer(id: object, result: object) -> dict[str, Any]:
    return {"id": id, "result": result}


def encoded(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", **message})


class Client:
    """A client at the address of the guard."""

    def __init__(
        self, http: httpx.AsyncClient, app: Listener, authority: Authority, upstream: Upstream, warned: list[str]
    ) -> None:
        self.http = http
        self.warned = warned
        self.app = app
        self.authority = authority
        task = authority.open(tenant="Acme", allow=["files.read", "mail.read"])
        self.task = task.id
        self.bundle = task.bundle
        self.upstream = upstream

    @property
    def elsewhere(self) -> str:
        """A presentation to another audience."""
        return self.bundle.present("mail", bound_request("tools/call", {"name": "read"})).text

    def request(self, name: str, id: object = 1, method: str = "tools/call", **more: Any) -> bytes:
        params: dict[str, Any] = {} if method.endswith("/list") else {"name": name, "arguments": {}, **more}
        shown = self.bundle.present("files", bound_request(method, params))
        return encoded({"id": id, "method": method, "params": with_own(params, OwnMeta(shown.text))})

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": "application/json; charset=utf-8", **named}
        return await self.http.post("/mcp", content=body, headers=sent)

    async def present(self, body: bytes, **headers: str) -> httpx.Response:
        """Post a message whose presentation is repeated in the head."""
        shown = json.loads(body)["params"]["_meta"]["dev.capx/presentation"]
        return await self.post(body, capx_presentation=shown, **headers)


Guarded = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Opens the address of the guard of an upstream, for one client."""
    authority = Authority.temporary()
    table = ToolTable("files", {name: ToolSpec(f"files.{name}", tenant=GRANTED) for name in ("read", "write")})
    upstream, warned = Upstream(), list[str]()

    with served(upstream, lifespan="off") as origin:

        @asynccontextmanager
        async def opened() -> AsyncGenerator[Client]:
            async with http_client() as client:
                handler = GuardHandler(Gate(authority.verifier("files"), table), warned.append)
                hosts = ("127.0.0.1", "localhost")
                app = Listener(
                    handler,
                    client,
                    f"{origin}/mcp",
                    warn=warned.append,
                    hosts=hosts,
                    max_message=1 << 20,
                    most=4,
                    most_streams=2,
                )
                async with (
                    served_here(app) as own,
                    httpx.AsyncClient(base_url=own, timeout=20, trust_env=False) as http,
                    asyncio.timeout(60),
                ):
                    yield Client(http, app, authority, upstream, warned)

        yield opened


async def test_an_allowed_call_passes_with_the_headers_of_logins(guarded: Guarded) -> None:
    async with guarded() as client:
        found = await client.post(client.request("read"), authorization="Bearer x", x_trace="7", expect="no")
        assert found.json()["result"] == {"content": [], "for": 1}
        assert (found.headers["mcp-session-id"], "x-other" in found.headers) == ("s1", False)
        _, headers, body = client.upstream.got[-1]
        assert (headers["authorization"], headers["x-trace"]) == ("Bearer x", "7")
        assert "expect" not in headers
        assert "_meta" not in body["params"]


async def test_a_denied_call_never_reaches_the_server(guarded: Guarded) -> None:
    async with guarded() as client:
        found = await client.post(client.request("write"))
        assert found.status_code == 200
        assert found.json()["result"]["_meta"]["dev.capx/problem"]["code"] == "action_not_allowed"
        assert client.upstream.got == []


async def test_an_event_stream_passes_up_to_its_answer(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.how = "events"
        await client.post(client.request("read", 5))
        found = await client.post(client.request("read", 6))
        assert found.headers["content-type"] == "text/event-stream"
        assert found.headers["mcp-session-id"] == "s1"
        lines = [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: ")]
        assert [one.get("method", one.get("id")) for one in lines] == [
            "notifications/progress",
            "elicitation/create",
            6,
        ]
        assert "\nid:" not in found.text


async def test_a_list_in_a_stream_is_filtered_too(guarded: Guarded) -> None:
    async with guarded() as client:
        for how in ("json", "events"):
            client.upstream.how = how
            found = await client.post(client.request("", method="tools/list"))
            assert '"read"' in found.text
            assert '"write"' not in found.text


@pytest.mark.parametrize("how", ["page", "other id", "no answer", "redirect"])
async def test_what_is_no_answer_does_not_pass(guarded: Guarded, how: str) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.how = how
        found = await client.post(client.request("read"))
        assert found.json()["error"]["code"] == -32603
        assert "secret" not in found.text
        assert found.status_code == (502 if how == "redirect" else 200)


async def test_a_demand_for_a_login_passes_without_its_page(guarded: Guarded) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.how = "login"
        found = await client.post(client.request("read"))
        assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert "x-other" not in found.headers
        assert "secret" not in found.text


async def test_no_answer_passes_on_a_stream_of_its_own(guarded: Guarded) -> None:
    async with guarded() as client:
        found = await client.http.get("/mcp", headers={"accept": "text/event-stream", "last-event-id": "3"})
        assert "leaked" not in found.text
        assert "notifications/tools/list_changed" in found.text
        assert "last-event-id" not in client.upstream.got[-1][1]


async def test_headers_that_repeat_the_message_are_written_anew(guarded: Guarded) -> None:
    async with guarded() as client:
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        params: dict[str, Any] = {"name": "read", "arguments": {}}
        shown = client.bundle.present("files", bound_request("tools/call", params)).text
        body = {"id": 1, "method": "tools/call", "params": with_own({**params, "_meta": meta}, OwnMeta(shown))}
        await client.post(encoded(body), mcp_method="tools/list", mcp_name="write", mcp_param_path="/x")
        _, headers, _ = client.upstream.got[-1]
        assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "read")
        assert "mcp-param-path" not in headers


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"no JSON", 400, -32700),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, -32700),
        (b"x" * (1 << 21), 413, -32600),
    ],
    ids=["garbage", "batch", "twice", "long"],
)
async def test_what_cannot_be_read_is_refused(guarded: Guarded, body: bytes, status: int, code: int) -> None:
    async with guarded() as client:
        found = await client.post(body)
        assert (found.status_code, found.json()["error"]["code"]) == (status, code)
        assert client.upstream.got == []


async def test_a_call_that_is_sent_as_a_notification_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        body = encoded({"method": "tools/call", "params": {"name": "write", "arguments": {}}})
        assert (await client.post(body)).status_code == 400
        assert client.upstream.got == []
        assert (await client.post(encoded({"method": "notifications/initialized"}))).status_code == 202
        assert len(client.upstream.got) == 1


async def test_an_id_in_use_in_a_session_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.hold = 0.5
        first = asyncio.create_task(client.post(client.request("read"), mcp_session_id="s1"))
        await asyncio.sleep(0.2)
        again = await client.post(client.request("read"), mcp_session_id="s1")
        other = client.post(client.request("read"), mcp_session_id="s2")
        text = client.post(client.request("read", "1"), mcp_session_id="s1")
        answers = await asyncio.gather(first, other, text)
        assert again.status_code == 400
        assert all("result" in one.json() for one in answers)


async def test_more_requests_than_may_be_in_flight_are_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.hold = 0.5
        posts = [client.present(client.request("read", nth)) for nth in range(6)]
        found = sorted([one.status_code for one in await asyncio.gather(*posts)])
        # One capability gets a half, and others the rest.
        assert found == [200] * 2 + [503] * 4
        posts = [client.present(client.request("read", nth)) for nth in range(2)]
        held = asyncio.gather(*posts)
        await asyncio.sleep(0.2)
        client.bundle = client.authority.open(tenant="Acme", allow=["files.read"]).bundle
        assert (await client.present(client.request("read"))).status_code == 200
        assert [one.status_code for one in await held] == [200, 200]


MADE_UP = {"_meta": {"dev.capx/presentation": "capx1_" + "A" * 600}}


async def test_strangers_do_not_lock_out_who_presents(guarded: Guarded) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.hold = 0.5
        strangers = [
            client.present(encoded({"id": nth, "method": "initialize", "params": MADE_UP})) for nth in range(4)
        ]
        held = asyncio.gather(*strangers)
        await asyncio.sleep(0.2)
        bare = await client.post(encoded({"id": 9, "method": "tools/call", "params": {"name": "read"}}))
        assert (await client.present(client.request("read"))).status_code == 200
        # One address gets a half of the strangers' half.
        assert sorted([one.status_code for one in await held]) == [200] + [503] * 3
        assert bare.status_code == 503
        assert "too many requests are being served already" in bare.json()["error"]["message"]


async def test_who_presents_in_the_message_alone_is_a_caller_too(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.hold = 0.3
        first = asyncio.create_task(client.post(client.request("read")))
        await asyncio.sleep(0.1)
        # The first one has left the only slot of strangers.
        found = await client.post(client.request("read"))
        assert [(await first).status_code, found.status_code] == [200, 200]


@pytest.mark.parametrize("shown", ["", "capx1_AAAA", "of another audience"])
async def test_a_large_message_of_a_stranger_is_refused_unread(guarded: Guarded, shown: str) -> None:
    async with guarded() as client:
        large = client.request("read", arguments={"text": "x" * LARGE})
        headers = {"capx_presentation": client.elsewhere if " " in shown else shown} if shown else {}
        found = await client.post(large, **headers)
        assert (found.status_code, found.json()["id"]) == (413, None)
        why = found.json()["error"]["message"]
        assert why.startswith("this message was not read: ")
        assert ("repeats its presentation in a header, Capx-Presentation" in why) is (not shown)
        assert client.upstream.got == []


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (str(LARGE + 1), b"413"),
        (str(1 << 30), b"413"),
        ("9" * 13, b"411"),
        ("-1", b"411"),
        ("", b"411"),
        ("\N{SUPERSCRIPT TWO}", b"411"),
    ],
)
async def test_a_stranger_is_refused_before_it_has_sent_a_body(guarded: Guarded, length: str, status: bytes) -> None:
    async with guarded() as client:
        said: list[Any] = []
        never = asyncio.Event()
        pairs = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        if length:
            pairs.append((b"content-length", length.encode("latin-1")))
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": pairs}

        async def send(message: Any) -> None:
            said.append(message)

        await client.app(scope, never.wait, send)  # type: ignore[arg-type]
        assert str(said[0]["status"]).encode() == status


async def test_a_large_message_with_its_presentation_passes(guarded: Guarded) -> None:
    async with guarded() as client:
        large = client.request("read", arguments={"text": "x" * LARGE})
        found = await client.present(large)
        assert found.json()["result"]["for"] == 1
        _, headers, _ = client.upstream.got[-1]
        assert "capx-presentation" not in headers
        too_long = await client.present(client.request("read", arguments={"text": "x" * (1 << 20)}))
        assert too_long.status_code == 413


async def test_a_presentation_in_the_head_alone_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        bare = encoded({"id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {}}})
        other = json.loads(client.request("read"))["params"]["_meta"]["dev.capx/presentation"]
        told = encoded({"method": "notifications/initialized"})
        answered = encoded({"id": 1, "result": {}})
        for body in (bare, client.request("read"), told, answered):
            found = await client.post(body, capx_presentation=other)
            assert (found.status_code, found.json()["error"]["code"]) == (400, -32600)
            assert "is not dev.capx/presentation of this message" in found.json()["error"]["message"]
        assert client.upstream.got == []


async def test_a_session_that_has_presented_is_a_callers(guarded: Guarded) -> None:
    async with guarded() as client:
        large = client.request("read", arguments={"text": "x" * LARGE})
        assert (await client.post(large, mcp_session_id="s")).status_code == 413
        denied = await client.post(client.request("write"), mcp_session_id="s")
        assert denied.json()["result"]["isError"]
        assert (await client.post(large, mcp_session_id="s")).status_code == 413
        assert "result" in (await client.post(client.request("read"), mcp_session_id="s")).json()
        assert (await client.post(large, mcp_session_id="other")).status_code == 413
        assert (await client.post(large, mcp_session_id="s")).json()["result"]["for"] == 1
        client.authority.complete(client.task)
        assert (await client.post(large, mcp_session_id="s")).status_code == 413


async def test_bytes_of_strangers_are_bounded_together(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "BYTES", 1 << 20)
    async with guarded() as client:
        whole = asyncio.Event()

        async def unfinished(body: bytes) -> AsyncGenerator[bytes]:
            yield body[:1]
            await whole.wait()
            yield body[1:]

        # An eighth is for strangers, and half of it for one address: one body of LARGE bytes.
        body = encoded({"id": 1, "method": "ping", "params": {"x": "x" * (LARGE - 100)}})
        sent = {"content-type": "application/json", "content-length": str(len(body))}
        held = asyncio.create_task(client.http.post("/mcp", content=unfinished(body), headers=sent))
        await asyncio.sleep(0.2)
        refused = await client.post(client.request("read", arguments={"text": "x" * 200}))
        assert refused.status_code == 503
        assert "too many" in refused.json()["error"]["message"]
        assert (await client.present(client.request("read"))).status_code == 200
        whole.set()
        assert (await held).status_code == 200


async def test_more_streams_than_may_be_open_are_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.how = "stays open"
        async with client.http.stream("GET", "/mcp") as one:
            assert one.status_code == 200
            assert (await client.http.get("/mcp")).status_code == 503
        await asyncio.sleep(0.2)
        async with client.http.stream("GET", "/mcp") as again:
            assert again.status_code == 200


async def test_a_caller_gets_a_stream_though_strangers_have_all(guarded: Guarded) -> None:
    async with guarded() as client:
        for session in ("a", "b"):
            await client.post(client.request("read"), mcp_session_id=session)
        client.upstream.how = "stays open"
        named = [{"mcp-session-id": session} for session in ("a", "b", "a")]
        async with AsyncExitStack() as held:
            streams = [client.http.stream("GET", "/mcp", headers=each) for each in ({}, *named[:2])]
            opened = [await held.enter_async_context(stream) for stream in streams]
            assert [one.status_code for one in opened] == [200, 200, 200]
            # The place of the stranger, whose stream has ended in order.
            assert [piece async for piece in opened[0].aiter_raw()] == []
            assert (await client.http.get("/mcp", headers=named[2])).status_code == 503


async def test_an_answer_passes_once_to_the_session_that_was_asked(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.how = "events"
        await client.post(client.request("read"))
        await client.post(client.request("read"))
        client.upstream.how = "asks"
        await client.http.get("/mcp", headers={"mcp-session-id": "s2"})
        before = len(client.upstream.got)
        for session, id in (("s1", 2), ("s1", "1"), ("s2", 1), ("s2", 7), ("s1", "7")):
            assert (await client.post(encoded(answer(id, {})), mcp_session_id=session)).status_code == 202
        assert (await client.post(encoded(answer(1, {})))).status_code == 202
        assert len(client.upstream.got) == before
        for session, id in (("s1", 1), ("s1", 1), ("s2", "7"), ("s2", "7")):
            assert (await client.post(encoded(answer(id, {})), mcp_session_id=session)).status_code == 202
        assert [body["id"] for _, _, body in client.upstream.got[before:]] == [1, "7"]


async def test_nobody_answers_what_is_asked_outside_a_session(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.how, client.upstream.session = "events", []
        found = await client.post(client.request("read", 5))
        assert '"result"' in found.text
        assert "elicitation" not in found.text
        client.upstream.how = "asks"
        assert "roots/list" not in (await client.http.get("/mcp")).text
        # A stranger, who knows the ids.
        for id in (1, "7"):
            assert (await client.post(encoded(answer(id, {"action": "accept"})))).status_code == 202
        said = [body for _, _, body in client.upstream.got if "method" not in body and body]
        assert [(one["id"], one["error"]["code"]) for one in said] == [(1, -32600), ("7", -32600)]
        assert said[0]["error"]["message"] == "this guard passes on what a server asks in a session only"


@pytest.mark.parametrize("how", ["endless", "silent"])
async def test_the_end_of_a_session_waits_for_no_server(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(http_exchange, "CONNECT_SECONDS", 0.5)
    async with guarded() as client:
        client.upstream.how = how
        for _ in range(3):
            found = await client.http.delete("/mcp", headers={"mcp-session-id": "s1"})
            assert (found.status_code, found.content) == (502 if how == "silent" else 200, b"")


async def test_a_session_that_the_server_refuses_is_no_callers(guarded: Guarded) -> None:
    async with guarded() as client:
        await client.post(client.request("read"))
        client.upstream.how = "login"
        await client.post(client.request("read"), mcp_session_id="made up")
        client.upstream.how = "stays open"
        assert client.app.sender_of(None, "made up", "10.0.0.1") == "10.0.0.1"
        client.upstream.how = "json"
        await client.post(client.request("read"), mcp_session_id="s1")
        assert isinstance(client.app.sender_of(None, "s1", "10.0.0.1"), bytes)


async def test_no_answer_passes_to_a_session_that_has_ended(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.how = "asks"
        await client.http.get("/mcp", headers={"mcp-session-id": "s2"})
        await client.http.delete("/mcp", headers={"mcp-session-id": "s2"})
        await client.post(encoded(answer("7", {})), mcp_session_id="s2")
        assert [method for method, _, _ in client.upstream.got] == ["GET", "DELETE"]


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_what_a_page_may_send_unasked_is_refused(guarded: Guarded, kind: str) -> None:
    async with guarded() as client:
        found = await client.post(client.request("read"), content_type=kind)
        assert (found.status_code, client.upstream.got) == (415, [])


async def test_a_page_of_another_host_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        for origin in ("https://evil.example", "null", "http://localhost.evil.example", ""):
            assert (await client.post(client.request("read"), origin=origin)).status_code == 403
            assert (await client.http.get("/mcp", headers={"origin": origin})).status_code == 403
        assert client.upstream.got == []
        assert (await client.post(client.request("read"), origin="http://localhost:6274")).status_code == 200


async def test_headers_that_are_not_ascii_pass(guarded: Guarded) -> None:
    async with guarded() as client:
        sent = [(b"x-a", b"\xe9"), (b"content-type", b"application/json")]
        told = encoded({"method": "notifications/initialized"})
        assert (await client.http.post("/mcp", content=told, headers=sent)).status_code == 202
        assert (await client.http.post("/mcp", content=client.request("read"), headers=sent)).status_code == 200
        assert (await client.http.get("/mcp", headers=sent)).status_code == 200
        assert (await client.http.delete("/mcp", headers=sent)).status_code == 204
        passed = [headers["x-a"] for _, headers, body in client.upstream.got if body.get("method") != "tools/list"]
        assert passed == ["é"] * 4


async def test_a_request_whose_client_is_gone_is_ended_at_the_server(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.hold = 1
        with pytest.raises(httpx.ReadTimeout):
            # The guard lists the tools for itself now, so the call has not been sent on.
            await client.http.post(
                "/mcp", content=client.request("read"), headers={"content-type": "application/json"}, timeout=0.3
            )
        await asyncio.sleep(1.5)
        assert [body["method"] for _, _, body in client.upstream.got] == ["tools/list"]


async def test_a_request_that_is_cancelled_while_judged_is_not_sent(guarded: Guarded) -> None:
    async with guarded() as client:
        client.upstream.hold = 0.5
        calling = asyncio.create_task(client.post(client.request("read"), mcp_session_id="s1"))
        await asyncio.sleep(0.2)
        for session, id in (("s2", 1), ("s1", "1"), ("s1", [1])):
            told = encoded({"method": "notifications/cancelled", "params": {"requestId": id}})
            assert (await client.post(told, mcp_session_id=session)).status_code == 202
        told = encoded({"method": "notifications/cancelled", "params": {"requestId": 1}})
        assert (await client.post(told, mcp_session_id="s1")).status_code == 202
        assert "was cancelled" in (await calling).json()["error"]["message"]
        await asyncio.sleep(0.6)
        assert "tools/call" not in [body.get("method") for _, _, body in client.upstream.got]


async def test_a_request_for_another_host_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        found = await client.post(client.request("read"), host="evil.example")
        assert (found.status_code, client.upstream.got) == (421, [])
        assert (await client.post(client.request("read"), host="localhost:99")).status_code == 200


async def test_a_refusal_of_the_listener_tells_the_operator(guarded: Guarded) -> None:
    """A proxy or an old client shows only the status to whoever looks for the cause."""
    async with guarded() as client:
        for _ in range(3):
            await client.post(client.request("read"), host="evil.example")
            await client.post(client.request("read"), origin="http://evil.example")
            await client.post(bytes(LARGE + 1))
        told = " ".join({*client.warned})
        assert len({*client.warned}) == 3
        assert "a proxy has to send the address of --listen as Host" in told
        assert "refused a request of a web page of another host (403)" in told
        assert "refused a message, HTTP 413: it has no length, is too large" in told


async def test_other_paths_and_methods_are_not_there(guarded: Guarded) -> None:
    async with guarded() as client:
        assert (await client.http.post("/other", content=client.request("read"))).status_code == 404
        assert (await client.http.put("/mcp", content=b"")).status_code == 405
        assert client.upstream.got == []
        assert (await client.http.delete("/mcp", headers={"mcp-session-id": "s1"})).status_code == 204
        assert client.upstream.got[-1][1]["mcp-session-id"] == "s1"


async def test_a_server_that_is_away_is_a_bad_gateway() -> None:
    warned = list[str]()
    async with http_client() as away:
        handler = GuardHandler(Gate(Authority.temporary().verifier("files"), ToolTable("files")), warned.append)
        app = Listener(handler, away, "http://127.0.0.1:1/mcp", warn=warned.append)
        async with served_here(app) as own, httpx.AsyncClient(base_url=own, trust_env=False) as http:
            ping = encoded({"id": 1, "method": "ping"})
            found = await http.post("/mcp", content=ping, headers={"content-type": "application/json"})
            assert (found.status_code, found.json()["id"]) == (502, 1)
            assert warned == ["a request got no answer: the server cannot be reached (ConnectError)"]
