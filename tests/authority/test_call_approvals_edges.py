"""Asking people to approve one call, at the edges: what is logged and kept, and instants to the second."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests import call_approvals
from capx.authority.requests.inheritance import asker_of
from capx.authority.requests.offering import NotOffered, ask_refusal
from capx.crypto.agent_key import AgentKey
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import parse_public
from capx.errors import InvalidRequest
from capx.policy.policy import Purpose
from capx.store.events import AskRefused, RequestMade
from capx.store.records import RequestRecord
from capx.store.row_check import check_rows
from capx.tokens.approval_caveat import approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.discharge import Discharge
from capx.verify.ask import Approved, Pending, Refused
from capx_caveats import Call, Expires, UntilCompleted
from tests.labs.approving import put_together
from tests.labs.granting_lab import BOB, CARA, NOW, GrantingLab, people, policy, rule

ACTION = "billing.refund"
PLANNER = AgentKey.generate("planner")


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    rules = (rule("at_open", "billing.*"),)
    made = GrantingLab(*rules)
    long = Purpose(name="work", ttl=7200, require=(), tenant=True, names=frozenset(), rules=lambda _: rules)
    made.policy = replace(made.policy, purposes={"work": long})
    yield made
    made.authority.close()


def demanding(lab: GrantingLab, *by: Any, **more: Any) -> Bundle:
    """The bundle of an agent whose calls need an approval: Bob's, unless others are named."""
    demand = approval(by=[one.public for one in by or (BOB,)])
    return lab.open(**more).bundle.delegate(to="agent", approval=demand, now=int(lab.clock.now))


def ask(lab: GrantingLab, bundle: Bundle, amount: int = 40) -> Any:
    cid = next(iter(bundle)).demands[0].decode()
    return lab.authority.ask(bundle, ACTION, args={"amount": amount}, demand=cid)


def pending(lab: GrantingLab, bundle: Bundle, amount: int = 40) -> Pending:
    answer = ask(lab, bundle, amount)
    assert isinstance(answer, Pending), str(answer)
    return answer


def kept(lab: GrantingLab, answer: Pending) -> RequestRecord:
    return lab.authority.request(answer.request)


def signed(lab: GrantingLab, answer: Pending, **how: Any) -> Discharge:
    document = ApprovalRequest.parse(kept(lab, answer).to_approve or "")
    return BOB.approve(document, now=int(lab.clock.now), **how)


def told(lab: GrantingLab, answer: Pending, discharge: Discharge) -> str:
    with pytest.raises(InvalidRequest) as error:
        lab.authority.approve(answer.request, discharge)
    return str(error.value)


def codes(answer: Any) -> list[str]:
    assert isinstance(answer, Refused), answer
    return [reason.code for reason in answer.reasons]


def test_a_request_is_logged_with_who_asked_for_which_call(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    answer = pending(lab, bundle)
    (event,) = [one.read(RequestMade) for one in lab.authority.log() if one.kind == "request_made"]
    assert event.ask is not None
    assert replace(event, ask=None) == RequestMade(
        answer.request,
        str(bundle.task),
        tuple(map(b64u, next(iter(bundle)).path)),
        ("agent",),
        "billing",
        ACTION,
        NOW + 3600,
        ("bob",),
        1,
        pinned=True,
        policy=lab.policy.digest,
        call=True,
    )


def test_a_request_ends_with_every_task_of_its_asker(lab: GrantingLab) -> None:
    other = lab.open()
    answer = pending(lab, demanding(lab).attenuate(UntilCompleted(other.id), now=NOW))
    asker = asker_of(kept(lab, answer))
    assert set(asker.until) == {asker.task, other.id}
    good = signed(lab, answer)
    lab.authority.complete(other.id)
    assert "can no longer be answered" in told(lab, answer, good)


def test_a_request_keeps_the_keys_of_its_asker(lab: GrantingLab) -> None:
    whole = lab.open(agent_key=PLANNER.public).bundle.with_key(PLANNER)
    bundle = whole.attenuate(approval=approval(by=[BOB.public]), now=NOW)
    assert asker_of(kept(lab, pending(lab, bundle))).keys == (parse_public(PLANNER.public),)


def test_the_time_of_the_document_is_kept_with_the_answer(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    lab.clock.now = NOW + 7
    made = lab.authority.approve(answer.request, signed(lab, answer))
    assert (made.signed, made.answered) == (NOW, NOW + 7)


def test_an_approval_has_one_end(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    good = signed(lab, answer)
    for ends in ((), (Expires(NOW + 60), Expires(NOW + 90))):
        statement = (*(one for one in good.caveats[0] if not isinstance(one, Expires)), *ends)
        assert "an approval of this request has" in told(lab, answer, put_together(statement, (0, BOB), cid=good.cid))


def test_an_approval_lasts_as_long_as_its_demand_permits(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    assert lab.authority.approve(answer.request, signed(lab, answer, lasts=900)).state == "granted"


def test_an_approval_ends_to_the_second(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    good = signed(lab, answer, lasts=60)
    lab.clock.now = NOW + 60
    assert "has expired" in told(lab, answer, good)
    lab.clock.now = NOW + 59
    assert lab.authority.approve(answer.request, good).state == "granted"


def test_the_clock_of_an_approver_may_be_5_seconds_ahead(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    good = signed(lab, answer)
    lab.clock.now = NOW - 6
    assert "was given in the future" in told(lab, answer, good)
    lab.clock.now = NOW - 5
    assert lab.authority.approve(answer.request, good).state == "granted"


def test_a_use_of_one_approval_is_none_of_another(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    for amount in (40, 41):
        answer = pending(lab, bundle, amount)
        lab.authority.approve(answer.request, signed(lab, answer))
    fuller = bundle.holding(ask(lab, bundle, 40).discharge, now=NOW)
    call = ToolCall(ACTION, {"amount": 40})
    text = fuller.present_capability(next(iter(fuller)), call, now=NOW).text
    lab.authority.verifier("billing").admit(text, call).judge(Call(ACTION, {"amount": 40}, tenant="Acme"))
    assert isinstance(ask(lab, bundle, 40), Pending)
    assert isinstance(ask(lab, bundle, 41), Approved)


def test_who_asks_at_the_same_time_gets_the_same_request(lab: GrantingLab) -> None:
    answer = pending(lab, demanding(lab))
    asker, keyring = asker_of(kept(lab, answer)), lab.authority._keyring
    # As for an agent whose read came before the request was made.
    with lab.authority.store.write() as transaction:
        again = call_approvals.answer(transaction, keyring, lab.policy, asker, answer.ask, now=NOW)
    assert str(again) == str(answer)
    assert lab.kinds().count("request_made") == 1


def test_a_refusal_that_comes_late_is_logged_as_any_other(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    answer = pending(lab, bundle)
    asker, keyring = asker_of(kept(lab, answer)), lab.authority._keyring
    # As for an agent that had read the policy as it was before.
    nobody = policy(rule("at_open", "billing.*"), principals=people(bob=None))
    with lab.authority.store.write() as transaction:
        late = call_approvals.answer(transaction, keyring, nobody, asker, answer.ask, now=NOW + 7)
    assert codes(late) == ["not_offered"]
    (event,) = [one for one in lab.authority.log() if one.kind == "ask_refused"]
    path = tuple(map(b64u, next(iter(bundle)).path))
    refused = AskRefused(asker.task, path, ("agent",), "billing", ACTION, ("not_offered",))
    assert (event.at, event.read(AskRefused)) == (NOW + 7, refused)


def test_asked_again_the_answer_is_the_same(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    assert str(pending(lab, bundle)) == str(pending(lab, bundle))


def test_an_ask_ends_the_overdue_requests_of_its_own_task(lab: GrantingLab) -> None:
    bundle, other = demanding(lab), demanding(lab)
    overdue = pending(lab, bundle)
    pending(lab, other)
    lab.clock.now = NOW + 3600
    pending(lab, bundle, 41)
    assert lab.kinds().count("request_expired") == 1
    assert kept(lab, overdue).state == "expired"


def test_a_request_that_is_overdue_is_made_anew(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    first = pending(lab, bundle)
    lab.clock.now = NOW + 3600
    assert kept(lab, pending(lab, bundle)).round == 2
    assert pending(lab, bundle).request == first.request


def test_a_request_that_is_made_anew_keeps_its_place(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    asked = 0
    while isinstance(ask(lab, bundle, asked), Pending):
        asked += 1
    lab.policy = replace(lab.policy, principals=people(cara=None))
    assert kept(lab, pending(lab, bundle, 0)).round == 2
    assert codes(ask(lab, bundle, asked)) == ["too_many"]


def test_a_denial_is_told_though_nobody_could_be_asked_any_more(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    lab.decide(pending(lab, bundle).request, yes=False)
    lab.policy = policy(rule("at_open", "billing.*"), principals=people(bob=None))
    assert codes(ask(lab, bundle)) == ["request_denied"]
    assert codes(ask(lab, bundle, 41)) == ["not_offered"]


def test_what_is_refused_only_as_it_is_written_is_a_refusal(lab: GrantingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = demanding(lab)
    looks = iter([None])

    def decide(*_: Any, **named: Any) -> None:
        for found in looks:
            return found
        raise NotOffered(ask_refusal("request_denied"))

    # The first look only reads, and finds no answer. Then somebody denies, and the second one writes.
    monkeypatch.setattr(call_approvals, "decide", decide)
    answer = ask(lab, bundle)
    assert isinstance(answer, Refused)
    assert lab.kinds()[-1] == "ask_refused"


@pytest.mark.parametrize(("uses", "said"), [(None, "any number of calls"), (3, "at most 3 calls")])
def test_the_second_person_sees_how_often(lab: GrantingLab, uses: int | None, said: str) -> None:
    demand = approval(by=[BOB.public, CARA.public], count=2)
    bundle = lab.open().bundle.delegate(to="agent", approval=demand, now=NOW)
    request = pending(lab, bundle).request
    document = ApprovalRequest.parse(lab.authority.request(request).to_approve or "")
    lab.authority.approve(request, BOB.approve(document, uses=uses, now=NOW))
    shown = "\n".join(lab.authority.inquiry(request).sentences())
    assert said in shown


def test_people_see_who_denied_the_same(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    lab.decide(pending(lab, bundle).request, yes=False)
    child = bundle.delegate(to="child", now=NOW)
    shown = "\n".join(lab.authority.inquiry(pending(lab, child).request).sentences())
    assert "bob denied the same" in shown


def test_each_who_signed_must_be_known_to_the_policy(lab: GrantingLab) -> None:
    demand = approval(by=[BOB.public, CARA.public], count=2)
    bundle = lab.open().bundle.delegate(to="agent", approval=demand, now=NOW)
    request = pending(lab, bundle).request
    document = ApprovalRequest.parse(lab.authority.request(request).to_approve or "")
    whole = CARA.cosign(document, BOB.approve(document, now=NOW), now=NOW)
    known = lab.policy
    lab.policy = replace(known, principals={name: one for name, one in known.principals.items() if name != "bob"})
    with pytest.raises(InvalidRequest, match="no principal with the key that signed"):
        lab.authority.approve(request, whole)
    lab.policy = known
    assert lab.authority.approve(request, whole).state == "granted"


def test_a_request_that_nobody_could_read_is_refused(lab: GrantingLab) -> None:
    bundle, other = demanding(lab), pending(lab, demanding(lab))
    cid = next(iter(bundle)).demands[0].decode()
    answer = lab.authority.ask(bundle, ACTION, args={"amount": 40, "account": "[" * 242}, demand=cid)
    assert codes(answer) == ["not_inherited"]
    assert "its request would hold" in str(answer)
    # The inbox, the ends of tasks, and other asks of the task go on.
    assert [one.id for one in lab.authority.requests(pending=True)] == [other.request]
    assert lab.authority.end_overdue() == []
    assert isinstance(ask(lab, bundle), Pending)


def test_a_request_with_very_many_restrictions_is_refused(lab: GrantingLab) -> None:
    ends = [UntilCompleted(f"made-up-{nth}") for nth in range(62)]
    bundle = demanding(lab).attenuate(*ends[:31], now=NOW).attenuate(*ends[31:], now=NOW)
    answer = ask(lab, bundle)
    assert codes(answer) == ["not_inherited"]
    assert lab.authority.requests() == []


def test_a_denial_holds_against_another_demand_of_the_same_call(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    lab.decide(pending(lab, bundle).request, yes=False)
    again = bundle.attenuate(approval=approval(by=[CARA.public]), now=NOW)
    demands = [cid.decode() for cid in next(iter(again)).demands]
    for cid in demands:
        answer = lab.authority.ask(again, ACTION, args={"amount": 40}, demand=cid)
        assert codes(answer) == ["request_denied"]
    # Another call is another question.
    assert isinstance(lab.authority.ask(again, ACTION, args={"amount": 41}, demand=demands[1]), Pending)


def test_a_denial_holds_against_requests_that_wait_already(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    narrower = bundle.attenuate(Expires(NOW + 1_800), now=NOW)
    first, second = pending(lab, bundle), pending(lab, narrower)
    assert first.request != second.request
    good = signed(lab, second)
    lab.decide(first.request, yes=False)
    assert "bob has denied this call to the agent: a denial is final" in told(lab, second, good)
    assert codes(ask(lab, narrower)) == ["request_denied"]


def test_a_denial_holds_against_an_approval_not_fetched_yet(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    narrower = bundle.attenuate(Expires(NOW + 1_800), now=NOW)
    first, second = pending(lab, bundle), pending(lab, narrower)
    lab.authority.approve(second.request, signed(lab, second))
    lab.decide(first.request, yes=False)
    assert codes(ask(lab, narrower)) == ["request_denied"]


def test_people_see_that_they_approved_the_call_before(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    call = ToolCall(ACTION, {"amount": 40})
    used: list[str] = []
    for nth in range(3):
        answer = pending(lab, bundle)
        shown = "\n".join(lab.authority.inquiry(answer.request).sentences())
        assert ("was approved before" in shown) == (nth > 0)
        if nth:
            assert f"approved before, {('once', '2 times')[nth - 1]}; this would be one more approval" in shown
            assert f"decision {used[-1]} allowed a call with it" in shown
        lab.authority.approve(answer.request, signed(lab, answer))
        fuller = bundle.holding(ask(lab, bundle).discharge, now=NOW)
        text = fuller.present_capability(next(iter(fuller)), call, now=NOW).text
        allowed = lab.authority.verifier("billing").admit(text, call).judge(Call(ACTION, {"amount": 40}, tenant="Acme"))
        used.append(allowed.decision.id)
        lab.authority.flush()


def test_people_see_that_they_were_asked_before(lab: GrantingLab) -> None:
    bundle = demanding(lab)
    pending(lab, bundle)
    lab.clock.now = NOW + 3600
    shown = "\n".join(lab.authority.inquiry(pending(lab, bundle).request).sentences())
    assert "the same call was asked for before, once" in shown


def two(lab: GrantingLab) -> tuple[Pending, ApprovalRequest]:
    demand = approval(by=[BOB.public, CARA.public], count=2)
    answer = pending(lab, lab.open().bundle.delegate(to="agent", approval=demand, now=NOW))
    return answer, ApprovalRequest.parse(kept(lab, answer).to_approve or "")


def test_the_log_names_each_who_signed_though_at_once(lab: GrantingLab) -> None:
    answer, document = two(lab)
    first = BOB.approve(document, now=NOW)
    whole = CARA.cosign(document, first, now=NOW)
    lab.authority.approve(answer.request, whole)
    made = [one for one in lab.authority.log() if one.kind in {"approval_signed", "approval_made"}]
    assert [(one.kind, one.facts()["approver"]) for one in made] == [
        ("approval_signed", "bob"),
        ("approval_made", "cara"),
    ]
    digests = [one.facts()["digest"] for one in made]
    assert digests == [b64u(first.digests[-1]), b64u(whole.digests[-1])]
    with lab.authority.store.read() as reading:
        check_rows(reading)


def test_a_revoked_half_does_not_keep_others_from_signing(lab: GrantingLab) -> None:
    answer, document = two(lab)
    half = BOB.approve(document, now=NOW)
    lab.authority.approve(answer.request, half)
    assert lab.authority.inquiry(answer.request).request.discharge == half.text
    lab.authority.revoke(half.id)
    inquiry = lab.authority.inquiry(answer.request)
    assert inquiry.request.discharge is None
    assert "has signed this approval" not in "\n".join(inquiry.sentences())
    lab.clock.now = NOW + 1
    anew = CARA.approve(document, now=NOW + 1)
    assert lab.authority.approve(answer.request, anew).state == "pending"
    assert lab.authority.approve(answer.request, BOB.cosign(document, anew, now=NOW + 1)).state == "granted"


def test_an_approval_is_not_handed_out_once_its_signer_has_left(lab: GrantingLab) -> None:
    bundle = demanding(lab, BOB, CARA)
    answer = pending(lab, bundle)
    lab.authority.approve(answer.request, signed(lab, answer))
    known = lab.policy
    lab.policy = policy(rule("at_open", "billing.*"), principals=people(bob=None))
    assert isinstance(ask(lab, bundle), Pending)
    assert known.principals.keys() != lab.policy.principals.keys()
