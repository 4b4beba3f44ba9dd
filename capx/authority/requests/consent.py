"""Applying the answer of a person to a request that waits, within one transaction.

Laws:

- A consent counts only if the asker is alive, the policy still asks this person for this grant, and the person signed
  what the request shows.
- A signature counts once, also if the same request is made again within its second.
- What a person has signed is kept with what they were shown, and outlives the request: its next round replaces neither.
- A denial needs less: everybody who is or was asked may deny a request that waits. It stays denied.
"""

from typing import Final

from msgspec.structs import replace

from capx.authority.requests.approvers import demand_answer
from capx.authority.requests.inheritance import asker_of
from capx.authority.requests.offering import NotOffered, offer
from capx.authority.requests.request_state import ask_of, expire, is_overdue, known_request, outcome, signed_inquiry
from capx.authority.requests.verdict import Verdict
from capx.crypto.canonical_json import canonical
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.policy.policy import Policy
from capx.store.events import RequestApproved, RequestDenied
from capx.store.protocols import Reading, Writing
from capx.store.records import RequestRecord, SignedAnswer
from capx.tokens.binding import WINDOW_BEFORE
from capx.verify.ask import Refused
from capx_caveats import shown_instant

TIMELY: Final = 300
"""Seconds for which a verdict is valid. The clock of the person may be WINDOW_BEFORE seconds ahead."""


def apply_verdict(
    transaction: Writing, keyring: KeyRing, policy: Policy, verdict: Verdict, *, now: int
) -> RequestRecord:
    """Apply a verdict, and return the request: `expired` if the verdict came too late.

    InvalidRequest if the verdict does not count.
    """
    request = known_request(transaction, verdict.request)
    if request.state != "pending":
        raise InvalidRequest(f"request {request.id} no longer waits for an answer: {outcome(request)}")
    # Returned, not raised: an exception would undo the transaction, and this record with it.
    if is_overdue(transaction, request, now):
        return expire(transaction, request, now=now)
    approvers = _approvers(transaction, keyring, policy, request, yes=verdict.yes, now=now)
    inquiry = signed_inquiry(transaction, request)
    demand_answer(transaction, policy, approvers, inquiry, verdict)
    if any(one.signature == verdict.signature for one in transaction.answers(request.task)):
        raise InvalidRequest(
            f"{verdict.approver} has signed this answer before, and it counts once: look at request {request.id} again"
        )
    if not now - TIMELY <= verdict.at <= now + WINDOW_BEFORE:
        raise InvalidRequest(
            f"the answer was signed at {shown_instant(verdict.at)}, which is too long ago or in the future: set the "
            "clock and answer again"
        )
    # The record keeps the signature, because a consent is verified again when the grant is minted.
    fact = RequestApproved if verdict.yes else RequestDenied
    event = fact(request.id, request.task, verdict.approver, verdict.signature).write(transaction, at=now)
    given = SignedAnswer.of(request, event, verdict.approver, canonical(inquiry.shown).decode(), yes=verdict.yes)
    transaction.keep_answer(replace(given, signed=verdict.at, signature=verdict.signature))
    decided = replace(
        request,
        state="approved" if verdict.yes else "denied",
        approver=verdict.approver,
        answered=now,
        signed=verdict.at,
        signature=verdict.signature,
    )
    transaction.keep_request(decided)
    return decided


def _approvers(
    reading: Reading, keyring: KeyRing, policy: Policy, request: RequestRecord, *, yes: bool, now: int
) -> tuple[str, ...]:
    """Return who may answer: a yes, only those whom the policy names now; a no, also those who were asked at first."""
    if request.to_approve is not None:
        if yes:
            raise InvalidRequest(f"request {request.id} is for an approval: sign that, and not a verdict")
        return request.approvers
    try:
        asked_now = _approvers_now(reading, keyring, policy, request, now=now)
    except InvalidRequest:
        if yes:
            raise
        return request.approvers
    return asked_now if yes else tuple(dict.fromkeys((*request.approvers, *asked_now)))


def _approvers_now(
    reading: Reading, keyring: KeyRing, policy: Policy, request: RequestRecord, *, now: int
) -> tuple[str, ...]:
    """The approvers of this very grant by the policy as it is now; InvalidRequest if it asks nobody any more."""
    try:
        offered = offer(reading, keyring, policy, asker_of(request), ask_of(request), now=now)
    except NotOffered as refused:
        why = refused.__cause__ or Refused(refused.refusals)
        raise InvalidRequest(f"request {request.id} can no longer be granted: {why}") from None
    # People sign one block. For another block they have to be asked again.
    if not offered.needs_consent or (offered.block, offered.approval) != (request.block, request.approval):
        raise InvalidRequest(f"the policy has changed since request {request.id} was made: the agent must ask again")
    return offered.match.rule.approvers
