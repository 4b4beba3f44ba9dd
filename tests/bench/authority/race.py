"""Processes that race one budget: how many spends a second, and whether exactly the limit was spent.

In each round every store has its turn, and after it a bare table whose row they count up, durably and no further.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any

from msgspec import Struct

from capx.store.factory import open_store
from tests.bench.authority.bare import bare
from tests.bench.authority.child import Child
from tests.bench.authority.figures import BUSY, OFF, RACE, SPENDS, TIMES_BARE, WINNERS, Figure
from tests.bench.authority.places import Places
from tests.bench.authority.spender import COUNTER
from tests.bench.measuring import rounded


class _Ran(Struct, frozen=True):
    """Spends a second, how many there were, of how many processes, and how often a store said that it is busy."""

    rate: float
    done: int
    winners: int
    busy: int


def measure_races(
    places: Places, racers: Sequence[int], limit: int, rounds: int, told: Callable[[], None]
) -> list[Figure]:
    """Each store with so many processes."""
    figures: list[Figure] = []
    for count in racers:
        rates: dict[str, list[float]] = {who: [] for who in places.stores}
        times: dict[str, list[float]] = {who: [] for who in places.stores}
        off, busy = dict.fromkeys(places.stores, 0), dict.fromkeys(places.stores, 0)
        winners = dict.fromkeys(places.stores, count)
        for _ in range(rounds):
            for who in places.stores:
                ran, beyond = _of_store(places, who, count, limit)
                rates[who].append(ran.rate)
                times[who].append(_of_bare(places, who, count, limit) / ran.rate)
                off[who] = max(off[who], beyond)
                busy[who] += ran.busy
                winners[who] = min(winners[who], ran.winners)
            told()
        figures += [
            Figure(
                RACE,
                who,
                count,
                {
                    SPENDS: rounded(statistics.median(rates[who])),
                    TIMES_BARE: rounded(statistics.median(times[who])),
                    WINNERS: winners[who],
                    BUSY: busy[who],
                    OFF: off[who],
                },
            )
            for who in places.stores
        ]
    return figures


def _of_store(places: Places, who: str, count: int, limit: int) -> tuple["_Ran", int]:
    """How it went, and by how many what was spent, or what the counter holds, is not the limit."""
    address = places.new(who)
    ran = _race(address, count, limit, is_bare=False)
    with closing(open_store(address)) as store:
        (spent,) = store.spent([COUNTER])
    return ran, max(abs(ran.done - limit), abs(int(spent) - limit))


def _of_bare(places: Places, who: str, count: int, limit: int) -> float:
    address = places.new_bare(who)
    with closing(bare(address)) as connection:
        connection.execute("INSERT INTO bare VALUES (0)")
    ran = _race(address, count, limit, is_bare=True)
    assert ran.done == limit
    return ran.rate


def _race(address: str, count: int, limit: int, *, is_bare: bool) -> _Ran:
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("tests.bench.authority.spender", address=address, limit=limit, bare=is_bare))
            for _ in range(count)
        ]
        for child in children:
            child.hear()
        began = time.monotonic()
        for child in children:
            child.tell("go")
        said: list[dict[str, Any]] = [child.hear() for child in children]
    done = sum(one["done"] for one in said)
    took = max(one["last"] for one in said) - began
    return _Ran(done / took, done, sum(one["done"] > 0 for one in said), sum(one["busy"] for one in said))
