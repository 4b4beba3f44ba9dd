"""Which requests of one face begin: here they wait, after their heads have arrived and before they are parsed.

Laws:

- In one turn of the event loop, few requests begin. Between two turns, everything else of the loop is served: streams
  that are open, and answers under way. So the number of requests makes no turn longer.
- A request begins at once if none waits and few have begun in this turn. Of those that wait, the first is the first to
  begin. A connection waits with one request at most.
- Where heads show who is a caller, callers begin before strangers. After a stranger, the next one waits four times as
  long as this process has worked since the one before: at least SHORTEST, and at most LONGEST. So strangers have a
  fifth of it, however many they are, unless one of them takes more than 12 ms.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 8
"""Requests that begin in one turn of the event loop."""
SHORTEST: Final = 0.003
LONGEST: Final = 0.05
"""Seconds from one stranger to the next; the longest ones may be used ahead."""
_PER_WORK: Final = 4

Begin = Callable[[], None]


class HeadQueue:
    """Counts the requests that begin, and keeps those that must wait; belongs to one event loop.

    `is_caller` says of a head whether it is a caller's. Without it, all are.
    """

    def __init__(self, is_caller: Callable[[bytes], bool] | None = None) -> None:
        self._is_caller = is_caller
        self._waiting = OrderedDict[Begin, None](), OrderedDict[Begin, None]()
        """The callers, and the strangers."""
        self._left = AT_ONCE
        self._used = 0.0
        """The time up to which strangers have used theirs."""
        self._worked = time.process_time()
        self._is_due = False

    def enter(self, head: bytes, begin: Begin) -> bool:
        """Whether a request may begin at once. If not, `begin` is called when it is its turn."""
        rank = int(self._is_caller is not None and not self._is_caller(head))
        if not any(self._waiting[: rank + 1]) and self._may_begin(rank):
            return True
        self._waiting[rank][begin] = None
        self._see_next_turn()
        return False

    def leave(self, begin: Begin) -> None:
        """Forget a request that waits, because its connection has ended."""
        for waiting in self._waiting:
            waiting.pop(begin, None)

    def _may_begin(self, rank: int) -> bool:
        """Whether one more may begin now; then it counts."""
        now = asyncio.get_running_loop().time()
        if not self._left or (rank and self._used > now + LONGEST):
            return False
        if rank:
            before, self._worked = self._worked, time.process_time()
            pause = _PER_WORK * (self._worked - before)
            self._used = max(self._used, now) + min(max(SHORTEST, pause), LONGEST)
        self._left -= 1
        self._see_next_turn()
        return True

    def _see_next_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            # asyncio runs this in the next turn, after it has looked at all sockets and timers.
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due, self._left = False, AT_ONCE
        for rank, waiting in enumerate(self._waiting):
            while waiting and self._may_begin(rank):
                begin, _ = waiting.popitem(last=False)
                # Each is a callback of its own, so an error in one ends no other.
                asyncio.get_running_loop().call_soon(begin)
        if any(self._waiting) and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(SHORTEST, self._turn)
