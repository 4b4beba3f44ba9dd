"""Watching the head of the store for all followers: for new events and new deaths.

A *death* is the store's record that something is revoked, or that a task has ended.

Law: the store is read once for all followers, however many there are, and not at all while there is none.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator

from capx.errors import CapxError
from capx.server.workers import Workers
from capx.store.protocols import Store
from capx.store.records import Head

_log = logging.getLogger("capx.serve")

LOOK_EVERY = 0.02
"""Seconds between two reads of the head."""
HEARTBEAT = 1.0
"""Seconds after which followers get a page even if nothing died."""


class Broadcast:
    """Wakes all tasks that wait, whenever it is sent."""

    def __init__(self) -> None:
        self._sent = asyncio.Event()

    def send(self) -> None:
        """Wake all tasks that wait now."""
        # A new event for the next round: clearing the old one could miss a task that has not run yet.
        self._sent.set()
        self._sent = asyncio.Event()

    async def wait(self, timeout: float) -> bool:
        """Wait for the next `send`; False if none comes within `timeout` seconds."""
        sent = self._sent
        try:
            async with asyncio.timeout(timeout):
                await sent.wait()
        except TimeoutError:
            return False
        return True


class HeadWatch:
    """Reads the head of a store regularly while there are followers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._workers = Workers(1, 1)
        self._followers = 0
        self._wanted = asyncio.Event()
        self._now = asyncio.Event()
        self.moved = Broadcast()
        """Sent when the log has new events."""
        self.due = Broadcast()
        """Sent when something died, an epoch began, or it is time for a heartbeat."""
        self.rounds = 0
        """How often `due` was sent because a page was due."""
        self.head: Head | None = None
        self.looked = -float("inf")
        """When the last read succeeded, by the monotonic clock."""
        self.readable = True
        """Whether the last read succeeded."""

    def wake(self) -> None:
        """Read the head at once, because this process has just written."""
        self._now.set()

    @contextlib.contextmanager
    def followed(self) -> Generator[None]:
        """A block in which a follower waits for `moved` or `due`."""
        self._followers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._wanted.clear()

    async def beyond(self, position: int, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the log has events after a position; False if it has none.

        A head that was read before the call counts, because `moved` is not sent for it again.
        """
        if self.head is not None and self.head.position > position:
            return True
        return await self.moved.wait(timeout)

    async def run(self) -> None:
        """Read the head again and again, until cancelled."""
        sent = -float("inf")
        while True:
            await self._wanted.wait()
            self._now.clear()
            before = self.head
            try:
                head = await self._workers.run(self._look)
            except CapxError as problem:
                if self.readable:
                    _log.warning("cannot read the store, so followers get no news: %s", problem)
                self.readable = False
                # Slower, because a store in trouble needs no more load.
                await self._pause(10 * LOOK_EVERY)
                continue
            self.head, self.looked, self.readable = head, time.monotonic(), True
            if before is None or head.position != before.position or head.epoch != before.epoch:
                self.moved.send()
            died = before is None or (head.epoch, head.deaths) != (before.epoch, before.deaths)
            if died or self.looked - sent >= HEARTBEAT:
                sent = self.looked
                self.rounds += 1
                self.due.send()
            await self._pause(LOOK_EVERY)

    def _look(self) -> Head:
        with self._store.read() as reading:
            return reading.head()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._now.wait()
