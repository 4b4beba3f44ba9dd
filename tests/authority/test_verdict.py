"""What people are shown before they answer, and whose answers count for what."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.authority.requests.verdict import Inquiry, Verdict
from capx.crypto.base64url import b64u, unb64u
from capx.crypto.ed25519 import Signer
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Principal
from capx.policy.terms import Rule
from capx.store.events import RequestApproved, RequestDenied
from capx.store.records import RequestRecord
from capx.tokens.bundle import Bundle
from capx_caveats import action, between, budget, expires, max_hops, shown_instant, until_completed, where
from tests.authority.test_granting import DEATHS, QUERY, Asking, die, own
from tests.labs.granting_lab import ANA, BOB, CARA, GrantingLab, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.strategies import spelled

SEND = "mail.send"
RULES = (
    rule("on_request", QUERY),
    rule("ask", SEND),
    rule("ask", action("billing.refund", amount=between(0, 500)), budgets=[budget("refunds", 2)]),
)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


def waiting(lab: GrantingLab, *, label: str = "sub", **said: Any) -> str:
    """A request that waits, of a sub-agent that is called like this."""
    child = own(lab.open(**said).bundle).delegate(to=label, may_ask=[SEND])
    return lab.pending(child, SEND).request


def called(key: PrincipalKey, name: str) -> PrincipalKey:
    """The same key, of somebody who goes by another name."""
    fields = key.dump().split()
    return PrincipalKey(name, Signer(unb64u(fields[2])))


def not_taken(lab: GrantingLab, verdict: Verdict) -> str:
    """Why a verdict does nothing: the request waits as before, and the log says nothing of it."""
    before, kinds = lab.authority.request(verdict.request), lab.kinds()
    with pytest.raises(InvalidRequest) as caught:
        lab.authority.answer(verdict)
    assert lab.authority.request(verdict.request) == before
    assert lab.kinds() == kinds
    return str(caught.value)


# What is shown.


def test_people_are_told_who_asks_for_what_on_whose_words_and_within_which_bounds(lab: GrantingLab) -> None:
    statement = "Pay back what\nthey paid twice. " + "Thanks. " * 30
    opened = lab.open(statement=statement)
    bounds = [where("region", "eu"), budget("calls", 5), max_hops(2), until_completed("T2"), expires(NOW + 900)]
    child = own(opened.bundle).delegate(to="desk > ana", may_ask=["billing.refund"], caveats=bounds)
    child = Bundle([appended(next(iter(child)), spelled([["acme.region", "eu"]]))])
    args: dict[str, Any] = {"amount": 20, "note": "x" * 200}
    lab.policy = policy(rule("ask", action("billing.refund", args={"amount": between(0, 50), "note": "x" * 200})))
    inquiry = lab.authority.inquiry(lab.pending(child, "billing.refund", args).request)
    assert inquiry.sentences() == (
        f'"desk > ana" asks, in task {opened.id}',
        f"ana wanted work for Acme, in their words {json.dumps(statement)}",
        f'it would be allowed billing.refund at billing, only with amount 20 and note "{"x" * 200}"',
        f'within what the policy offers: billing.refund where amount is between 0 and 50 and note is "{"x" * 200}"',
        'tenant is "Acme"',
        f"expires at {shown_instant(NOW + 900)}",
        'region is "eu"',
        "at most 5 calls, shared by everyone below",
        "until task T2 ends",
        'not understood: ["acme.region","eu"]',
        "at most 2 more delegations",
        f"it ends with task {opened.id}, and with the agent that asks",
        f"asked at {shown_instant(NOW)}, to be answered before {shown_instant(NOW + 900)} by finance",
    )
    assert not any("\n" in sentence for sentence in inquiry.sentences())


def test_people_are_told_whether_arguments_are_free_or_none(lab: GrantingLab) -> None:
    opened = lab.open()
    cases: list[tuple[Any, str]] = [(None, "with any arguments"), ({}, "without arguments")]
    for args, told in cases:
        inquiry = lab.authority.inquiry(lab.pending(opened.bundle, SEND, args).request)
        assert f"it would be allowed mail.send at mail, {told}" in inquiry.sentences()
        assert inquiry.sentences()[0] == f"the first agent asks, in task {opened.id}"


CHANGES: dict[str, Any] = dict.fromkeys(["id", "task", "audience", "action", "args"], "other") | {
    **dict.fromkeys(["path", "labels", "approvers", "excluded"], ("other",)),
    **dict.fromkeys(["asked", "until"], NOW + 1),
}


@pytest.mark.parametrize("name", [*CHANGES, "block"])
def test_whatever_a_request_shows_is_what_is_signed(lab: GrantingLab, name: str) -> None:
    inquiry = lab.authority.inquiry(waiting(lab))
    signed = Verdict.sign(inquiry, BOB, yes=True, at=NOW)
    public = people()["bob"].key
    assert public is not None
    assert signed.is_signed_by(public, inquiry)
    changed = CHANGES.get(name, inquiry.request.block.replace("expires", "not_before"))
    other = Inquiry(replace(inquiry.request, **{name: changed}), inquiry.document)
    assert other.digest != inquiry.digest
    assert not signed.is_signed_by(public, other)


def test_nothing_is_shown_on_another_intent_than_the_tasks(lab: GrantingLab) -> None:
    one, other = lab.authority.inquiry(waiting(lab)), lab.authority.inquiry(waiting(lab, statement="Another."))
    with pytest.raises(InvalidRequest, match="not on the intent"):
        _ = Inquiry(one.request, other.document).digest
    with pytest.raises(InvalidRequest, match="not on the intent"):
        Inquiry(one.request, other.document).sentences()


def test_what_is_shown_goes_over_a_wire_and_is_the_same(lab: GrantingLab) -> None:
    inquiry = lab.authority.inquiry(waiting(lab))
    again = msgspec.json.decode(msgspec.json.encode(inquiry), type=Inquiry)
    assert (again, again.digest) == (inquiry, inquiry.digest)
    record = msgspec.json.decode(msgspec.json.encode(inquiry.request), type=RequestRecord)
    assert record == lab.authority.request(inquiry.request.id)


def test_people_are_told_who_denied_the_same_and_whose_consent_would_not_count(lab: GrantingLab) -> None:
    opened = lab.open(agent="cara")
    one, other = (own(opened.bundle).delegate(to=name, may_ask=[SEND]) for name in ("one", "other"))
    lab.decide(lab.pending(one, SEND).request, yes=False)
    *_, excluded, denied = lab.authority.inquiry(lab.pending(other, SEND).request).sentences()
    assert excluded.startswith("not with the consent of cara")
    assert denied == f"bob denied the same to one at {shown_instant(NOW)}"


# Who may answer.


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_of_somebody_named_is_taken_and_told_in_the_log(lab: GrantingLab, yes: bool) -> None:
    request = waiting(lab)
    lab.clock.now += 60
    verdict = lab.verdict(request, yes=yes)
    decided = lab.authority.answer(verdict)
    assert (decided.state, decided.approver, decided.answered) == ("approved" if yes else "denied", "bob", NOW + 60)
    fact: type[RequestApproved | RequestDenied] = RequestApproved if yes else RequestDenied
    (said,) = (event.read(fact) for event in lab.authority.log() if event.kind == fact.kind)
    assert (said.request, said.task, said.approver) == (request, decided.task, "bob")
    assert said.signature == verdict.signature


def test_approvers_are_groups_or_people(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, approvers=("legal", "bob")))
    for key in (BOB, CARA):
        assert lab.decide(waiting(lab), key).state == "approved"


def test_nobody_answers_who_is_not_among_the_approvers(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, approvers=("legal",)))
    assert "none of those who can answer" in not_taken(lab, lab.verdict(waiting(lab)))


def test_whoever_was_asked_or_is_asked_by_now_may_say_no(lab: GrantingLab) -> None:
    for key in (BOB, CARA):
        lab.policy = policy(*RULES)
        request = waiting(lab)
        lab.policy = policy(rule("ask", SEND, approvers=("legal",)))
        assert lab.decide(request, key, yes=False).state == "denied"


def test_a_request_is_made_anew_when_the_policy_asks_others(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[SEND])
    assert lab.pending(child, SEND).approvers == ("finance",)
    lab.policy = policy(rule("ask", SEND, approvers=("legal",)))
    asked = lab.pending(child, SEND)
    assert asked.approvers == lab.authority.request(asked.request).approvers == ("legal",)


def test_a_stranger_answers_nothing(lab: GrantingLab) -> None:
    eve = PrincipalKey.generate("eve")
    assert "no principal of the policy with a key" in not_taken(lab, lab.verdict(waiting(lab), eve))
    as_bob = called(eve, "bob")
    assert "has not signed" in not_taken(lab, lab.verdict(waiting(lab), as_bob))


def test_who_has_no_key_answers_nothing(lab: GrantingLab) -> None:
    request = waiting(lab)
    lab.policy = policy(*RULES, principals=people(bob=Principal(name="bob", groups=("finance",))))
    assert "with a key" in not_taken(lab, lab.verdict(request))


def test_a_former_member_answers_nothing(lab: GrantingLab) -> None:
    request = waiting(lab)
    verdict = lab.verdict(request)
    lab.policy = policy(*RULES, principals=people(bob=replace(people()["bob"], groups=())))
    assert "none of those who can answer" in not_taken(lab, verdict)
    lab.policy = policy(*RULES, principals=people(bob=None))
    assert "no principal" in not_taken(lab, verdict)


def also_in_finance(key: PrincipalKey, name: str, **others: Any) -> dict[str, Principal]:
    """The people, and one more name for whoever has this key, who can consent by it."""
    known = people()[key.name]
    return people(**{name: replace(known, name=name, groups=("finance",)), **others})


def test_the_principal_does_not_consent_to_what_they_wanted(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "ana"))
    assert "wanted this work" in not_taken(lab, lab.verdict(waiting(lab), ANA))


def test_the_principal_does_not_consent_under_another_name(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "anna"))
    assert "wanted this work" in not_taken(lab, lab.verdict(waiting(lab), called(ANA, "anna")))


def test_the_principal_does_not_consent_with_the_key_that_signed_the_intent_once_they_have_another(
    lab: GrantingLab,
) -> None:
    request = waiting(lab)
    new = replace(people()["ana"], key=people()["cara"].key)
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "anna", ana=new, cara=None))
    assert "has no key of" in not_taken(lab, lab.verdict(request, called(ANA, "anna")))


def test_who_wanted_the_work_or_does_it_may_say_no(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "ana"))
    assert lab.decide(waiting(lab), ANA, yes=False).state == "denied"
    assert lab.decide(waiting(lab, label="bob"), BOB, yes=False).state == "denied"


def test_who_is_called_like_the_agent_of_the_intent_does_not_consent(lab: GrantingLab) -> None:
    assert "called like an agent" in not_taken(lab, lab.verdict(waiting(lab, agent="bob")))
    assert lab.decide(waiting(lab, agent="bob"), CARA).state == "approved"


@pytest.mark.parametrize("above", [True, False])
def test_who_is_called_like_an_agent_on_the_path_does_not_consent(lab: GrantingLab, above: bool) -> None:
    child = own(lab.open().bundle).delegate(to="bob" if above else "desk", may_ask=[SEND])
    child = child.delegate(to="desk" if above else "bob", may_ask=[SEND])
    request = lab.pending(child, SEND).request
    assert "called like an agent" in not_taken(lab, lab.verdict(request))
    assert lab.decide(request, CARA).state == "approved"


def test_an_agent_does_not_consent_under_the_name_of_somebody_else(lab: GrantingLab) -> None:
    request = waiting(lab, label="bob")
    lab.policy = policy(*RULES, principals=also_in_finance(BOB, "robert"))
    assert "called like an agent" in not_taken(lab, lab.verdict(request, called(BOB, "robert")))


# For what an answer counts.


def test_an_answer_to_one_request_is_none_to_another(lab: GrantingLab) -> None:
    one, other = waiting(lab), waiting(lab)
    spliced = replace(lab.verdict(one), request=other)
    assert "has not signed" in not_taken(lab, spliced)


@pytest.mark.parametrize(
    "change", [{"yes": True}, {"at": NOW + 1}, {"signature": "A" * 86}, {"signature": "junk"}], ids=str
)
def test_an_answer_says_what_was_signed(lab: GrantingLab, change: Any) -> None:
    assert "has not signed" in not_taken(lab, replace(lab.verdict(waiting(lab), yes=False), **change))


def test_an_answer_of_somebody_is_not_passed_off_as_anothers(lab: GrantingLab) -> None:
    assert "has not signed" in not_taken(lab, replace(lab.verdict(waiting(lab), BOB), approver="cara"))


@pytest.mark.parametrize(("late", "taken"), [(300, True), (301, False), (-5, True), (-6, False)])
def test_an_answer_is_taken_while_it_is_fresh(lab: GrantingLab, late: int, taken: bool) -> None:
    verdict = lab.verdict(waiting(lab), at=NOW - late)
    if taken:
        assert lab.authority.answer(verdict).state == "approved"
    else:
        assert "clock that is right" in not_taken(lab, verdict)


def test_an_answer_is_not_replayed_for_a_request_that_was_made_again(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, within=60))
    opened = lab.open()
    first = lab.pending(opened.bundle, SEND)
    verdict = lab.verdict(first.request)
    lab.clock.now += 60
    assert lab.pending(opened.bundle, SEND).request == first.request
    assert "has not signed" in not_taken(lab, verdict)


def test_an_answer_that_comes_too_late_ends_the_request(lab: GrantingLab) -> None:
    request = waiting(lab)
    lab.clock.now += 1800
    verdict = lab.verdict(request)
    with pytest.raises(InvalidRequest, match="can be answered no more: it is expired"):
        lab.authority.answer(verdict)
    assert lab.kinds()[-1] == "request_expired"
    assert "waits for nobody" in not_taken(lab, verdict)


@pytest.mark.parametrize("yes", [True, False])
def test_who_answers_what_was_answered_is_told_by_whom(lab: GrantingLab, yes: bool) -> None:
    request = waiting(lab)
    lab.decide(request, yes=yes)
    said = f'it was {"approved" if yes else "denied"} by "bob" at {shown_instant(NOW)}'
    assert said in not_taken(lab, lab.verdict(request, CARA, yes=not yes))


def test_who_answers_what_was_fetched_is_told_so(lab: GrantingLab) -> None:
    opened = lab.open()
    request = lab.pending(opened.bundle, SEND).request
    lab.decide(request)
    lab.granted(opened.bundle, SEND)
    assert 'it was approved by "bob"' in not_taken(lab, lab.verdict(request, CARA, yes=False))


def test_nobody_answers_what_there_is_not(lab: GrantingLab) -> None:
    verdict = lab.verdict(waiting(lab))
    for unknown in ("A" * 22, "", "no id", "../x"):
        with pytest.raises(InvalidRequest, match="there is no request"):
            lab.authority.answer(replace(verdict, request=unknown))
        with pytest.raises(InvalidRequest, match="there is no request"):
            lab.authority.inquiry(unknown)


CHANGED: dict[str, tuple[Rule, ...]] = {
    "narrower": (rule("ask", action(SEND, to="ann")),),
    "gone": (rule("on_request", QUERY),),
    "given without a person": (rule("on_request", SEND),),
    "with a budget": (rule("ask", SEND, budgets=[budget("calls", 1)]),),
}


@pytest.mark.parametrize("how", CHANGED)
def test_nobody_consents_to_what_the_policy_would_answer_otherwise_now(lab: GrantingLab, how: str) -> None:
    request = waiting(lab)
    verdict = lab.verdict(request)
    lab.policy = policy(*CHANGED[how])
    assert ("offers this to no task" if how == "gone" else "otherwise now") in not_taken(lab, verdict)


@pytest.mark.parametrize("how", CHANGED)
def test_a_no_needs_no_policy_that_would_ask_for_it(lab: GrantingLab, how: str) -> None:
    request = waiting(lab)
    lab.policy = policy(*CHANGED[how])
    assert lab.decide(request, yes=False).state == "denied"


def test_a_consent_that_counts_no_more_when_it_is_fetched_is_asked_for_again(lab: GrantingLab) -> None:
    opened = lab.open()
    pending = lab.pending(opened.bundle, SEND)
    lab.decide(pending.request)
    lab.policy = policy(*RULES, principals=people(bob=replace(people()["bob"], groups=())))
    assert lab.pending(opened.bundle, SEND).request == pending.request
    lab.decide(pending.request, CARA)
    assert lab.codes(lab.granted(opened.bundle, SEND), SEND) == ()


def test_nobody_consents_for_whom_the_policy_takes_no_intent_any_more(lab: GrantingLab) -> None:
    verdict = lab.verdict(waiting(lab))
    lab.policy = policy(*RULES, principals=people(ana=replace(people()["ana"], purposes=())))
    assert "may ask for nothing" in not_taken(lab, verdict)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("how", DEATHS)
def test_nobody_answers_what_the_dead_asked_for(lab: GrantingLab, how: str, yes: bool) -> None:
    asking = Asking(lab)
    request = lab.pending(asking.bundle, SEND).request
    die(lab, how, asking.bundle, asking.task, asking.other)
    with pytest.raises(InvalidRequest, match="can be answered no more: it is expired"):
        lab.authority.answer(lab.verdict(request, yes=yes))
    assert lab.authority.requests(pending=True) == []
    assert lab.kinds()[-1] == "request_expired"


def test_what_was_agreed_to_is_restricted_as_its_asker_is(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[SEND], caveats=[where("region", "eu"), max_hops(0)])
    lab.decide(lab.pending(child, SEND).request)
    granted = lab.granted(child, SEND)
    assert lab.codes(granted, SEND, attributes={"region": "eu"}) == ()
    assert lab.codes(granted, SEND, attributes={"region": "us"}) == ("argument_refused",)
    assert lab.codes(granted.delegate(to="x"), SEND, attributes={"region": "eu"}) == ("too_many_hops",)
    assert granted.path == child.path
    assert b64u(granted.ids[0]) == lab.authority.requests()[0].capability
