"""What an authority needs in the background while it is served: tasks end in time, and changed root keys are loaded.

Law: this runs in the event loop of the operators, which no stranger can delay.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
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
_AT_ONCE: Final = 200


class Upkeep:
    """Background work for one authority. `keys` is the file of its root keys, if there is one."""

    def __init__(self, authority: Authority, keys: Path | None, *, wake: Callable[[], None]) -> None:
        self._authority = authority
        self._keys = keys
        self._wake = wake

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """A block in which tasks end when their time has run out, and changed root keys are loaded."""
        running = [asyncio.create_task(self._end_overdue())]
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

    async def _end_overdue(self) -> None:
        workers = Workers(1, 1)
        warned = False
        while True:
            try:
                while ended := await workers.run(self._authority.end_overdue, _AT_ONCE):
                    self._wake()
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
