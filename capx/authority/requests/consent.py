"""What a person's answer does to a request that waits for one, within one transaction.

Laws: nobody consents to what is not alive, what the policy would not ask them for now, or what they were not shown. A
no needs none of this: whoever is asked may say it of whatever waits, and what it was said of stays denied.
"""

from typing import Final

from msgspec.structs import replace

from capx.authority.requests.approvers import demand_answer
from capx.authority.requests.inheritance import asker_of
from capx.authority.requests.offering import NotOffered, offer
from capx.authority.requests.request_state import ask_of, expire, inquire, is_overdue, known_request, outcome
from capx.authority.requests.verdict import Verdict
from capx.crypto.keys import KeyRing
from capx.errors import InvalidRequest
from capx.policy.policy import Policy
from capx.store.events import RequestApproved, RequestDenied
from capx.store.protocols import Reading, Writing
from capx.store.records import RequestRecord
from capx.tokens.binding import WINDOW_BEFORE
from capx.verify.ask import Refused
from capx_caveats import shown_instant

TIMELY: Final = 300
"""Seconds for which a verdict is good; the clock of whoever gives it may be WINDOW_BEFORE ahead."""


def apply_verdict(
    transaction: Writing, keyring: KeyRing, policy: Policy, verdict: Verdict, *, now: int
) -> RequestRecord:
    """The request as this verdict leaves it, `expired` if it came too late; InvalidRequest says why it does nothing."""
    request = known_request(transaction, verdict.request)
    if request.state != "pending":
        raise InvalidRequest(f"request {request.id} waits for nobody: {outcome(request)}")
    if is_overdue(transaction, request, now):
        return expire(transaction, request, now=now)
    approvers = _approvers(transaction, keyring, policy, request, yes=verdict.yes, now=now)
    demand_answer(transaction, policy, approvers, inquire(transaction, request), verdict)
    if not now - TIMELY <= verdict.at <= now + WINDOW_BEFORE:
        raise InvalidRequest(f"this was answered at {shown_instant(verdict.at)}: answer anew, by a clock that is right")
    fact = RequestApproved if verdict.yes else RequestDenied
    fact(request.id, request.task, verdict.approver, verdict.signature).write(transaction, at=now)
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
    """Who can answer so: with a yes those whom the policy asks by now, with a no those who were asked as well."""
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
    """Whom the policy asks for this very grant; InvalidRequest if it asks nobody for it any more."""
    try:
        offered = offer(reading, keyring, policy, asker_of(request), ask_of(request), now=now)
    except NotOffered as refused:
        why = refused.__cause__ or Refused(refused.refusals)
        raise InvalidRequest(f"request {request.id} can be granted no more: {why}") from None
    if not offered.needs_consent or offered.block != request.block:
        raise InvalidRequest(f"the policy answers request {request.id} otherwise now: its agent has to ask again")
    return offered.match.rule.approvers
