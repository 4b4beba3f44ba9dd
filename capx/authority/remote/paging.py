"""Reading the events of a remote authority page by page, while the caller takes them.

Law: a page that does not lead on is an error, not the end. Otherwise a client could read the same page forever.
"""

from collections.abc import Callable, Iterator

from capx.authority.remote.messages import Events
from capx.errors import StoreProblem
from capx.store.log import Event

Turn = Callable[[int], Events]
"""Returns the next page after (or, backwards, before) the position that was reached."""


def onwards(page: Events, turn: Turn, *, place: str) -> Iterator[Event]:
    """The events from a page on, in order, up to the end that the first page names."""
    # Fixed by the first page, because a log that grows while it is read would have no end.
    end = page.end
    while True:
        yield from (event for event in of_page(page) if event.position <= end)
        if page.reached >= end or not page.events:
            return
        since = page.reached
        page = turn(since)
        _demand_moved(page.reached > since or not page.events, place)


def backwards(page: Events, turn: Turn, *, place: str) -> Iterator[Event]:
    """The events from a page on, the newest first, back to the beginning."""
    while True:
        yield from of_page(page)
        if page.reached <= 0:
            return
        before = page.reached
        page = turn(before)
        _demand_moved(page.reached < before, place)


def found(page: Events, turn: Turn, *, until: int | None, place: str) -> Iterator[Event]:
    """The matching events from a page on, in order, up to `until`. A page without a match is not the end."""
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
        raise StoreProblem(
            f"the authority at {place} answers with the same page of the log again: restart capx serve with the same "
            "version of capx as here"
        )
