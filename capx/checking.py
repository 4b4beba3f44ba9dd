"""Whether a store still says what was written: the log from its beginning, and each death against its event."""

import msgspec

from capx import task as life
from capx.chain import unb64u
from capx.death import Death, is_lasting, of_instant, of_kid
from capx.errors import MalformedToken, StoreProblem
from capx.log import BrokenLog, Event, Place, check
from capx.store import Reading

_ENDINGS = frozenset({"revoked", "restored", *life.DEATH.values()})


class _Revoked(msgspec.Struct):
    id: str | None = None
    kid: str | None = None
    issued: int | None = None


class _Ended(msgspec.Struct):
    task: str


def check_store(reading: Reading) -> Place:
    """The place that the log of this store reaches, every event bound to the one before, every death to its event.

    BrokenLog names the first position that does not fit; StoreProblem says what else does not.
    """
    head = reading.head()
    reached = check(reading.events(), head=head.place)
    kept = reading.deaths()
    death = next(kept, None)
    number = 0
    for event in reading.events():
        if event.kind not in _ENDINGS:
            continue
        number += 1
        caused = _caused(event, number)
        if number <= head.forgotten and not is_lasting(caused.key):
            continue
        if death != caused:
            first = event.position if death is None else min(event.position, death.position)
            raise BrokenLog(first, f"the death that a {event.kind} event caused is not the one that is kept")
        death = next(kept, None)
    if death is not None:
        raise BrokenLog(death.position, "a death is kept that no event caused")
    if number != head.deaths:
        raise StoreProblem(f"the store counts {head.deaths} deaths and holds {number}: it is damaged")
    return reached


def _caused(event: Event, number: int) -> Death:
    reason = event.kind if event.kind in life.DEATH.values() else "revoked"
    key: bytes | str | None
    try:
        if reason != "revoked":
            key = event.read(_Ended).task
        else:
            said = event.read(_Revoked)
            if said.id is not None:
                key = unb64u(said.id)
            elif said.kid is not None:
                key = of_kid(said.kid)
            else:
                key = None if said.issued is None else of_instant(said.issued)
    except MalformedToken:
        key = None
    if key is None:
        raise BrokenLog(event.position, f"its body is not that of a {event.kind}")
    return Death(number, key, reason, event.at, event.position)
