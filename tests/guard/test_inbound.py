"""Messages of clients over HTTP: what a head shows decides what is read of a body, and how soon."""

import asyncio
import json
import pickle
import time
from http import HTTPStatus
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capx.api.jsonrpc import Notification, Request, UnreadableMessage, read_message
from capx.authority.authority import Authority
from capx.errors import CapxError
from capx.guard.asgi.messages import TooMuch
from capx.guard.asgi.slots import NoSlot, Sender, Slots
from capx.guard.mcp import inbound
from capx.guard.mcp.inbound import LARGE, Inbound, InboundMessages, Unread
from capx.verify.decision import Denied
from capx.verify.verifier import Authentic, Verifier

TOKEN = cast("Authentic", SimpleNamespace(frame=SimpleNamespace(identifier_bytes=b"one")))
CALLER = b"other"
BARE = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
MIB = 1 << 20


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Authority.temporary().verifier("files")


class Lab:
    """Messages that one made-up text authenticates; everything else is denied."""

    def __init__(self, verifier: Verifier, *, most: int = MIB, slots: int = 8) -> None:
        self.slots = Slots(slots, "requests")
        self.checked: list[str] = []
        self.verifier = verifier
        self.messages = InboundMessages(self.slots, most, self.authenticate, lambda token: token is self.ended)
        self.ended: Authentic | None = None
        self.received = 0

    def authenticate(self, text: str) -> Authentic:
        self.checked.append(text)
        return TOKEN if text == "good" else self.verifier.authenticate(text)

    async def read(self, body: bytes, by: Sender = "a", **headers: str) -> Inbound:
        async def receive() -> Any:
            self.received += 1
            return {"type": "http.request", "body": body}

        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sized = {"content-length": str(len(body)), **named}
        async with self.messages.read(sized, receive, by) as found:
            return found


def presenting(shown: object = "good", size: int = 0, method: str = "tools/call") -> bytes:
    meta = json.dumps({"dev.capx/presentation": shown}).encode()
    return b'{"jsonrpc":"2.0","id":1,"method":"%b","params":{"x":"%b","_meta":%b}}' % (
        method.encode(),
        b"x" * size,
        meta,
    )


async def test_a_token_is_found_in_the_head_or_in_the_message(verifier: Verifier) -> None:
    lab = Lab(verifier)
    assert (await lab.read(BARE)).token is None
    body = presenting()
    in_head, in_message = await lab.read(body, capx_presentation="good"), await lab.read(body)
    assert (in_head.token, in_message.token, in_head.size) == (TOKEN, TOKEN, len(body))
    assert isinstance(in_head.message, Request)
    # Once each: what the head shows is not checked again.
    assert lab.checked == ["good", "good"]
    made_up = await lab.read(presenting("bad"))
    assert made_up.token is None
    assert (await lab.read(presenting(1))).token is None
    told = BARE.replace(b'"id":1,', b"")
    assert isinstance((await lab.read(told)).message, Notification)


@pytest.mark.parametrize("shown", ["good", "bad"])
async def test_a_head_that_says_something_else_is_refused(verifier: Verifier, shown: str) -> None:
    lab = Lab(verifier)
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"_meta":{"dev.capx/presentation":"%b"}}}' % shown.encode()
    for body in (BARE, presenting("other"), presenting(None), answer):
        with pytest.raises(UnreadableMessage, match=r"^Capx-Presentation is not dev\.capx/"):
            await lab.read(body, capx_presentation=shown)


async def test_a_large_body_is_read_of_a_caller_alone(verifier: Verifier) -> None:
    lab = Lab(verifier)
    large = presenting(size=LARGE)
    with pytest.raises(
        Unread, match=f"^this message was not read: one of more than {LARGE} bytes repeats its "
    ) as bare:
        await lab.read(large)
    with pytest.raises(Unread, match=r"^this message was not read: ") as made_up:
        await lab.read(large, capx_presentation="bad")
    assert {bare.value.status, made_up.value.status} == {HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    with pytest.raises(Denied) as denied:
        verifier.authenticate("bad")
    assert str(denied.value) in str(made_up.value)
    assert lab.received == 0
    assert (await lab.read(large, capx_presentation="good")).token is TOKEN
    assert (await lab.read(large, CALLER)).token is TOKEN
    exact = presenting("bad", LARGE - len(presenting("bad")))
    assert (await lab.read(exact)).size == LARGE
    with pytest.raises(Unread):
        await lab.read(exact + b" ")


@pytest.mark.parametrize("length", ["", "-1", "+1", "1 ", "1_0", "0x10", "٣", "²", "1" * 13])
async def test_a_body_without_a_length_is_not_read(verifier: Verifier, length: str) -> None:
    lab = Lab(verifier)
    with pytest.raises(Unread, match=r"^this message was not read: it has no Content-Length$") as error:
        await lab.read(BARE, CALLER, content_length=length)
    assert (error.value.status, lab.received) == (HTTPStatus.LENGTH_REQUIRED, 0)


async def test_a_length_may_have_twelve_digits(verifier: Verifier) -> None:
    assert (await Lab(verifier).read(BARE, content_length=str(len(BARE)).zfill(12))).size == len(BARE)


async def test_a_head_that_says_no_length_is_refused(verifier: Verifier) -> None:
    lab = Lab(verifier)

    async def never() -> Any:
        raise AssertionError

    with pytest.raises(Unread, match=r"it has no Content-Length$"):
        async with lab.messages.read({}, never, CALLER):
            pass


async def test_a_body_has_a_bound_and_the_length_that_its_head_says(verifier: Verifier) -> None:
    lab = Lab(verifier, most=1000)
    with pytest.raises(Unread, match="more than 1000 bytes"):
        await lab.read(BARE, CALLER, content_length="1001")
    assert lab.received == 0
    with pytest.raises(TooMuch):
        await lab.read(BARE, content_length=str(len(BARE) - 1))
    assert (await lab.read(BARE.ljust(1000))).size == 1000
    with pytest.raises(Unread):
        await lab.read(BARE, CALLER, content_length="9" * 12)


async def test_a_message_holds_its_slots_while_the_block_runs(verifier: Verifier) -> None:
    lab = Lab(verifier, slots=4)
    sized = {"content-length": str(len(presenting()))}

    async def receive() -> Any:
        return {"type": "http.request", "body": presenting()}

    bare = {"content-length": str(len(BARE))}

    async def receive_bare() -> Any:
        return {"type": "http.request", "body": BARE}

    async with lab.messages.read(bare, receive_bare, "a"):
        with pytest.raises(NoSlot, match="requests"):
            await lab.read(BARE)
        await lab.read(BARE, "b")
        with pytest.raises(NoSlot):
            async with lab.messages.read(bare, receive_bare, "b"):
                await lab.read(BARE, "c")
    # Who presents in the message leaves the slot of a stranger, and takes one of its capability.
    async with lab.messages.read(sized, receive, "a"), lab.messages.read(sized, receive, "a"):
        await lab.read(BARE)
        for how in ({}, {"capx_presentation": "good"}):
            with pytest.raises(NoSlot):
                await lab.read(presenting(), b"one", **how)
        await lab.read(BARE, CALLER)
    with pytest.raises(UnreadableMessage):
        await lab.read(b"no JSON")
    await lab.read(BARE)


async def test_bytes_of_strangers_are_an_eighth(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "BYTES", 32_000)
    lab = Lab(verifier, most=16_000, slots=100)
    # Of strangers 4 000 together, and 2 000 of one address.
    assert (await lab.read(BARE.ljust(2000))).size == 2000
    with pytest.raises(NoSlot, match=r"^too many bytes are being served"):
        await lab.read(BARE.ljust(2001))
    assert (await lab.read(BARE.ljust(16_000), CALLER)).size == 16_000
    large = Lab(verifier, most=64_000, slots=100)
    assert (await large.read(BARE.ljust(64_000), CALLER)).size == 64_000


async def test_bodies_of_strangers_are_parsed_in_turn(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(verifier, slots=100)
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":%b0%b}}' % (b"[" * 150, b"]" * 150)
    parsed: list[float] = []

    def slow(data: bytes) -> Any:
        parsed.append(time.monotonic())
        time.sleep(0.01)
        return read_message(data)

    monkeypatch.setattr(inbound, "read_message", slow)
    strangers = [lab.read(body.ljust(1025), str(number)) for number in range(4)]
    began = time.monotonic()
    await asyncio.gather(*strangers)
    assert min(later - before for before, later in pairwise(parsed)) > 0.045
    # Callers do not wait, nor do small bodies.
    parsed.clear()
    turn = asyncio.create_task(lab.read(body.ljust(1025)))
    await asyncio.sleep(0.005)
    began = time.monotonic()
    await lab.read(body.ljust(LARGE), CALLER)
    await lab.read(body.ljust(1024), "b")
    assert time.monotonic() - began < 0.045
    await turn
    assert len(parsed) == 3


async def test_large_bodies_of_one_capability_are_parsed_in_turn(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(verifier, slots=100)
    parsed: list[float] = []

    def slow(data: bytes) -> Any:
        parsed.append(time.monotonic())
        time.sleep(0.02)
        return read_message(data)

    monkeypatch.setattr(inbound, "read_message", slow)
    large = BARE.ljust(LARGE + 1)
    await asyncio.gather(*(lab.read(large, CALLER) for _ in range(4)))
    assert min(later - before for before, later in pairwise(parsed)) > 0.035
    # No other capability waits, though the first is at rest.
    turn = asyncio.create_task(lab.read(large, CALLER))
    await asyncio.sleep(0.005)
    began = time.monotonic()
    await lab.read(BARE.ljust(LARGE), CALLER)
    assert not turn.done()
    assert time.monotonic() - began < 0.035
    await turn
    parsed.clear()
    await asyncio.gather(lab.read(large, CALLER), lab.read(large, b"third"))
    assert parsed[1] - parsed[0] < 0.035


async def test_who_shows_a_token_that_has_ended_is_a_stranger(verifier: Verifier) -> None:
    lab = Lab(verifier)
    lab.ended = TOKEN
    with pytest.raises(Unread, match=r"^this message was not read: its token has ended$"):
        await lab.read(presenting(size=LARGE), capx_presentation="good")
    assert (await lab.read(presenting())).token is None
    assert (await lab.read(presenting(), capx_presentation="good")).token is None


async def test_one_turn_that_fails_holds_up_no_other(verifier: Verifier) -> None:
    lab = Lab(verifier)
    with pytest.raises(UnreadableMessage):
        await lab.read(b"x" * 2000)
    assert (await lab.read(BARE.ljust(2000))).size == 2000


def test_what_is_not_read_says_so() -> None:
    error = Unread("it has no end", HTTPStatus.LENGTH_REQUIRED)
    assert isinstance(error, CapxError)
    assert (str(error), error.status) == ("it has no end", 411)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.status) == ("it has no end", 411)
