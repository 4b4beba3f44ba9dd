"""Threads for work that waits for a disk or a database, so that the event loop never waits.

Law: the number of threads is limited, and so is the number of calls that wait for one. A call beyond both fails with
Busy, and can be tried again.
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
    """There are too many calls at once. The store may be fine."""


class Workers:
    """At most `threads` calls run at once, and `waiting` more wait for a thread. Belongs to one event loop."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._room = threads + waiting

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a function in a thread; Busy if too many calls wait. A function that has begun always finishes."""
        # Counted here, because callers of the limiter queue without a limit.
        if not self._room:
            raise Busy("this authority gets too many requests at once: try again in a moment")
        self._room -= 1
        try:
            return await anyio.to_thread.run_sync(functools.partial(function, *args, **named), limiter=self._limiter)
        finally:
            self._room += 1
