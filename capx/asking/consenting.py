"""What a person's answer does to a request that waits for one, within one transaction.

Laws: nobody consents to what is not alive, what the policy would not ask them for now, or what they were not shown.
Who wanted the work, and who does it, do not consent to it, whatever name they do it under: not the principal of the
intent, by name or key, and nobody who is called like its agent, or like an agent on the path of the asker.
"""

import json
from typing import Final

from msgspec.structs import replace

from capx.asking import Ask, Refused
from capx.asking.granting import Grantor
from capx.asking.inheritance import asker_again
from capx.asking.offering import Offered, Unoffered
from capx.asking.requests import became, expire, inquire, is_overdue, known_request
from capx.asking.verdict import Inquiry, Verdict
from capx.errors import InvalidRequest
from capx.events import RequestApproved, RequestRefused
from capx.store import Reading, RequestRecord, Writing
from capx_caveats import shown, shown_instant

TIMELY: Final = 300
"""Seconds by which the time of a verdict may differ from now."""


def decide(transaction: Writing, grantor: Grantor, verdict: Verdict) -> RequestRecord:
    """The request as this verdict leaves it, `expired` if it came too late; InvalidRequest says why it does nothing."""
    request, now = known_request(transaction, verdict.request), grantor.now
    if request.state != "pending":
        raise InvalidRequest(f"request {request.id} waits for nobody: {became(request)}")
    if is_overdue(transaction, request, now):
        return expire(transaction, request, now=now)
    try:
        offered = grantor.offer(transaction, asker_again(request), _ask(request))
    except Unoffered as stop:
        why = stop.__cause__ or Refused(stop.refusals)
        raise InvalidRequest(f"request {request.id} can be granted no more: {why}") from None
    if not offered.needs_consent or offered.block != request.block:
        raise InvalidRequest(f"the policy answers request {request.id} otherwise now: its agent has to ask again")
    _demand_approver(transaction, grantor, offered, inquire(transaction, request), verdict)
    fact = RequestApproved if verdict.yes else RequestRefused
    fact(request.id, request.task, verdict.approver, verdict.signature).write(transaction, at=now)
    decided = replace(request, state="approved" if verdict.yes else "refused", approver=verdict.approver, answered=now)
    transaction.keep_request(decided)
    return decided


def _ask(request: RequestRecord) -> Ask:
    args = None if request.args is None else json.loads(request.args)
    return Ask(audience=request.audience, action=request.action, args=args)


def _demand_approver(reading: Reading, grantor: Grantor, offered: Offered, inquiry: Inquiry, verdict: Verdict) -> None:
    policy, name, intent = grantor.policy, verdict.approver, inquiry.intent
    person, approvers = policy.principals.get(name), offered.match.rule.approvers
    if person is None or person.key is None:
        raise InvalidRequest(f"{name!r:.80} is no principal of the policy with a key")
    if not any(name in policy.members(group) for group in approvers):
        raise InvalidRequest(f"{name!r:.80} is none of those who can answer: {', '.join(map(shown, approvers))}")
    names = {one.name for one in policy.principals.values() if one.key == person.key}
    asking = {intent.principal, intent.agent, *inquiry.request.labels}
    if not asking.isdisjoint(names) or _has_signed(reading, person.key, inquiry):
        raise InvalidRequest(f"{name!r:.80} wanted this work, or is called like an agent that does it: ask another one")
    if abs(grantor.now - verdict.at) > TIMELY:
        raise InvalidRequest(f"this was answered at {shown_instant(verdict.at)}: answer anew, by a clock that is right")
    if not verdict.is_signed_by(person.key, inquiry):
        raise InvalidRequest(f"{name!r:.80} has not signed this answer to what request {inquiry.request.id} shows")


def _has_signed(reading: Reading, key: bytes, inquiry: Inquiry) -> bool:
    """Whether the intent was signed with this key, whoever has it by now."""
    from capx.intent.principal_key import is_signed_by

    kept = reading.intent(inquiry.intent.digest)
    return kept is not None and kept.proof is not None and is_signed_by(key, inquiry.intent.message(), kept.proof)
