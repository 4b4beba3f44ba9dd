"""Keeping the reports of followers: how many deaths each of them has seen.

A *death* is the store's record that something is revoked, or that a task has ended.

Laws:

- A follower cannot have seen more deaths than there are. A higher number is lowered.
- Each audience has a limited number of followers, even if a resource makes up names. Otherwise it could block
  `--wait`, which waits for all of them. The follower that reported longest ago is dropped.
"""

from typing import Final

from capx.api.messages.resources import Sighted
from capx.store.protocols import Store

MOST: Final = 100
"""The most followers of one audience that are kept."""
LATELY: Final = 60
"""Seconds after its report for which a follower counts towards that limit."""

_LONG_AGO: Final = 0


def keep_follower_ack(store: Store, audience: str, said: Sighted, *, now: int) -> None:
    """Keep the report of a follower of this audience; `now` is in Unix seconds."""
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
            # `below=0` keeps all deaths: this only drops the followers that were just marked as old.
            transaction.forget(_LONG_AGO + 1, below=0)
    store.sighted(said.follower, min(said.deaths, deaths), now=now)
