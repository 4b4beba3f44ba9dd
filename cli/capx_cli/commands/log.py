"""`capx log`: what happened, in order."""

import time
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import click

from capx_cli import screen, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capx.authority import Authority
    from capx.log import Event


@click.command()
@click.option(
    "--since",
    metavar="POSITION|WHEN",
    help="Only what stands after a position, 120, or happened since: 1h is an hour ago; or 2026-11-25T12:00:00Z.",
)
@click.option("--limit", type=words.COUNT, metavar="N", help="Only the N newest of them.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, an event a line.")
def log(since: str | None, limit: int | None, as_json: bool) -> None:
    """Show the events of the log, one line each, the newest last: position, time, kind, and what it was about.

    Positions have no gaps. A program that remembers the last one it saw goes on with --since.

    Example: capx log --since 1h --limit 20
    """
    from capx.authority import Authority
    from capx_cli import events

    with Authority.open_home() as authority:
        found = screen.awaited("reading the log", lambda: _chosen(authority, since, limit))
        if as_json:
            screen.as_json_array(map(events.event_as_json, found))
            return
        said = sum(1 for _ in map(events.say_event, found))
    if not said:
        screen.note("nothing happened since" if since else "nothing has happened yet")


def _chosen(authority: "Authority", since: str | None, limit: int | None) -> "Iterator[Event]":
    is_position = since is not None and since.isdecimal()
    position = int(since) if since is not None and is_position else 0
    at = 0 if since is None or is_position else words.past(since, int(time.time()))
    if limit is None:
        return (event for event in authority.log(position) if event.at >= at)
    after = takewhile(lambda event: event.position > position, authority.newest_first())
    return reversed(list(islice((event for event in after if event.at >= at), limit)))
