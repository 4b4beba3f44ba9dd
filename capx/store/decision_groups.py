"""Groups recorded decisions that are about one call. A group is a view: the log keeps each decision.

A caller that holds several capabilities, or asks the authority after a denial, presents the same call several times.
Each presentation has a decision of its own. These decisions have the same node, action, audience and digest of
arguments.

Laws:

- A group is any number of denials, and then at most one decision that allowed the call. So a group hides no allowed
  call. If its last decision is a denial, the call stayed denied.
- Each decision of a group is at most 60 seconds from its first one, and has a presentation of its own: decisions about
  one presentation are several checks of one request, perhaps about different rows.
- A decision without a digest is a group of its own: one that could not be read, or that was made before the arguments
  were known.
- Long logs are read piece by piece. At most 16 MiB of events wait for a later decision; then the oldest group ends. A
  group has at most 256 KiB of events; then a new one begins. So a resource that reports very many decisions within a
  minute can split the groups of others, and costs a reader no more memory.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from msgspec import Struct

from capx.store.decision_query import Recorded
from capx.store.log import Event

WINDOW: Final = 60
"""Seconds between the first decision of a group and its last one, at most."""

_MOST_WAITING: Final = 16 << 20
_MOST_IN_GROUP: Final = 256 << 10
_BESIDE_BODY: Final = 1_000
"""Bytes that a decision takes here besides its body, about."""
_MOST_SEARCHED: Final = 20_000
"""Events that are read only to find the first decisions of the oldest group of an answer."""
_PIECE: Final = 1_000
_FASTER: Final = 8

_Call = tuple[tuple[str, ...], str, str, str]


class Group(Struct, frozen=True):
    """The decisions about one call, in the order of the log; or any other event of the log, as a group of one."""

    events: tuple[Event, ...]

    @property
    def last(self) -> Event:
        """The last event; its outcome is the outcome of the group."""
        return self.events[-1]


def _any(_: Group) -> bool:
    return True


def grouped(events: Iterable[Event], keep: Callable[[Group], bool] = _any) -> Iterator[Group]:
    """Group the decisions among events; give the groups that `keep` accepts, in the order of their last events.

    A later event can join a group. So a group that stayed denied, and all that follow it, come when the log has gone on
    for a minute after it, or has ended.
    """
    groups = _Groups(keep)
    for event in events:
        groups.add(event)
        yield from groups.ended()
    yield from groups.all()


def newest(
    events: Callable[[int], Iterable[Event]],
    *,
    end: int,
    limit: int,
    after: int = 0,
    keep: Callable[[Group], bool] = _any,
) -> list[Group]:
    """The newest groups that `keep` accepts, at most `limit`, in order.

    `events` gives the events after a position. They are read from further and further back, down to `after`.
    """
    reach = _PIECE
    while True:
        begin = max(after, end - reach)
        # What is left is less than what was read in vain.
        if begin - after < reach:
            begin = after
        read = iter(events(begin))
        head = list(islice(read, 1))
        found = deque(grouped(chain(head, read), keep), maxlen=limit)
        # A group near the beginning may lack its first decisions.
        whole = all(group.events[0].at > head[0].at + WINDOW for group in found)
        # Many decisions within a minute must not make everybody read the whole log: some denials are not counted then.
        if begin == after or (len(found) == limit and (whole or reach > max(_MOST_SEARCHED, _FASTER * limit))):
            return list(found)
        reach *= _FASTER


def task_of_call(event: Event) -> str | None:
    """The task of a decision that can share its call with others; None if it is a group of its own."""
    recorded = event.read_if(_Recorded) if event.kind == "decision" else None
    return None if recorded is None or recorded.call is None else recorded.task


class _Recorded(Recorded, frozen=True, kw_only=True):
    # A role in a database may write anything here: only a text counts.
    audience: Any = None
    args_digest: Any = None

    @property
    def call(self) -> _Call | None:
        """The call that this is about; None if nobody can tell."""
        if self.action is None or not (self.is_claim or self.root):
            return None
        # The root and the nonces stand for the node that acted, because to compute it takes longer.
        node = self.path[-1:] if self.is_claim else (self.root or "", *(self.nonces or ()))
        texts = isinstance(self.audience, str) and isinstance(self.args_digest, str)
        return (node, self.action, self.audience, self.args_digest) if texts else None


class _Waiting:
    """A group that was not given yet: decisions about `call` can join it until the log reaches `until`."""

    def __init__(self, event: Event, call: _Call | None, until: int) -> None:
        self.begin = event
        self.call = call
        self.until: int | None = until
        self.events: list[Event] = []
        self.presentations: set[str] = set()
        self.size = 0

    def takes(self, event: Event, recorded: _Recorded) -> bool:
        return (
            recorded.presentation not in self.presentations
            and abs(event.at - self.begin.at) <= WINDOW
            and self.size + _size(event) <= _MOST_IN_GROUP
        )


def _size(event: Event) -> int:
    return len(event.body) + _BESIDE_BODY


class _Groups:
    """The groups that were not given yet, in the order of their last events."""

    def __init__(self, keep: Callable[[Group], bool]) -> None:
        self._keep = keep
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._open: dict[_Call, _Waiting] = {}
        self._now = 0
        self._size = 0

    def add(self, event: Event) -> None:
        # Services report late, and their clocks differ: the time of the log never goes back.
        self._now = max(self._now, event.at)
        recorded = event.read_if(_Recorded) if event.kind == "decision" else None
        call = None if recorded is None else recorded.call
        # Nothing can join it, so nobody has to wait to know: a resource may report very many of these.
        if call is None and not self._keep(Group((event,))):
            return
        self._size += _size(event)
        group = _Waiting(event, call, self._now + WINDOW)
        if recorded is not None and call is not None:
            group = self._joined(event, recorded, call) or group
            if recorded.presentation is not None:
                group.presentations.add(recorded.presentation)
        if recorded is None or call is None or recorded.outcome == "allowed":
            group.until = None
        else:
            self._open[call] = group
        group.events.append(event)
        group.size += _size(event)
        self._waiting[group.begin.position] = group
        self._waiting.move_to_end(group.begin.position)

    def ended(self) -> Iterator[Group]:
        """Give the groups that nothing can join any more, up to the first one that is open."""
        while self._waiting:
            first = next(iter(self._waiting.values()))
            if first.until is not None and self._now <= first.until and self._size <= _MOST_WAITING:
                return
            self._waiting.popitem(last=False)
            self._size -= first.size
            if first.call is not None and self._open.get(first.call) is first:
                del self._open[first.call]
            yield from self._kept(first)

    def all(self) -> Iterator[Group]:
        """Give all groups that are left: the log has ended."""
        return chain.from_iterable(map(self._kept, self._waiting.values()))

    def _kept(self, waiting: _Waiting) -> Iterator[Group]:
        group = Group(tuple(waiting.events))
        # What is about no call was asked before it waited.
        if waiting.call is None or self._keep(group):
            yield group

    def _joined(self, event: Event, recorded: _Recorded, call: _Call) -> _Waiting | None:
        """The open group about this call; None if there is none, or if this decision begins a new one."""
        group = self._open.pop(call, None)
        if group is None or group.takes(event, recorded):
            return group
        group.until = None
        return None
