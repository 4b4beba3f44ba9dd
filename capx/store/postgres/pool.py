"""Keeps open connections for the next transaction.

Laws:

- A connection is lent to one transaction at a time. It is used again only if it is idle, and its server has sent
  nothing since.
- If one connection is lost, all others that are open are closed too, the lent ones when they come back: they go to the
  same server.
- There are never more than `most` connections. If all are lent, a caller waits.
- A forked child begins without connections.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator

import psycopg

from capx.errors import StoreProblem, Unavailable
from capx.store.postgres.connection import Link

_IDLE = 8


class Pool:
    """Connections that `connect` opens, at most `most` at a time; a caller waits `patience` seconds for one."""

    def __init__(self, place: str, connect: Callable[[], Link], *, most: int = 32, patience: float) -> None:
        self._place = place
        self._connect = connect
        self._most = most
        self._patience = patience
        self._idle: list[Link] = []
        self._losses = 0
        self._opened: weakref.WeakKeyDictionary[Link, int] = weakref.WeakKeyDictionary()
        """How many had been lost when a connection was opened."""
        self._closed = False
        self.begin()
        weakref.finalize(self, _close, self._idle)
        _pools.add(self)

    def begin(self) -> None:
        """Begin without connections, and with new locks that nobody holds."""
        self.lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._most)
        self._idle.clear()

    @contextlib.contextmanager
    def link(self) -> Generator[Link]:
        """A connection for one transaction."""
        # The same object at the end, even if a fork has replaced `_slots` meanwhile.
        slots = self._slots
        if not slots.acquire(timeout=self._patience):
            # An error, not an endless wait: a verifier has to answer its call.
            raise Unavailable(f"the store {self._place} is busy: all {self._most} connections are in use; try again")
        try:
            link = self._lend()
            try:
                yield link
            finally:
                self._take_back(link)
        finally:
            slots.release()

    def close(self, *, for_good: bool = True) -> None:
        """Close the idle connections now. With `for_good`, the others close when they are returned, and none opens."""
        with self.lock:
            self._closed = self._closed or for_good
            _close(self._idle)

    def _lend(self) -> Link:
        with self.lock:
            if self._closed:
                raise StoreProblem(f"the store {self._place} was closed")
            while self._idle:
                link = self._idle.pop()
                if link.fresh:
                    return link
                _close([link])
            losses = self._losses
        # Outside of the lock: connecting may take seconds, and others can give their connections back meanwhile.
        link = self._connect()
        self._opened[link] = losses
        return link

    def _take_back(self, link: Link) -> None:
        with self.lock:
            if not link.idle:
                self._losses += 1
                _close(self._idle)
            elif not self._closed and len(self._idle) < _IDLE and self._opened.get(link) == self._losses:
                self._idle.append(link)
                return
        _close([link])


def _close(links: list[Link]) -> None:
    while links:
        with contextlib.suppress(psycopg.Error):
            links.pop().close()


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_frozen: list[Pool] = []


def _before_fork() -> None:
    # Held during the fork, so that no thread takes or gives back a connection in the middle of it.
    _frozen.extend(_pools)
    for pool in _frozen:
        pool.lock.acquire()


def _after_in_parent() -> None:
    while _frozen:
        _frozen.pop().lock.release()


def _after_in_child() -> None:
    while _frozen:
        _frozen.pop().begin()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
