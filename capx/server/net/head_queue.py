"""Which requests of one face begin: here they wait, after their heads have arrived and before they are parsed.

Laws:

- In one turn of the event loop, few requests begin. Between two turns, everything else of the loop is served: streams
  that are open, and answers under way. So the number of requests makes no turn longer.
- A request begins at once if none waits and few have begun in this turn. A connection waits with one request at most.
  Nothing is read of it, so the event loop would not notice that its client has left: here this is looked for.
- Callers begin before strangers. Within each of the two, senders take turns, each with its oldest request. Of the
  requests that wait, at most one of each caller begins in one turn of the loop. While more callers wait than can begin,
  one place is kept for a stranger. So neither one machine nor one caller keeps the others waiting, and callers do not
  keep strangers from health checks and proofs. Who has sent a head is only looked at if a stranger had to wait.
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

from capx.guard.asgi.slots import Sender

AT_ONCE: Final = 8
"""Requests that begin in one turn of the event loop."""
SHORTEST: Final = 0.003
LONGEST: Final = 0.05
"""Seconds from one stranger to the next. Strangers may be ahead of their time by LONGEST."""
_PER_WORK: Final = 4
_LOOK_EVERY: Final = 0.02
"""Seconds between two looks for clients that have left."""
_HUNG_UP: Final[int] = getattr(select, "POLLRDHUP", 0)
"""What a poll asks for; it always tells what was reset."""

Begin = Callable[[], None]
SenderOf = Callable[[bytes, str], Sender]
"""Who has sent a head, from a machine: a caller, or the machine as a stranger."""


class HeadQueue:
    """Counts the requests that begin, and keeps those that must wait; belongs to one event loop.

    `slows_strangers` says whether strangers wait for one another.
    """

    def __init__(self, sender_of: SenderOf, *, slows_strangers: bool) -> None:
        self._sender_of = sender_of
        self._slows_strangers = slows_strangers
        self._callers, self._strangers = _Line(), _Line()
        self._clients = _Clients()
        self._places = AT_ONCE
        self._used_until = 0.0
        """The time up to which strangers have used theirs."""
        self._worked = time.process_time()
        self._is_due = False

    def enter(self, head: bytes, machine: str, begin: Begin, transport: asyncio.Transport) -> bool:
        """Whether a request may begin at once. If not, `begin` is called when it is its turn.

        If its client leaves before, the transport is aborted.
        """
        if not self._callers and not self._strangers and self._may_begin(is_stranger=True):
            return True
        sender = self._sender_of(head, machine)
        is_stranger = isinstance(sender, str)
        if not is_stranger and not self._callers and self._may_begin(is_stranger=False):
            return True
        (self._strangers if is_stranger else self._callers).join(sender, begin)
        self._clients.watch(begin, transport)
        self._see_next_turn()
        return False

    def leave(self, begin: Begin) -> None:
        """Forget a request that waits, because its connection has ended."""
        self._clients.forget(begin)
        self._callers.leave(begin)
        self._strangers.leave(begin)

    def _may_begin(self, *, is_stranger: bool) -> bool:
        """Whether one more may begin now; then it counts."""
        now = asyncio.get_running_loop().time()
        is_slowed = is_stranger and self._slows_strangers
        kept = 1 if self._strangers and not is_stranger else 0
        if self._places <= kept or (is_slowed and self._used_until > now + LONGEST):
            return False
        if is_slowed:
            before, self._worked = self._worked, time.process_time()
            pause = _PER_WORK * (self._worked - before)
            self._used_until = max(self._used_until, now) + min(max(SHORTEST, pause), LONGEST)
        self._places -= 1
        self._see_next_turn()
        return True

    def _see_next_turn(self) -> None:
        if not self._is_due:
            self._is_due = True
            # asyncio runs this in the next turn, after it has looked at all sockets and timers.
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due, self._places = False, AT_ONCE
        self._clients.abort_gone(asyncio.get_running_loop().time())
        self._begin_waiting(self._callers, self._callers.senders)
        self._begin_waiting(self._strangers, 1 if self._callers else AT_ONCE)
        if (self._callers or self._strangers) and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(SHORTEST, self._turn)

    def _begin_waiting(self, line: "_Line", most: int) -> None:
        for _ in range(min(most, len(line))):
            if not self._may_begin(is_stranger=line is self._strangers):
                return
            begin = line.next()
            self._clients.forget(begin)
            # Each is a callback of its own, so an error in one ends no other.
            asyncio.get_running_loop().call_soon(begin)


class _Line:
    """Requests that wait; their senders take turns."""

    def __init__(self) -> None:
        self._by_sender = OrderedDict[Sender, dict[Begin, None]]()
        """The sender whose turn comes first is the first."""
        self._sender_of: dict[Begin, Sender] = {}

    def __len__(self) -> int:
        return len(self._sender_of)

    @property
    def senders(self) -> int:
        """How many senders wait."""
        return len(self._by_sender)

    def join(self, sender: Sender, begin: Begin) -> None:
        self._by_sender.setdefault(sender, {})[begin] = None
        self._sender_of[begin] = sender

    def next(self) -> Begin:
        sender, own = next(iter(self._by_sender.items()))
        begin = next(iter(own))
        self.leave(begin)
        if own:
            self._by_sender.move_to_end(sender)
        return begin

    def leave(self, begin: Begin) -> None:
        if (sender := self._sender_of.pop(begin, None)) is not None:
            own = self._by_sender[sender]
            del own[begin]
            if not own:
                del self._by_sender[sender]


class _Clients:
    """The clients of requests that wait."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[Begin, int] = {}
        self._transports: dict[int, asyncio.Transport] = {}
        self._looked = 0.0

    def watch(self, begin: Begin, transport: asyncio.Transport) -> None:
        descriptor: int = transport.get_extra_info("socket").fileno()
        if descriptor >= 0:
            self._watched[begin] = descriptor
            self._transports[descriptor] = transport
            self._poll.register(descriptor, _HUNG_UP)

    def forget(self, begin: Begin) -> None:
        if (descriptor := self._watched.pop(begin, None)) is not None:
            del self._transports[descriptor]
            self._poll.unregister(descriptor)

    def abort_gone(self, now: float) -> None:
        if self._watched and now > self._looked + _LOOK_EVERY:
            self._looked = now
            for descriptor, _ in self._poll.poll(0):
                self._transports[descriptor].abort()
