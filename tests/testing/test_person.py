"""People in tests: they are in a policy, sign intents, and answer what waits for them."""

import time

import pytest

import capx
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import read_policy
from capx.testing import Clock, Person
from capx.tokens.approval_caveat import approval
from capx.verify.ask import Granted, Pending, Refused
from capx_caveats import JSON

ANA, BEN, CLEO = Person("ana@our.example"), Person("ben"), Person("Cléo 🦀")
POLICY = f"""
{ANA.in_policy(purposes=["refund"], tenants=["Acme"])}
{BEN.in_policy(groups=["finance"])}
{CLEO.in_policy(groups=["finance", "legal"])}
[purpose.refund]
require = ["ticket"]

[[purpose.refund.grant]]
how = "at_open"
allow = ["crm.read"]

[[purpose.refund.grant]]
how = "ask"
approvers = ["finance"]
within = "30m"
allow."billing.refund" = {{ ticket = "{{intent.ticket}}", amount = {{ range = [1, 500] }} }}

[[purpose.refund.grant]]
how = "ask"
approvers = ["legal"]
allow = ["mail.send"]
"""
REFUND: dict[str, JSON] = {"ticket": "T-1", "amount": 40}

pytestmark = pytest.mark.capx_policy(POLICY)


@pytest.fixture
def agent(capx_authority: Authority) -> Agent:
    task = capx_authority.open(ANA.at(capx_authority).wants("refund", "Acme", ticket="T-1"))
    return Agent(task.bundle, authority=capx_authority, wait=0)


def test_a_person_is_in_a_policy_with_their_key() -> None:
    known = read_policy(POLICY).principals
    assert {name: (one.tenants, one.purposes, one.groups) for name, one in known.items()} == {
        "ana@our.example": (("Acme",), ("refund",), ()),
        "ben": ((), (), ("finance",)),
        "Cléo 🦀": ((), (), ("finance", "legal")),
    }
    assert BEN.in_policy(groups=["finance"]) == f'[principal."ben"]\nkey = "{BEN.key.public}"\ngroups = ["finance"]\n'


def test_a_person_wants_what_they_sign(capx_authority: Authority) -> None:
    signed = ANA.at(capx_authority).wants("refund", "Acme", statement="Refund T-1.", ticket="T-1")
    assert (signed.intent.statement, dict(signed.intent.parameters)) == ("Refund T-1.", {"ticket": "T-1"})
    task = capx_authority.task(capx_authority.open(signed).id)
    assert (task.purpose, task.tenant, task.intent) == ("refund", "Acme", signed.intent.digest)


def test_a_person_wants_an_agent_with_a_key(capx_authority: Authority) -> None:
    key = capx.AgentKey.generate("refunds")
    signed = ANA.at(capx_authority).wants("refund", "Acme", agent_key=key.public, ticket="T-1")
    assert capx_authority.open(signed).bundle.holder == key.public


def test_a_person_approves_all_that_waits_for_them(capx_authority: Authority, agent: Agent) -> None:
    ben = BEN.at(capx_authority)
    assert ben.approves() == ()
    for amount in (40, 50):
        assert isinstance(agent.ask("billing.refund", args=REFUND | {"amount": amount}), Pending)
    assert [one.state for one in ben.approves()] == ["approved", "approved"]
    assert isinstance(agent.ask("billing.refund", args=REFUND), Granted)
    assert ben.waiting() == ()


def test_a_person_denies_all_that_waits_for_them(capx_authority: Authority, agent: Agent) -> None:
    agent.ask("billing.refund", args=REFUND)
    (request,) = BEN.at(capx_authority).denies()
    assert (request.state, request.approver) == ("denied", "ben")
    assert isinstance(agent.ask("billing.refund", args=REFUND), Refused)


def test_a_person_answers_nothing_that_waits_for_others(capx_authority: Authority, agent: Agent) -> None:
    agent.ask("mail.send", args={"to": "kim"})
    assert BEN.at(capx_authority).denies() == ()
    assert [one.action for one in CLEO.at(capx_authority).waiting()] == ["mail.send"]


def test_people_approve_a_call_that_a_token_demands(capx_authority: Authority, agent: Agent) -> None:
    both = approval(by=[BEN.key.public, CLEO.key.public], count=2)
    child = Agent(agent.bundle.delegate(to="clerk", approval=both), authority=capx_authority, wait=0)
    read = capx_authority.tool("crm.read", tenant="Acme")(lambda: "read")
    with capx.acting(child), pytest.raises(Pending):
        read()
    ben, cleo = BEN.at(capx_authority), CLEO.at(capx_authority)
    assert [one.state for one in ben.approves()] == ["pending"]
    # Ben has signed, so it waits for Cléo only.
    assert (ben.waiting(), len(cleo.waiting())) == ((), 1)
    assert [one.state for one in cleo.approves()] == ["granted"]
    with capx.acting(child):
        assert read() == "read"


def test_a_person_denies_a_call_that_a_token_demands(capx_authority: Authority, agent: Agent) -> None:
    demanding = agent.bundle.delegate(to="clerk", approval=approval(by=[BEN.key.public]))
    child = Agent(demanding, authority=capx_authority, wait=0)
    read = capx_authority.tool("crm.read", tenant="Acme")(lambda: "read")
    with capx.acting(child), pytest.raises(Pending):
        read()
    assert [one.state for one in BEN.at(capx_authority).denies()] == ["denied"]
    with capx.acting(child), pytest.raises(capx.Denied, match="denied"):
        read()


def test_an_answer_that_does_not_count_is_refused(capx_authority: Authority, agent: Agent) -> None:
    agent.ask("billing.refund", args=REFUND)
    stranger = Person("ben", authority=capx_authority)
    with pytest.raises(InvalidRequest, match="does not fit what request"):
        stranger.approves()


def test_a_person_goes_by_the_clock(capx_clock: Clock, capx_authority: Authority) -> None:
    capx_clock.move(30 * 86_400)
    ana = ANA.at(capx_authority)
    signed = ana.wants("refund", "Acme", ticket="T-1")
    assert signed.intent.issued == capx_clock.now > time.time() + 86_400
    agent = Agent(capx_authority.open(signed).bundle, authority=capx_authority, wait=0)
    agent.ask("billing.refund", args=REFUND)
    (answered,) = BEN.at(capx_authority).approves()
    assert answered.signed == capx_clock.now


def test_a_key_belongs_to_one_name() -> None:
    key = PrincipalKey.generate("ana")
    assert Person("ana", key).key is key
    with pytest.raises(InvalidRequest, match="the key of ana, and not of ben"):
        Person("ben", key)


def test_a_person_at_no_authority_says_so() -> None:
    with pytest.raises(InvalidRequest, match="ben is at no authority: call `at` with one first"):
        BEN.waiting()
    assert repr(BEN) == "Person('ben')"
