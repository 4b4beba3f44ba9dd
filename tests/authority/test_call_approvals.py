"""Asking people to approve one call: who is asked, what counts, and how long an answer holds."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.in_process import present_and_judge
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest, UnknownRequest
from capx.policy.policy import Purpose
from capx.store.check import check_store
from capx.store.records import RequestRecord
from capx.store.row_check import check_rows
from capx.tokens.approval_caveat import ApprovalTerms, approval
from capx.tokens.approval_request import ApprovalRequest, CallToApprove
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.tokens.grants import ApprovalRule
from capx.verify.ask import Approved, Pending, Refused
from capx.verify.decision import Decision, Denied
from capx.verify.meter import Spend
from capx_caveats import Call, Expires, Refusal, budget
from tests.labs.approving import fresh_key, put_together
from tests.labs.granting_lab import BOB, CARA, NOW, GrantingLab, people, policy, rule
from tests.labs.payers import payer

ARGS = {"amount": 40}


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(rule("at_open", "billing.*"))
    yield made
    made.authority.close()


def demanding(lab: GrantingLab, *by: Any, count: int = 1, **more: Any) -> Bundle:
    """The bundle of an agent whose calls need an approval: Bob's, unless others are named."""
    terms: ApprovalTerms = approval(by=[one.public for one in by or (BOB,)], count=count)
    return lab.open(**more).bundle.delegate(to="agent", approval=terms, now=int(lab.clock.now))


def cid(bundle: Bundle) -> str:
    return next(iter(bundle)).demands[0].decode()


def ask(lab: GrantingLab, bundle: Bundle, args: Any = ARGS, **more: Any) -> Any:
    named = {"action": "billing.refund", "demand": cid(bundle), **more}
    return lab.authority.ask(bundle, args=args, **named)


def pending(lab: GrantingLab, bundle: Bundle, **more: Any) -> str:
    answer = ask(lab, bundle, **more)
    assert isinstance(answer, Pending), answer
    return answer.request


def codes(answer: Any) -> list[str]:
    assert isinstance(answer, Refused), answer
    return [reason.code for reason in answer.reasons]


def record(lab: GrantingLab, request: str) -> RequestRecord:
    return lab.authority.request(request)


def signed(lab: GrantingLab, request: str, key: Any = BOB, beside: Discharge | None = None, **how: Any) -> Discharge:
    document = ApprovalRequest.parse(record(lab, request).to_approve or "")
    now = int(lab.clock.now)
    discharge: Discharge = (
        key.approve(document, now=now, **how) if beside is None else key.cosign(document, beside, now=now)
    )
    return discharge


def test_the_people_whom_the_demand_names_are_asked(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, fresh_key())
    answer = ask(lab, bundle)
    assert isinstance(answer, Pending)
    assert answer.approvers == ("bob", "cara")
    assert answer.until == NOW + 3600
    assert "needs the approval of a person" in str(answer)
    assert lab.kinds()[-1] == "request_made"


def test_the_request_says_what_the_token_says(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    made = record(lab, pending(lab, bundle))
    document = ApprovalRequest.parse(made.to_approve or "")
    assert (document.task, document.node) == (bundle.task, b64u(bundle.node or b""))
    assert document.intent == next(iter(bundle)).intent
    assert (document.action, document.audience, dict(document.args)) == ("billing.refund", "billing", ARGS)
    assert (document.asked, document.cid) == (NOW, cid(bundle))
    assert (made.labels, made.cid, made.state) == (("agent",), cid(bundle), "pending")


def test_asking_again_is_the_same_request(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    assert pending(lab, bundle) == pending(lab, bundle)
    assert pending(lab, bundle) != pending(lab, bundle, args={"amount": 41})
    assert lab.kinds().count("request_made") == 2


def test_an_approval_is_handed_out_when_asked_again(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request = pending(lab, bundle)
    discharge = signed(lab, request)
    made = lab.authority.approve(request, discharge)
    assert (made.state, made.approver, made.answered) == ("granted", "bob", NOW)
    answer = ask(lab, bundle)
    assert isinstance(answer, Approved)
    assert answer.discharge == discharge
    assert lab.kinds()[-1] == "approval_made"
    assert ask(lab, bundle) == answer


def test_the_agent_then_makes_the_call(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    lab.authority.approve(request := pending(lab, bundle), signed(lab, request))
    fuller = bundle.holding(ask(lab, bundle).discharge, now=NOW)
    ran: list[int] = []

    @lab.authority.tool("billing.refund", tenant="Acme")
    def refund(amount: int) -> None:
        ran.append(amount)

    assert ran == []
    with pytest.raises(Denied):
        bundle.calling(refund)(40)
    presentation = fuller.present_capability(next(iter(fuller)), _call(ARGS), now=NOW).text
    verifier = lab.authority.verifier("billing")
    assert verifier.admit(presentation, _call(ARGS)).judge(_judged(ARGS)).task == bundle.task


def _call(args: Any) -> ToolCall:
    return ToolCall("billing.refund", args)


def _judged(args: Any) -> Call:
    return Call("billing.refund", args, tenant="Acme")


def test_two_people_sign_one_after_the_other(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, count=2)
    request = pending(lab, bundle)
    first = signed(lab, request)
    half = lab.authority.approve(request, first)
    assert (half.state, half.approver, half.discharge) == ("pending", "bob", first.text)
    assert isinstance(ask(lab, bundle), Pending)
    whole = signed(lab, request, CARA, beside=first)
    assert lab.authority.approve(request, whole.text).state == "granted"
    assert ask(lab, bundle).discharge == whole
    assert lab.kinds()[-2:] == ["approval_signed", "approval_made"]


def test_a_half_that_has_expired_is_begun_anew(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, count=2)
    request = pending(lab, bundle)
    lab.authority.approve(request, signed(lab, request, lasts=5))
    lab.clock.now += 6
    first = signed(lab, request, CARA)
    assert lab.authority.approve(request, first).discharge == first.text
    assert lab.authority.approve(request, signed(lab, request, beside=first)).state == "granted"


def test_two_halves_are_no_whole(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, count=2)
    request = pending(lab, bundle)
    lab.authority.approve(request, signed(lab, request))
    for other in (signed(lab, request, CARA), signed(lab, request)):
        with pytest.raises(InvalidRequest, match="bob has signed this request already"):
            lab.authority.approve(request, other)


def told(lab: GrantingLab, request: str, discharge: Discharge | str) -> str:
    with pytest.raises(InvalidRequest) as error:
        lab.authority.approve(request, discharge)
    return str(error.value)


def test_what_does_not_count_is_refused(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request, other = pending(lab, bundle), pending(lab, bundle, args={"amount": 400})
    good = signed(lab, request)
    assert "is for another call than the request" in told(lab, request, signed(lab, other))
    assert "this is no approval: a discharge begins with" in told(lab, request, "approve it, please")
    assert "has 1 to 1 signatures, and nothing behind" in told(lab, request, good.attenuate(Expires(NOW + 1), now=NOW))
    unsigned = Discharge.parse(put_together(good.blocks[0], cid=good.cid).text)
    assert "has 1 to 1 signatures" in told(lab, request, unsigned)
    forged = put_together(good.blocks[0], (0, CARA), cid=good.cid)
    assert "did not make: approve the request anew" in told(lab, request, forged)
    twice = put_together(good.blocks[0], (0, BOB), (0, BOB), cid=good.cid)
    assert "has 1 to 1 signatures" in told(lab, request, twice)
    beyond = put_together(good.blocks[0], (1, BOB), cid=good.cid)
    assert "not signed by different people" in told(lab, request, beyond)
    lab.clock.now = NOW + 700
    assert "this approval has expired: approve the request anew" in told(lab, request, good)
    lab.clock.now = NOW - 100
    assert "was given in the future, by the clock here" in told(lab, request, good)
    lab.clock.now = NOW
    assert lab.authority.approve(request, good).state == "granted"
    assert f"request {request} no longer waits for an answer: it was approved by" in told(lab, request, good)
    with pytest.raises(UnknownRequest):
        lab.authority.approve("A" * 22, good)


def test_an_approval_that_lasts_too_long_is_refused(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    good = signed(lab, request := pending(lab, bundle))
    longer = tuple(Expires(NOW + 901) if isinstance(one, Expires) else one for one in good.caveats[0])
    assert "is good for longer than the 900 s that the token permits" in told(
        lab, request, put_together(longer, (0, BOB), cid=good.cid)
    )


def test_a_key_that_the_policy_does_not_know_is_refused(lab: GrantingLab) -> None:
    stranger = fresh_key()
    bundle = demanding(lab, BOB, stranger)
    request = pending(lab, bundle)
    assert "no principal with the key that signed" in told(lab, request, signed(lab, request, stranger))


def test_a_revoked_key_signs_nothing(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    good = signed(lab, request := pending(lab, bundle))
    lab.authority.revoke(key=BOB.public)
    assert "the key of somebody who signed it, was revoked" in told(lab, request, good)


def test_an_approval_is_no_answer_to_a_grant_nor_the_reverse() -> None:
    lab = GrantingLab(rule("at_open", "billing.*"), rule("ask", "crm.*"))
    bundle = demanding(lab)
    approving = pending(lab, bundle)
    asked = lab.open().bundle
    granting = lab.pending(asked, "crm.read", {}).request
    assert "is for a grant, and not for an approval" in told(lab, granting, signed(lab, approving))
    with pytest.raises(InvalidRequest, match="is for an approval: sign that, and not a verdict"):
        lab.decide(approving)


def test_a_denial_is_final_for_the_node(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request = pending(lab, bundle)
    assert lab.decide(request, yes=False).state == "denied"
    assert codes(ask(lab, bundle)) == ["request_denied"]
    narrower = bundle.attenuate(Expires(NOW + 60), now=NOW)
    assert codes(ask(lab, narrower)) == ["request_denied"]
    assert pending(lab, bundle, args={"amount": 41})


def test_a_denial_of_an_approval_is_none_of_a_grant() -> None:
    lab = GrantingLab(rule("at_open", "billing.*"), rule("on_request", "crm.*"))
    whole = lab.open().bundle
    bundle = whole.delegate(to="agent", may_ask=["crm.*"], approval=approval(by=[BOB.public]), now=NOW)
    request = pending(lab, bundle, action="crm.read", args={})
    lab.decide(request, yes=False)
    assert lab.granted(bundle, "crm.read", {}).audience == "crm"


def test_who_is_not_named_cannot_deny(lab: GrantingLab) -> None:
    request = pending(lab, demanding(lab))
    with pytest.raises(InvalidRequest, match="cara cannot answer this request"):
        lab.decide(request, CARA, yes=False)


def test_asked_again_after_it_expired_people_are_asked_again(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    first = pending(lab, bundle)
    lab.authority.approve(first, signed(lab, first, lasts=60))
    before = record(lab, first).to_approve
    lab.clock.now = NOW + 59
    assert isinstance(ask(lab, bundle), Approved)
    lab.clock.now = NOW + 60
    again = pending(lab, bundle)
    assert again == first
    made = record(lab, again)
    assert (made.state, made.round, made.discharge) == ("pending", 2, None)
    assert made.to_approve != before
    assert "is for another call" in told(lab, again, signed_before(before or "", lab))


def signed_before(document: str, lab: GrantingLab) -> Discharge:
    return BOB.approve(ApprovalRequest.parse(document), now=int(lab.clock.now))


def test_asked_again_after_it_was_used_up_people_are_asked_again(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    first = pending(lab, bundle)
    lab.authority.approve(first, signed(lab, first))
    fuller = bundle.holding(ask(lab, bundle).discharge, now=NOW)
    text = fuller.present_capability(next(iter(fuller)), _call(ARGS), now=NOW).text
    assert isinstance(ask(lab, bundle), Approved)
    lab.authority.verifier("billing").admit(text, _call(ARGS)).judge(_judged(ARGS))
    assert pending(lab, bundle) == first


def test_an_approval_for_several_calls_is_good_until_the_last(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    first = pending(lab, bundle)
    lab.authority.approve(first, signed(lab, first, uses=2))
    fuller = bundle.holding(ask(lab, bundle).discharge, now=NOW)
    for left in (Approved, Pending):
        text = fuller.present_capability(next(iter(fuller)), _call(ARGS), now=NOW).text
        lab.authority.verifier("billing").admit(text, _call(ARGS)).judge(_judged(ARGS))
        assert isinstance(ask(lab, bundle), left)


def test_asked_again_after_it_was_revoked_people_are_asked_again(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    first = pending(lab, bundle)
    lab.authority.approve(first, signed(lab, first))
    lab.authority.revoke(ask(lab, bundle).discharge.id)
    assert pending(lab, bundle) == first


def test_a_request_expires_when_nobody_answers(lab: GrantingLab) -> None:
    rules = (rule("at_open", "billing.*"),)
    long = Purpose(name="work", ttl=7200, require=(), tenant=True, names=frozenset(), rules=lambda _: rules)
    lab.policy = replace(lab.policy, purposes={"work": long})
    bundle = demanding(lab)
    request = pending(lab, bundle)
    good = signed(lab, request)
    lab.clock.now = NOW + 3599
    assert pending(lab, bundle) == request
    lab.clock.now = NOW + 3600
    assert "can no longer be answered" in told(lab, request, good)
    assert record(lab, request).state == "expired"


def test_a_dead_asker_gets_nothing(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request = pending(lab, bundle)
    good = signed(lab, request)
    lab.authority.revoke(bundle)
    assert "can no longer be answered" in told(lab, request, good)
    with pytest.raises(Denied):
        ask(lab, bundle)


def test_a_task_without_an_intent_has_nobody_to_ask(lab: GrantingLab) -> None:
    by_hand = lab.authority.open(allow=["billing.refund"]).bundle
    bundle = by_hand.delegate(to="agent", approval=approval(by=[BOB.public]), now=NOW)
    assert codes(ask(lab, bundle)) == ["no_intent"]


def test_people_whom_the_policy_does_not_know_are_asked_by_file(lab: GrantingLab) -> None:
    answer = ask(lab, demanding(lab, fresh_key()))
    assert codes(answer) == ["not_offered"]
    assert "send them the request as a file" in str(answer)


def test_an_intent_that_the_policy_refuses_asks_nobody(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    lab.policy = policy(rule("at_open", "billing.*"), principals=people(ana=None))
    assert codes(ask(lab, bundle)) == ["intent_refused"]


def test_other_people_are_asked_anew(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    first = pending(lab, bundle)
    assert record(lab, first).approvers == ("bob", "cara")
    lab.policy = policy(rule("at_open", "billing.*"), principals=people(cara=None))
    assert pending(lab, bundle) == first
    assert (record(lab, first).approvers, record(lab, first).round) == (("bob",), 2)


def test_too_many_requests_are_refused(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    asked = 0
    while isinstance(ask(lab, bundle, args={"amount": asked}), Pending):
        asked += 1
    assert codes(ask(lab, bundle, args={"amount": asked})) == ["too_many"]
    # Half of what its task has for this branch, and half of that for one audience.
    assert asked == 13
    assert isinstance(ask(lab, bundle, args={"amount": 0}), Pending)


def test_a_bundle_that_may_not_ask_is_denied(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    child = whole.delegate(to="a", allow=["task.status", "billing.refund"], now=NOW)
    narrowed = child.attenuate(approval=approval(by=[BOB.public]), now=NOW)
    with pytest.raises(Denied) as denied:
        ask(lab, narrowed)
    assert denied.value.code == "action_not_allowed"


def test_what_no_approval_can_hold_is_refused(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    with pytest.raises(InvalidRequest, match="a person approves one call: name the arguments"):
        ask(lab, bundle, args=None)
    with pytest.raises(InvalidRequest, match="nobody can approve such a call"):
        ask(lab, bundle, args={"rows": [[1]]})
    with pytest.raises(InvalidRequest, match="this is no demand for an approval"):
        lab.authority.ask(bundle, "billing.refund", args=ARGS, demand="please")


def test_the_inquiry_shows_the_whole_call(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, count=2)
    request = pending(lab, bundle)
    said = "\n".join(lab.authority.inquiry(request).sentences())
    assert '"agent" asks, in task' in said
    assert "ana wanted work for Acme, in their words" in said
    assert "it wants one call approved: billing.refund at billing, only with amount 40" in said
    assert f"it needs the approval of 2 of {BOB.public}, {CARA.public}" in said
    lab.authority.approve(request, signed(lab, request))
    after = "\n".join(lab.authority.inquiry(request).sentences())
    assert f"it says that {BOB.public} has signed this approval" in after
    assert "at most 1 call" in after


def test_names_that_hide_words_are_shown_as_what_they_are(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request = pending(lab, bundle, args={"to": "ana\u202e\x1b[31m"})
    said = "\n".join(lab.authority.inquiry(request).sentences())
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_a_denial_is_signed_over_the_document(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    request = pending(lab, bundle)
    verdict = lab.verdict(request, yes=False)
    lab.authority.approve(request, signed(lab, request, lasts=1))
    lab.clock.now = NOW + 1
    pending(lab, bundle)
    with pytest.raises(InvalidRequest, match="does not fit what request"):
        lab.authority.answer(verdict)


def test_the_store_holds_to_the_log(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA, count=2)
    request = pending(lab, bundle)
    first = signed(lab, request)
    for discharge in (first, signed(lab, request, CARA, beside=first)):
        lab.authority.approve(request, discharge)
        lab.authority.check()
        with lab.authority.store.read() as reading:
            check_store(reading)
            check_rows(reading)
    assert [one.id for one in lab.authority.requests()] == [request]


def test_an_approval_of_a_call_at_the_authority() -> None:
    lab = GrantingLab(rule("at_open", "billing.*"))
    whole = lab.open().bundle
    child = whole.delegate(to="a", allow=["task.status"], approval=approval(by=[BOB.public]), now=NOW)
    own = lab.authority.own_verifier()
    status = ToolCall("task.status")
    with pytest.raises(Denied) as denied:
        present_and_judge(own, child, status, now=NOW)
    assert denied.value.code == "needs_discharge"
    answer = lab.authority.ask(child, "task.status", audience="authority", args={}, demand=cid(child))
    assert isinstance(answer, Pending)
    lab.authority.approve(answer.request, signed(lab, answer.request))
    found = lab.authority.ask(child, "task.status", audience="authority", args={}, demand=cid(child))
    assert isinstance(found, Approved)
    present_and_judge(own, child.holding(found.discharge, now=NOW), status, now=NOW)


def test_a_denial_asks_for_the_call_it_names_when_it_is_told() -> None:
    lab = GrantingLab(rule("at_open", "billing.*", "crm.*"))
    bundle = demanding(lab)
    lab.authority.close()
    decision = Decision(id="d1", at=NOW, allowed=False, audience="billing", refusals=(Refusal("code", "no"),))
    denied = Denied(decision, approve=CallToApprove("billing", "crm.refund", {"amount": 40}))
    request = denied.approval_request(bundle, now=NOW + 7)
    asked = (request.audience, request.action, request.args, request.asked)
    assert asked == ("billing", "crm.refund", {"amount": 40}, NOW + 7)
    with pytest.raises(InvalidRequest, match="no approval of a person would change this denial"):
        Denied(decision).approval_request(bundle)


def test_nobody_is_asked_when_no_budget_has_room(lab: GrantingLab) -> None:
    lab.policy = policy(
        rule(
            "on_request", "billing.refund", budgets=[budget("refunds", 1)], approval=ApprovalRule(("finance",), 1, 900)
        )
    )
    bundle = lab.open().bundle
    granted = lab.granted(bundle, "billing.refund")
    demand = granted.demands[0].decode()
    assert isinstance(lab.authority.ask(bundle, "billing.refund", args=ARGS, demand=demand), Pending)
    lab.authority.store.spend(payer(), [Spend(granted.task or "", "refunds", Decimal(1), Decimal(1))], now=NOW)
    assert codes(lab.authority.ask(bundle, "billing.refund", args=ARGS, demand=demand)) == ["budget_exhausted"]
    # The demand of a delegator is in no token that the authority knows.
    assert isinstance(ask(lab, demanding(lab)), Pending)
