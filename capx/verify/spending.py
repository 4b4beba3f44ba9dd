"""Payment of one call from the budgets of its chain.

Laws:

- A budget limits what its counter holds after this call is paid for.
- Several budgets of a chain may share a counter. Then the cost is spent once, and the tightest limit applies.
- One presentation is one call. If it is judged several times, it pays the highest of the costs, once.
- A presentation that gives back pays nothing more, whether or not the meter could be written.
- The resource sees what was spent. The bearer never does.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from capx.errors import StoreProblem
from capx.tokens.lineage import Allotment, attributed
from capx.verify.meter import Meter, Payer, Spend
from capx_caveats import Call, Refusal, rest_of, shown_amount

_GIVEN_BACK: Final = Refusal(
    "replayed", "this presentation gave back what it had spent", "a fresh presentation for each call"
)

Totals = Mapping[tuple[str, str], Decimal]
"""The amount in each counter, by its id and unit."""


# The log and the wire call the total `spent`.
class Spent(Struct, frozen=True, rename={"total": "spent"}):
    """The amount that a call spent from one counter, the total of the counter afterwards, and its limit."""

    counter: str
    unit: str
    cost: str
    total: str
    limit: str

    @property
    def sentence(self) -> str:
        """The same in words."""
        return f"{self.cost} of {self.unit}, {self.total} of {self.limit} spent so far"


def spends_of(allotments: Iterable[Allotment], call: Call) -> tuple[Spend, ...]:
    """The amounts that the call spends, sorted by counter. The call must state its cost in every unit."""
    found: dict[tuple[str, str], Spend] = {}
    for allotment in allotments:
        unit, limit = allotment.budget.unit, Decimal(allotment.budget.limit)
        cost = call.cost_in(unit)
        if cost is None:
            # The budget caveat has refused a call without this cost before.
            raise AssertionError(unit)
        counter = allotment.counter, unit
        if counter not in found or limit < found[counter].limit:
            found[counter] = Spend(allotment.counter, unit, cost, limit)
    # Sorted, so that the same budgets give the same record, in whatever order the blocks name them.
    return tuple([found[counter] for counter in sorted(found)])


def exhausted(allotments: Iterable[Allotment], call: Call, totals: Totals) -> Iterator[Refusal]:
    """The refusal of each budget that has no room left for the call, with its hop."""
    for allotment in allotments:
        cost = call.cost_in(allotment.budget.unit)
        spent = totals.get((allotment.counter, allotment.budget.unit), Decimal(0))
        if cost is not None and (refusal := allotment.budget.exhausted(spent, cost)) is not None:
            yield attributed(refusal, allotment)


class Payment:
    """The payments of one presentation whose token has budgets; safe with several threads."""

    __slots__ = ("_allotments", "_given_back", "_lock", "_meter", "_paid", "_payer")

    def __init__(self, allotments: tuple[Allotment, ...], meter: Meter, payer: Payer) -> None:
        self._allotments = allotments
        self._meter = meter
        self._payer = payer
        self._paid: dict[tuple[str, str], Spent] = {}
        self._given_back = False
        self._lock = threading.Lock()

    @property
    def spent(self) -> tuple[Spent, ...]:
        """All that was paid, in the order of the counters."""
        return tuple([self._paid[counter] for counter in sorted(self._paid)])

    def pay(self, call: Call, *, now: int) -> tuple[list[Refusal], tuple[Spent, ...]]:
        """Pay what the call costs beyond what was paid before; returns refusals, or what was spent now.

        Judge every budget caveat first: they refuse where a cost is not stated.
        StoreProblem when the meter cannot be read or written.
        """
        # Two threads that judge the same presentation must not both report the same cost as spent.
        with self._lock:
            if self._given_back:
                return [_GIVEN_BACK], ()
            spends = [spend for spend in spends_of(self._allotments, call) if self._is_due(spend)]
            if not spends:
                return [], ()
            tally = self._meter.spend(self._payer, spends, now=now)
            if tally.exhausted:
                totals = {(spend.counter, spend.unit): held for spend, held in zip(spends, tally.totals, strict=True)}
                refusals = list(exhausted(self._allotments, call, totals))
                if not refusals:
                    # Fail closed: a meter that contradicts itself must not allow the call.
                    raise StoreProblem("the meter says that a budget is exhausted, and its totals do not")
                return refusals, ()
            spent = receipt(map(self._unpaid, spends), tally.totals)
            self._paid.update({(one.counter, one.unit): one for one in receipt(spends, tally.totals)})
            return [], spent

    def give_back(self, decision: str, reason: str, *, now: int) -> dict[str, str]:
        """Give back all that was paid; returns it by unit, as decimal text.

        If it is called again, it returns the same and changes nothing. StoreProblem when the meter cannot be read or
        written, or refuses.
        """
        with self._lock:
            # First: if the answer is lost, the meter may have given everything back.
            self._given_back = True
            paid = self._meter.give_back(self._payer, decision=decision, reason=reason, now=now)
        # Counters of one unit all count the same call, so they were paid the same.
        return {one.unit: shown_amount(one.cost) for one in paid}

    def _is_due(self, spend: Spend) -> bool:
        paid = self._paid.get((spend.counter, spend.unit))
        return paid is None or spend.cost > Decimal(paid.cost)

    def _unpaid(self, spend: Spend) -> Spend:
        """The part of the cost that this presentation has not paid before."""
        paid = self._paid.get((spend.counter, spend.unit))
        return spend if paid is None else replace(spend, cost=rest_of(spend.cost, Decimal(paid.cost)))


def receipt(spends: Iterable[Spend], totals: Iterable[Decimal]) -> tuple[Spent, ...]:
    """The amounts that were spent, as decimal text for the log."""
    return tuple(
        [
            Spent(spend.counter, spend.unit, *map(shown_amount, (spend.cost, total, spend.limit)))
            for spend, total in zip(spends, totals, strict=True)
        ]
    )


def remaining(spent: Iterable[Spent]) -> dict[str, str]:
    """The amount left in each unit, of the budget that leaves the least."""
    left: dict[str, Decimal] = {}
    for one in spent:
        rest = rest_of(Decimal(one.limit), Decimal(one.total))
        left[one.unit] = min(rest, left.get(one.unit, rest))
    return {unit: shown_amount(rest) for unit, rest in left.items()}
