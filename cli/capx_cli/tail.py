"""Reading on in a log that others write to.

Law: the last event that was read is read again each time, with its hash: so a log that was replaced meanwhile, as by a
restored backup, is told from one that merely grew.
"""

import time
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from capx_cli import screen, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from capx.store.log import Event, Place

_GLANCE = 0.25
_LONGEST_PAUSE = 5.0
_MOST = 10_000
"""Events that are read at once."""


class Read(Struct, frozen=True):
    """What is new since a mark, and the mark from which to go on; `anew` if the log is another one than before."""

    events: "list[Event]"
    mark: "Place"
    anew: bool = False


def end_of(authority: "target.Operations") -> "Place":
    """The end of the log as it is now."""
    return place_of(next(iter(authority.newest_first()), None))


def after(authority: "target.Operations", mark: "Place") -> Read:
    """What happened since, read at once; after a log was replaced, what happened since it was."""
    found = list(authority.log(max(0, mark.position - 1), _MOST))
    if mark.position == 0:
        return _read(found, mark)
    if found and (found[0].position, found[0].hash) == (mark.position, mark.hash):
        return _read(found[1:], mark)
    restored = next((event for event in authority.newest_first() if event.kind == "restored"), None)
    if restored is None:
        return Read([], end_of(authority), True)
    found = list(authority.log(restored.position - 1, _MOST))
    return Read(found, place_of(found[-1]) if found else mark, True)


def awaited(authority: "target.Operations", mark: "Place", *, glance: float, at_most: float) -> "Place":
    """The end of the log once it is another than `mark`, or after a while."""
    ends = time.monotonic() + at_most
    while time.monotonic() < ends:
        read = after(authority, mark)
        if read.events or read.anew:
            return end_of(authority)
        time.sleep(glance)
    return mark


def on(mark: "Place", tell: "Callable[[target.Operations, Read], None]") -> NoReturn:
    """Tell what happens from a mark on; while the store cannot be read, say so once and try again."""
    from capx.errors import CapxError

    told, pause = "", _GLANCE
    while True:
        try:
            with target.authority() as authority:
                while True:
                    read = after(authority, mark)
                    if told:
                        screen.note("capx: the log can be read again")
                    told, pause = "", _GLANCE
                    if read.anew:
                        screen.note(
                            "capx: the log is another one than before: what follows is what happened since", "yellow"
                        )
                    tell(authority, read)
                    mark = read.mark
                    time.sleep(_GLANCE)
        except CapxError as problem:
            if str(problem) != told:
                told = str(problem)
                screen.note(f"capx: {told}; I go on trying", "yellow")
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)


def _read(events: "list[Event]", mark: "Place") -> Read:
    return Read(events, place_of(events[-1]) if events else mark)


def place_of(event: "Event | None") -> "Place":
    """Where an event stands; None stands before the first one."""
    from capx.store.log import START, Place

    return START if event is None else Place(event.position, event.hash)
