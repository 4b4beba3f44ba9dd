"""What both faces share while an authority is served: the authority, threads, what followers wait for, and figures.

Laws: operators, agents, resources, followers of the feed and those who read one page of it have threads of their own,
so that none of them can keep the others waiting. A task or a request whose time runs out ends here by itself. What
stops, stops for all: streams end, whoever waits is answered, what is under way is finished.
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
"""Seconds between two looks for tasks whose time has run out."""
KEYS_EVERY: Final = 0.5
"""Seconds between two looks at the file of the root keys."""
_AT_ONCE: Final = 200
_THREADS, _WAITING = 4, 200


class Service:
    """One authority as it is served; belongs to one event loop. `keys` is the file of its root keys, if that is one."""

    def __init__(self, authority: Authority, keys: Path | None = None) -> None:
        self.authority = authority
        self._keys = keys
        self.operators = Workers(_THREADS, _WAITING)
        self.agents = Workers(_THREADS, _WAITING)
        self.resources = Workers(_THREADS, _WAITING)
        self.followers = Workers(1, _WAITING)
        self.readers = Workers(1, _WAITING)
        self.watchers = Workers(1, 20)
        self.watch = HeadWatch(authority.store)
        self.metrics = Metrics(authority, self.watch)
        self.verifier = authority.own_verifier()
        self.ready: tuple[float, Head] | None = None
        """The last time that the store was found ready, by the monotonic clock, and the head of its log then."""
        self.streams = OpenStreams(self.metrics.followers)
        self.waiting = Waiting(authority.store, self.watch, self.metrics.askers)
        self.unauthenticated = UnauthenticatedBodies()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Let followers hear at once of what was done, in whatever thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.watch.wake)

    @property
    def stopping(self) -> bool:
        """Whether streams and waiting are to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all streams, and let nobody wait any more."""
        self._stopping.set()
        self.waiting.wake_all()
        self.watch.moved.send()
        self.watch.due.send()

    def signer(self) -> FeedSigner:
        """What signs the feed: a key of the root key that mints."""
        return self.ring.active.feed_signer()

    @property
    def ring(self) -> KeyRing:
        """The root keys of the authority."""
        return self.authority.keyring

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """A block in which tasks expire and followers hear of what happens."""
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
        """Take the root keys anew whenever their file was changed, as by `capx keys activate`."""
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
            ring = await workers.run(KeyRing.load, keys)
        except KeyProblem as problem:
            _log.error("goes on with the root keys that it has: %s", problem)
            return
        if ring.kids != self.authority.keyring.kids:
            self.authority.rekey(ring)
            _log.warning("took the root keys anew: %s mints", ring.active.kid)

    async def _end_overdue(self) -> None:
        workers = Workers(1, 1)
        told = False
        while True:
            try:
                while ended := await workers.run(self.authority.end_overdue, _AT_ONCE):
                    self.watch.wake()
                    if len(ended) < _AT_ONCE:
                        break
            except CapxError as problem:
                if not told:
                    _log.warning("tasks whose time ran out cannot be ended: %s", problem)
                told = True
            else:
                told = False
            await asyncio.sleep(OVERDUE_EVERY)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one state of a file from the next; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
