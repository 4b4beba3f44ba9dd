"""Threads for work that waits for a disk or a database, so that the event loop never waits.

Law: the number of threads is limited, and so is the number of calls that wait for one. A call beyond both fails with
Busy, and can be tried again. Calls that share one result use one thread, however many they are. If callers are told
apart, the further calls of one wait outside, so nobody waits behind them.
"""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from capx.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Unavailable):
    """This process takes no more calls now: there are too many, or it stops. The store may be fine."""


class Workers:
    """At most `threads` calls run at once, `of_one` of them for one caller, and `waiting` more wait for a thread.

    Belongs to one event loop.
    """

    def __init__(self, threads: int, waiting: int, *, of_one: int | None = None) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._room = threads + waiting
        self._share = max(1, self._room // 4)
        self._of_one = threads if of_one is None else of_one
        self._of = Counter[bytes]()
        self._turns: dict[bytes, asyncio.Semaphore] = {}

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

    def demand_room(self, caller: bytes) -> None:
        """Raise Busy if this caller has a quarter of the calls that may run and wait."""
        if self._of[caller] >= self._share:
            raise Busy("this authority gets too many requests of this caller at once: try again in a moment")

    async def run_for(self, caller: bytes, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Do the same for one of several callers; Busy if this one has a quarter of the calls that may run and wait."""
        self.demand_room(caller)
        self._of[caller] += 1
        try:
            async with self._turns.setdefault(caller, asyncio.Semaphore(self._of_one)):
                return await self.run(function, *args, **named)
        finally:
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller], self._turns[caller]


class Shared:
    """A call whose result everybody shares, in one thread; kept, as its error is, for `seconds` from its begin."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._workers = Workers(1, 0)
        self._call: asyncio.Task[Any] | None = None
        self._began_at = -float("inf")

    async def run(self, function: Callable[[], T]) -> T:
        """The result of a call that runs now or ran a moment ago; otherwise call this function in the thread."""
        call = self._call
        now = time.monotonic()
        if call is None or (call.done() and (call.cancelled() or now - self._began_at >= self._seconds)):
            self._began_at = now
            call = self._call = asyncio.create_task(self._workers.run(function))
        # Shielded, because others wait for it: a client that leaves must not cancel it.
        found: T = await asyncio.shield(call)
        return found
