"""Follow a log while others write to it.

Law: the last event is read again each time, and its hash compared. So a log that was replaced meanwhile, as by a
restored backup, is not taken for one that grew.
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
"""The most events that are read at once."""


class Read(Struct, frozen=True):
    """The events after a mark, and the next mark; `anew` if the log was replaced meanwhile."""

    events: "list[Event]"
    mark: "Place"
    anew: bool = False


def end_of(authority: "target.Operations") -> "Place":
    """Return the present end of the log."""
    return place_of(next(iter(authority.newest_first()), None))


def after(authority: "target.Operations", mark: "Place") -> Read:
    """Read what happened after the mark; if the log was replaced, what happened since then."""
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
    """Return the end of the log when it differs from `mark`, or after a while."""
    ends = time.monotonic() + at_most
    while time.monotonic() < ends:
        read = after(authority, mark)
        if read.events or read.anew:
            return end_of(authority)
        time.sleep(glance)
    return mark


def on(mark: "Place", tell: "Callable[[target.Operations, Read], None]") -> NoReturn:
    """Show what happens after a mark, for ever; while the store cannot be read, say so once and try again."""
    from capx.errors import CapxError

    last_problem, pause = "", _GLANCE
    while True:
        try:
            with target.authority() as authority:
                while True:
                    read = after(authority, mark)
                    if last_problem:
                        screen.note("capx: the log can be read again")
                    last_problem, pause = "", _GLANCE
                    if read.anew:
                        screen.note("capx: the log was replaced: the events since then follow", "yellow")
                    tell(authority, read)
                    mark = read.mark
                    time.sleep(_GLANCE)
        except CapxError as problem:
            if str(problem) != last_problem:
                last_problem = str(problem)
                screen.note(f"capx: {last_problem}; trying again", "yellow")
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)


def _read(events: "list[Event]", mark: "Place") -> Read:
    return Read(events, place_of(events[-1]) if events else mark)


def place_of(event: "Event | None") -> "Place":
    """Return the position of an event; None means before the first one."""
    from capx.store.log import START, Place

    return START if event is None else Place(event.position, event.hash)
