"""Remembers presentations, so that each is accepted once.

Laws: a verifier burns a presentation when it first sees it, in one atomic step, whatever the decision is. The memory
keeps it until its window has passed for every process that uses the memory: the clock of each is within 5 seconds of
the true time. If the memory cannot know whether a presentation was used, the call is denied. That is so if the memory
is full, is younger than the presentation, or has forgotten its window, and if its store fails or has lost
presentations. A memory in one process compares times of its own clock only.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from capx import diagnostics
from capx.background import asyncio_loop, in_pool, in_trio
from capx.errors import StoreProblem, Unavailable
from capx.resource.burn_queue import Answer, BurnQueue, Presented
from capx.store.protocols import ResourceStore
from capx.tokens.binding import OPEN_WINDOWS, WINDOW_AFTER, WINDOW_BEFORE

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_TIDY_EVERY: Final = 100
"""How many transactions on event loops come before one in a thread, where a store does what takes longer."""
_SLOW: Final = 0.05
"""A transaction on an event loop that takes more seconds than this is too slow."""
_SLOW_FOR: Final = 10.0
"""For so many seconds after one that was too slow, all transactions go to a thread."""


class Replay(ABC):
    """A memory of presentations. If `blocking` is true, `burn` may do I/O, so async callers run it in a thread."""

    blocking: bool

    @abstractmethod
    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Burn an id, and return whether it was new. Raises Unavailable if that is unknown.

        `until` is the last second of its window and `now` the verifier's time, both in Unix seconds.
        """

    @staticmethod
    def process(capacity: int = 200_000, *, clock: Callable[[], float] = time.time) -> "ProcessReplay":
        """Make a memory of up to `capacity` presentations in this process: for a service that is one process."""
        return ProcessReplay(capacity, clock)

    @staticmethod
    def store(store: ResourceStore) -> "StoreReplay":
        """Make a memory in a store, for all processes that use the store."""
        return StoreReplay(store)


class ProcessReplay(Replay):
    """A memory in this process: correct only for a service that is one process."""

    blocking = False

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._start = clock()
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._by_end: dict[int, list[bytes]] = {}
        self._forgotten = 0

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Burn an id, and return whether it was new in this process."""
        # The process before this one may have burnt a presentation that was made before this one started.
        unknown_before = math.ceil(self._start) + WINDOW_BEFORE
        if until - WINDOW_AFTER < unknown_before:
            raise Unavailable(
                "cannot tell whether this was used before this service started: "
                f"present again in {max(1, unknown_before - now)} s"
            )
        with self._lock:
            # First, so that a full memory gets room from windows that have passed.
            self._forget(now)
            if presentation in self._seen:
                return False
            if until < self._forgotten:
                raise Unavailable("cannot tell whether this was used: its window has been forgotten; present again")
            if len(self._seen) >= self._capacity:
                # Never drop an id to make room: whoever sends many presentations could then replay an old one.
                raise Unavailable("has no room to remember another presentation: present again in a minute")
            self._seen.add(presentation)
            self._by_end.setdefault(until, []).append(presentation)
            return True

    def _forget(self, now: int) -> None:
        if now <= self._forgotten:
            # A clock was ahead, so ids may be forgotten whose windows are still open. All of those end before this.
            self._forgotten = min(self._forgotten, now + OPEN_WINDOWS)
            return
        self._forgotten = now
        for end in [end for end in self._by_end if end < now]:
            self._seen.difference_update(self._by_end.pop(end))


class StoreReplay(Replay):
    """A memory in a store, shared by all processes that use it."""

    blocking = True

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        # Of what this process burnt: the newest id, and the one whose window ends last.
        self._newest: tuple[bytes, int] | None = None
        self._longest: tuple[bytes, int] | None = None
        self._unknown_before = 0
        # Transactions on event loops since the last one in a thread, and until when all go to a thread.
        self._untidied = 0
        self._slow_until = -math.inf
        self._queues: WeakKeyDictionary[AbstractEventLoop, BurnQueue] = WeakKeyDictionary()

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Burn an id, and return whether it was new in the store."""
        answers = self._burn_all([Presented(presentation, until, now)], True)
        if answers is None:
            raise AssertionError(presentation)
        (answer,) = answers
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    async def burn_async(self, presentation: bytes, until: int, now: int) -> bool:
        """Burn an id as `burn` does, for async code; what is presented at the same time is burnt together."""
        if in_trio():
            return await in_pool(lambda: self.burn(presentation, until, now))
        loop = asyncio_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = BurnQueue(self._burn_all)
        return await queue.burn(Presented(presentation, until, now))

    def _burn_all(self, presented: Sequence[Presented], wait: bool) -> Sequence[Answer] | None:
        began = time.monotonic()
        if not wait and (self._untidied >= _TIDY_EVERY or began < self._slow_until):
            return None
        now = max(one.now for one in presented)
        windows = [(one.presentation, one.until) for one in presented]
        try:
            burnt = self._store.burn_all(windows, now=now, remembered=self._remembered(now), wait=wait)
        except StoreProblem as problem:
            diagnostics.warn_once(f"presentations cannot be burnt: {problem}")
            raise Unavailable("cannot check for replay: the store is unavailable") from problem
        if burnt is None:
            return None
        self._untidied = 0 if wait else self._untidied + 1
        if not wait and time.monotonic() - began > _SLOW:
            self._slow_until = began + _SLOW_FOR
        if not burnt[0].remembered:
            # The store is a copy from before the last burn. It may have lost any presentation whose window is open,
            # also one that a process burnt whose clock is ahead of this one.
            self._unknown_before = now + OPEN_WINDOWS
            self._newest = self._longest = None
        return [self._answer(one, each.new) for one, each in zip(presented, burnt, strict=True)]

    def _answer(self, one: Presented, new: bool) -> Answer:
        if one.until < self._unknown_before:
            return Unavailable(
                "cannot tell whether this was used: the store has lost what was presented; "
                f"present again in {max(1, self._unknown_before - WINDOW_AFTER - one.now)} s"
            )
        if new:
            self._newest = one.presentation, one.until
            if self._longest is None or self._longest[1] <= one.until:
                self._longest = self._newest
        return new

    def _remembered(self, now: int) -> tuple[bytes, int] | None:
        """The id that the store must still have: an older copy of the store lacks it.

        It is the newest one, unless its window has passed: then the store may have cleared it away.
        """
        newest = self._newest
        return newest if newest is not None and newest[1] >= now else self._longest
