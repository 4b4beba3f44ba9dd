"""Work that machines take turns at, so that none of them can keep the others waiting.

Laws:

- One piece of work is done at a time. In a round, each machine has one of its own done.
- No work is refused because there is too much of it: there is at most one piece for each connection. A machine that was
  refused would ask again at once, and its other requests would get no turn.
- Work that nobody waits for any more is left out. Work that has begun always finishes.
- When the authority stops, work that has not begun is refused.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from msgspec import Struct

from capx.server.workers import Busy, Workers

T = TypeVar("T")

_STOPS: Final = "this authority stops: try again in a moment"


class _Piece(Struct, eq=False):
    """A piece of work; `done` has its result, or is cancelled if nobody waits for it."""

    work: Callable[[], Coroutine[Any, Any, Any]]
    done: "asyncio.Future[Any]"


class Turns:
    """The work of all machines; belongs to one event loop."""

    def __init__(self) -> None:
        self.thread = Workers(1, 0)
        """The thread for this work: one piece is done at a time."""
        self._waiting: dict[str, deque[_Piece]] = {}
        """By machine; the machine whose turn comes first is the first."""
        self._working: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_crowded(self) -> bool:
        """Whether work waits."""
        return bool(self._waiting)

    async def take(self, machine: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do some work when its turn comes; Busy if the authority stops."""
        if self._stopped:
            raise Busy(_STOPS)
        piece = _Piece(work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(machine, deque()).append(piece)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        # Cancelled with the caller, and then left out.
        found: T = await piece.done
        return found

    def stop(self) -> None:
        """Refuse all work that has not begun, and all that comes."""
        self._stopped = True
        for piece in (piece for own in self._waiting.values() for piece in own if not piece.done.done()):
            piece.done.set_exception(Busy(_STOPS))
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                piece = self._next()
                if not piece.done.done():
                    await _finish(piece)
        finally:
            self._working = None

    def _next(self) -> _Piece:
        machine, own = next(iter(self._waiting.items()))
        del self._waiting[machine]
        piece = own.popleft()
        if own:
            # Now the last one.
            self._waiting[machine] = own
        return piece


async def _finish(piece: _Piece) -> None:
    try:
        found = await piece.work()
    except Exception as error:  # noqa: BLE001 # it is raised where the work is waited for
        if not piece.done.done():
            piece.done.set_exception(error)
    else:
        if not piece.done.done():
            piece.done.set_result(found)
