"""The parts that both faces of a served authority share: the authority, threads, waiting callers, and figures.

Laws:

- Operators, agents, reports, payments, followers of the feed, and readers of single pages each have their own threads.
  So none of them can keep the others waiting.
- The service ends tasks and requests whose time runs out.
- A stop is for everybody: streams end, callers who wait get an answer, and requests that are under way finish.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capx.authority.authority import Authority
from capx.crypto.ed25519 import FeedSigner
from capx.crypto.keys import KeyRing
from capx.errors import CapxError, KeyProblem
from capx.server.metrics import Metrics
from capx.server.net.unauthenticated_bodies import UnauthenticatedBodies
from capx.server.waiting.askers import Waiting
from capx.server.waiting.head_watch import HeadWatch
from capx.server.waiting.stream_limits import OpenStreams
from capx.server.workers import Workers

if TYPE_CHECKING:
    from capx.store.records import Head

_log = logging.getLogger("capx.serve")

OVERDUE_EVERY: Final = 1.0
"""Seconds between two searches for tasks whose time has run out."""
KEYS_EVERY: Final = 0.5
"""Seconds between two looks at the file of the root keys."""
_AT_ONCE: Final = 200
_THREADS, _WAITING = 4, 200


class Service:
    """One served authority; belongs to one event loop. `keys` is the file of its root keys, if there is one."""

    def __init__(self, authority: Authority, keys: Path | None = None) -> None:
        self.authority = authority
        self._keys = keys
        self.operators = Workers(_THREADS, _WAITING)
        self.agents = Workers(_THREADS, _WAITING)
        self.resources = Workers(_THREADS, _WAITING)
        self.payments = Workers(_THREADS, _WAITING)
        self.followers = Workers(1, _WAITING)
        self.readers = Workers(1, _WAITING)
        self.watchers = Workers(1, 20)
        self.watch = HeadWatch(authority.store)
        self.metrics = Metrics(authority, self.watch)
        self.verifier = authority.own_verifier()
        self.ready: tuple[float, Head] | None = None
        """When the store was last found ready (monotonic clock), and the head of its log at that time."""
        self.streams = OpenStreams(self.metrics.followers)
        self.waiting = Waiting(authority.store, self.watch, self.metrics.askers)
        self.unauthenticated = UnauthenticatedBodies()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Send news to followers at once. May be called from any thread."""
        # The watch belongs to the event loop. Operations run in threads, and must not touch it directly.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.watch.wake)

    @property
    def stopping(self) -> bool:
        """Whether the service stops, so that streams and waiting must end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all streams, and wake all callers who wait."""
        self._stopping.set()
        self.waiting.wake_all()
        self.watch.moved.send()
        self.watch.due.send()

    def signer(self) -> FeedSigner:
        """The signer of the feed. Its key is derived from the active root key."""
        return self.ring.active.feed_signer()

    @property
    def ring(self) -> KeyRing:
        """The root keys of the authority."""
        return self.authority.keyring

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """A block in which tasks expire and followers get news."""
        self._loop = asyncio.get_running_loop()
        duties = (self.watch.run(), self.waiting.run(), self._end_overdue(), self._follow_keys())
        running = [asyncio.create_task(duty) for duty in duties]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _follow_keys(self) -> None:
        """Load the root keys again whenever their file changes, as `capx keys activate` changes it."""
        if self._keys is None:
            return
        workers = Workers(1, 1)
        known = None
        while True:
            found = await workers.run(_stamp, self._keys)
            if found not in {None, known}:
                known = found
                await self._rekey(workers, self._keys)
            await asyncio.sleep(KEYS_EVERY)

    async def _rekey(self, workers: Workers, keys: Path) -> None:
        try:
            ring = (await workers.run(KeyRing.load, keys)).of(self.authority.id)
        except KeyProblem as problem:
            # Unlike a policy (decision 31): without root keys nothing at all can be verified.
            _log.error("cannot load the changed root keys, so the old ones stay in use: %s", problem)
            return
        if ring.kids != self.authority.keyring.kids:
            self.authority.rekey(ring)
            _log.warning("loaded the changed root keys: %s is active", ring.active.kid)

    async def _end_overdue(self) -> None:
        workers = Workers(1, 1)
        warned = False
        while True:
            try:
                while ended := await workers.run(self.authority.end_overdue, _AT_ONCE):
                    self.watch.wake()
                    if len(ended) < _AT_ONCE:
                        break
            except CapxError as problem:
                # Once until it works again, not every second.
                if not warned:
                    _log.warning("cannot end the tasks whose time has run out: %s", problem)
                warned = True
            else:
                warned = False
            await asyncio.sleep(OVERDUE_EVERY)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Identifies one state of a file; None if there is no file. Saving replaces the file, so the inode changes too."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
