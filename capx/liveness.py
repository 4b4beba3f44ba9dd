"""What a verifier knows about deaths, and how long ago that was last confirmed.

Laws: knowledge that is not confirmed grows old; how old it may be is the verifier's to say. It recovers by itself:
every question is an attempt to learn more. What is dead stays dead: nothing is ever taken out.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from capx.errors import StoreProblem
from capx.store import DeathSource, Head


class Liveness(Protocol):
    """A view of deaths."""

    @property
    def deaths(self) -> Mapping[bytes | str, str]:
        """The reason of each known death: nodes and capabilities by their 16 bytes, tasks by their id."""
        ...

    def age(self) -> float:
        """The age of the knowledge in seconds, brought up to date if possible; infinite if there is none."""
        ...


class StoreLiveness:
    """The deaths in a store, read when asked and the last look is more than `poll` seconds ago; no thread.

    With `poll=0` every question looks, and whatever died before the question is known in its answer. `source` is the
    path of a SQLite store, which need not be there yet, or anything that brings news. Safe with several threads; never
    raises: `problem` says why the last look failed.
    """

    def __init__(
        self,
        source: DeathSource | os.PathLike[str] | str,
        *,
        poll: float = 0.02,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = _of_path(source) if isinstance(source, os.PathLike | str) else source
        self._poll = poll
        self._clock = clock
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._next_look = -math.inf
        self._deaths: dict[bytes | str, str] = {}
        self._head: Head | None = None
        self._confirmed = -math.inf
        self.problem: StoreProblem | None = None

    @property
    def deaths(self) -> Mapping[bytes | str, str]:
        """What is known to be dead, with the reason code of each."""
        return self._deaths

    def age(self) -> float:
        """Seconds since the last look that succeeded, after another one if it is due."""
        if self._clock() >= self._next_look:
            self._stand_alone()
            # Another thread's look is as good as ours, unless nothing is known yet or ours must not be missed.
            wait = self._head is None or self._poll == 0
            if self._lock.acquire(blocking=wait):
                try:
                    self._look()
                finally:
                    self._lock.release()
        return max(0.0, self._clock() - self._confirmed)

    def close(self) -> None:
        """Let go of the store; a later question opens it again."""
        with self._lock:
            self._source.close()

    def _stand_alone(self) -> None:
        """In a forked child, do without the lock, which a thread of the parent may have held."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()

    def _look(self) -> None:
        began = self._clock()
        if began < self._next_look:
            return
        try:
            news = self._source.news(self._head)
        except StoreProblem as problem:
            self.problem = problem
        else:
            if self._deaths:
                self._deaths.update(news.deaths)
            else:
                self._deaths = news.deaths
            self._head, self._confirmed, self.problem = news.head, began, None
        self._next_look = self._clock() + self._poll


def _of_path(path: os.PathLike[str] | str) -> DeathSource:
    from capx.store.sqlite_news import SQLiteNews

    return SQLiteNews(os.fspath(path))
