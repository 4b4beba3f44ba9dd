"""Machines take turns, and what nobody waits for is left out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from capx.server.turns import Turns
from capx.server.workers import Busy


class Done:
    """What was done, in order. The first piece goes on until `ends`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.ends = asyncio.Event()

    def piece(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def work() -> str:
            self.names.append(name)
            await self.ends.wait()
            return name

        return work


async def begun(turns: Turns, done: Done, *names: str) -> list["asyncio.Task[str]"]:
    """Tasks for these pieces of work; the first letter of a name is the machine."""
    tasks = [asyncio.create_task(turns.take(name[0], done.piece(name))) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_machines_take_turns() -> None:
    turns, done = Turns(), Done()
    tasks = await begun(turns, done, "a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert (done.names, turns.is_crowded) == (["a1"], True)
    done.ends.set()
    assert await asyncio.gather(*tasks) == ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    assert done.names == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert not turns.is_crowded


async def test_what_nobody_waits_for_is_left_out() -> None:
    turns, done = Turns(), Done()
    first, second, third = await begun(turns, done, "a1", "a2", "a3")
    first.cancel()
    second.cancel()
    done.ends.set()
    assert await third == "a3"
    # What has begun is finished.
    assert done.names == ["a1", "a3"]


async def test_a_stop_refuses_what_has_not_begun() -> None:
    turns, done = Turns(), Done()
    first, *others = await begun(turns, done, "a1", "a2", "b1")
    turns.stop()
    for task in others:
        with pytest.raises(Busy, match="stops"):
            await task
    with pytest.raises(Busy):
        await turns.take("c", done.piece("c1"))
    done.ends.set()
    assert (await first, done.names) == ("a1", ["a1"])


async def test_an_error_is_raised_where_it_is_waited_for() -> None:
    async def failing() -> None:
        raise ValueError("no")

    turns, done = Turns(), Done()
    done.ends.set()
    failed = asyncio.create_task(turns.take("a", failing))
    assert await turns.take("a", done.piece("a1")) == "a1"
    with pytest.raises(ValueError, match="no"):
        await failed
