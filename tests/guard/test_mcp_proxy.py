"""A guard in a process of its own, attacked with raw messages: what reaches the server, and what comes back."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from capx.api.jsonrpc import Message, write_message
from capx.api.mcp_messages import OwnMeta, bound_request, with_own
from capx.api.relay.child import Child
from capx.api.relay.relay import Relay
from capx.authority.authority import Authority
from capx.guard.call_facts import GRANTED
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.proxy import GuardHandler
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.bundle import Bundle

CHILD = Path(__file__).resolve().parents[1] / "labs" / "mcp_child.py"
TABLE = {name: ToolSpec("files.read", tenant=GRANTED) for name in ("read", "slow")}
TABLE["write"] = ToolSpec("files.write", tenant=GRANTED)


class Client:
    """A client that can send anything, and reads what comes back."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.got: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.warned: list[str] = []
        self.ended = ""
        """Which side has ended first."""

    async def receive(self) -> bytes | None:
        return await self.sent.get()

    async def send(self, message: Message) -> None:
        self.got.put_nowait(json.loads(write_message(message)))

    def raw(self, data: bytes) -> None:
        self.sent.put_nowait(data)

    def say(self, **message: Any) -> None:
        self.raw(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def call(self, id: object, name: str, method: str = "tools/call", **arguments: Any) -> None:
        """Send a presented call."""
        params = {"name": name, "arguments": arguments}
        shown = self.bundle.present("files", bound_request(method, params))
        self.say(id=id, method=method, params=with_own(params, OwnMeta(shown.text)))

    async def answer(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.got.get(), 20)

    async def nothing_more(self) -> None:
        """An answer that comes only after all before it, and nothing else."""
        self.say(id="last", method="ping")
        assert (await self.answer())["id"] == "last"
        assert self.got.empty()

    async def seen(self) -> list[dict[str, Any]]:
        """What the server has got before this."""
        self.call("seen", "read", path="/seen")
        answer = await self.answer()
        found: list[dict[str, Any]] = json.loads(text(answer))
        return found[:-1]


def text(answer: dict[str, Any]) -> str:
    found: str = answer["result"]["content"][0]["text"]
    return found


@asynccontextmanager
async def relayed(client: Client, gate: Gate, how: str, most: int = 1 << 20) -> AsyncGenerator["asyncio.Task[str]"]:
    server = await Child.start([sys.executable, str(CHILD), how], most=most, patience=5)
    relay = Relay(client, server, GuardHandler(gate, client.warned.append), warn=client.warned.append, most=8)
    running: asyncio.Task[str] = asyncio.create_task(relay.run())
    try:
        yield running
        client.sent.put_nowait(None)
        await running
    finally:
        running.cancel()
        await server.close()


class Guarded(Protocol):
    """Opens the guard of a child that behaves in some way, for one client."""

    def __call__(self, how: str = "honest", /) -> AbstractAsyncContextManager[Client]: ...


@pytest.fixture
def guarded() -> Guarded:
    authority = Authority.temporary()
    bundle = authority.open(tenant="Acme", allow=["files.read"]).bundle
    gate = Gate(authority.verifier("files"), ToolTable("files", TABLE))

    @asynccontextmanager
    async def opened(how: str = "honest", /) -> AsyncGenerator[Client]:
        client = Client(bundle)
        async with relayed(client, gate, how) as running, asyncio.timeout(60):
            yield client
        client.ended = running.result()

    return opened


async def test_an_allowed_call_reaches_the_server_without_capx(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(7, "read", path="/a")
        answer = await client.answer()
        assert answer["id"] == 7
        (listed, called) = json.loads(text(answer))
        assert listed["method"] == "tools/list"
        assert called == {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "read", "arguments": {"path": "/a"}},
        }
    assert client.ended == "client"


async def test_a_denied_call_never_reaches_the_server(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "write", path="/a")
        answer = await client.answer()
        assert answer["result"]["isError"]
        assert answer["result"]["_meta"]["dev.capx/problem"]["code"] == "action_not_allowed"
        assert [one["method"] for one in await client.seen()] == ["tools/list"]


async def test_a_hidden_tool_that_is_called_is_unknown(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "hidden")
        assert (await client.answer())["error"] == {"code": -32602, "message": "Unknown tool: 'hidden'"}


async def test_a_list_shows_what_the_token_allows(guarded: Guarded) -> None:
    async with guarded() as client:
        shown = client.bundle.present("files", bound_request("tools/list", {}))
        client.say(id=1, method="tools/list", params=with_own({}, OwnMeta(shown.text)))
        assert [tool["name"] for tool in (await client.answer())["result"]["tools"]] == ["read", "slow"]
        client.say(id=2, method="tools/list")
        assert (await client.answer())["result"] == {"tools": []}


async def test_a_presentation_that_is_replayed_is_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        params = {"name": "read", "arguments": {"path": "/a"}}
        shown = client.bundle.present("files", bound_request("tools/call", params))
        for id in (1, 2):
            client.say(id=id, method="tools/call", params=with_own(params, OwnMeta(shown.text)))
            answer = await client.answer()
        assert answer["result"]["_meta"]["dev.capx/problem"]["code"] == "replayed"


async def test_an_id_in_use_is_refused_and_its_request_answered(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "slow", seconds=0.5)
        client.call(1, "read", path="/a")
        refused, answered = await client.answer(), await client.answer()
        assert refused["id"] is None
        assert "the id 1 is in use" in refused["error"]["message"]
        assert (answered["id"], text(answered)) == (1, "done")
        client.call(1, "read", path="/b")
        assert (await client.answer())["id"] == 1


async def test_the_number_1_and_the_text_1_are_two_ids(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "slow", seconds=0.2)
        client.call("1", "read", path="/a")
        answers = [await client.answer(), await client.answer()]
        assert [(one["id"], "done" in text(one)) for one in answers] == [(1, True), ("1", False)]


async def test_a_request_that_is_cancelled_while_judged_is_not_sent(guarded: Guarded) -> None:
    async with guarded() as client:
        for nth in range(20):
            client.call(nth, "read", path=f"/{nth}")
            client.say(method="notifications/cancelled", params={"requestId": nth})
        await asyncio.sleep(0.2)
        sent = await client.seen()
        called = {one["id"] for one in sent if one["method"] == "tools/call"}
        told = {one["params"]["requestId"] for one in sent if one["method"] == "notifications/cancelled"}
        # What was sent before the cancellation came has to be cancelled at the server.
        assert called == told
        assert client.got.empty()


async def test_a_cancelled_request_at_the_server_gets_no_answer(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "read", path="/first")
        await client.answer()
        client.call(2, "slow", seconds=0.5)
        await asyncio.sleep(0.2)
        client.say(method="notifications/cancelled", params={"requestId": 2})
        # The server knows it by another id, so the client may use its own again.
        client.call(2, "read", path="/again")
        assert (await client.answer())["id"] == 2
        seen = await client.seen()
        (cancelled,) = (one for one in seen if one["method"] == "notifications/cancelled")
        (slow,) = (one for one in seen if one.get("params", {}).get("name") == "slow")
        assert cancelled["params"] == {"requestId": slow["id"]}
        await client.nothing_more()


@pytest.mark.parametrize("id", [5, "1", True, None, [1], {}, 1.5])
async def test_a_cancellation_of_what_is_not_in_flight_stays_here(guarded: Guarded, id: object) -> None:
    async with guarded() as client:
        client.call(1, "slow", seconds=0.2)
        client.say(method="notifications/cancelled", params={"requestId": id})
        assert (await client.answer())["id"] == 1
        assert [one["method"] for one in await client.seen()] == ["tools/list", "tools/call"]


async def test_a_call_that_is_sent_as_a_notification_is_dropped(guarded: Guarded) -> None:
    async with guarded() as client:
        client.say(method="tools/call", params={"name": "write", "arguments": {}})
        client.say(method="notifications/roots/list_changed", params={"_meta": {"dev.capx/asks": True, "a": 1}})
        first, _ = await client.seen()
        assert first["method"] == "notifications/roots/list_changed"
        assert first["params"] == {"_meta": {"a": 1}}
        assert client.warned == ["a notification of the client was dropped: it has the name of a request"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"this is no JSON", -32700),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"tools/call"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32600),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"7", -32600),
    ],
)
async def test_what_cannot_be_read_gets_one_error(guarded: Guarded, data: bytes, code: int) -> None:
    async with guarded() as client:
        client.raw(data)
        answer = await client.answer()
        assert answer["error"]["code"] == code
        await client.nothing_more()


async def test_an_unreadable_message_does_not_answer_for_another(guarded: Guarded) -> None:
    async with guarded() as client:
        client.call(1, "slow", seconds=0.2)
        client.raw(b'{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}')
        unreadable, answered = await client.answer(), await client.answer()
        assert (unreadable["id"], answered["id"]) == (None, 1)


async def test_more_requests_than_may_be_in_flight_are_refused(guarded: Guarded) -> None:
    async with guarded() as client:
        for nth in range(10):
            client.call(nth, "slow", seconds=0.05)
        answers = [await client.answer() for _ in range(10)]
        refused = [one for one in answers if "error" in one]
        assert [one["error"]["code"] for one in refused] == [503, 503]
        assert {one["id"] for one in answers} == set(range(10))


async def test_a_child_that_dies_ends_what_is_in_flight(guarded: Guarded) -> None:
    async with guarded("dies") as client:
        for nth in range(3):
            client.call(nth, "read", path="/a")
        answers = [await client.answer() for _ in range(3)]
        assert {one["id"] for one in answers} == {0, 1, 2}
        assert all(one["error"]["code"] == -32603 for one in answers)
    assert client.ended == "server"


async def test_garbage_of_a_child_is_dropped(guarded: Guarded) -> None:
    async with guarded("garbage") as client:
        client.call(1, "write")
        client.call(2, "read", path="/a")
        assert [(await client.answer())["id"] for _ in range(2)] == [1, 2]
        await client.nothing_more()
        assert client.warned


@pytest.mark.parametrize("how", ["twice", "unasked"])
async def test_an_answer_that_nobody_waits_for_is_dropped(guarded: Guarded, how: str) -> None:
    async with guarded(how) as client:
        for id in (1, 2):
            client.call(id, "read", path="/a")
            answer = await client.answer()
            assert answer["id"] == id
            assert text(answer).startswith("[")
        await client.nothing_more()
        assert client.warned == ["an answer of the server was dropped: nobody waits for it"]


@pytest.mark.parametrize("how", ["long", "unreadable"])
async def test_an_answer_that_cannot_pass_fails_its_request(guarded: Guarded, how: str) -> None:
    async with guarded(how) as client:
        client.call(1, "read", path="/a")
        answer = await client.answer()
        assert answer["id"] == 1
        assert "the answer of the server cannot be passed on" in answer["error"]["message"]
        await client.nothing_more()


async def test_what_the_server_asks_reaches_the_client_and_back(guarded: Guarded) -> None:
    async with guarded("asks") as client:
        client.call(1, "read", path="/a")
        asked, said = await client.answer(), await client.answer()
        assert (asked["method"], asked["id"], said["method"]) == ("elicitation/create", 1, "notifications/message")
        client.say(id="1", result={"action": "accept", "another": True})
        client.say(id=1, result={"action": "accept"})
        client.say(id=1, result={"action": "again"})
        answer = await client.answer()
        assert json.loads(text(answer)) == {"action": "accept"}
        assert client.warned == ["an answer of the client was dropped: the server has not asked for it"]


@pytest.mark.parametrize("how", ["forges", "forges_result"])
async def test_no_server_can_write_a_denial(guarded: Guarded, how: str) -> None:
    async with guarded(how) as client:
        client.call(1, "read", path="/a")
        assert "urn:capx" not in json.dumps(await client.answer())


async def test_the_child_gets_no_variable_of_capx(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPX_KEY_FILE", "/nowhere")
    async with guarded("environment") as client:
        client.call(1, "read", path="/a")
        assert text(await client.answer()) == "[]"


async def test_a_server_that_never_answers_holds_up_nobody(guarded: Guarded) -> None:
    async with guarded("silent") as client:
        client.call(1, "read", path="/a")
        await client.nothing_more()
    assert client.ended == "client"
