"""Wait until something that another thread, task or process does has happened."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.005


def until(what: Callable[[], T], seconds: float = 30.0) -> T:
    """Return the first result that is true; AssertionError if none comes in time."""
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends
        time.sleep(_PAUSE)
    return found


def seconds_until(what: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait as `until` does, and return how long it took, in seconds."""
    began = time.monotonic()
    until(what, seconds)
    return time.monotonic() - began


def eventually(holds: Callable[[], bool], within: float = 30.0) -> bool:
    """Whether it comes to hold in time."""
    try:
        return until(holds, within)
    except AssertionError:
        return False


async def until_async(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait as `until` does, without blocking the event loop."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        await asyncio.sleep(_PAUSE)
