"""What is counted while it is spent: the meter behind `budget`.

Laws: a counter is known by its id and a unit, and by nothing else, for capabilities of several audiences share it. All
amounts of one presentation are spent together or not at all, so that nothing that was refused has cost anything.
Amounts are decimal, exact, and never shrink.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct


class Spend(Struct, frozen=True):
    """An amount to be spent: what the counter holds afterwards stays within `limit`."""

    counter: str
    unit: str
    cost: Decimal
    limit: Decimal


class Tally(Struct, frozen=True):
    """What each counter holds, in the order of what was asked; `exhausted` are the places of those that had no room.

    If there are any, nothing was spent.
    """

    totals: tuple[Decimal, ...]
    exhausted: tuple[int, ...] = ()


class Meter(Protocol):
    """Counters that processes share."""

    def spend(self, spends: Sequence[Spend], *, now: int) -> Tally:
        """Spend all of it or nothing, atomically; `now` in Unix seconds. StoreProblem when that is not possible.

        No two of `spends` have the same counter and unit.
        """
        ...

    def spent(self, counters: Sequence[tuple[str, str]]) -> tuple[Decimal, ...]:
        """What each counter holds now, by its id and unit; StoreProblem when that cannot be read."""
        ...
