"""Who may answer a request: whom the policy names, and nobody for themselves."""

import pytest
from msgspec.structs import replace

from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Principal
from tests.labs.granting_asks import own
from tests.labs.granting_lab import ANA, BOB, CARA, GrantingLab, people, policy, rule
from tests.labs.verdicts import RULES, SEND, also_in_finance, called, lab, not_taken, waiting

__all__ = ["lab"]


def test_approvers_are_groups_or_people(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, approvers=("legal", "bob")))
    for key in (BOB, CARA):
        assert lab.decide(waiting(lab), key).state == "approved"


def test_nobody_answers_who_is_not_among_the_approvers(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, approvers=("legal",)))
    assert "cannot answer this request; who can:" in not_taken(lab, lab.verdict(waiting(lab)))


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
    assert "the policy has no principal" in not_taken(lab, lab.verdict(waiting(lab), eve))
    as_bob = called(eve, "bob")
    assert "does not fit what request" in not_taken(lab, lab.verdict(waiting(lab), as_bob))


def test_who_has_no_key_answers_nothing(lab: GrantingLab) -> None:
    request = waiting(lab)
    lab.policy = policy(*RULES, principals=people(bob=Principal(name="bob", groups=("finance",))))
    assert "with a key" in not_taken(lab, lab.verdict(request))


def test_a_former_member_answers_nothing(lab: GrantingLab) -> None:
    request = waiting(lab)
    verdict = lab.verdict(request)
    lab.policy = policy(*RULES, principals=people(bob=replace(people()["bob"], groups=())))
    assert "cannot answer this request; who can:" in not_taken(lab, verdict)
    lab.policy = policy(*RULES, principals=people(bob=None))
    assert "the policy has no principal" in not_taken(lab, verdict)


def test_the_principal_does_not_consent_to_what_they_wanted(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "ana"))
    assert "requested this work" in not_taken(lab, lab.verdict(waiting(lab), ANA))


def test_the_principal_does_not_consent_under_another_name(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "anna"))
    assert "requested this work" in not_taken(lab, lab.verdict(waiting(lab), called(ANA, "anna")))


def test_a_principals_consent_by_a_former_key_is_refused(
    lab: GrantingLab,
) -> None:
    request = waiting(lab)
    new = replace(people()["ana"], key=people()["cara"].key)
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "anna", ana=new, cara=None))
    assert "no longer has the key of" in not_taken(lab, lab.verdict(request, called(ANA, "anna")))


def test_who_wanted_the_work_or_does_it_may_say_no(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, principals=also_in_finance(ANA, "ana"))
    assert lab.decide(waiting(lab), ANA, yes=False).state == "denied"
    assert lab.decide(waiting(lab, label="bob"), BOB, yes=False).state == "denied"


def test_a_consent_under_the_intents_agents_name_is_refused(lab: GrantingLab) -> None:
    assert "has the same name or key as one of its agents" in not_taken(lab, lab.verdict(waiting(lab, agent="bob")))
    assert lab.decide(waiting(lab, agent="bob"), CARA).state == "approved"


@pytest.mark.parametrize("above", [True, False])
def test_a_consent_under_the_name_of_an_agent_above_is_refused(lab: GrantingLab, above: bool) -> None:
    child = own(lab.open().bundle).delegate(to="bob" if above else "desk", may_ask=[SEND])
    child = child.delegate(to="desk" if above else "bob", may_ask=[SEND])
    request = lab.pending(child, SEND).request
    assert "has the same name or key as one of its agents" in not_taken(lab, lab.verdict(request))
    assert lab.decide(request, CARA).state == "approved"


def test_an_agents_consent_under_anothers_name_is_refused(lab: GrantingLab) -> None:
    request = waiting(lab, label="bob")
    lab.policy = policy(*RULES, principals=also_in_finance(BOB, "robert"))
    assert "has the same name or key as one of its agents" in not_taken(
        lab, lab.verdict(request, called(BOB, "robert"))
    )
