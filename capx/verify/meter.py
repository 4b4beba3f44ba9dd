"""The meter behind `budget`: counters that grow as calls spend.

Laws:

- A counter is identified by its id and a unit, and by nothing else: capabilities of several audiences share it.
- All amounts of one presentation are spent together or not at all. So a denied call costs nothing.
- Amounts are exact decimals, and a counter never shrinks.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct


class Spend(Struct, frozen=True):
    """An amount to spend, if the counter's total afterwards is within `limit`."""

    counter: str
    unit: str
    cost: Decimal
    limit: Decimal


class Tally(Struct, frozen=True):
    """The total of each counter, in the order of the request; `exhausted` are the indexes of those without room.

    If `exhausted` is not empty, nothing was spent.
    """

    totals: tuple[Decimal, ...]
    exhausted: tuple[int, ...] = ()


class Meter(Protocol):
    """Counters that processes share."""

    def spend(self, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all of it or nothing, atomically; `now` in Unix seconds. StoreProblem when that is not possible.

        The caller gives each pair of counter and unit once. After StoreProblem, the amounts may have been spent.
        """
        ...

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """The total of each counter now, by its id and unit; StoreProblem when it cannot be read."""
        ...
