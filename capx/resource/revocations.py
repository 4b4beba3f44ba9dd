"""Knows the deaths in a store, and when that knowledge was last confirmed.

A death is the record that a task ended, or that an agent, a capability, a root key or all that was issued up to some
second was revoked.

    StoreLiveness      looks when a verifier asks: for a store on this machine
    Follower           receives deaths in its own thread: for a database or an authority elsewhere (feed.follower)
    Snapshot           reads a saved page: for a service without a network (feed.snapshot)

Laws: knowledge that is not confirmed grows old, and the verifier decides how old it may be. It recovers by itself. A
death is kept until all that it killed has expired.
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
from capx.crypto.instants import seconds
from capx.errors import ConfigurationProblem, StoreProblem
from capx.intents.epoch import authority_of
from capx.store.continuity import unconfirmed
from capx.store.protocols import DeathSource
from capx.store.records import Head, News
from capx.tokens import revocation_key
from capx.tokens.revocation_key import RevocationKey


class View:
    """The deaths up to one head, in the order in which they happened. One thread changes it, all may read it."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.authority: str | None = None
        self.deaths: dict[RevocationKey, str] = {}
        self.revoked_until = -1
        self._lasting = 0

    def learn(self, news: News) -> None:
        """Add the deaths that were not known, and drop those that the store has forgotten."""
        # First: a reader in another thread must never see the new deaths with the old instant. The instant may stay
        # when its entry is forgotten: by that time, all that it killed has expired.
        self.revoked_until = max(self.revoked_until, revocation_key.revoked_until(news.deaths))
        if self.head is None or news.anew:
            self.deaths, self._lasting = news.deaths, news.lasting
        else:
            # The store forgets the oldest first, so a count says which ones.
            self._forget(news.head.forgotten - self.head.forgotten, news.deaths)
            self.deaths.update(news.deaths)
        self.head, self.authority = news.head, authority_of(news.head.epoch)

    def _forget(self, count: int, new: dict[RevocationKey, str]) -> None:
        if count <= 0:
            return
        known = iter(self.deaths.items())
        oldest = islice(known, self._lasting + count)
        lasting = {key: reason for key, reason in oldest if revocation_key.is_lasting(key)}
        # A new dictionary, with what is new: other threads read either, and a key that dies anew is in both.
        self.deaths, self._lasting = dict(chain(lasting.items(), known, new.items())), len(lasting)


class PolledView(ABC):
    """Deaths that are looked up when a verifier asks how old they are, by one thread at a time."""

    def __init__(self) -> None:
        self._view = View()
        self.problem: StoreProblem | None = None
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        # A thread of the parent may hold the lock at the fork, and it is not in the child to release it.
        self._lock = threading.Lock()

    @property
    def deaths(self) -> Mapping[RevocationKey, str]:
        """The keys that are known to be dead, with the reason code of each."""
        return self._view.deaths

    @property
    def authority(self) -> str | None:
        """The id of the authority whose deaths these are; None before the first look that succeeds."""
        return self._view.authority

    @property
    def head(self) -> Head | None:
        """The head of the store up to which the deaths are known; None before the first look that succeeds."""
        return self._view.head

    @property
    def revoked_until(self) -> int:
        """The last second (Unix time) up to which all that was issued is dead; -1 if there is none."""
        return self._view.revoked_until

    @abstractmethod
    def _look(self) -> None:
        """Learn what is new, or keep the problem; never raises."""

    def _look_once(self, *, wait: bool = False) -> None:
        """Look, unless another thread does; wait for that thread if nothing is known yet, or if `wait` is true."""
        # Callers do not queue behind a slow look: what is known is good until it is too old.
        lock = self._lock
        if lock.acquire(blocking=wait or self._view.head is None):
            try:
                self._look()
            finally:
                lock.release()


class StoreLiveness(PolledView):
    """The deaths in a store. A question reads the store if the last look was more than `poll` seconds ago; no thread.

    With `poll=0` every question looks, so an answer holds every death from before its question. `source` is the path of
    a SQLite store, which need not exist yet, the URL of a PostgreSQL store, or an object that gives news. Safe with
    several threads; never raises: `problem` says why the last look failed.
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
        self._poll = seconds("poll", poll, ConfigurationProblem)
        self._clock = clock
        self._next_look = -math.inf
        self._confirmed = -math.inf
        self._confirmation_age: Callable[[], float] | None = None

    def age(self) -> float:
        """Look if it is due, and return the seconds since the last look that succeeded; infinite before the first.

        On PostgreSQL, the age is also that of the last write which the server has confirmed.
        """
        if self._clock() >= self._next_look:
            # The look of another thread will do. With `poll=0` it will not: it may have begun before this question.
            self._look_once(wait=self._poll == 0)
        confirmation_age = 0.0 if self._confirmation_age is None else self._confirmation_age()
        return max(0.0, self._clock() - self._confirmed, confirmation_age)

    def close(self) -> None:
        """Close the store; a later question opens it again."""
        with self._lock:
            self._source.close()

    def _look(self) -> None:
        # Knowledge is as old as the beginning of its look: a death during the look may be missing from it.
        began = self._clock()
        if began < self._next_look:
            return
        try:
            news = self._source.news(self._view.head)
        except StoreProblem as problem:
            self.problem = problem
        else:
            # Learn into a copy, and put it in place in one step. A child that is forked in between has the old view,
            # whole. With half of the news it would drop the forgotten deaths twice, and accept revoked tokens.
            view = copy.copy(self._view)
            if news.deaths:
                # The dictionary as well: readers must not see new deaths beside the old instant.
                view.deaths = dict(view.deaths)
            view.learn(news)
            self._view = view
            self._confirmed, self._confirmation_age = began, news.confirmation_age
            self.problem = unconfirmed(0.0 if news.confirmation_age is None else news.confirmation_age())
        self._next_look = self._clock() + self._poll


def _at(place: str) -> DeathSource:
    from capx.store.factory import death_source

    return death_source(place)
