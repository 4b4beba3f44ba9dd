"""What is told of the authority beside rows that are timed in turn: values by name, and the bars among them.

A value's name says its unit. What the figures have to reach stands in the design of the authority; those that are rates
of rows are read from the rows.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from tests.bench.measuring import Row, rounded

SQLITE: Final = "SQLite"
POSTGRES: Final = "PostgreSQL"
FEED: Final = "capx serve"
STORES: Final = (SQLITE, POSTGRES)
BARE: Final = "bare commits"
"""The ratio to as many durable commits of one row each, by the same library."""

LAG: Final = "lag"
VIEW: Final = "view"
RACE: Final = "race"
SERVE: Final = "serve"
RETRY: Final = "retry"
SIZE: Final = "size"
OF_AUTHORITY: Final = {LAG, VIEW, RACE, SERVE, RETRY, SIZE}

TASK: Final = "task"
GRANTS: Final = 3
COMMITS: Final = 2 + GRANTS
"""Of a task that is opened, granted more three times while it runs, and completed."""
COMMITS_AT_OPEN: Final = 2
"""Of one that is granted the same when it is opened."""
COMMIT: Final = "commit"
KEEPING: Final = ("burn", "record", "spend", COMMIT)
NEW, AGAIN = "ask for something new", "ask for the same again"
ASKING: Final = (NEW, AGAIN)

LONG_LOG: Final = "long log: "
"""How the operations begin that are timed on an empty store and on one with a long log."""
LONG: Final = "an empty store"
"""The ratio to the same on an empty store."""
FOUND_MS: Final = 50
"""The most milliseconds of a search."""
LONG_BARS: Final[dict[str, float | None]] = {
    **dict.fromkeys(f"find --{by}" for by in ("task", "agent", "tenant", "action", "denied", "since")),
    **dict.fromkeys(("why", "task show", "graph"), 1.5),
    **dict.fromkeys(("open", "record", "burn", "start of a follower"), 1.2),
}
"""How many times as long as on an empty store each may take; None for a search."""

P50, P99, WORST = "p50 ms", "p99 ms", "most ms"
ROW, INDEXES = "bytes of its row", "bytes of indexes"
MEGABYTES, PEAK, SECONDS = "MB", "MB at most", "s to load"
SPENDS, TIMES_BARE, WINNERS, BUSY, OFF = (
    "spends/s",
    "times a bare counter",
    "that spent",
    "told it is busy",
    "off the limit",
)
REQUESTS, TIMES_FRAMEWORK, GENERATOR = "requests/s", "times bare framework", "generator busy, %"
TIMES_ALLOWED: Final = "times the call that is allowed"


class Figure(Struct, frozen=True):
    """What was measured of `who`, with `at` followers, deaths, processes or connections."""

    of: str
    who: str
    at: int
    values: dict[str, float]


def figure(of: str, who: str, at: int, values: Mapping[str, float]) -> Figure:
    """A figure with as many digits as are no noise."""
    return Figure(of, who, at, {name: rounded(value) for name, value in values.items()})


class Limit(Struct, frozen=True, kw_only=True):
    """What something has to reach."""

    what: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limit(self) -> str:
        """The limit, as people write it."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def are_within(self, values: Iterable[float]) -> bool | None:
        """Whether all are; None if nothing was measured."""
        measured = list(values)
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        return all(least <= one <= most for one in measured) if measured else None


class Aim(Limit, frozen=True, kw_only=True):
    """What a figure has to reach, wherever it was measured."""

    of: str
    who: str
    value: str

    def reached(self, values: Mapping[int, float]) -> bool | None:
        """Whether all are; None if nothing was measured."""
        return self.are_within(values.values())


_RATE: Final = "tasks/s"
AIMS: Final = (
    Aim(what="open, three grants, complete: tasks/s", of=TASK, who=SQLITE, value=_RATE, at_least=150),
    *(Aim(what=f"from revoked to refused, {who}: p99 in ms", of=LAG, who=who, value=P99, at_most=50) for who in STORES),
    *(
        Aim(what=f"view of the dead, {who}: MB", of=VIEW, who=who, value=MEGABYTES, at_most=200)
        for who in (*STORES, FEED)
    ),
    *(Aim(what=f"view of the dead, {who}: s to load", of=VIEW, who=who, value=SECONDS, at_most=3) for who in STORES),
    Aim(what="a decision at three hops, SQLite: bytes of its row", of=SIZE, who=SQLITE, value=ROW, at_most=600),
    *(
        Aim(what=f"one budget raced for, {who}: off the limit", of=RACE, who=who, value=OFF, at_most=0)
        for who in STORES
    ),
)


def values(aim: Aim, rows: Sequence[Row], figures: Sequence[Figure]) -> dict[int, float]:
    """What was measured of an aim, by followers, deaths or processes."""
    if aim.of == TASK:
        return {row.at: 1e6 / row.us for row in rows if (row.op, row.at, row.who) == (TASK, COMMITS, aim.who)}
    return {one.at: one.values[aim.value] for one in figures if (one.of, one.who) == (aim.of, aim.who)}


def percentile(sorted_values: Sequence[float], of_a_hundred: float) -> float:
    """The least value that so many of a hundred do not exceed; no value is made up between two."""
    place = -(-len(sorted_values) * of_a_hundred // 100)
    return sorted_values[max(0, int(place) - 1)]


def latencies(seconds: Iterable[float]) -> dict[str, float]:
    """The usual ones of a hundred, and the longest, in milliseconds."""
    ordered = sorted(one * 1000 for one in seconds)
    return {P50: percentile(ordered, 50), P99: percentile(ordered, 99), WORST: ordered[-1]}
