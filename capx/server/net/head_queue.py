"""The requests of all connections of one face wait here, after their heads have arrived and before they are parsed.

Laws:

- In one turn of the event loop, few requests begin. Between two turns, everything else of the loop is served: streams
  that are open, and answers under way. So the number of requests makes no turn longer.
- The first in the queue is the first to begin. A connection waits with one request at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 8
"""Requests that begin in one turn of the event loop."""


class HeadQueue:
    """Requests that wait until they begin; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._runs = False

    def put(self, begin: Callable[[], None]) -> None:
        """Call `begin` when it is its turn; not at once."""
        self._waiting.append(begin)
        if not self._runs:
            self._runs = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(AT_ONCE, len(self._waiting))):
            # Each is a callback of its own, so an error in one ends no other.
            loop.call_soon(self._waiting.popleft())
        self._runs = bool(self._waiting)
        if self._runs:
            # asyncio runs this in the next turn, after it has looked at all sockets and timers.
            loop.call_soon(self._turn)
