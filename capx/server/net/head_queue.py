"""Which requests of one face begin: here they wait, after their heads have arrived and before they are parsed.

Laws:

- In one turn of the event loop, few requests begin. Between two turns, everything else of the loop is served: streams
  that are open, and answers under way. So the number of requests makes no turn longer.
- A request begins at once if none waits and few have begun in this turn. A connection waits with one request at most.
  Nothing is read of it, so the event loop would not notice that its client has left: here this is looked for.
- Callers begin before strangers. Within each of the two, senders take turns, each with its oldest request. In one turn
  of the loop, each caller that waits begins one request, and as long as some still wait, one stranger does. So neither
  one machine nor one caller keeps the others waiting, and callers do not keep strangers from health checks and proofs.
  Who has sent a head is only looked at if a stranger had to wait.
- Where strangers are slowed, the next one after a stranger waits four times as long as this process has worked since
  the one before: at least SHORTEST, and at most LONGEST. So strangers have a fifth of it, however many they are, unless
  one of them takes more than 12 ms.
"""

import asyncio
import select
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from capx.guard.asgi.slots import By

AT_ONCE: Final = 8
"""Requests that begin in one turn of the event loop."""
SHORTEST: Final = 0.003
LONGEST: Final = 0.05
"""Seconds from one stranger to the next; the longest ones may be used ahead."""
_PER_WORK: Final = 4
_LOOKED: Final = 0.02
"""Seconds between two looks for clients that have left."""
_LEFT: Final[int] = getattr(select, "POLLRDHUP", 0)
"""What a poll asks for; it always tells what was reset."""

Begin = Callable[[], None]
SenderOf = Callable[[bytes, str], By]
"""Who has sent a head, from a machine: a caller, or the machine as a stranger."""


class HeadQueue:
    """Counts the requests that begin, and keeps those that must wait; belongs to one event loop.

    Without `sender_of`, all are strangers. `slows_strangers` says whether strangers wait for one another.
    """

    def __init__(self, sender_of: SenderOf | None = None, *, slows_strangers: bool = False) -> None:
        self._sender_of = sender_of
        self._slows_strangers = slows_strangers
        self._waiting = _Line(), _Line()
        """The callers, and the strangers."""
        self._clients = _Clients()
        self._left = AT_ONCE
        self._used = 0.0
        """The time up to which strangers have used theirs."""
        self._worked = time.process_time()
        self._is_due = False

    def enter(self, head: bytes, machine: str, begin: Begin, transport: asyncio.Transport | None = None) -> bool:
        """Whether a request may begin at once. If not, `begin` is called when it is its turn.

        If its client leaves before, the transport is aborted.
        """
        if not any(self._waiting) and self._may_begin(1):
            return True
        by = machine if self._sender_of is None else self._sender_of(head, machine)
        rank = int(isinstance(by, str))
        if not rank and not self._waiting[0] and self._may_begin(0):
            return True
        self._waiting[rank].join(by, begin)
        if transport is not None:
            self._clients.watch(begin, transport)
        self._see_next_turn()
        return False

    def leave(self, begin: Begin) -> None:
        """Forget a request that waits, because its connection has ended."""
        self._clients.forget(begin)
        for waiting in self._waiting:
            waiting.leave(begin)

    def _may_begin(self, rank: int) -> bool:
        """Whether one more may begin now; then it counts."""
        now = asyncio.get_running_loop().time()
        is_slowed = rank and self._slows_strangers
        kept = 0 if rank else min(1, len(self._waiting[1]))
        if self._left <= kept or (is_slowed and self._used > now + LONGEST):
            return False
        if is_slowed:
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
        self._clients.abort_gone(asyncio.get_running_loop().time())
        callers = self._waiting[0]
        self._begin_waiting(0, callers.senders)
        self._begin_waiting(1, 1 if callers else AT_ONCE)
        if any(self._waiting) and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(SHORTEST, self._turn)

    def _begin_waiting(self, rank: int, most: int) -> None:
        waiting = self._waiting[rank]
        for _ in range(min(most, len(waiting))):
            if not self._may_begin(rank):
                return
            begin = waiting.next()
            self._clients.forget(begin)
            # Each is a callback of its own, so an error in one ends no other.
            asyncio.get_running_loop().call_soon(begin)


class _Line:
    """Requests that wait; who has sent them take turns."""

    def __init__(self) -> None:
        self._of = OrderedDict[By, dict[Begin, None]]()
        """By sender; the one whose turn comes first is the first."""
        self._by: dict[Begin, By] = {}

    def __len__(self) -> int:
        return len(self._by)

    @property
    def senders(self) -> int:
        """How many senders wait."""
        return len(self._of)

    def join(self, by: By, begin: Begin) -> None:
        self._of.setdefault(by, {})[begin] = None
        self._by[begin] = by

    def next(self) -> Begin:
        by, own = next(iter(self._of.items()))
        begin = next(iter(own))
        self.leave(begin)
        if own:
            self._of.move_to_end(by)
        return begin

    def leave(self, begin: Begin) -> None:
        if (by := self._by.pop(begin, None)) is not None:
            del self._of[by][begin]
            if not self._of[by]:
                del self._of[by]


class _Clients:
    """The clients of requests that wait."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[Begin, int] = {}
        self._transports: dict[int, asyncio.Transport] = {}
        self._looked = 0.0

    def watch(self, begin: Begin, transport: asyncio.Transport) -> None:
        file: int = transport.get_extra_info("socket").fileno()
        if file >= 0:
            self._watched[begin] = file
            self._transports[file] = transport
            self._poll.register(file, _LEFT)

    def forget(self, begin: Begin) -> None:
        if (file := self._watched.pop(begin, None)) is not None:
            del self._transports[file]
            self._poll.unregister(file)

    def abort_gone(self, now: float) -> None:
        if self._watched and now > self._looked + _LOOKED:
            self._looked = now
            for file, _ in self._poll.poll(0):
                self._transports[file].abort()
