"""What followers say that they know of deaths, as far as a resource may say it.

Laws: nobody knows of a death before it happened. Whoever waits until all have heard waits for so many followers of an
audience and no more, however many names a resource makes up: the one that was heard of longest ago goes.
"""

from typing import Final

from capx.api.messages.resources import Sighted
from capx.store.protocols import Store

MOST: Final = 100
"""Followers of one audience, heard of lately, that are kept."""
LATELY: Final = 60
"""Seconds for which a follower counts as heard of lately."""

_LONG_AGO: Final = 0


def keep_follower_ack(store: Store, audience: str, said: Sighted, *, now: int) -> None:
    """Keep what a follower of this audience said; `now` is in Unix seconds."""
    with store.read() as reading:
        deaths = reading.head().deaths
        others = [
            one
            for one in reading.follower_acks()
            if one.follower != said.follower
            and (one.follower == audience or one.follower.startswith(f"{audience}/"))
            and one.at > now - LATELY
        ]
    leaving = sorted(others, key=lambda one: one.at)[: max(0, len(others) - MOST + 1)]
    for one in leaving:
        store.sighted(one.follower, one.deaths, now=_LONG_AGO)
    if leaving:
        with store.write() as transaction:
            # Of the dead, none: they do not belong to a follower.
            transaction.forget(_LONG_AGO + 1, below=0)
    store.sighted(said.follower, min(said.deaths, deaths), now=now)
