"""What must hold before one store takes over everything that another one holds."""

from collections.abc import Iterator

from capx.death import Death
from capx.errors import StoreProblem
from capx.log import START, Event, check
from capx.store import Reading


def demand_empty(taking: Reading) -> None:
    """Refuse a store that holds something already."""
    head = taking.head()
    if head.position or head.deaths or taking.tasks() or taking.counters():
        raise StoreProblem("the store holds something already: restore into a new one")


def whole_log(reading: Reading) -> Iterator[Event]:
    """All events; BrokenLog where they are not those that lead to the head."""
    reached = START
    for event in reading.events():
        reached = check((event,), after=reached)
        yield event
    check((), after=reached, head=reading.head().place)


def whole_deaths(reading: Reading) -> Iterator[Death]:
    """All deaths that are kept; StoreProblem in the end if one is missing."""
    head, found = reading.head(), 0
    for death in reading.deaths():
        found += death.seq > head.forgotten
        yield death
    if found != head.deaths - head.forgotten:
        raise StoreProblem(f"the store counts {head.deaths - head.forgotten} deaths and holds {found}: it is damaged")
