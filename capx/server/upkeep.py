"""What an authority needs in the background while it is served: tasks end, the log is signed, root keys are followed.

Law: this runs in the event loop of the operators, which no stranger can delay.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Final

from capx.authority.authority import Authority
from capx.crypto.keys import KeyRing
from capx.errors import CapxError, KeyProblem
from capx.server.workers import Workers

_log = logging.getLogger("capx.serve")

OVERDUE_EVERY: Final = 1.0
"""Seconds between two searches for tasks whose time has run out."""
KEYS_EVERY: Final = 0.5
"""Seconds between two looks at the file of the root keys."""
CHECKPOINT_EVERY: Final = 10.0
"""Seconds between two checkpoints of a log that grows."""
_AT_ONCE: Final = 200


class Upkeep:
    """Background work for one authority. `keys` is the file of its root keys, if there is one."""

    def __init__(self, authority: Authority, keys: Path | None, *, wake: Callable[[], None]) -> None:
        self._authority = authority
        self._keys = keys
        self._wake = wake

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """A block in which tasks end in time, the log is signed, and changed root keys are loaded."""
        running = [
            asyncio.create_task(self._repeated(self._end_overdue, OVERDUE_EVERY, "end tasks whose time has run out")),
            asyncio.create_task(self._repeated(self._sign_log, CHECKPOINT_EVERY, "sign a checkpoint of the log")),
        ]
        if self._keys is not None:
            running.append(asyncio.create_task(self._follow_keys(self._keys)))
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _follow_keys(self, keys: Path) -> None:
        """Load the root keys again whenever their file changes, as `capx keys activate` changes it."""
        workers = Workers(1, 1)
        known = None
        while True:
            found = await workers.run(_stamp, keys)
            if found not in {None, known}:
                known = found
                await self._rekey(workers, keys)
            await asyncio.sleep(KEYS_EVERY)

    async def _rekey(self, workers: Workers, keys: Path) -> None:
        try:
            ring = (await workers.run(KeyRing.load, keys)).of(self._authority.id)
        except KeyProblem as problem:
            # Unlike a policy (decision 31): without root keys nothing at all can be verified.
            _log.error("cannot load the changed root keys, so the old ones stay in use: %s", problem)
            return
        if ring.kids != self._authority.keyring.kids:
            self._authority.rekey(ring)
            _log.warning("loaded the changed root keys: %s is active", ring.active.kid)

    async def _end_overdue(self, workers: Workers) -> None:
        while ended := await workers.run(self._authority.end_overdue, _AT_ONCE):
            self._wake()
            if len(ended) < _AT_ONCE:
                break

    async def _sign_log(self, workers: Workers) -> None:
        await workers.run(_sign_log, self._authority)

    async def _repeated(self, work: Callable[[Workers], Awaitable[None]], every: float, what: str) -> None:
        workers = Workers(1, 1)
        warned = False
        while True:
            try:
                await work(workers)
            except CapxError as problem:
                # Once until it works again, not each time.
                if not warned:
                    _log.warning("cannot %s: %s", what, problem)
                warned = True
            else:
                warned = False
            await asyncio.sleep(every)


def _sign_log(authority: Authority) -> None:
    authority.checkpoints.make()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Identifies one state of a file; None if there is no file. Saving replaces the file, so the inode changes too."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
