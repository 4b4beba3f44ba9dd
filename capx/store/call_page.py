"""A page of calls: the newest recorded decisions that match a query, each with the others about its call.

Laws:

- An index finds what was denied, and what is about one task. Otherwise the log is read backwards.
- The work for one page is bounded, whatever resources have recorded. So a page can have fewer calls than were asked
  for, or none. It says how far the search got, and the next page goes on there.
- The other decisions about a call are searched among the nearest events of its task only. So a flood in other tasks
  neither hides a call nor makes the search slow. A flood in this task can cut a group: then more denials are shown.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from capx.store.decision_groups import WINDOW, Group, grouped, is_about_a_call
from capx.store.decision_query import Allowed, Query
from capx.store.log import Event
from capx.store.protocols import Reading

SHOWN: Final = 50
"""The calls of one page, unless another number is asked for."""
_MOST_WORK: Final = 20_000
_ONE_READ: Final = 20
"""The work for one more statement, in events."""
_MOST_BYTES: Final = 4 << 20
_NEAR: Final = 32
_NEAREST: Final = 256
"""Events of a task before and after a decision that may be about the same call."""
_PIECE: Final = 1_000


class CallPage(Struct, frozen=True):
    """Calls, the newest first. All events after position `reached` were searched; at 0 nothing is left."""

    groups: tuple[Group, ...]
    reached: int


class _Search:
    """A search backwards through the log, and the work that it took so far."""

    def __init__(self, reading: Reading, query: Query) -> None:
        self._reading = reading
        self._query = query
        self.work = 0

    def events(self, before: int, limit: int) -> Iterator[Event]:
        """The events that may match, the newest first."""
        # Few at first, because the newest often suffice.
        piece = min(_PIECE, 2 * limit)
        while True:
            read = self._reading.newest(
                before=before, limit=piece, task=self._query.task, denied=self._query.wants_denials
            )
            self.work += _ONE_READ
            for event in read:
                self.work += 1
                yield event
            if len(read) < piece:
                return
            before, piece = read[-1].position, _PIECE

    def call_ended_by(self, event: Event) -> Group | None:
        """The decisions about one call, of which this one is the last; None if another one followed."""
        task = is_about_a_call(event)
        if task is None:
            return Group((event,))
        # A decision that allowed the call is the last of its group.
        later = [] if event.read_if(Allowed) is not None else self._later(event, task)
        near = [*self._earlier(event, task), event, *later]
        self.work += len(near)
        group = next(group for group in grouped(near) if event in group.events)
        return group if group.last == event else None

    def _earlier(self, event: Event, task: str) -> list[Event]:
        found: list[Event] = []
        for limit in (_NEAR, _NEAREST - _NEAR):
            self.work += _ONE_READ
            read = self._reading.newest(before=found[-1].position if found else event.position, limit=limit, task=task)
            found += read
            # A group that began before this minute ended before it, or has its first decision here.
            if len(read) < limit or read[-1].at < event.at - 2 * WINDOW:
                break
        return found[::-1]

    def _later(self, event: Event, task: str) -> list[Event]:
        found: list[Event] = []
        for limit in (_NEAR, _NEAREST - _NEAR):
            self.work += _ONE_READ
            after = found[-1].position if found else event.position
            read = list(self._reading.events(after=after, limit=limit, task=task))
            found += read
            if len(read) < limit or read[-1].at > event.at + WINDOW:
                break
        return found


def call_page(reading: Reading, query: Query, *, before: int, limit: int = SHOWN, each: bool = False) -> CallPage:
    """The newest calls before a position whose last decision matches, at most `limit`.

    `each`: each decision that matches is a call of its own, whatever followed.
    """
    search = _Search(reading, query)
    found: list[Group] = []
    size = 0
    for event in search.events(before, limit):
        if query.matches(event) and (group := Group((event,)) if each else search.call_ended_by(event)):
            found.append(group)
            size += sum(len(one.body) for one in group.events)
        if len(found) == limit or search.work > _MOST_WORK or size > _MOST_BYTES:
            # Nothing is before the first event.
            return CallPage(tuple(found), event.position if event.position > 1 else 0)
    return CallPage(tuple(found), 0)
