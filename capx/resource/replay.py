"""The memory of presentations: each is good once, whatever became of it.

Laws: a presentation is burnt on sight, atomically, and remembered until its window has passed. A memory that cannot
tell refuses: one that is full, that was not there yet when the presentation was made, that has forgotten its window,
or whose store fails or has lost what it was told.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from capx import diagnostics
from capx.errors import StoreProblem, Unavailable
from capx.store.protocols import ResourceStore
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE

# By this many seconds, and before their end, all windows have passed that are open now.
_WINDOW = WINDOW_AFTER + WINDOW_BEFORE + 1


class Replay(ABC):
    """A memory of presentations; `blocking` ones may do I/O, so async callers run their burns in a thread."""

    blocking: bool

    @abstractmethod
    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Whether an id was new; it is burnt now. Unavailable when that is unknown.

        `until` is the last second of its window and `now` the verifier's time, both in Unix seconds.
        """

    @staticmethod
    def process(capacity: int = 200_000, *, clock: Callable[[], float] = time.time) -> "ProcessReplay":
        """A memory of up to `capacity` presentations in this process: for a service that is one process."""
        return ProcessReplay(capacity, clock)

    @staticmethod
    def store(store: ResourceStore) -> "StoreReplay":
        """A memory in a store, for all processes that use it."""
        return StoreReplay(store)


class ProcessReplay(Replay):
    """A memory within this process, right for a service that is one process."""

    blocking = False

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._start = clock()
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._by_end: dict[int, list[bytes]] = {}
        self._forgotten = 0

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Whether the id was new in this process; it is burnt now."""
        # Who presented it before we were up may have had it burnt by the process before us.
        unknown_before = math.ceil(self._start) + WINDOW_BEFORE
        if until - WINDOW_AFTER < unknown_before:
            raise Unavailable(
                "cannot tell whether this was used before this service started: "
                f"present again in {max(1, unknown_before - now)} s"
            )
        with self._lock:
            self._forget(now)
            if presentation in self._seen:
                return False
            if until < self._forgotten:
                raise Unavailable("cannot tell whether this was used: its window has been forgotten; present again")
            if len(self._seen) >= self._capacity:
                raise Unavailable("has no room to remember another presentation: present again in a minute")
            self._seen.add(presentation)
            self._by_end.setdefault(until, []).append(presentation)
            return True

    def _forget(self, now: int) -> None:
        if now <= self._forgotten:
            # A clock was ahead, and what it made us forget is unknown. All that was presented so far ends before this.
            self._forgotten = min(self._forgotten, now + _WINDOW)
            return
        self._forgotten = now
        for end in [end for end in self._by_end if end < now]:
            self._seen.difference_update(self._by_end.pop(end))


class StoreReplay(Replay):
    """A memory in a store, shared by all processes that use it."""

    blocking = True

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._last: tuple[bytes, int] | None = None
        self._unknown_before = 0

    def burn(self, presentation: bytes, until: int, now: int) -> bool:
        """Whether the id was new in the store; it is burnt now."""
        last = self._last
        try:
            burnt = self._store.burn(presentation, until=until, now=now, remembered=last)
        except StoreProblem as problem:
            diagnostics.warn_once(f"presentations cannot be burnt: {problem}")
            raise Unavailable("cannot tell whether this was used: what remembers it cannot be asked now") from problem
        if not burnt.remembered:
            # Only a copy made before our last burn takes it for new.
            self._unknown_before = now + _WINDOW
            if self._last is last:
                self._last = None
        if until < self._unknown_before:
            raise Unavailable(
                "cannot tell whether this was used: the store has lost what was presented; "
                f"present again in {max(1, self._unknown_before - WINDOW_AFTER - now)} s"
            )
        if burnt.new and (last is None or last[1] < max(now, until)):
            self._last = presentation, until
        return burnt.new
