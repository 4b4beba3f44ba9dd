"""The uses of a grant: for how many calls it is good, and whether they are used up.

Laws:

- A grant that a rule limits has a budget of `calls` with a counter of its own. The counter follows from the request and
  its round, and `capx.tokens.uses_counter` gives it a form that no other counter has. So a grant that is minted again,
  under whatever key, shares it.
- When all uses are used up, the same ask begins the next round: another counter, another block, another consent.
- A use that was given back is none. If the next round has begun by then, this frees a use of the round before, to which
  a person consented as well.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from msgspec import Struct

from capx.errors import InvalidRequest
from capx.store.events import BudgetLimit, GivenBack
from capx.store.protocols import Reading
from capx.store.records import RequestRecord
from capx.tokens.uses_counter import is_uses_counter, uses_counter
from capx.verify.decision import may_name_decision
from capx_caveats import CALLS, DEFAULT, Budget, rest_of

MOST_USES_SHOWN: Final = 5
"""The most earlier uses that a person is shown: a resource could claim any number of them."""
# Decisions of the task that are looked through.
_MOST_EVENTS: Final = 2_000


class EarlierUse(Struct, frozen=True):
    """A call that an earlier grant of the same request allowed: the decision, and when (Unix seconds)."""

    decision: str
    at: int


class _Counted(Struct, frozen=True):
    counter: str
    unit: str


class _Used(Struct, frozen=True):
    id: str
    outcome: str
    audience: str
    presentation: str | None = None
    spent: tuple[_Counted, ...] = ()


def uses_budget(uses: int, request: str, round_: int) -> Budget:
    """The budget that makes a grant good for so many calls."""
    return Budget(CALLS, str(uses), uses_counter(request, round_))


def uses_of(request: RequestRecord) -> int | None:
    """For how many calls the grant of a request is good, or would be; None if no number is set.

    InvalidRequest if its block counts the uses of another round: then the record was put together by somebody else.
    """
    caveats = DEFAULT.decode(request.block.encode())
    found = [one for one in caveats if isinstance(one, Budget) and one.unit == CALLS and is_uses_counter(one.counter)]
    own = uses_counter(request.id, request.round)
    if any(one.counter != own or not one.limit.isdecimal() for one in found):
        raise InvalidRequest(f"request {request.id} is of another round than its grant: do not answer it")
    return next((int(one.limit) for one in found), None)


def round_of(reading: Reading, request: RequestRecord | None, uses: int | None) -> int:
    """The round of the next grant of a request, which the policy now gives so many uses.

    It is the round of the record, or the next one if the uses that were granted, or those that the policy gives now,
    are used up in it.
    """
    if request is None:
        return 1
    limits = [limit for limit in (uses_of(request), uses) if limit is not None]
    counter = uses_counter(request.id, request.round)
    spent = next((held.spent for held in reading.counters([counter]) if held.unit == CALLS), Decimal(0))
    # A call costs 1: less than that is no use any more.
    return request.round + bool(limits and spent > min(limits) - 1)


def left_of(reading: Reading, budget: Budget | BudgetLimit) -> Decimal:
    """What is left of a budget that names its counter."""
    held = {counter.unit: counter.spent for counter in reading.counters([str(budget.counter)])}
    return max(rest_of(Decimal(budget.limit), held.get(budget.unit, Decimal(0))), Decimal(0))


def earlier_uses(reading: Reading, request: RequestRecord) -> Iterator[EarlierUse]:
    """The calls that paid with the grant of the round before, or with an earlier approval, at most MOST_USES_SHOWN.

    Those that gave it back are left out. They are claims of the resource: it writes its own decisions, and may write
    anything there.
    """
    if request.round == 1:
        return
    # An approval counts at its own id.
    counters = {uses_counter(request.id, request.round - 1)} if request.to_approve is None else set(request.earlier)
    minted = (reading.minted(id_) for id_ in request.granted)
    first = min((event.position for event in minted if event is not None), default=0)
    returned = _given_back(reading, request, first)
    found = 0
    for event in reading.events(task=request.task, kind="decision", after=first, limit=_MOST_EVENTS):
        used = event.read_if(_Used)
        if used is None or used.outcome != "allowed" or used.audience != request.audience:
            continue
        if not may_name_decision(used.id):
            continue
        # A presentation may have several decisions, and gives back once for all of them.
        if used.id in returned or used.presentation in returned:
            continue
        if any(one.counter in counters and one.unit == CALLS for one in used.spent):
            yield EarlierUse(used.id, event.at)
            found += 1
            if found == MOST_USES_SHOWN:
                return


def _given_back(reading: Reading, request: RequestRecord, after: int) -> set[str | None]:
    """The ids of the decisions and presentations of which the request's audience gave back what they had paid."""
    events = reading.events(task=request.task, kind=GivenBack.kind, after=after, limit=_MOST_EVENTS)
    returned = [one for one in (event.read_if(GivenBack) for event in events) if one is not None]
    return {id_ for one in returned if one.audience == request.audience for id_ in (one.decision, one.presentation)}
