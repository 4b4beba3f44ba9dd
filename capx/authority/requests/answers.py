"""The answers to the requests of a task, round by round: who agreed to what, and what was given for it.

Laws:

- The row of a request holds its newest round only. Earlier rounds are read from the signed answers and from the events
  that minted. Both are kept for ever.
- A grant belongs to the newest yes to its request and round that stands before it in the log. If there is none, the
  policy granted it, and nobody was asked.
"""

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter

import msgspec
from msgspec import Struct

from capx.errors import MalformedToken
from capx.store.events import CapabilityMinted
from capx.store.protocols import Reading
from capx.store.records import Damaged, SignedAnswer
from capx.tokens.pins import asked_allowlist


class GivenAnswer(Struct, frozen=True, kw_only=True):
    """An answer to one round of a request, and what its agent was given for it.

    `approver` is the person; None if the policy granted it, and nobody was asked. `at` is when that was (Unix seconds).
    `node` and `labels` are the agent that asked. `action` is None if the log shows none. `given` are the ids of the
    capabilities that were granted for this answer. If it signs the approval of a call, `approval` is the id of that.
    """

    request: str
    round: int
    node: str
    labels: tuple[str, ...]
    audience: str
    action: str | None
    approver: str | None
    yes: bool
    at: int
    given: tuple[str, ...] = ()
    approval: str | None = None


def answers_in(reading: Reading, task: str) -> list[GivenAnswer]:
    """The answers to the requests of a task, in the order of the log."""
    signed = reading.answers(task)
    given = defaultdict[int, list[str]](list)
    found = dict[int, GivenAnswer]()
    for event in reading.minted_in(task):
        minted = event.read(CapabilityMinted)
        if minted.request is None:
            continue
        agreed = _agreed(signed, minted, event.position) if minted.consent else None
        if agreed is not None:
            given[agreed.position] += minted.ids
        else:
            found[event.position] = _by_policy(minted, event.at)
    found |= {one.position: _by_person(one, tuple(given[one.position])) for one in signed}
    return [found[position] for position in sorted(found)]


def _agreed(signed: Iterable[SignedAnswer], minted: CapabilityMinted, position: int) -> SignedAnswer | None:
    """The yes to the round of a request on which a capability was granted at this position."""
    to_it = [
        one
        for one in signed
        if (one.request, one.round) == (minted.request, minted.round) and one.yes and one.position < position
    ]
    return max(to_it, key=attrgetter("position"), default=None)


def _by_policy(minted: CapabilityMinted, at: int) -> GivenAnswer:
    return GivenAnswer(
        request=minted.request or "",
        round=minted.round or 1,
        node=minted.path[-1],
        labels=minted.hops,
        audience=minted.audience,
        action=_action(minted),
        approver=None,
        yes=True,
        at=at,
        given=minted.ids,
    )


def _by_person(signed: SignedAnswer, given: tuple[str, ...]) -> GivenAnswer:
    try:
        shown = msgspec.json.decode(signed.shown, type=_Shown)
    except msgspec.MsgspecError:
        raise Damaged("the store holds an answer that capx did not write: restore it from a backup") from None
    return GivenAnswer(
        request=signed.request,
        round=signed.round,
        node=signed.node,
        labels=signed.labels,
        audience=shown.audience,
        action=shown.action,
        approver=signed.approver,
        yes=signed.yes,
        at=signed.at,
        given=given,
        approval=signed.approval,
    )


class _Shown(Struct):
    """What of an inquiry, or of a request for an approval, is told."""

    audience: str
    action: str


def _action(minted: CapabilityMinted) -> str | None:
    """The action that was asked for."""
    if minted.chain is None:
        return None
    try:
        _, (first, *_) = minted.chain.read()
    except MalformedToken:
        return None
    asked = asked_allowlist(first) if isinstance(first, bytes) else None
    return None if asked is None else asked.entries[0].pattern
