"""How long after `revoke` has returned every follower refuses, each in a process of its own.

For each revocation a child is delegated, every follower allows a call of it, and after a moment, of a length that
chance decides, it is revoked. What counts is the follower that refuses last. Below zero is what all refused before
`revoke` had returned.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from tests.bench.authority.child import started
from tests.bench.authority.figures import FEED, LAG, Figure, figure, latencies
from tests.bench.authority.follower import ACTION
from tests.bench.authority.places import AUDIENCE, Place, Places
from tests.bench.findings import Findings

_MOST_MOMENTS: Final = 0.05
_REFUSED: Final = "refused"


def measure_lags(found: Findings, places: Places, who: str) -> Iterator[Figure]:
    """The lag behind this store or feed, with each number of followers."""
    revocations: int = found.options.revocations
    with places.served() if who == FEED else places.authority(who) as place:
        for followers in found.options.followers:
            yield _lag(place, followers, revocations, found.told(f"{who}, {followers}", revocations))


def _lag(place: Place, followers: int, revocations: int, told: Callable[[], None]) -> Figure:
    chance = random.Random(followers)
    bundle = place.authority.open(allow=[f"{ACTION}@{AUDIENCE}"]).bundle
    lags: list[float] = []
    with ExitStack() as stack:
        children = started(stack, followers, "tests.bench.authority.follower", **place.source.settings())
        for number in range(revocations):
            doomed = bundle.delegate(to=f"agent-{number}", allow=[ACTION])
            (capability,) = (one for one in doomed if one.audience == AUDIENCE)
            for child in children:
                child.tell(capability.text)
            for child in children:
                child.hear()
            time.sleep(chance.uniform(0, _MOST_MOMENTS))
            place.authority.revoke(doomed)
            returned = time.monotonic()
            lags.append(max(child.hear()[_REFUSED] for child in children) - returned)
            told()
    return figure(LAG, place.source.who, followers, latencies(lags))
