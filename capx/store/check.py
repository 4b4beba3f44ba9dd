"""Checks that a store still holds what was written: the log from its beginning, and each death against its event."""

import heapq
from collections.abc import Iterator

from capx.errors import BrokenLog, StoreProblem
from capx.store import lifecycle
from capx.store.events import Restored, Revoked, TaskEnded, archived_until
from capx.store.log import Event, Place, check
from capx.store.protocols import Reading
from capx.store.records import Death
from capx.tokens.revocation_key import RevocationKey, is_lasting, of_instant

_ENDINGS = frozenset({Revoked.kind, Restored.kind, *lifecycle.DEATH.values()})


def check_store(reading: Reading) -> Place:
    """Check the log and the deaths of a store, and give the place that its log reaches.

    If this returns, each event fits the event before it, and each death fits the event that caused it. BrokenLog names
    the first position that does not fit; StoreProblem says what else is wrong.
    """
    head = reading.head()
    reached = check(reading.events(), head=head.place, archived=archived_until(reading))
    # Two streams side by side: the events that cause deaths, and the kept deaths. Both are in the order of the log, and
    # neither is ever in memory as a whole.
    kept = reading.deaths()
    death = next(kept, None)
    number = 0
    for caused, event in _caused(reading):
        number = caused.seq
        # `prune` forgot this death. A death of a root key lasts, so it must still be there.
        if number <= head.forgotten and not is_lasting(caused.key):
            continue
        if death != caused:
            first = event.position if death is None else min(event.position, death.position)
            raise BrokenLog(first, f"the death caused by this {event.kind} event is missing or different")
        death = next(kept, None)
    if death is not None:
        raise BrokenLog(death.position, "the store holds a death that no event caused")
    if number != head.deaths:
        raise StoreProblem(f"the store counts {head.deaths} deaths and holds {number}: it is damaged")
    return reached


def _caused(reading: Reading) -> Iterator[tuple[Death, Event]]:
    """The deaths that the log says were caused, each with its event."""
    number = 0
    for event in _endings(reading):
        reason = event.kind if event.kind in lifecycle.DEATH.values() else "revoked"
        for key in _killed(event):
            if key is None:
                raise BrokenLog(event.position, f"its body is not that of a {event.kind}")
            number += 1
            yield Death(number, key, reason, event.at, event.position), event


def _endings(reading: Reading) -> Iterator[Event]:
    """The events that cause deaths, in the order of the log."""
    endings = heapq.merge(*(reading.events(kind=kind) for kind in _ENDINGS), key=lambda event: event.position)
    return (event for event in endings if not (event.kind == Revoked.kind and event.read(Revoked).again))


def _killed(event: Event) -> tuple[RevocationKey | None, ...]:
    if event.kind == Restored.kind:
        return (of_instant(event.read(Restored).issued),)
    if event.kind != Revoked.kind:
        return (event.read(TaskEnded).task,)
    return event.read(Revoked).revocation_keys
