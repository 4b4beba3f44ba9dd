"""Threads for what waits for a disk or a database, so that the event loop never does.

Law: there are so many at once, and so many that wait for one; whoever comes then is told to come again.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from capx.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Unavailable):
    """Too much is asked at once; says nothing of a store."""


class Workers:
    """At most `threads` at a time; `waiting` may wait for one of them. Belongs to one event loop."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._room = threads + waiting

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a function in a thread; Busy when too many wait already. What was begun is finished."""
        if not self._room:
            raise Busy("too much is asked of this authority at once: try again in a moment")
        self._room -= 1
        try:
            return await anyio.to_thread.run_sync(functools.partial(function, *args, **named), limiter=self._limiter)
        finally:
            self._room += 1
