"""Time contenders in turn, and say how they compare.

Laws: in each round every contender has its turn, all on one core; a ratio is the median of the ratios within rounds,
so that a drift of the machine does not show in it. The first turns find out how often a contender is asked in a turn,
and do not count.
"""

import os
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

Run = Callable[[int], float]
"""Does its work so many times, and gives the seconds that took."""

MAX_COUNT: Final = 2000
_WARMING: Final = 3


class Unmeasurable(Exception):
    """A contender cannot do this work, and says why."""


Key = tuple[str, int, str]
"""An operation, with so many hops, caveats or dead ids, and who does it."""


class Contender(Struct, frozen=True):
    """What is timed: `who` does `op`, with `at` hops, caveats or dead ids.

    `to` says what it is compared with, if that is measured too, by the name of the ratio.
    """

    op: str
    at: int
    who: str
    run: Run
    to: Mapping[str, Key] = {}

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.op, self.at, self.who


class Row(Struct, frozen=True):
    """What a contender took each time, in µs, and how many times as long as the contenders named in `ratios`."""

    op: str
    at: int
    who: str
    us: float
    quartiles: tuple[float, float]
    count: int
    ratios: dict[str, float]


def pinned() -> bool:
    """Keep this process and those it starts on one core; whether that could be done."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return True


def cores() -> set[int]:
    """The cores that this process may use, as far as that is told; never none."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else {0}


@contextmanager
def on_cores(allowed: set[int]) -> Generator[None]:
    """A block in which this thread, and the processes it starts, keep to these cores, where that can be had."""
    before = cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def measure(
    contenders: Sequence[Contender], *, rounds: int, seconds: float, told: Callable[[], None] = lambda: None
) -> tuple[list[Row], dict[str, str]]:
    """The rows, and what could not be measured with its reason.

    A turn is as many repetitions as take about `seconds`. `told` is called after each round.
    """
    counts: dict[Key, int] = {}
    missing: dict[str, str] = {}
    for each in contenders:
        try:
            counts[each.key] = count_for(each.run, seconds)
        except Unmeasurable as reason:
            missing[f"{each.who}: {each.op} at {each.at}"] = str(reason)
    able = [each for each in contenders if each.key in counts]
    taken: dict[Key, list[float]] = {key: [] for key in counts}
    for _ in range(rounds):
        for each in able:
            count = counts[each.key]
            taken[each.key].append(each.run(count) / count * 1e6)
        told()
    return [_row(each, taken, counts[each.key]) for each in able], missing


def count_for(run: Run, seconds: float) -> int:
    """How many repetitions take so long. The first turn fills caches, and one that is too short tells too little."""
    run(_WARMING)
    count = _WARMING
    while (taken := run(count)) < seconds / 4 and count < MAX_COUNT:
        count = min(2 * count, MAX_COUNT)
    return max(1, min(MAX_COUNT, int(count * seconds / max(taken, 1e-9))))


def _row(one: Contender, taken: Mapping[Key, Sequence[float]], count: int) -> Row:
    micros = taken[one.key]
    low, middle, high = map(rounded, statistics.quantiles(micros, n=4, method="inclusive"))
    ratios = {
        name: rounded(statistics.median(a / b for a, b in zip(micros, taken[other], strict=True)))
        for name, other in one.to.items()
        if other in taken and other != one.key
    }
    return Row(one.op, one.at, one.who, middle, (low, high), count, ratios)


def rounded(number: float) -> float:
    """Four significant digits: more is noise."""
    return float(f"{number:.4g}")
