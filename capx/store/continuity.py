"""Checks that a store continues what a follower knows: same history, nothing taken back, nothing missing.

Law: without these checks an older copy of a store could make a revoked token valid again. So a follower refuses a store
that is behind what it knows, and goes on with its old knowledge until that is too old.
"""

import math
from typing import Final

from capx.errors import StoreProblem, Unavailable
from capx.store.records import REPLACED, Head, News

UNCONFIRMED: Final = "its server waits for a standby, or is no primary any more; look at its server"
"""Why a store may confirm no write."""
LONG_UNCONFIRMED: Final = 5.0
"""Seconds without a confirmed write after which this is a problem; a process has one confirmed each second."""


def succeeding(known: Head | None, head: Head, hash_there: bytes | None) -> Head | None:
    """The head from which a follower continues; StoreProblem if it may not continue.

    That is `known`, or None if the follower must start over.

    `hash_there` is the hash of the event at the position of `known`, None if there is no such event. A follower starts
    over in a later epoch of the same store, and if the store has forgotten deaths that the follower never saw.
    """
    if head.epoch.endswith(REPLACED):
        raise StoreProblem("the store was damaged and a backup took its place: open the file that is there now")
    if known is None:
        return None
    if head.epoch != known.epoch:
        _demand_later(known.epoch, head.epoch)
        return None
    demand_not_behind(known, head)
    # The same position with another hash: two stores went on from one copy, or somebody rewrote the log.
    if known.position > 0 and hash_there != known.hash:
        raise StoreProblem(
            f"the event at position {known.position} is not the one that was there before: the log was rewritten, or "
            "this is another copy"
        )
    return None if head.forgotten > known.deaths else known


class StateLost(StoreProblem):
    """The store lacks something that it is known to have held."""


def demand_not_behind(known: Head, head: Head) -> None:
    """Raise StateLost if a head is behind one that was known in the same epoch."""
    for what in ("position", "deaths", "forgotten"):
        before, now = getattr(known, what), getattr(head, what)
        if now < before:
            said = {"position": "position {}", "deaths": "{} deaths", "forgotten": "{} forgotten deaths"}[what]
            raise StateLost(
                f"the store went back from {said.format(before)} to {now}: an older copy was put in its place, or a "
                "standby that lacked something became the primary"
            )


def unconfirmed(seconds: float) -> Unavailable | None:
    """The problem that a store has confirmed no write of this process for so long; None if that is not long."""
    if seconds <= LONG_UNCONFIRMED:
        return None
    since = "yet" if math.isinf(seconds) else f"for {seconds:.0f} seconds"
    return Unavailable(f"the store has confirmed no write of this process {since}: {UNCONFIRMED}")


def demand_whole(known: Head | None, news: News) -> News:
    """Give the news if it misses no death between `known` (from `succeeding`) and its head; else StoreProblem."""
    since = news.head.forgotten if known is None else max(known.deaths, news.head.forgotten)
    # Lasting deaths have numbers that count as forgotten, so they are not among those that the head counts.
    found, counted = len(news.deaths) - news.lasting, news.head.deaths - since
    if found != counted:
        raise StoreProblem(f"the store counts {counted} new deaths and holds {found}: it is damaged")
    return news


def _demand_later(known: str, found: str) -> None:
    authority, _, began = found.partition(".")
    known_authority, _, known_began = known.partition(".")
    # Another authority means a new store with new numbers. Nothing that the follower knows can be compared with it.
    if authority != known_authority:
        raise StoreProblem("the store was replaced by another one: restart its services to follow it")
    if not began.isdecimal() or not known_began.isdecimal() or int(began) <= int(known_began):
        raise StoreProblem("the store is of an epoch that ended: an older copy was put in its place")
