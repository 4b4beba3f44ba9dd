"""`capx log`: show what happened, in order."""

import contextlib
import sys
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

import click

from capx_cli import phrases, screen, tail, target
from capx_cli.view import Newest, show_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from capx.store.decision_groups import Group
    from capx.store.log import Event

_LAST = 2**53 - 1
"""The largest possible position, the same in a store and over HTTP."""


class _Begin(NamedTuple):
    """Which events to show: those after a position, at or after an instant (Unix seconds)."""

    position: int = 0
    at: int = 0


@click.command()
@click.option(
    "--since",
    metavar="POSITION|WHEN",
    help="Only events after a position, 120, or since a time: 1h is an hour ago; or 2026-11-25T12:00:00Z.",
)
@click.option(
    "--limit",
    type=phrases.COUNT,
    metavar="N",
    help="Only the newest N; without it, 500, and with --json or --follow all.",
)
@click.option("--each", is_flag=True, help="Show each decision, also denials that another one of their call followed.")
@click.option("--follow", is_flag=True, help="Then show what happens from now on, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: an array, one event a line. With --follow: one value a line."
)
@target.authority_option
def log(since: str | None, limit: int | None, each: bool, follow: bool, as_json: bool) -> None:
    """Show the events of the log, one line each, the newest last: position, time, kind, and what it is about.

    A denial is left out if another decision about the same call followed within a minute; that one says how many there
    were. --each, --follow and --json show all events: their positions have no gaps. So a program that remembers the
    last one it saw can go on with --since. With --follow, standard error says when the store cannot be read. When it
    can be read again, the missed events follow.

    Example: capx log --since 1h --limit 20
    """
    begin = _begin(since)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(None if since is None else begin, limit, as_json)
        return
    from capx_cli import events

    with target.authority() as authority:
        chosen = _each if each or as_json else _calls
        newest = Newest(limit, as_json=as_json)
        found = screen.awaited("reading the log", lambda: chosen(authority, begin, newest.limit))
        nothing = "nothing happened since" if since else "nothing has happened yet"
        show_each(
            newest.shown(found),
            as_json,
            facts=lambda group: events.event_as_json(group.last),
            say=events.say_event,
            nothing=nothing,
        )


def _begin(since: str | None) -> _Begin:
    """Return where to begin; UsageError for a position that no log can reach."""
    if since is None:
        return _Begin()
    if not (since.isascii() and since.isdigit()):
        return _Begin(at=phrases.past(since))
    if len(since) > len(str(_LAST)) or int(since) > _LAST:
        raise click.UsageError(f"--since {since:.40} is larger than any position can be: the largest is {_LAST}")
    return _Begin(int(since))


def _chosen(authority: "target.Operations", begin: _Begin, limit: int | None) -> "Iterator[Event]":
    position, at = begin
    if limit is None:
        return (event for event in authority.log(position) if event.at >= at)
    after = takewhile(lambda event: event.position > position, authority.newest_first())
    return reversed(list(islice((event for event in after if event.at >= at), limit)))


def _each(authority: "target.Operations", begin: _Begin, limit: int | None) -> "Iterator[Group]":
    from capx.store.decision_groups import Group

    return (Group((event,)) for event in _chosen(authority, begin, limit))


def _calls(authority: "target.Operations", begin: _Begin, limit: int | None) -> "Iterator[Group]":
    from capx.store.decision_groups import grouped, newest

    end = authority.end()

    def read(after: int) -> "Iterator[Event]":
        return (event for event in authority.log(after, max(0, end - after)) if event.at >= begin.at)

    if limit is None:
        return grouped(read(begin.position))
    return iter(newest(read, end=end, limit=limit, after=begin.position))


def _follow(begin: _Begin | None, limit: int | None, as_json: bool) -> None:
    """Show what has happened, then what happens."""
    with target.authority() as authority:
        mark = tail.end_of(authority)
        if begin is not None or limit is not None:
            past = list(_chosen(authority, begin or _Begin(), limit))
            mark = tail.place_of(past[-1]) if past else mark
            _say(past, as_json)
    tail.on(mark, lambda _, read: _say(read.events, as_json))


def _say(found: "Iterable[Event]", as_json: bool) -> None:
    from capx.store.decision_groups import Group
    from capx_cli import events

    for event in found:
        if as_json:
            screen.as_json_line(events.event_as_json(event))
        else:
            events.say_event(Group((event,)))
    sys.stdout.flush()
