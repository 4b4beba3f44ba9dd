"""Whether what a follower reads goes on from what it knew: no other epoch, nothing taken back, nothing missing."""

from capx.errors import StoreProblem
from capx.store.records import REPLACED, Head, News


def succeeding(known: Head | None, head: Head, hash_there: bytes | None) -> Head | None:
    """What a follower goes on from: `known`, or None when it must start over; StoreProblem when it may do neither.

    `hash_there` is the hash of the event that stands at the position of `known`, None if there is none. A later epoch
    of the same store is started over with, and so is one that has forgotten deaths that the follower never saw.
    """
    if head.epoch.endswith(REPLACED):
        raise StoreProblem(
            "the store was damaged and a backup took its place: this is what was there before, open what is there now"
        )
    if known is None:
        return None
    if head.epoch != known.epoch:
        _demand_later(known.epoch, head.epoch)
        return None
    if head.position < known.position or head.deaths < known.deaths or head.forgotten < known.forgotten:
        raise StoreProblem(
            f"the store went back from position {known.position} to {head.position}: an older copy was put in its place"
        )
    if known.position > 0 and hash_there != known.hash:
        raise StoreProblem(f"the store tells another history than before at position {known.position}")
    return None if head.forgotten > known.deaths else known


def demand_whole(known: Head | None, news: News) -> News:
    """The news, if no death is missing between `known`, as `succeeding` gave it, and their head; else StoreProblem."""
    since = news.head.forgotten if known is None else max(known.deaths, news.head.forgotten)
    found, told = len(news.deaths) - news.lasting, news.head.deaths - since
    if found != told:
        raise StoreProblem(f"the store counts {told} new deaths and holds {found}: it is damaged")
    return news


def _demand_later(known: str, found: str) -> None:
    origin, _, began = found.partition(".")
    known_origin, _, known_began = known.partition(".")
    if origin != known_origin:
        raise StoreProblem("the store was replaced by another one: restart its services to follow it")
    if not began.isdecimal() or not known_began.isdecimal() or int(began) <= int(known_began):
        raise StoreProblem("the store is of an epoch that ended: an older copy was put in its place")
