"""Processes that race one budget: how many spends a second, and whether exactly the limit was spent.

In each round every store has its turn, and after it a bare table whose row they count up, durably and no further.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Final

from capx.store.factory import open_store
from tests.bench.authority.bare import bare
from tests.bench.authority.child import started
from tests.bench.authority.figures import BUSY, OFF, RACE, SPENDS, TIMES_BARE, WINNERS, Figure, figure
from tests.bench.authority.places import Places
from tests.bench.authority.spender import COUNTER
from tests.bench.findings import Findings

_RACERS: Final = (1, 16)


def measure_races(found: Findings, places: Places) -> Iterator[Figure]:
    """Each store, with one process and with many."""
    rounds = 1 if found.options.quick else 3
    told = found.told(RACE, len(_RACERS) * rounds)
    for count in _RACERS:
        ran: dict[str, list[dict[str, float]]] = {who: [] for who in places.stores}
        for _ in range(rounds):
            for who, rows in ran.items():
                rows.append(_of_store(places, who, count, found.options.spends))
            told()
        for who, rows in ran.items():
            yield figure(RACE, who, count, {name: of(row[name] for row in rows) for name, of in _OF_ROUNDS.items()})


_OF_ROUNDS: Final[dict[str, Callable[[Iterable[float]], float]]] = {
    SPENDS: statistics.median,
    TIMES_BARE: statistics.median,
    WINNERS: min,
    BUSY: sum,
    OFF: max,
}
"""What is told of a value's rounds."""


def _of_store(places: Places, who: str, count: int, limit: int) -> dict[str, float]:
    """How it went, and by how many what was spent, or what the counter holds, is not the limit."""
    address = places.new(who)
    rate, done, busy = _race(address, count, limit, is_bare=False)
    with closing(open_store(address)) as store:
        (spent,) = store.spent([COUNTER])
    return {
        SPENDS: rate,
        TIMES_BARE: _of_bare(places, who, count, limit) / rate,
        WINNERS: sum(one > 0 for one in done),
        BUSY: busy,
        OFF: max(abs(sum(done) - limit), abs(int(spent) - limit)),
    }


def _of_bare(places: Places, who: str, count: int, limit: int) -> float:
    address = places.new_bare(who)
    with closing(bare(address)) as connection:
        connection.execute("INSERT INTO bare VALUES (0)")
    rate, done, _ = _race(address, count, limit, is_bare=True)
    assert sum(done) == limit
    return rate


def _race(address: str, count: int, limit: int, *, is_bare: bool) -> tuple[float, list[int], int]:
    """Spends a second, how many each process did, and how often the store said that it is busy."""
    with ExitStack() as stack:
        children = started(stack, count, "tests.bench.authority.spender", address=address, limit=limit, bare=is_bare)
        began = time.monotonic()
        for child in children:
            child.tell("go")
        said: list[dict[str, Any]] = [child.hear() for child in children]
    done: list[int] = [one["done"] for one in said]
    took = max(one["last"] for one in said) - began
    return sum(done) / took, done, sum(one["busy"] for one in said)
