"""What a verifier knows about deaths, and how long ago that was last confirmed.

    StoreLiveness      looks when it is asked: for a store on this machine
    Follower           is told, in a thread of its own: for a database or an authority elsewhere (feed.follower)
    Snapshot           one saved page: for a service that hears of nothing else (feed.snapshot)

Laws: knowledge that is not confirmed grows old; how old it may be is the verifier's to say. It recovers by itself.
What is dead stays dead, until all that it killed has expired.
"""

import copy
import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain, islice

from capx.background import begin_in_each_process
from capx.errors import StoreProblem
from capx.store.protocols import DeathSource
from capx.store.records import Head, News
from capx.tokens import revocation_key
from capx.tokens.revocation_key import RevocationKey


class View:
    """The deaths up to one head, in the order in which they happened. One thread changes it, all may read it."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.deaths: dict[RevocationKey, str] = {}
        self.revoked_until = -1
        self._lasting = 0

    def learn(self, news: News) -> None:
        """Take in what was not known, and let go of what is forgotten."""
        # First, for it may be all that kills what is read anew. It outlives its entry: what it killed expires before.
        self.revoked_until = max(self.revoked_until, revocation_key.revoked_until(news.deaths))
        if self.head is None or news.anew:
            self.deaths, self._lasting = news.deaths, news.lasting
        else:
            self._forget(news.head.forgotten - self.head.forgotten)
            self.deaths.update(news.deaths)
        self.head = news.head

    def _forget(self, count: int) -> None:
        if count <= 0:
            return
        known = iter(self.deaths.items())
        oldest = islice(known, self._lasting + count)
        lasting = {key: reason for key, reason in oldest if revocation_key.is_lasting(key)}
        # Another dictionary: readers of the one that there is are not disturbed.
        self.deaths, self._lasting = dict(chain(lasting.items(), known)), len(lasting)


class PolledView(ABC):
    """Deaths that are looked up when somebody asks how old they are, by one thread at a time."""

    def __init__(self) -> None:
        self._view = View()
        self.problem: StoreProblem | None = None
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """What is known to be dead, with the reason code of each."""
        return self._view.deaths

    @property
    def revoked_until(self) -> int:
        """The last second up to which all that was issued is dead."""
        return self._view.revoked_until

    @abstractmethod
    def _look(self) -> None:
        """Learn what is new, or note the problem; never raises."""

    def _look_alone(self, *, wait: bool = False) -> None:
        """Look, unless another thread does; wait for that one if nothing is known yet, or if told to."""
        lock = self._lock
        if lock.acquire(blocking=wait or self._view.head is None):
            try:
                self._look()
            finally:
                lock.release()


class StoreLiveness(PolledView):
    """The deaths in a store, read when asked and the last look is more than `poll` seconds ago; no thread.

    With `poll=0` every question looks, and whatever died before the question is known in its answer. `source` is the
    path of a SQLite store, which need not be there yet, the URL of a PostgreSQL one, or anything that brings news. Safe
    with several threads; never raises: `problem` says why the last look failed.
    """

    def __init__(
        self,
        source: DeathSource | os.PathLike[str] | str,
        *,
        poll: float = 0.02,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._source = _at(os.fspath(source)) if isinstance(source, os.PathLike | str) else source
        self._poll = poll
        self._clock = clock
        self._next_look = -math.inf
        self._confirmed = -math.inf

    def age(self) -> float:
        """Seconds since the last look that succeeded, after another one if it is due."""
        if self._clock() >= self._next_look:
            # Another thread's look is as good as ours, unless it may have begun before what must be seen.
            self._look_alone(wait=self._poll == 0)
        return max(0.0, self._clock() - self._confirmed)

    def close(self) -> None:
        """Let go of the store; a later question opens it again."""
        with self._lock:
            self._source.close()

    def _look(self) -> None:
        began = self._clock()
        if began < self._next_look:
            return
        try:
            news = self._source.news(self._view.head)
        except StoreProblem as problem:
            self.problem = problem
        else:
            # Another view in one step: a child that is forked amid the learning has the old one, whole. With half of
            # the news it would let go of the forgotten deaths twice.
            view = copy.copy(self._view)
            view.learn(news)
            self._view = view
            self._confirmed, self.problem = began, None
        self._next_look = self._clock() + self._poll


def _at(place: str) -> DeathSource:
    from capx.store.factory import death_source

    return death_source(place)
