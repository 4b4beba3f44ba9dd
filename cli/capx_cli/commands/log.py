"""`capx log`: what happened, in order."""

import contextlib
import sys
import time
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import click

from capx_cli import following, reached, screen, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from capx.log import Event
    from capx_cli.reached import Operations

_GLANCE = 0.25
_LONGEST_PAUSE = 5.0


@click.command()
@click.option(
    "--since",
    metavar="POSITION|WHEN",
    help="Only what stands after a position, 120, or happened since: 1h is an hour ago; or 2026-11-25T12:00:00Z.",
)
@click.option("--limit", type=words.COUNT, metavar="N", help="Only the N newest of them.")
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, an event a line; a line each to follow.")
@reached.authority_option
def log(since: str | None, limit: int | None, follow: bool, as_json: bool) -> None:
    """Show the events of the log, one line each, the newest last: position, time, kind, and what it was about.

    Positions have no gaps. A program that remembers the last one it saw goes on with --since. Whoever follows is told
    on standard error when the store cannot be read, and is told the rest once it can.

    Example: capx log --since 1h --limit 20
    """
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(since, limit, as_json)
        return
    from capx_cli import events

    with reached.authority() as authority:
        found = screen.awaited("reading the log", lambda: _chosen(authority, since, limit))
        if as_json:
            screen.as_json_array(map(events.event_as_json, found))
            return
        said = sum(1 for _ in map(events.say_event, found))
    if not said:
        screen.note("nothing happened since" if since else "nothing has happened yet")


def _chosen(authority: "Operations", since: str | None, limit: int | None) -> "Iterator[Event]":
    is_position = since is not None and since.isdecimal()
    position = int(since) if since is not None and is_position else 0
    at = 0 if since is None or is_position else words.past(since, int(time.time()))
    if limit is None:
        return (event for event in authority.log(position) if event.at >= at)
    after = takewhile(lambda event: event.position > position, authority.newest_first())
    return reversed(list(islice((event for event in after if event.at >= at), limit)))


def _follow(since: str | None, limit: int | None, as_json: bool) -> None:
    """Say what happened, then what happens; while the store cannot be read, say so once and try again."""
    from capx.errors import CapxError

    with reached.authority() as authority:
        mark = following.end_of(authority)
        if since is not None or limit is not None:
            past = list(_chosen(authority, since, limit))
            mark = following.Mark(past[-1].position, past[-1].hash) if past else mark
            _say(past, as_json)
    told, pause = "", _GLANCE
    while True:
        try:
            with reached.authority() as authority:
                if told:
                    screen.note("capx: the log can be read again")
                told, pause = "", _GLANCE
                while True:
                    mark = _go_on(authority, mark, as_json)
                    time.sleep(_GLANCE)
        except CapxError as problem:
            if str(problem) != told:
                told = str(problem)
                screen.note(f"capx: {told}; I go on trying", "yellow")
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)


def _go_on(authority: "Operations", mark: following.Mark, as_json: bool) -> following.Mark:
    read = following.after(authority, mark)
    if read.anew:
        screen.note("capx: the log is another one than before: what follows is what happened since", "yellow")
    _say(read.events, as_json)
    return read.mark


def _say(found: "Iterable[Event]", as_json: bool) -> None:
    from capx_cli import events

    for event in found:
        if as_json:
            screen.as_json_line(events.event_as_json(event))
        else:
            events.say_event(event)
    sys.stdout.flush()
