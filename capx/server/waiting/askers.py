"""Agents that wait for a person to answer their ask.

Laws:

- An agent that waits uses no thread.
- The number of agents that wait is limited, in all and for each task. An agent beyond the limit gets its answer at
  once.
- New events are read once for all agents that wait. An event only wakes the agents that it concerns. The authority then
  says what the answer is.
"""

import asyncio
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from capx.errors import StoreProblem
from capx.server.waiting.head_watch import HeadWatch
from capx.server.workers import Workers
from capx.store.events import TASK_ENDS, ApprovalMade, RequestApproved, RequestDenied, RequestExpired, Revoked
from capx.store.log import Event
from capx.store.protocols import Store
from capx.store.records import Head

if TYPE_CHECKING:
    from prometheus_client import Gauge

LONGEST: Final = 25
"""The most seconds for which an answer is held back."""
WAITERS: Final = 100
"""The most agents that wait at once."""
WAITERS_OF_ONE: Final = WAITERS // 5
"""The most of them that belong to one task."""

_ANSWERS: Final = frozenset(kind.kind for kind in (ApprovalMade, RequestApproved, RequestDenied, RequestExpired))
_DEATHS: Final = frozenset({Revoked.kind, *(kind.kind for kind in TASK_ENDS.values())})
_AT_ONCE: Final = 1_000
_STILL_HERE: Final = 1.0
_AFTER_TROUBLE: Final = 0.5


class Waiter(Struct, eq=False):
    """One agent that waits. `woken` is set when the authority should answer the ask again."""

    request: str
    task: str
    woken: asyncio.Event


class Waiting:
    """All agents that wait, and their number; belongs to one event loop."""

    def __init__(self, store: Store, watch: HeadWatch, shown: "Gauge") -> None:
        self._shown = shown
        self._store = store
        self._watch = watch
        self._workers = Workers(1, 1)
        self._waiters: set[Waiter] = set()
        self._by_task: Counter[str] = Counter()
        self._wanted = asyncio.Event()
        self._read: Head | None = None
        """How far the log was read; None while nobody waits, or after a new epoch."""

    @contextmanager
    def held(self, request: str, task: str) -> Generator[Waiter | None]:
        """A block in which one more agent waits; None when there is no room.

        The agent is woken once at the beginning: an answer that came before the log was read for it is not missed.
        """
        if len(self._waiters) >= WAITERS or self._by_task[task] >= WAITERS_OF_ONE:
            yield None
            return
        waiter = Waiter(request, task, asyncio.Event())
        self._waiters.add(waiter)
        self._shown.set(len(self._waiters))
        self._by_task[task] += 1
        if self._read is not None:
            waiter.woken.set()
        self._wanted.set()
        try:
            yield waiter
        finally:
            self._waiters.remove(waiter)
            self._shown.set(len(self._waiters))
            self._by_task[task] -= 1
            if not self._by_task[task]:
                del self._by_task[task]

    def wake_all(self) -> None:
        """Wake all agents that wait."""
        for waiter in self._waiters:
            waiter.woken.set()

    async def run(self) -> None:
        """Read new events while an agent waits, until cancelled."""
        while True:
            await self._wanted.wait()
            with self._watch.followed():
                while self._waiters:
                    try:
                        await self._read_on()
                    except StoreProblem:
                        # No log line: HeadWatch has logged that the store cannot be read.
                        await asyncio.sleep(_AFTER_TROUBLE)
            self._read = None
            self._wanted.clear()

    async def _read_on(self) -> None:
        read, head = self._read, self._watch.head
        if read is None:
            # Nobody read the log so far, or its history was replaced: an answer may have come, so all ask again.
            self._read = await self._workers.run(self._head)
            self.wake_all()
        elif head is not None and head.epoch != read.epoch:
            self._read = None
        elif head is None or head.position <= read.position:
            await self._watch.moved.wait(_STILL_HERE)
        else:
            found, self._read = await self._workers.run(self._after, read)
            self._wake(found)

    def _head(self) -> Head:
        with self._store.read() as reading:
            return reading.head()

    def _after(self, read: Head) -> "tuple[list[_About], Head | None]":
        with self._store.read() as reading:
            head = reading.head()
            if head.epoch != read.epoch:
                return [], None
            events = list(reading.events(after=read.position, limit=_AT_ONCE))
        reached = events[-1] if len(events) == _AT_ONCE else None
        # A full piece: more events may follow, so the next read starts at its last event, not at the head.
        then = head if reached is None else Head(head.epoch, reached.position, reached.hash, head.deaths)
        return [_About.of(event) for event in events if event.kind in _ANSWERS | _DEATHS], then

    def _wake(self, found: "Iterable[_About]") -> None:
        for about in found:
            for waiter in self._waiters:
                if about.concerns(waiter):
                    waiter.woken.set()


class _About(Struct, frozen=True):
    """The request or task that an event concerns. A death that names neither may concern every agent."""

    request: str | None = None
    task: str | None = None

    @classmethod
    def of(cls, event: Event) -> "_About":
        return event.read_if(cls) or cls()

    def concerns(self, waiter: Waiter) -> bool:
        if self.request is not None:
            return self.request == waiter.request
        return self.task in {None, waiter.task}
