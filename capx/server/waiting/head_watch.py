"""What everybody waits for who follows: that something happened, or that somebody died.

Law: the store is looked at once for all who wait, however many they are, and not at all while nobody does.
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
"""Seconds between two looks."""
HEARTBEAT = 1.0
"""Seconds after which followers hear that nothing died."""


class Broadcast:
    """Wakes all who wait, whenever it is sent."""

    def __init__(self) -> None:
        self._sent = asyncio.Event()

    def send(self) -> None:
        """Wake all who wait now."""
        self._sent.set()
        self._sent = asyncio.Event()

    async def wait(self, timeout: float) -> bool:
        """Whether it was sent before `timeout` seconds have passed."""
        sent = self._sent
        try:
            async with asyncio.timeout(timeout):
                await sent.wait()
        except TimeoutError:
            return False
        return True


class HeadWatch:
    """Looks at the head of a store while anybody follows it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._workers = Workers(1, 1)
        self._followers = 0
        self._wanted = asyncio.Event()
        self._now = asyncio.Event()
        self.moved = Broadcast()
        """The log went on."""
        self.due = Broadcast()
        """Somebody died, an epoch began, or it is time for a heartbeat."""
        self.rounds = 0
        """How often a page was due."""
        self.head: Head | None = None
        self.looked = -float("inf")
        """When the last look succeeded, by the monotonic clock."""
        self.readable = True
        """Whether the last look succeeded."""

    def wake(self) -> None:
        """Look at once: something was done here."""
        self._now.set()

    @contextlib.contextmanager
    def followed(self) -> Generator[None]:
        """A block in which somebody waits for `moved` or `due`."""
        self._followers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._wanted.clear()

    async def beyond(self, position: int, timeout: float) -> bool:
        """Whether the log was found to go on behind a position before `timeout` seconds have passed.

        What was found while nobody waited counts: it is not told again.
        """
        if self.head is not None and self.head.position > position:
            return True
        return await self.moved.wait(timeout)

    async def run(self) -> None:
        """Look, again and again, until it is cancelled."""
        said = -float("inf")
        while True:
            await self._wanted.wait()
            self._now.clear()
            before = self.head
            try:
                head = await self._workers.run(self._look)
            except CapxError as problem:
                if self.readable:
                    _log.warning("followers hear nothing while the store cannot be read: %s", problem)
                self.readable = False
                await self._pause(10 * LOOK_EVERY)
                continue
            self.head, self.looked, self.readable = head, time.monotonic(), True
            if before is None or head.position != before.position or head.epoch != before.epoch:
                self.moved.send()
            died = before is None or (head.epoch, head.deaths) != (before.epoch, before.deaths)
            if died or self.looked - said >= HEARTBEAT:
                said = self.looked
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
