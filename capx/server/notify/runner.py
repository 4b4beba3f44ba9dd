"""Telling hooks what happens: each goes through the log by itself, and notes how far it was told.

    log ──▶ cursor of the hook ──▶ Notices ──▶ Delivery ──▶ the cursor moves

Laws:

- The log is the outbox. The cursor moves after a notice was delivered, so each is told at least once, in the order of
  the log; told again, it has the same id. A notice that is too late is passed over, and counted.
- A new hook begins at the end of the log, and so does each hook in a new epoch: nobody is told of what is long over.
- Each hook has a thread of its own, which waits for it alone. So one that is down holds up neither another hook nor an
  answer of the server. The store is read before a delivery and written behind it, never during one.
- Whatever goes wrong, a hook is tried again, at most PAUSE seconds later.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from capx.authority.authority import Authority
from capx.errors import CapxError, StoreProblem
from capx.server.notify.delivery import Delivery
from capx.server.notify.figures import Figures
from capx.server.notify.hook import Hook, NotTaken
from capx.server.notify.notices import Notice, Notices, is_over
from capx.store.protocols import Reading
from capx.store.records import Head, HookCursor

_log = logging.getLogger("capx.serve")

PAUSE: Final = 300.0
"""The most seconds between two tries."""
LOOK_EVERY: Final = 0.25
"""Seconds between two looks at the log."""
_FIRST_PAUSE: Final = 1.0
_PAGE: Final = 200
"""The most events that are read at once."""
_SAVE_EVERY: Final = 5.0
"""Seconds after which a cursor is kept that has passed only events of which nothing is told."""
_GRACE: Final = 2.0
"""Seconds for deliveries that are under way when the process stops."""


class HookRunner:
    """Tells one hook, in the thread that calls `run`, until `stopping` is set."""

    def __init__(
        self, hook: Hook, authority: Authority, delivery: Delivery, figures: Figures, stopping: threading.Event
    ) -> None:
        self._hook = hook
        self._authority = authority
        self._store = authority.store
        self._delivery = delivery
        self._stopping = stopping
        self._outcomes = {
            outcome: figures.notices.labels(hook.name, outcome) for outcome in ("delivered", "failed", "passed_over")
        }
        figures.lag.labels(hook.name).set_function(self._lag)
        self._notices: Notices | None = None
        self._cursor = HookCursor(hook.name, "", 0)
        self._saved: HookCursor | None = None
        self._saved_at = -float("inf")
        self._failures = 0
        self._since: int | None = None
        self.begun = threading.Event()
        """Set once the hook stands somewhere in the log, or the store cannot be used."""

    def run(self) -> None:
        """Tell the hook what happens, until stopped."""
        warned = False
        while not self._stopping.is_set():
            pause = LOOK_EVERY
            try:
                if self._tell_page():
                    pause = 0.0
                warned = False
            except CapxError as problem:
                # What was counted of this page would be counted twice.
                self._notices = None
                pause = 10 * LOOK_EVERY
                if not warned:
                    _log.warning("cannot tell the hook %s what happens: %s", self._hook.name, problem)
                warned = True
            except Exception:  # noqa: BLE001 # a hook that stops would do so in silence
                self._notices = None
                pause = PAUSE
                _log.exception("telling the hook %s failed unexpectedly: please report this", self._hook.name)
            self.begun.set()
            self._stopping.wait(pause)

    def _tell_page(self) -> bool:
        """Tell what the next events make, and say whether there are more."""
        with self._store.read() as reading:
            head = reading.head()
            notices = self._begun(reading, head)
            events = tuple(reading.events(after=self._cursor.position, limit=_PAGE))
            found = [(event.position, notice) for event in events for notice in notices.of(reading, event)]
        if self._saved is None:
            # At once: after a kill, a new hook must go on from here, and not from a later end of the log.
            self._save()
        self.begun.set()
        for nth, (position, notice) in enumerate(found, 1):
            if not self._tell(notice):
                return False
            # Of two notices about one event, both are told again if only the first was delivered.
            if nth == len(found) or found[nth][0] != position:
                self._move(position)
        if events:
            self._cursor = HookCursor(self._hook.name, head.epoch, events[-1].position)
        if self._cursor != self._saved and time.monotonic() - self._saved_at >= _SAVE_EVERY:
            self._save()
        return len(events) == _PAGE

    def _begun(self, reading: Reading, head: Head) -> Notices:
        """Take up the cursor, if this has not happened or the store has changed below it."""
        notices = self._notices
        if notices is not None and self._cursor.epoch == head.epoch and self._cursor.position <= head.position:
            return notices
        if self._cursor.epoch != head.epoch:
            self._saved = reading.hook(self._hook.name)
            self._cursor = self._saved or self._cursor
        if self._cursor.epoch != head.epoch or self._cursor.position > head.position:
            self._cursor = HookCursor(self._hook.name, head.epoch, head.position)
        self._notices = notices = Notices(self._hook, head.epoch, lambda: self._authority.policy)
        notices.learn(reading, self._cursor.position)
        return notices

    def _tell(self, notice: Notice) -> bool:
        """Tell one notice, or pass it over; False if the process stops first."""
        self._since = notice.at
        while not self._stopping.is_set():
            with self._store.read() as reading:
                late = is_over(reading, notice, epoch=self._cursor.epoch, now=int(time.time()))
            if late:
                self._ended("passed_over")
                return True
            try:
                self._delivery.deliver(notice)
            except NotTaken as problem:
                self._failed(problem)
            else:
                self._failures = 0
                self._ended("delivered")
                return True
        return False

    def _ended(self, outcome: str) -> None:
        self._since = None
        self._outcomes[outcome].inc()

    def _failed(self, problem: NotTaken) -> None:
        if self._stopping.is_set():
            return
        self._outcomes["failed"].inc()
        # Once until it is taken again, not each time.
        if not self._failures:
            _log.warning("the hook %s has not taken a notice, and is tried again: %s", self._hook.name, problem)
        self._failures += 1
        longest = min(PAUSE, _FIRST_PAUSE * 2 ** min(self._failures - 1, 16))
        # Not all at once, if one receiver takes the notices of many authorities.
        self._stopping.wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _move(self, position: int) -> None:
        self._cursor = HookCursor(self._hook.name, self._cursor.epoch, position)
        # If it cannot be kept now, it will be: what was delivered must not be told again because of that.
        with contextlib.suppress(StoreProblem):
            self._save()

    def _save(self) -> None:
        # Not durable: if the machine crashes, a notice may be told once more.
        with self._store.write(durable=False) as transaction:
            transaction.move_hook(self._cursor)
        self._saved, self._saved_at = self._cursor, time.monotonic()

    def _lag(self) -> float:
        return 0.0 if self._since is None else max(0.0, time.time() - self._since)


class Notifier:
    """Tells the hooks of one process."""

    def __init__(self, authority: Authority, hooks: Iterable[Hook], figures: Figures) -> None:
        self._stopping, self._aborting = threading.Event(), threading.Event()
        self._runners = [
            HookRunner(hook, authority, Delivery(hook, stopped=self._aborting.is_set), figures, self._stopping)
            for hook in hooks
        ]
        # Daemons: a receiver that hangs must not keep the process from ending.
        self._threads = [threading.Thread(target=one.run, name="capx-hook", daemon=True) for one in self._runners]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """A block in which the hooks are told what happens."""
        await asyncio.to_thread(self.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)

    def start(self) -> None:
        """Begin to tell, and wait until each hook stands somewhere in the log: what happens from now on is told."""
        for thread in self._threads:
            thread.start()
        ends = time.monotonic() + _GRACE
        for runner in self._runners:
            runner.begun.wait(max(0.0, ends - time.monotonic()))

    def stop(self) -> None:
        """Let deliveries that are under way end, for a short time, and begin no other."""
        for event in (self._stopping, self._aborting):
            event.set()
            ends = time.monotonic() + _GRACE
            for thread in self._threads:
                thread.join(max(0.0, ends - time.monotonic()))
