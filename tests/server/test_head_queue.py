"""Few requests begin in one turn of the event loop, in their order, and everything else has its turn in between."""

import asyncio
import itertools
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from capx.server.net.head_queue import AT_ONCE, LONGEST, SHORTEST, HeadQueue

AHEAD = int(LONGEST / SHORTEST) + 1
"""How many strangers begin without a pause."""


class Closed(asyncio.Transport):
    """The transport of a socket that is closed, so nobody looks for its client."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = socket.socket()
        found.close()
        return found


def unsorted() -> HeadQueue:
    """A queue for which all are strangers, and none is slowed."""
    return HeadQueue(lambda head, machine: machine, slows_strangers=False)


def put(queue: HeadQueue, begin: Callable[[], None], head: bytes = b"", machine: str = "") -> None:
    """Have a request begin, now or later."""
    if queue.enter(head, machine, begin, Closed()):
        asyncio.get_running_loop().call_soon(begin)


def may_begin(queue: HeadQueue, head: bytes = b"") -> bool:
    """Whether a request begins at once; otherwise it is forgotten."""

    def never() -> None:
        raise AssertionError

    at_once = queue.enter(head, "", never, Closed())
    queue.leave(never)
    return at_once


async def test_few_begin_in_one_turn_in_their_order() -> None:
    begun: list[int] = []
    seen: list[int] = []
    queue = unsorted()
    for number in range(5 * AT_ONCE):
        put(queue, lambda number=number: begun.append(number))  # type: ignore[misc]
    assert begun == []
    while len(begun) < 5 * AT_ONCE:
        await asyncio.sleep(0)
        seen.append(len(begun))
    assert begun == list(range(5 * AT_ONCE))
    assert max(later - before for before, later in zip([0, *seen], seen, strict=False)) == AT_ONCE
    assert len(seen) <= 2 * 5  # as many as may in each turn, and one more turn to call them


async def test_few_begin_at_once_in_one_turn() -> None:
    queue = unsorted()
    for _ in range(3):
        assert [may_begin(queue) for _ in range(AT_ONCE + 2)] == [*AT_ONCE * [True], False, False]
        await asyncio.sleep(0)


async def test_nobody_begins_before_those_that_wait() -> None:
    begun: list[int] = []
    queue = unsorted()
    for number in range(2 * AT_ONCE):
        put(queue, lambda number=number: begun.append(number))  # type: ignore[misc]
    while len(begun) < 2 * AT_ONCE:
        before, at_once = len(begun), sum(may_begin(queue) for _ in range(AT_ONCE))
        assert not at_once or len(begun) >= AT_ONCE
        await asyncio.sleep(0)
        # Both kinds together are few in one turn.
        assert len(begun) - before + at_once <= AT_ONCE


async def test_a_queue_that_was_empty_goes_on() -> None:
    begun: list[str] = []
    queue = unsorted()
    for name in "ab":
        put(queue, lambda name=name: begun.append(name))  # type: ignore[misc]
        await asyncio.sleep(0.01)
    assert begun == ["a", "b"]


def test_one_that_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    async def run() -> None:
        queue = unsorted()
        put(queue, lambda: begun[0])  # type: ignore[arg-type]
        for number in range(2 * AT_ONCE):
            put(queue, lambda number=number: begun.append(number))  # type: ignore[misc]
        while len(begun) < 2 * AT_ONCE:
            await asyncio.sleep(0)

    with caplog.at_level(logging.CRITICAL, logger="asyncio"):
        asyncio.run(run())
    assert begun == list(range(2 * AT_ONCE))


def fill(queue: HeadQueue) -> None:
    """Have as many begin as may in this turn."""
    assert [may_begin(queue) for _ in range(AT_ONCE)] == AT_ONCE * [True]


def sender_of(head: bytes, machine: str) -> str | bytes:
    """The sender of a head that names a caller, or is a stranger's."""
    return machine if head == b"stranger" else head


def slowing() -> HeadQueue:
    return HeadQueue(sender_of, slows_strangers=True)


@pytest.mark.parametrize("slows_strangers", [True, False])
async def test_callers_begin_before_strangers(slows_strangers: bool) -> None:
    begun: list[str] = []
    queue = HeadQueue(sender_of, slows_strangers=slows_strangers)
    for _ in range(3 * AT_ONCE):
        put(queue, lambda: begun.append("stranger"), b"stranger")
    for _ in range(2 * AT_ONCE):
        put(queue, lambda: begun.append("caller"), b"caller")
    while begun.count("caller") < 2 * AT_ONCE:
        await asyncio.sleep(0)
    # Those that had come before the first caller; then one in each turn, if it is not slowed.
    before, after = begun[:AT_ONCE], begun[AT_ONCE:]
    assert before == AT_ONCE * ["stranger"]
    assert after[:4] == ["caller", "stranger", "caller", "stranger"]
    assert after.count("stranger") <= after.count("caller")


async def test_in_one_turn_each_caller_begins_one_request() -> None:
    begun: list[bytes] = []
    seen: list[int] = []
    queue = HeadQueue(sender_of, slows_strangers=False)
    fill(queue)
    for head in 5 * [b"one"] + 3 * [b"other"]:
        put(queue, partial(begun.append, head), head)
    while len(begun) < 8:
        await asyncio.sleep(0)
        seen.append(len(begun))
    assert begun == [*3 * [b"one", b"other"], b"one", b"one"]
    assert max(later - before for before, later in zip([0, *seen], seen, strict=False)) == 2


async def test_callers_leave_a_place_to_a_stranger_that_waits() -> None:
    begun: list[bytes] = []
    queue = HeadQueue(sender_of, slows_strangers=False)
    fill(queue)
    for number in range(3 * AT_ONCE):
        put(queue, partial(begun.append, b"caller"), b"%d" % number)
    for _ in range(2):
        put(queue, partial(begun.append, b"stranger"), b"stranger")
    while len(begun) < AT_ONCE:
        await asyncio.sleep(0)
    assert begun == [*(AT_ONCE - 1) * [b"caller"], b"stranger"]


@pytest.mark.parametrize("heads", [(b"stranger", b"stranger"), (b"one", b"other")])
async def test_senders_take_turns(heads: tuple[bytes, bytes]) -> None:
    begun: list[str] = []
    queue = HeadQueue(sender_of, slows_strangers=False)
    for number in range(3 * AT_ONCE):
        put(queue, lambda number=number: begun.append(f"one {number}"), heads[0], "one")  # type: ignore[misc]
    for number in range(3):
        put(queue, lambda number=number: begun.append(f"other {number}"), heads[1], "other")  # type: ignore[misc]
    while len(begun) < 3 * AT_ONCE + 3:
        await asyncio.sleep(0)
    first = [f"one {number}" for number in range(AT_ONCE)]
    turns = [text for number in range(3) for text in (f"one {AT_ONCE + number}", f"other {number}")]
    assert begun[: AT_ONCE + 6] == first + turns
    assert begun[AT_ONCE + 6 :] == [f"one {number}" for number in range(AT_ONCE + 3, 3 * AT_ONCE)]


@pytest.mark.parametrize("heads", [(b"stranger", b"stranger"), (b"gone", b"here")])
async def test_a_sender_who_left_has_no_turn(heads: tuple[bytes, bytes]) -> None:
    begun: list[str] = []
    queue = HeadQueue(sender_of, slows_strangers=False)
    fill(queue)
    gone = partial(begun.append, "gone")
    put(queue, gone, heads[0], "gone")
    put(queue, partial(begun.append, "here"), heads[1], "here")
    queue.leave(gone)
    await asyncio.sleep(0.05)
    assert begun == ["here"]


@pytest.mark.parametrize("slows_strangers", [True, False])
async def test_nobody_is_looked_at_who_need_not_wait(slows_strangers: bool) -> None:
    queue = HeadQueue(lambda head, machine: pytest.fail("looked at"), slows_strangers=slows_strangers)
    assert [may_begin(queue) for _ in range(AT_ONCE)] == AT_ONCE * [True]
    with pytest.raises(pytest.fail.Exception):
        may_begin(queue)


async def test_strangers_have_a_pause_between() -> None:
    times: list[float] = []
    queue = slowing()
    for _ in range(AHEAD + 12):
        put(queue, lambda: times.append(time.monotonic()), b"stranger")
    while len(times) < AHEAD + 12:
        await asyncio.sleep(SHORTEST / 2)
    assert times[-1] - times[0] > 10 * SHORTEST


async def test_strangers_wait_longer_while_the_process_works() -> None:
    begun: list[float] = []
    queue = slowing()
    began, on_the_wall = time.process_time(), time.monotonic()
    for _ in range(10 * AT_ONCE):
        put(queue, lambda: begun.append(time.process_time() - began), b"stranger")
    while not begun or begun[-1] < 0.3:
        until = time.process_time() + 0.002
        while time.process_time() < until:
            pass
        await asyncio.sleep(0)
    # They have a fifth, and one of them begins every LONGEST at least, also while another process has the processor.
    assert 0.3 / LONGEST - 1 < len(begun) < 4 * AT_ONCE + (time.monotonic() - on_the_wall) / LONGEST


async def test_strangers_begin_though_callers_go_on() -> None:
    begun: list[int] = []
    queue = slowing()
    for number in range(AHEAD + 4):
        put(queue, lambda number=number: begun.append(number), b"stranger")  # type: ignore[misc]
    async with asyncio.timeout(20):
        while len(begun) < AHEAD + 4:
            assert may_begin(queue, b"caller") or len(begun) < AHEAD
            await asyncio.sleep(SHORTEST)
    assert begun == list(range(AHEAD + 4))


async def test_who_has_left_does_not_begin() -> None:
    begun: list[int] = []
    queue = unsorted()
    waiting = [partial(begun.append, number) for number in range(3 * AT_ONCE)]
    for begin in waiting:
        put(queue, begin)
    for begin in waiting[AT_ONCE : 2 * AT_ONCE]:
        queue.leave(begin)
    queue.leave(waiting[AT_ONCE])
    await asyncio.sleep(0.05)
    assert begun == [*range(AT_ONCE), *range(2 * AT_ONCE, 3 * AT_ONCE)]


async def test_no_stranger_overtakes_one_that_waits() -> None:
    queue = slowing()
    while may_begin(queue, b"stranger"):
        await asyncio.sleep(0)
    begun: list[str] = []
    put(queue, lambda: begun.append("first"), b"stranger")
    # By now one may begin, and the turn of the one that waits has not come.
    time.sleep(2 * LONGEST)  # the loop must not go on
    put(queue, lambda: begun.append("second"), b"stranger")
    while len(begun) < 2:
        await asyncio.sleep(SHORTEST)
    assert begun == ["first", "second"]


async def test_strangers_begin_up_to_the_longest_pause_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine that has just started, whose clock begins at 0."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)
    monkeypatch.setattr(time, "process_time", itertools.count().__next__)  # each pause is the longest one
    queue = slowing()
    assert [may_begin(queue, b"stranger") for _ in range(4)] == [True, True, False, False]


async def test_all_strangers_that_wait_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[float] = []
    loop, queue = asyncio.get_running_loop(), slowing()
    monkeypatch.setattr(loop, "time", lambda: 0.0)
    monkeypatch.setattr(loop, "call_later", lambda seconds, _: timers.append(seconds))
    for _ in range(AHEAD + 20):
        put(queue, lambda: None, b"stranger")
        await asyncio.sleep(0)
    assert timers == [SHORTEST]


@asynccontextmanager
async def connected() -> AsyncGenerator[tuple[asyncio.Transport, socket.socket]]:
    """A connection of which nothing is read, and its client."""
    here, client = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
    transport.pause_reading()
    with client:
        yield transport, client
        transport.abort()


async def test_clients_that_left_while_they_waited_are_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    monkeypatch.setattr(time, "process_time", itertools.count().__next__)  # each pause is the longest one
    queue = slowing()
    while may_begin(queue, b"stranger"):
        pass
    async with connected() as (gone, gone_client), connected() as (here, _), connected() as (late, late_client):
        for transport in (gone, here, late):
            assert not queue.enter(b"stranger", "", partial(pytest.fail, "began"), transport)
        gone_client.close()
        queue._turn()
        assert [each.is_closing() for each in (gone, here, late)] == [True, False, False]
        late_client.close()
        queue._turn()
        assert not late.is_closing()  # all are looked for at most once in this time
        now += 0.03
        queue._turn()
        assert [each.is_closing() for each in (here, late)] == [False, True]


async def test_a_client_whose_request_began_is_not_watched() -> None:
    begun: list[int] = []
    queue = unsorted()
    async with connected() as (transport, client), connected() as (other, _):
        fill(queue)
        assert not queue.enter(b"", "", partial(begun.append, 1), transport)
        while not begun:
            await asyncio.sleep(0)
        await asyncio.sleep(0.03)  # all are looked for at most once in this time
        fill(queue)
        assert not queue.enter(b"", "", partial(begun.append, 2), other)
        client.close()
        await asyncio.sleep(0.05)
        assert not transport.is_closing()
        assert begun == [1, 2]
