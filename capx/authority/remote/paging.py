"""Events of an authority elsewhere, read page by page while they are taken.

Law: a page that leads nowhere is an error, and not an end: who follows pages that never move would follow for ever.
"""

from collections.abc import Callable, Iterator

from capx.authority.remote.messages import Events
from capx.errors import StoreProblem
from capx.store.log import Event

Turn = Callable[[int], Events]
"""What gives the page on the other side of a position that was reached."""


def onwards(page: Events, turn: Turn, *, place: str) -> Iterator[Event]:
    """The events from a page on, in order, up to the end as it was then."""
    end = page.end
    while True:
        yield from (event for event in of_page(page) if event.position <= end)
        if page.reached >= end or not page.events:
            return
        since = page.reached
        page = turn(since)
        _demand_moved(page.reached > since or not page.events, place)


def backwards(page: Events, turn: Turn, *, place: str) -> Iterator[Event]:
    """The events from a page on, the last one first, back to the beginning."""
    while True:
        yield from of_page(page)
        if page.reached <= 0:
            return
        before = page.reached
        page = turn(before)
        _demand_moved(page.reached < before, place)


def found(page: Events, turn: Turn, *, until: int | None, place: str) -> Iterator[Event]:
    """What was found from a page on, in order, up to `until`; a page where nothing was found is no end."""
    end = page.end if until is None else min(until, page.end)
    while True:
        yield from (event for event in of_page(page) if event.position <= end)
        if page.reached >= end:
            return
        after = page.reached
        page = turn(after)
        _demand_moved(page.reached > after, place)


def of_page(page: Events) -> list[Event]:
    """The events of one page."""
    return [one.event() for one in page.events]


def _demand_moved(moved: bool, place: str) -> None:
    if not moved:
        raise StoreProblem(f"the authority at {place} answers with the same page again: it tells no log")
