"""A page of calls: the newest recorded decisions that match a query, each with the others about its call.

Laws:

- An index finds what is about one task, and the blocks of the log in which a tenant, an agent, an action, a denial or a
  time may be. What is sought by nothing else, is sought backwards in the whole log.
- The work for one page is bounded, whatever resources have recorded. So a page can have fewer calls than were asked
  for, or none. It says how far the search got, and the next page goes on there.
- The other decisions about a call are searched among the nearest events of its task only. So a flood in other tasks
  neither hides a call nor makes the search slow. A flood in this task can cut a group: then more denials are shown.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from capx.store.decision_groups import WINDOW, Group, grouped, task_of_call
from capx.store.decision_index import BLOCK, block_of, sought
from capx.store.decision_query import Allowed, Query
from capx.store.events import archived_until
from capx.store.log import Event
from capx.store.protocols import Reading

SHOWN: Final = 50
"""The calls of one page, unless another number is asked for."""
_MOST_WORK: Final = 20_000
_ONE_READ: Final = 20
"""The work for one more statement, in events."""
_SPAN: Final = 64
_MOST_SPAN: Final = 32_768
"""The blocks among which one statement looks: few at first."""
_MOST_BLOCKS: Final = 64
_MOST_AT_ONCE: Final = 8
"""The blocks that one statement reads."""
_BLOCKS_OF_WORK: Final = 16
"""The blocks that take as long to look through as one event, about."""
_BYTES_OF_WORK: Final = 1_024
"""The bytes of events that take as long to decode as one more event, about."""
_MOST_BYTES: Final = 4 << 20
_NEAR: Final = 32
_NEAREST: Final = 256
"""Events of a task before and after a decision that may be about the same call."""
_PIECE: Final = 1_000


class CallPage(Struct, frozen=True):
    """Calls, the newest first. The search came down to position `reached`, and goes on below it; 0: nothing is left."""

    groups: tuple[Group, ...]
    reached: int


class _Search:
    """A search backwards through the log: the work that it took so far, and the position that it has reached."""

    def __init__(self, reading: Reading, query: Query) -> None:
        self._reading = reading
        self._query = query
        self._values = sought(query)
        self.work = 0
        self.reached = 0

    def events(self, before: int, limit: int) -> Iterator[Event | None]:
        """The events that may match, the newest first; None if the search has gone on without one."""
        if self._query.task is not None or not (self._values or self._query.since):
            yield from self._in_log(before, limit)
            return
        full = self._reading.indexed_blocks()
        # Of the last events of the log, the index knows nothing yet.
        yield from self._in_log(before, limit, after=full * BLOCK)
        yield from self._in_blocks(min(before, full * BLOCK + 1))

    def _in_log(self, before: int, limit: int, after: int = 0) -> Iterator[Event]:
        # Few at first, because the newest often suffice.
        piece = min(_PIECE, 2 * limit)
        while before > after + 1:
            read = self._reading.newest(before=before, limit=piece, after=after, task=self._query.task)
            yield from self._each(read)
            if len(read) < piece:
                return
            before, piece = read[-1].position, _PIECE

    def _in_blocks(self, before: int) -> Iterator[Event | None]:
        end, span = block_of(before - 1) + 1, _SPAN
        while end > 0:
            first = max(0, end - span)
            found = self._reading.blocks_with(
                self._values, since=self._query.since, first=first, end=end, limit=_MOST_BLOCKS
            )
            self.work += _ONE_READ + (end - first) // _BLOCKS_OF_WORK
            for first_of_run, end_of_run in _runs(found):
                below, above = min(before, end_of_run * BLOCK + 1), first_of_run * BLOCK
                yield from self._each(self._reading.newest(before=below, limit=below - above - 1, after=above))
            # The nearest blocks often suffice, so the first look is a short one.
            end, span = (found[-1], span) if len(found) == _MOST_BLOCKS else (first, min(_MOST_SPAN, 8 * span))
            self.reached = end * BLOCK + 1
            yield None

    def _each(self, read: list[Event]) -> Iterator[Event]:
        self.work += _ONE_READ
        for event in read:
            self.work += 1
            self.reached = event.position
            yield event

    def call_ended_by(self, event: Event) -> Group | None:
        """The decisions about one call, of which this one is the last; None if another one followed."""
        task = task_of_call(event)
        if task is None:
            return Group((event,))
        # A decision that allowed the call is the last of its group.
        later = [] if event.read_if(Allowed) is not None else self._later(event, task)
        near = [*self._earlier(event, task), event, *later]
        # Each was decoded, however long it is.
        self.work += len(near) + sum(len(one.body) for one in near) // _BYTES_OF_WORK
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


def _runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first block and the end of each run that is read at once; few at first, as the newest often suffice."""
    at, most = 0, 1
    while at < len(blocks):
        end = at + 1
        while end < len(blocks) and end < at + most and blocks[end] == blocks[end - 1] - 1:
            end += 1
        yield blocks[end - 1], blocks[at] + 1
        at, most = end, min(_MOST_AT_ONCE, 2 * most)


def call_page(reading: Reading, query: Query, *, before: int, limit: int = SHOWN, each: bool = False) -> CallPage:
    """The newest calls before a position whose last decision matches, at most `limit`.

    `each`: each decision that matches is a call of its own, whatever followed.
    """
    search, archived = _Search(reading, query), archived_until(reading)
    found: list[Group] = []
    size = 0
    for event in search.events(before, limit):
        elsewhere = event is not None and event.is_archived and event.position <= archived
        wanted = event is not None and not elsewhere and query.matches(event)
        if event and wanted and (group := Group((event,)) if each else search.call_ended_by(event)):
            found.append(group)
            size += sum(len(one.body) for one in group.events)
        if len(found) == limit or search.work > _MOST_WORK or size > _MOST_BYTES:
            # Nothing is before the first event.
            return CallPage(tuple(found), search.reached if search.reached > 1 else 0)
    return CallPage(tuple(found), 0)
