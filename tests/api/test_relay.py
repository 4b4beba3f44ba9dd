"""A relay with a handler of a test, between a client and a server that are queues: ids, order, and how it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from capx.api.jsonrpc import Message, Notification, Request, Response, write_message
from capx.api.relay.connection import Gone
from capx.api.relay.lines import TooLong
from capx.api.relay.refusals import refused
from capx.api.relay.relay import Ask, Relay, own_id
from capx.errors import Unavailable


class Side:
    """One side of a relay: what it says, and what it gets."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        self.is_gone = False

    async def receive(self) -> bytes | None:
        found = await self.said.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def send(self, message: Message) -> None:
        if self.is_gone:
            raise Gone("it does not read any more")
        self.got.put_nowait(json.loads(write_message(message)))

    def say(self, **message: Any) -> None:
        self.said.put_nowait(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def next(self) -> Any:
        return await asyncio.wait_for(self.got.get(), 10)

    async def close(self) -> None: ...

    def hurry(self) -> None: ...

    def ending(self) -> str:
        return "has left"


class Passing:
    """Passes every request on; one called `slow` waits first, `twice` asks twice, and `fails` fails."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def answer(self, request: Request, size: int, ask: Ask) -> Response:
        self.sizes.append(size)
        if request.method == "slow":
            await asyncio.sleep(0.1)
        if request.method == "fails":
            raise ZeroDivisionError("a secret\x1b")
        if request.method == "unavailable":
            return refused(request, Unavailable("nobody is there"))
        if request.method == "twice":
            await ask(Request(own_id(), "before"))
        return await ask(request)

    def passing(self, notification: Notification) -> Notification | None:
        return None if notification.method == "dropped" else notification

    def noted(self, notification: Notification) -> None:
        self.last = notification.method


class World:
    def __init__(self) -> None:
        self.client = Side()
        self.server = Side()
        self.warned: list[str] = []
        self.handler = Passing()
        self.relay = Relay(self.client, self.server, self.handler, warn=self.warned.append, most=3)

    async def answer_all(self, count: int) -> list[Any]:
        """Answer so many requests at the server, in order."""
        asked = [await self.server.next() for _ in range(count)]
        for one in asked:
            self.server.say(id=one["id"], result={"method": one["method"]})
        return asked


Act = Callable[[World], Awaitable[None]]


def run(act: Act) -> str:
    async def main() -> str:
        world = World()
        running: asyncio.Task[str] = asyncio.create_task(world.relay.run())
        await asyncio.wait_for(act(world), 20)
        world.client.said.put_nowait(None)
        return await asyncio.wait_for(running, 20)

    return asyncio.run(main())


def test_messages_reach_the_server_in_their_order() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="initialize")
        world.client.say(method="notifications/initialized")
        world.client.say(id=2, method="tools/list")
        got = [await world.server.next() for _ in range(3)]
        assert [one["method"] for one in got] == ["initialize", "notifications/initialized", "tools/list"]
        for one in (got[0], got[2]):
            world.server.say(id=one["id"], result={})

    assert run(act) == "client"


def test_answers_come_as_they_are_ready() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="slow")
        world.client.say(id=2, method="quick")
        await world.answer_all(2)
        assert [(await world.client.next())["id"] for _ in range(2)] == [2, 1]

    run(act)


def test_the_server_gets_ids_of_the_relay() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="twice")
        before = await world.server.next()
        assert before["id"] == 1
        world.server.say(id=before["id"], result={})
        world.client.say(id="two", method="quick")
        await world.answer_all(2)
        assert {(await world.client.next())["id"] for _ in range(2)} == {1, "two"}
        assert own_id() != own_id()

    run(act)


def test_a_request_that_fails_ends_no_other() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="fails")
        failed = await world.client.next()
        assert failed["id"] == 1
        assert failed["error"] == {"code": -32603, "message": "this proxy failed: its standard error says why"}
        assert world.warned == ["a request could not be answered: ZeroDivisionError: a secret\\x1b"]
        world.client.say(id=1, method="quick")
        await world.answer_all(1)
        assert "result" in await world.client.next()

    run(act)


def test_a_request_that_is_cancelled_before_it_is_sent_is_not() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="slow")
        world.client.say(method="notifications/cancelled", params={"requestId": 1})
        await asyncio.sleep(0.2)
        assert world.server.got.empty()
        assert world.client.got.empty()
        # Nobody has it, so its id is free.
        world.client.say(id=1, method="quick")
        await world.answer_all(1)
        assert (await world.client.next())["id"] == 1

    run(act)


def test_the_late_answer_to_a_cancelled_request_is_dropped() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="quick")
        first = await world.server.next()
        world.client.say(method="notifications/cancelled", params={"requestId": 1})
        told = await world.server.next()
        assert (told["method"], told["params"]) == ("notifications/cancelled", {"requestId": first["id"]})
        world.client.say(id=1, method="again")
        again = await world.server.next()
        assert again["id"] != first["id"]
        world.server.say(id=first["id"], result={"late": True})
        world.server.say(id=again["id"], result={"method": "again"})
        assert (await world.client.next())["result"] == {"method": "again"}
        assert world.warned == ["an answer of the server was dropped: nobody waits for it"]

    run(act)


def test_what_nests_too_deeply_ends_no_relay() -> None:
    async def act(world: World) -> None:
        # At each depth: what can be read with the stack that is left is one, and what can be written another.
        for levels in (*range(200, 900, 50), *range(900, 1000)):
            nested = b"[" * levels + b"]" * levels
            line = b'{"jsonrpc":"2.0","method":"notifications/x","params":{"deep":%b}}' % nested
            world.client.said.put_nowait(line)
            world.server.said.put_nowait(line)
        world.client.say(id=1, method="quick")
        while (await world.server.next())["method"] != "quick":
            pass
        world.server.say(id=1, result={})
        while (await world.client.next()).get("result") != {}:
            pass

    assert run(act) == "client"


def test_a_dropped_notification_does_not_pass() -> None:
    async def act(world: World) -> None:
        world.client.say(method="dropped")
        world.client.say(method="kept")
        assert (await world.server.next())["method"] == "kept"
        world.server.say(method="notifications/tools/list_changed")
        assert (await world.client.next())["method"] == "notifications/tools/list_changed"
        assert world.handler.last == "notifications/tools/list_changed"

    run(act)


def test_the_server_may_ask_only_so_much_and_no_id_twice() -> None:
    async def act(world: World) -> None:
        for id in (1, 1, 2, 3, 4):
            world.server.say(id=id, method="sampling/createMessage")
        assert [(await world.client.next())["id"] for _ in range(3)] == [1, 2, 3]
        refusals = [await world.server.next() for _ in range(2)]
        assert [(one["id"], one["error"]["code"]) for one in refusals] == [(1, -32600), (4, 503)]
        assert [one["error"]["message"] for one in refusals] == [
            "this id is in use",
            "3 requests wait for the client already",
        ]
        world.server.say(method="notifications/cancelled", params={"requestId": 2})
        assert (await world.client.next())["method"] == "notifications/cancelled"
        for id in (2, 1, 1):
            world.client.say(id=id, result={})
        world.client.say(method="kept")
        assert [(await world.server.next()).get("id") for _ in range(2)] == [1, None]
        assert world.warned == ["an answer of the client was dropped: the server has not asked for it"]

    run(act)


def test_a_server_that_leaves_fails_what_is_in_flight() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="quick")
        world.client.say(id=2, method="slow")
        await world.server.next()
        world.server.said.put_nowait(None)
        error = {"code": -32603, "message": "the server has left: nobody can answer this request"}
        for id in (1, 2):
            assert await world.client.next() == {"jsonrpc": "2.0", "id": id, "error": error}

    assert run(act) == "server"


def test_a_client_that_leaves_gets_what_comes_within_a_moment() -> None:
    async def main() -> None:
        world = World()
        running = asyncio.create_task(world.relay.run())
        world.client.say(id=1, method="slow")
        world.client.said.put_nowait(None)
        await world.answer_all(1)
        assert (await world.client.next())["id"] == 1
        # No longer than until all is answered.
        assert await asyncio.wait_for(running, 1) == "client"

    asyncio.run(main())


def test_a_client_that_leaves_gets_no_more_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capx.api.relay.relay._MOMENT", 0.3)

    async def main() -> None:
        world = World()
        running = asyncio.create_task(world.relay.run())
        world.client.say(id=1, method="never answered")
        world.client.say(id=2, method="slow")
        world.client.said.put_nowait(None)
        await world.server.next()
        await world.answer_all(1)
        assert (await world.client.next())["id"] == 2
        assert await asyncio.wait_for(running, 10) == "client"

    asyncio.run(main())


def test_a_server_that_does_not_read_is_told_of_once() -> None:
    async def act(world: World) -> None:
        world.server.is_gone = True
        for _ in range(3):
            world.client.say(method="kept")
        world.client.say(id=1, method="quick")
        assert "does not read any more" in (await world.client.next())["error"]["message"]
        assert world.warned == ["it does not read any more"]

    run(act)


def test_a_client_that_does_not_read_ends_the_relay() -> None:
    async def main() -> None:
        world = World()
        running = asyncio.create_task(world.relay.run())
        world.client.is_gone = True
        world.client.say(id=1, method="unavailable")
        assert await asyncio.wait_for(running, 10) == "client"

    asyncio.run(main())


@pytest.mark.parametrize("head", [b'{"id":1,', b'{"id":"1",', b""])
def test_an_answer_that_is_too_long_fails_its_request_alone(head: bytes) -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="quick")
        await world.server.next()
        world.server.said.put_nowait(TooLong(9, head))
        if b"1," not in head:
            world.server.say(id=1, result={})
        answer = await world.client.next()
        assert answer["id"] == 1
        why = "a message has more than 9 bytes, the most here: --max-message sets it, in MiB"
        assert world.warned == [f"a message of the server was dropped: {why}"]
        if b"1," in head:
            message = f"the answer of the server cannot be passed on: {why}"
            assert answer["error"] == {"code": -32603, "message": message}
        else:
            assert answer["result"] == {}

    run(act)


def test_an_answer_that_cannot_be_read_fails_its_request() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="quick")
        await world.server.next()
        world.server.say(id=1, result={}, other=1)
        assert "'other' is no member" in (await world.client.next())["error"]["message"]

    run(act)


def test_a_server_does_not_fill_the_log() -> None:
    async def act(world: World) -> None:
        for number in range(5):
            world.server.say(**{f"other{number}": 1})
        world.server.say(method="notifications/message")
        await world.client.next()
        assert len(world.warned) == 3

    run(act)


def test_an_id_is_in_use_until_its_request_is_answered() -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="slow")
        world.client.say(id=1, method="quick")
        why = "the id 1 is in use: give each request an id of its own"
        error = {"code": -32600, "message": why}
        assert await world.client.next() == {"jsonrpc": "2.0", "id": None, "error": error}
        # The client would take an error with this id for its answer.
        for id, told in ((1, None), (2, 2)):
            world.client.say(id=id, method="quick", other=1)
            error = {"code": -32600, "message": "'other' is no member of a message of JSON-RPC"}
            assert await world.client.next() == {"jsonrpc": "2.0", "id": told, "error": error}
        await world.answer_all(1)
        assert (await world.client.next())["id"] == 1
        world.client.say(id=1, method="quick")
        await world.answer_all(1)
        assert (await world.client.next())["id"] == 1

    run(act)


def test_only_so_many_requests_of_the_client_are_in_flight() -> None:
    async def act(world: World) -> None:
        for id in range(4):
            world.client.say(id=id, method="slow")
        why = "3 requests are being answered already: wait for an answer, then try again"
        assert await world.client.next() == {"jsonrpc": "2.0", "id": 3, "error": {"code": 503, "message": why}}
        await world.answer_all(3)
        assert [(await world.client.next())["id"] for _ in range(3)] == [0, 1, 2]

    run(act)


@pytest.mark.parametrize("id", [True, 1.0, "1", [], {}, None, 2])
def test_a_cancellation_of_nothing_cancels_nothing(id: Any) -> None:
    async def act(world: World) -> None:
        world.client.say(id=1, method="quick")
        world.client.say(method="notifications/cancelled", params={"requestId": id})
        world.client.say(method="notifications/cancelled")
        world.client.say(method="kept")
        (asked,) = await world.answer_all(1)
        assert (await world.client.next())["result"] == {"method": "quick"}
        assert (await world.server.next())["method"] == "kept"
        assert asked["method"] == "quick"

    run(act)


def test_the_handler_is_told_how_long_a_request_is() -> None:
    async def act(world: World) -> None:
        line = b'{"jsonrpc":"2.0","id":1,"method":"unavailable"}'
        world.client.said.put_nowait(line)
        await world.client.next()
        assert world.handler.sizes == [len(line)]

    run(act)


def test_an_answer_that_cannot_be_read_fails_its_request_alone() -> None:
    async def act(world: World) -> None:
        for id in (1, 2):
            world.client.say(id=id, method="quick")
            await world.server.next()
        world.server.said.put_nowait(b'{"jsonrpc":"2.0","id":1,"result":{"n":NaN}}')
        assert "cannot be passed on" in (await world.client.next())["error"]["message"]
        # A request of the server may have the same number.
        world.server.said.put_nowait(b'{"jsonrpc":"2.0","id":2,"method":"roots/list","trace":1}')
        world.server.say(id=2, result={})
        assert (await world.client.next())["result"] == {}

    run(act)


def test_what_is_too_long_from_the_client_gets_one_error() -> None:
    async def act(world: World) -> None:
        world.client.said.put_nowait(TooLong(9, b'{"id":1,'))
        error = {
            "code": -32600,
            "message": "a message has more than 9 bytes, the most here: --max-message sets it, in MiB",
        }
        assert await world.client.next() == {"jsonrpc": "2.0", "id": None, "error": error}

    run(act)
