"""Whom a policy knows, and what each may ask for."""

import msgspec
import pytest
from msgspec import structs

from capx.errors import InvalidRequest
from capx.intents.intent import parse_intent
from capx.policy.file import read_policy
from capx.policy.policy import NO_POLICY
from tests.labs.policies import KIM, POLICY, changed, granting, intent

OURS = read_policy(POLICY)


def refusal(*given: object, **said: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        OURS.terms(intent(*given, **said))  # type: ignore[arg-type] # of any kind
    return str(caught.value)


def test_a_purpose_without_a_tenant_gives_for_none() -> None:
    assert OURS.terms(intent("nightly", "robot", tenant=None)).tenant is None


def test_a_stranger_hears_of_nobody() -> None:
    said = refusal("qbr", "mallory@our.example")
    assert said == 'the policy has no principal "mallory@our.example": add them to it'


@pytest.mark.parametrize("purpose", ["refund", "no_such"])
def test_a_purpose_of_others_is_as_if_it_was_not_there(purpose: str) -> None:
    said = refusal(purpose, "robot")
    assert said == f'"robot" may not ask for the purpose "{purpose}": the policy lets them ask only for "nightly"'


def test_a_principal_without_purposes_may_ask_for_nothing() -> None:
    assert (
        refusal("qbr", "kim@our.example")
        == '"kim@our.example" may not ask for the purpose "qbr": the policy lets them ask for none'
    )


@pytest.mark.parametrize("tenant", ["Globex", "acme", "Acme ", "*", "{intent.tenant}"])
def test_a_principal_asks_for_no_tenant_of_others(tenant: str) -> None:
    said = refusal("qbr", tenant=tenant)
    assert said == f'"ana@our.example" may not ask for the tenant "{tenant}": the policy lets them ask only for "Acme"'


def test_what_a_purpose_takes_is_said_and_nothing_else() -> None:
    assert refusal("qbr", tenant=None) == 'qbr needs "tenant", which the intent does not have'
    assert refusal("refund") == 'refund needs "ticket", which the intent does not have'
    assert refusal("refund", tenant=None) == 'refund needs "tenant", "ticket", which the intent does not have'
    assert refusal("nightly", "robot") == 'nightly has no tenant: remove "Acme" from the intent'
    tickets = 'the intent has "tickets", which refund does not use: did you mean ticket?'
    assert refusal("refund", parameters={"ticket": "T-1", "tickets": 1}) == tickets
    zone = 'the intent has "zone", which refund does not use: it uses "ticket"'
    assert refusal("refund", parameters={"ticket": "T-1", "zone": 1}) == zone
    quarter = 'the intent has "quarter", which qbr does not use: it uses no parameters'
    assert refusal("qbr", parameters={"quarter": "Q3"}) == quarter


def test_what_was_mistyped_is_told_with_what_is_missing_for_it() -> None:
    missing = 'refund needs "ticket", which the intent does not have'
    tickets = 'the intent has "tickets", which refund does not use: did you mean ticket?'
    zone = 'the intent has "zone", which refund does not use: it uses "ticket"'
    assert refusal("refund", parameters={"tickets": "T-1", "zone": 1}) == f"{missing}; {tickets}; {zone}"


def test_a_parameter_that_a_rule_names_is_taken_unrequired() -> None:
    policy = read_policy(granting('allow."a.b" = { x = "{intent.deck}" }'))
    assert len(policy.terms(intent("work", "ana", parameters={"deck": "d"})).rules) == 1
    with pytest.raises(InvalidRequest, match='work needs "deck"'):
        policy.terms(intent("work", "ana"))


def test_an_agent_may_be_required() -> None:
    policy = read_policy(granting('allow = ["a.b"]', 'require = ["agent"]'))
    assert policy.purposes["work"].names == frozenset()
    assert len(policy.terms(intent("work", "ana", agent="robot")).rules) == 1
    with pytest.raises(InvalidRequest, match='work needs "agent"'):
        policy.terms(intent("work", "ana"))


def test_the_key_of_an_agent_may_be_required() -> None:
    policy = read_policy(granting('allow = ["a.b"]', 'require = ["agent_key"]'))
    assert policy.purposes["work"].names == frozenset()
    assert len(policy.terms(intent("work", "ana", agent_key=KIM)).rules) == 1
    signed = "the principal must name the agent's key in it and sign that: capx intent new --agent-key"
    with pytest.raises(InvalidRequest, match=f'work needs "agent_key", which the intent does not have; {signed}'):
        policy.terms(intent("work", "ana"))


def test_no_policy_takes_no_intent_and_says_what_to_write() -> None:
    for policy in (NO_POLICY, read_policy("")):
        with pytest.raises(InvalidRequest, match=r"policy\.toml in its home"):
            policy.terms(intent())


def test_a_group_is_who_is_in_it_and_a_principal_is_one() -> None:
    policy = read_policy(
        changed("[principal.robot]", f'[principal.lee]\nkey = "{KIM}"\ngroups = ["finance"]\n[principal.robot]')
    )
    assert policy.members("finance") == ("kim@our.example", "lee")
    assert policy.members("lee") == ("lee",)
    assert policy.members("nobody") == ()


def test_the_terms_of_one_intent_are_made_once() -> None:
    one = intent("nightly", "robot", tenant=None)
    again = parse_intent(msgspec.json.encode(one.document()))
    policy = structs.replace(OURS)
    assert again is not one
    assert policy.terms(one) is policy.terms(again)
    # Of the last ones only: a policy stays for as long as its file.
    first = policy.terms(one)
    for number in range(300):
        policy.terms(structs.replace(one, statement=f"Night {number}"))
    assert policy.terms(one) is not first
    assert policy.terms(one) == first
