"""Few requests begin in one turn of the event loop, in their order, and everything else has its turn in between."""

import asyncio
import logging

import pytest

from capx.server.net.head_queue import AT_ONCE, HeadQueue


async def test_few_begin_in_one_turn_in_their_order() -> None:
    begun: list[int] = []
    seen: list[int] = []
    queue = HeadQueue()
    for number in range(5 * AT_ONCE):
        queue.put(lambda number=number: begun.append(number))  # type: ignore[misc]
    assert begun == []
    while len(begun) < 5 * AT_ONCE:
        await asyncio.sleep(0)
        seen.append(len(begun))
    assert begun == list(range(5 * AT_ONCE))
    assert max(later - before for before, later in zip([0, *seen], seen, strict=False)) == AT_ONCE


async def test_few_begin_at_once_in_one_turn() -> None:
    queue = HeadQueue()
    for _ in range(3):
        assert [queue.may_begin() for _ in range(AT_ONCE + 2)] == [*AT_ONCE * [True], False, False]
        await asyncio.sleep(0)


async def test_nobody_begins_before_those_that_wait() -> None:
    begun: list[int] = []
    queue = HeadQueue()
    for number in range(2 * AT_ONCE):
        queue.put(lambda number=number: begun.append(number))  # type: ignore[misc]
    while len(begun) < 2 * AT_ONCE:
        before, at_once = len(begun), sum(queue.may_begin() for _ in range(AT_ONCE))
        assert not at_once or len(begun) >= AT_ONCE
        await asyncio.sleep(0)
        # Both kinds together are few in one turn.
        assert len(begun) - before + at_once <= AT_ONCE


async def test_a_queue_that_was_empty_goes_on() -> None:
    begun: list[str] = []
    queue = HeadQueue()
    for name in "ab":
        queue.put(lambda name=name: begun.append(name))  # type: ignore[misc]
        await asyncio.sleep(0.01)
    assert begun == ["a", "b"]


def test_one_that_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    async def run() -> None:
        queue = HeadQueue()
        queue.put(lambda: begun[0])  # type: ignore[arg-type]
        for number in range(2 * AT_ONCE):
            queue.put(lambda number=number: begun.append(number))  # type: ignore[misc]
        while len(begun) < 2 * AT_ONCE:
            await asyncio.sleep(0)

    with caplog.at_level(logging.CRITICAL, logger="asyncio"):
        asyncio.run(run())
    assert begun == list(range(2 * AT_ONCE))
