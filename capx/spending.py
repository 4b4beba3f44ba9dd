"""What one call spends from the budgets of its chain.

Laws: a budget limits what its counter holds once this call is paid for. Where several of a chain count the same, the
cost is spent once, and the tightest limit holds. What somebody has spent is told to the resource, never to the bearer.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from msgspec import Struct

from capx.lineage import Allotment, attributed
from capx.meter import Spend
from capx_caveats import Call, Refusal, rest_of, shown_amount

Totals = Mapping[tuple[str, str], Decimal]
"""What counters hold, by their ids and units."""


class Spent(Struct, frozen=True):
    """What a call has spent from one counter, what the counter held afterwards, and the limit that it is held to."""

    counter: str
    unit: str
    cost: str
    spent: str
    limit: str


def asked(allotments: Iterable[Allotment], call: Call) -> tuple[Spend, ...]:
    """What the call spends, in the order of the counters; every unit is one in which its cost is known."""
    found: dict[tuple[str, str], Spend] = {}
    for allotment in allotments:
        unit, limit = allotment.budget.unit, Decimal(allotment.budget.limit)
        cost = call.cost_in(unit)
        if cost is None:
            raise AssertionError(unit)
        counter = allotment.counter, unit
        if counter not in found or limit < found[counter].limit:
            found[counter] = Spend(allotment.counter, unit, cost, limit)
    return tuple([found[counter] for counter in sorted(found)])


def exhausted(allotments: Iterable[Allotment], call: Call, totals: Totals) -> Iterator[Refusal]:
    """The refusal of each budget that has no room left for the call, with whose it is."""
    for allotment in allotments:
        cost = call.cost_in(allotment.budget.unit)
        spent = totals.get((allotment.counter, allotment.budget.unit), Decimal(0))
        if cost is not None and (refusal := allotment.budget.exhausted(spent, cost)) is not None:
            yield attributed(refusal, allotment)


def receipt(spends: Iterable[Spend], totals: Iterable[Decimal]) -> tuple[Spent, ...]:
    """What was spent, in words that the log can hold."""
    return tuple(
        [
            Spent(spend.counter, spend.unit, *map(shown_amount, (spend.cost, total, spend.limit)))
            for spend, total in zip(spends, totals, strict=True)
        ]
    )


def remaining(spent: Iterable[Spent]) -> dict[str, str]:
    """What is left in each unit, by the budget that leaves the least."""
    left: dict[str, Decimal] = {}
    for one in spent:
        rest = rest_of(Decimal(one.limit), Decimal(one.spent))
        left[one.unit] = min(rest, left.get(one.unit, rest))
    return {unit: shown_amount(rest) for unit, rest in left.items()}
