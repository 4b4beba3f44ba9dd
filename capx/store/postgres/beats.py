"""Knows when a server last confirmed a write of this process, and has it confirm one in each second.

A look at a server proves nothing: a primary that was cut off still answers, and another one has taken its place. Only
a write proves that a server is the primary still, because its commit waits for the standby.

Laws:

- A write counts from its beginning, for the server that confirmed it and no other one, and only if it has certainly
  written something: a transaction of the log, a burn that was new, or a beat.
- A beat is a message in the write-ahead log: no row, no lock, and no time of the server. It is written only if nothing
  else was confirmed within a second. A role that may write no message burns a presentation instead.
- A beat that hangs delays no news of a stream, and no call that goes by them: it has a thread of its own, and a
  connection of the pool. A look by question waits for its beat, as a write would. No second beat begins before the one
  before has ended, or was given up and cancelled.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Generator
from typing import Final

import psycopg

from capx import diagnostics
from capx.background import begin_in_each_process
from capx.errors import StoreProblem, Unavailable
from capx.store.continuity import UNCONFIRMED
from capx.store.postgres.connection import Link
from capx.store.postgres.errors import explained
from capx.store.postgres.pool import Pool

EVERY: Final = 1.0
"""Seconds from the beginning of one write to the next beat."""
_FIRST: Final = 1.0
"""Seconds for which a question waits for the first beat."""
_TO_END: Final = 1.0
_SERVERS: Final = 4
"""Servers that are remembered: the one before, if a process finds the next one, and two more."""
_BEAT: Final = "/* beat */ SELECT pg_logical_emit_message(true, 'capx', '')"
# Any role may burn. It stays for as long as one that was presented now.
_BURN: Final = "/* beat */ SELECT fresh FROM capx.burn(%s, %s::bigint, %s::bigint, NULL, NULL::bigint)"
_STAYS: Final = 60
_END: Final = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE "
    "'/* beat */%%'"
)


class Beats:
    """The beats of one process at the store to which the connections of a pool lead; safe with several threads."""

    def __init__(self, place: str, pool: Pool) -> None:
        self._place = place
        self._pool = pool
        begin_in_each_process(self._begin)

    def _begin(self) -> None:
        self._lock, self._beating = threading.Lock(), threading.Lock()
        self._confirmed: dict[str, float] = {}
        """By server: when the last write began that it confirmed, by the monotonic clock. The latest is the last.

        Its keys never change: another one takes its place, because readers take no lock.
        """
        self._first, self._over = threading.Event(), threading.Event()
        self._users, self._tried, self._wait_until = 0, -math.inf, -math.inf
        self._left: tuple[str, int] | None = None
        """Server and process of a beat that was given up."""
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        """That of the beat under way."""
        self._burns = False

    @property
    def server(self) -> str | None:
        """The server that has confirmed a write last; None before the first."""
        return next(reversed(self._confirmed), None)

    def confirm(self, server: str, began: float) -> None:
        """Note that a server has confirmed a write that began at this time, by the monotonic clock."""
        with self._lock:
            latest = max(began, self._confirmed.get(server, -math.inf))
            if server == self.server:
                self._confirmed[server] = latest
            else:
                others = [(other, at) for other, at in self._confirmed.items() if other != server]
                self._confirmed = dict([*others[1 - _SERVERS :], (server, latest)])
        self._first.set()

    def age(self, server: str) -> float:
        """Return the seconds since this server confirmed a write, counted from its beginning; infinite if it has not.

        While the first beat is under way, the call waits for it, for a second at most.
        """
        if not self._first.is_set() and (wait := self._wait_until - time.monotonic()) > 0:
            self._first.wait(wait)
        return max(0.0, time.monotonic() - self._confirmed.get(server, -math.inf))

    def freshen(self) -> None:
        """Write a beat now if one is due and none is under way; StoreProblem if it is not confirmed."""
        if self._due_in() <= 0 and self._beating.acquire(blocking=False):
            try:
                self._beat()
            finally:
                self._beating.release()

    @contextlib.contextmanager
    def going(self) -> Generator[None]:
        """A block in which a thread writes beats."""
        with self._lock:
            self._users += 1
            if self._thread is None:
                self._start()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                over = self._end() if not self._users else None
            if over is not None:
                over.join(_TO_END)

    def _end(self) -> threading.Thread | None:
        """End the thread, also if its beat hangs; give it, for somebody to wait for."""
        thread, self._thread = self._thread, None
        self._over.set()
        if self._link is not None:
            self._link.abandoned = True
        return thread

    def _start(self) -> None:
        self._over = over = threading.Event()
        self._wait_until = time.monotonic() + _FIRST
        thread = threading.Thread(target=self._run, args=(over,), name="capx-beats", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            diagnostics.warn_once(f"the store {self._place} confirms no write: cannot start a thread: {error}")
        else:
            self._thread = thread

    def _run(self, over: threading.Event) -> None:
        while not over.is_set():
            try:
                self.freshen()
            except StoreProblem:
                # The follower says how old the last confirmed write is.
                pass
            except Exception as error:  # noqa: BLE001 # a thread that ended would have nothing confirmed any more
                diagnostics.warn_once(
                    f"no write to the store {self._place} is confirmed: {type(error).__name__}: {error}"
                )
            # At least a little: another thread may be at it.
            over.wait(max(0.05, self._due_in()))

    def _due_in(self) -> float:
        latest = max(self._confirmed.values(), default=-math.inf)
        return max(latest, self._tried) + EVERY - time.monotonic()

    def _beat(self) -> None:
        self._tried = time.monotonic()
        with explained(self._place), self._pool.link() as link:
            self._write(link)

    def _write(self, link: Link) -> None:
        self._end_left(link)
        self._link = link
        self._left = link.server, link.info.backend_pid
        try:
            self._emit(link)
        except StoreProblem:
            # Nobody needs what it may have kept.
            raise Unavailable(f"the store {self._place} has confirmed no write: {UNCONFIRMED}") from None
        finally:
            self._link = None
        self._left = None
        link.confirm(self._tried)

    def _emit(self, link: Link) -> None:
        if not self._burns:
            try:
                with link.keeping():
                    link.execute(_BEAT)
            except psycopg.errors.InsufficientPrivilege:
                self._burns = True
                diagnostics.warn_once(
                    f"the store {self._place} lets {link.info.user} emit no message: it burns instead"
                )
            else:
                return
        now = int(time.time())
        with link.keeping():
            row = link.execute(_BURN, (os.urandom(16), now + _STAYS, now)).fetchone()
        if row != (True,):
            # As when a clock is far ahead. A transaction that has written nothing waits for no standby.
            raise StoreProblem(f"the store {self._place} has burnt nothing")

    def _end_left(self, link: Link) -> None:
        """End the beat that was given up: its server would go on with it, and so with each that follows."""
        left, self._left = self._left, None
        if left is not None and left[0] == link.server:
            # Not by libpq, which holds up the whole process until the server is reached.
            link.execute(_END, (left[1],))
