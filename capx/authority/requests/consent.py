"""What a person's answer does to a request that waits for one, within one transaction.

Laws: nobody consents to what is not alive, what the policy would not ask them for now, or what they were not shown. A
no needs none of this: whoever is asked may say it of whatever waits, and what it was said of stays denied.
"""

from typing import Final

from msgspec.structs import replace

from capx.authority.requests.approvers import demand_answer
from capx.authority.requests.granting import Grantor
from capx.authority.requests.inheritance import asker_again
from capx.authority.requests.request_state import ask_again, became, expire, inquire, is_overdue, known_request
from capx.authority.requests.verdict import Verdict
from capx.errors import InvalidRequest
from capx.store.events import RequestApproved, RequestDenied
from capx.store.protocols import Reading, Writing
from capx.store.records import RequestRecord
from capx.tokens.binding import WINDOW_BEFORE
from capx.verify.ask import NotOffered, Refused
from capx_caveats import shown_instant

TIMELY: Final = 300
"""Seconds for which a verdict is good; the clock of whoever gives it may be WINDOW_BEFORE ahead."""


def decide(transaction: Writing, grantor: Grantor, verdict: Verdict) -> RequestRecord:
    """The request as this verdict leaves it, `expired` if it came too late; InvalidRequest says why it does nothing."""
    request, now = known_request(transaction, verdict.request), grantor.now
    if request.state != "pending":
        raise InvalidRequest(f"request {request.id} waits for nobody: {became(request)}")
    if is_overdue(transaction, request, now):
        return expire(transaction, request, now=now)
    approvers = _asked(transaction, grantor, request, yes=verdict.yes)
    demand_answer(transaction, grantor.policy, approvers, inquire(transaction, request), verdict)
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


def _asked(reading: Reading, grantor: Grantor, request: RequestRecord, *, yes: bool) -> tuple[str, ...]:
    """Who can answer so: with a yes those whom the policy asks by now, with a no those who were asked as well."""
    if yes:
        return _asked_by_now(reading, grantor, request)
    try:
        return tuple(dict.fromkeys((*request.approvers, *_asked_by_now(reading, grantor, request))))
    except InvalidRequest:
        return request.approvers


def _asked_by_now(reading: Reading, grantor: Grantor, request: RequestRecord) -> tuple[str, ...]:
    """Whom the policy asks for this very grant; InvalidRequest if it asks nobody for it any more."""
    try:
        offered = grantor.offer(reading, asker_again(request), ask_again(request))
    except NotOffered as stop:
        why = stop.__cause__ or Refused(stop.refusals)
        raise InvalidRequest(f"request {request.id} can be granted no more: {why}") from None
    if not offered.needs_consent or offered.block != request.block:
        raise InvalidRequest(f"the policy answers request {request.id} otherwise now: its agent has to ask again")
    return offered.match.rule.approvers
