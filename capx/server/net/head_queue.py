"""Which requests of one face begin: here they wait, after their heads have arrived and before they are parsed.

Laws:

- In one turn of the event loop, few requests begin. Between two turns, everything else of the loop is served: streams
  that are open, and answers under way. So the number of requests makes no turn longer.
- A request begins at once if none waits and few have begun in this turn. Of those that wait, the first is the first to
  begin. A connection waits with one request at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 8
"""Requests that begin in one turn of the event loop."""


class HeadQueue:
    """Counts the requests that begin, and keeps those that must wait; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = AT_ONCE
        self._is_due = False

    def may_begin(self) -> bool:
        """Whether a request may begin at once, in this turn of the loop; then it counts. If not, `put` it."""
        if self._waiting or not self._left:
            return False
        self._count()
        return True

    def put(self, begin: Callable[[], None]) -> None:
        """Call `begin` when it is its turn; not at once."""
        self._waiting.append(begin)
        self._see_next_turn()

    def _count(self) -> None:
        self._left -= 1
        self._see_next_turn()

    def _see_next_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            # asyncio runs this in the next turn, after it has looked at all sockets and timers.
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due, self._left = False, AT_ONCE
        while self._waiting and self._left:
            self._count()
            # Each is a callback of its own, so an error in one ends no other.
            asyncio.get_running_loop().call_soon(self._waiting.popleft())
