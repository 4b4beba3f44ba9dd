"""The uses of a grant: for how many calls it is good, and whether they are used up.

Laws:

- A grant that a rule limits has a budget of `calls` with a counter of its own. The counter follows from the request and
  its round. So a grant that is minted again, under whatever key, shares it.
- When all uses are used up, the same ask begins the next round: another counter, another block, another consent.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.hashing import digest
from capx.store.protocols import Reading
from capx.store.records import RequestRecord
from capx_caveats import CALLS, DEFAULT, Budget, is_id

MOST_USES_SHOWN: Final = 5
"""The most earlier uses that a person is shown: a resource could claim any number of them."""
# Decisions of the task that are looked through.
_MOST_EVENTS: Final = 10_000


class EarlierUse(Struct, frozen=True):
    """A call that an earlier grant of the same request allowed: the decision, and when (Unix seconds)."""

    decision: str
    at: int


class _Counted(Struct, frozen=True):
    counter: str


class _Used(Struct, frozen=True):
    id: str
    outcome: str
    spent: tuple[_Counted, ...] = ()


def uses_counter(request: str, round_: int) -> str:
    """The id of the counter of a request's grant in one round."""
    return b64u(digest(b"capx/1/uses", request.encode(), round_.to_bytes(8))[:16])


def uses_budget(uses: int, request: str, round_: int) -> Budget:
    """The budget that makes a grant good for so many calls."""
    return Budget(CALLS, str(uses), uses_counter(request, round_))


def uses_of(request: RequestRecord) -> int | None:
    """For how many calls the grant of a request is good, or would be; None if no number is set."""
    counter = uses_counter(request.id, request.round)
    caveats = DEFAULT.decode(request.block.encode())
    return next((int(one.limit) for one in caveats if isinstance(one, Budget) and one.counter == counter), None)


def is_used_up(reading: Reading, request: RequestRecord) -> bool:
    """Whether everything that was granted on a request is used up."""
    uses = uses_of(request)
    return uses is not None and any(
        held.spent >= uses for held in reading.counters([uses_counter(request.id, request.round)])
    )


def earlier_uses(reading: Reading, request: RequestRecord) -> Iterator[EarlierUse]:
    """The calls that paid with the grant of the round before, as far as the log has them, at most MOST_USES_SHOWN.

    A resource writes its own decisions, and may write anything there: these are its claims.
    """
    if request.round == 1:
        return
    counter = uses_counter(request.id, request.round - 1)
    minted = (reading.minted(id_) for id_ in request.granted)
    after = max((event.position for event in minted if event is not None), default=0)
    found = 0
    for event in reading.events(task=request.task, kind="decision", after=after, limit=_MOST_EVENTS):
        used = event.read_if(_Used)
        if used is None or used.outcome != "allowed" or not is_id(used.id):
            continue
        if any(one.counter == counter for one in used.spent):
            yield EarlierUse(used.id, event.at)
            found += 1
            if found == MOST_USES_SHOWN:
                return
