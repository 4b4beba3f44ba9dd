"""`capx log`: show what happened, in order."""

import contextlib
import sys
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

import click

from capx_cli import phrases, screen, tail, target
from capx_cli.view import Page, page_options, show_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from capx.store.decision_groups import Group
    from capx.store.log import Event


class _Begin(NamedTuple):
    """Which events to show: those after a position, at or after an instant (Unix seconds)."""

    position: int = 0
    at: int = 0


class _Span(NamedTuple):
    """Which events to show: from a beginning on, before a position, at most so many; `onwards`: the first of them."""

    begin: _Begin
    before: int | None
    most: int | None
    onwards: bool = False


@click.command()
@click.option(
    "--since",
    metavar="POSITION|WHEN",
    help="Only events after a position, 120, or since a time: 1h is an hour ago; or 2026-11-25T12:00:00Z.",
)
@page_options("POSITION|ID")
@click.option("--each", is_flag=True, help="Show each decision, also denials that another one of their call followed.")
@click.option("--follow", is_flag=True, help="Then show what happens from now on, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Write JSON: an array, one event a line. With --follow: one value a line."
)
@target.authority_option
def log(
    *,
    since: str | None,
    limit: int | None,
    before: str | None,
    after: str | None,
    each: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the events of the log, one line each, the newest last: position, time, kind, and what it is about.

    A denial is left out if another decision about the same call followed within a minute; that one says how many there
    were. --each, --follow and --json show all events: their positions have no gaps. So a program that remembers the
    last one it saw can go on with --after. With --follow, standard error says when the store cannot be read. When it
    can be read again, the missed events follow.

    A page has the newest 50. A line on standard error says how to get the next one, also with --json: --before and
    --after take a position of the log, or the id of a decision. --follow shows all events, unless there is a --limit.

    Example: capx log --since 1h --limit 20
    """
    begin = _begin(since)
    if follow:
        if before is not None or after is not None:
            raise click.UsageError("--follow shows what happens from now on: leave out --before and --after")
        with contextlib.suppress(KeyboardInterrupt):
            _follow(None if since is None else begin, limit or None, as_json)
        return
    from capx_cli import events

    page: Page[Group] = Page(limit, before, after, lambda group: group.last.position)
    with target.authority() as authority:
        chosen = _each if each or as_json else _calls
        until = phrases.position(authority, "--before", before)
        if after is not None:
            begin = begin._replace(position=max(begin.position, phrases.position(authority, "--after", after) or 0))
        span = _Span(begin, until, page.most, onwards=after is not None)
        found = screen.awaited("reading the log", lambda: chosen(authority, span))
        nothing = "nothing happened since" if since or after else "nothing has happened yet"
        show_each(
            page.shown(found),
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
    if len(since) > len(str(phrases.LAST)) or int(since) > phrases.LAST:
        raise click.UsageError(f"--since {since:.40} is larger than any position can be: the largest is {phrases.LAST}")
    return _Begin(int(since))


def _chosen(authority: "target.Operations", span: _Span) -> "Iterator[Event]":
    position, at = span.begin
    if span.onwards or span.most is None:
        until = authority.log(position) if span.before is None else authority.log(position, _between(span, position))
        return islice((event for event in until if event.at >= at), span.most)
    after = takewhile(lambda event: event.position > position, authority.newest_first(span.before))
    return reversed(list(islice((event for event in after if event.at >= at), span.most)))


def _between(span: _Span, position: int) -> int:
    return max(0, (span.before or 0) - 1 - position)


def _each(authority: "target.Operations", span: _Span) -> "Iterator[Group]":
    from capx.store.decision_groups import Group

    return (Group((event,)) for event in _chosen(authority, span))


def _calls(authority: "target.Operations", span: _Span) -> "Iterator[Group]":
    from capx.store.decision_groups import grouped, newest

    end = authority.end() if span.before is None else min(authority.end(), span.before - 1)

    def read(after: int) -> "Iterator[Event]":
        return (event for event in authority.log(after, max(0, end - after)) if event.at >= span.begin.at)

    if span.onwards or span.most is None:
        return islice(grouped(read(span.begin.position)), span.most)
    return iter(newest(read, end=end, limit=span.most, after=span.begin.position))


def _follow(begin: _Begin | None, limit: int | None, as_json: bool) -> None:
    """Show what has happened, then what happens."""
    with target.authority() as authority:
        mark = tail.end_of(authority)
        if begin is not None or limit is not None:
            past = list(_chosen(authority, _Span(begin or _Begin(), None, limit)))
            mark = tail.place_of(past[-1]) if past else mark
            _say(past, as_json)
    tail.on(mark, lambda _, read: _say(read.events, as_json))


def _say(found: "Iterable[Event]", as_json: bool) -> None:
    from capx_cli import events

    for event in found:
        events.tell_event(event, as_json)
    sys.stdout.flush()
