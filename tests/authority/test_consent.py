"""An answer counts once, while it is fresh, for the request that it names and as the policy stands."""

from typing import Any

import pytest
from msgspec.structs import replace

from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.policy.terms import Rule
from capx_caveats import action, budget, max_hops, shown_instant, where
from tests.labs.granting_asks import DEATHS, QUERY, Asking, die, own
from tests.labs.granting_lab import BOB, CARA, GrantingLab, people, policy, rule
from tests.labs.lab import NOW
from tests.labs.verdicts import RULES, SEND, lab, not_taken, waiting

__all__ = ["lab"]


# For what an answer counts.


def test_an_answer_to_one_request_is_none_to_another(lab: GrantingLab) -> None:
    one, other = waiting(lab), waiting(lab)
    spliced = replace(lab.verdict(one), request=other)
    assert "does not fit what request" in not_taken(lab, spliced)


@pytest.mark.parametrize(
    "change", [{"yes": True}, {"at": NOW + 1}, {"signature": "A" * 86}, {"signature": "junk"}], ids=str
)
def test_an_answer_says_what_was_signed(lab: GrantingLab, change: Any) -> None:
    assert "does not fit what request" in not_taken(lab, replace(lab.verdict(waiting(lab), yes=False), **change))


def test_an_answer_of_somebody_is_not_passed_off_as_anothers(lab: GrantingLab) -> None:
    assert "does not fit what request" in not_taken(lab, replace(lab.verdict(waiting(lab), BOB), approver="cara"))


@pytest.mark.parametrize(("late", "taken"), [(300, True), (301, False), (-5, True), (-6, False)])
def test_an_answer_is_taken_while_it_is_fresh(lab: GrantingLab, late: int, taken: bool) -> None:
    verdict = lab.verdict(waiting(lab), at=NOW - late)
    if taken:
        assert lab.authority.answer(verdict).state == "approved"
    else:
        assert "set the clock and answer again" in not_taken(lab, verdict)


def test_an_answer_replayed_for_a_request_made_again_is_refused(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, within=60))
    opened = lab.open()
    first = lab.pending(opened.bundle, SEND)
    verdict = lab.verdict(first.request)
    lab.clock.now += 60
    assert lab.pending(opened.bundle, SEND).request == first.request
    assert "does not fit what request" in not_taken(lab, verdict)


def test_an_answer_replayed_within_its_second_is_refused(lab: GrantingLab) -> None:
    once = rule("ask", SEND, budgets=[budget("mails", 2)])
    opened, verdict = lab.open(), None
    for terms in (RULES[1], once, RULES[1]):
        lab.policy = policy(terms)
        request = lab.pending(opened.bundle, SEND).request
        if verdict is None:
            verdict = lab.verdict(request)
            lab.authority.answer(verdict)
    assert "counts once" in not_taken(lab, verdict or lab.verdict(""))
    lab.clock.now += 1
    assert lab.decide(request).state == "approved"


def test_an_answer_that_comes_too_late_ends_the_request(lab: GrantingLab) -> None:
    request = waiting(lab)
    lab.clock.now += 1800
    verdict = lab.verdict(request)
    with pytest.raises(InvalidRequest, match="can no longer be answered: nobody answered in time"):
        lab.authority.answer(verdict)
    assert lab.kinds()[-1] == "request_expired"
    assert "no longer waits for an answer" in not_taken(lab, verdict)


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
def test_a_consent_the_policy_answers_otherwise_is_refused(lab: GrantingLab, how: str) -> None:
    request = waiting(lab)
    verdict = lab.verdict(request)
    lab.policy = policy(*CHANGED[how])
    assert ("offers this to no task" if how == "gone" else "the agent must ask again") in not_taken(lab, verdict)


@pytest.mark.parametrize("how", CHANGED)
def test_a_no_needs_no_policy_that_would_ask_for_it(lab: GrantingLab, how: str) -> None:
    request = waiting(lab)
    lab.policy = policy(*CHANGED[how])
    assert lab.decide(request, yes=False).state == "denied"


def test_a_consent_that_counts_no_more_is_asked_for_again(lab: GrantingLab) -> None:
    opened = lab.open()
    pending = lab.pending(opened.bundle, SEND)
    lab.decide(pending.request)
    lab.policy = policy(*RULES, principals=people(bob=replace(people()["bob"], groups=())))
    assert lab.pending(opened.bundle, SEND).request == pending.request
    lab.decide(pending.request, CARA)
    assert lab.codes(lab.granted(opened.bundle, SEND), SEND) == ()


def test_a_consent_for_an_intent_not_taken_any_more_is_refused(lab: GrantingLab) -> None:
    verdict = lab.verdict(waiting(lab))
    lab.policy = policy(*RULES, principals=people(ana=replace(people()["ana"], purposes=())))
    assert "lets them ask for none" in not_taken(lab, verdict)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize("how", DEATHS)
def test_nobody_answers_what_the_dead_asked_for(lab: GrantingLab, how: str, yes: bool) -> None:
    asking = Asking(lab)
    request = lab.pending(asking.bundle, SEND).request
    die(lab, how, asking.bundle, asking.task, asking.other)
    why = {"expiry": "nobody answered in time", "task": "its task has ended", "other task": "its task has ended"}
    said = f"can no longer be answered: {why.get(how, 'its agent was revoked')}$"
    with pytest.raises(InvalidRequest, match=said):
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
