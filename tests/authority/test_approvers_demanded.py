"""Approvals that a policy demands of what it gives, and demands that are carried on into grants."""

from collections.abc import Iterator
from typing import Any

import pytest

from capx.crypto.agent_key import AgentKey
from capx.crypto.ed25519 import Signer
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Principal
from capx.store.records import RequestRecord
from capx.tokens.approval_caveat import approval, read_approval_caveat
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.chain import ThirdParty
from capx.tokens.discharge import Discharge
from capx.tokens.grants import ApprovalRule
from capx.verify.ask import Approved, Granted
from capx_caveats import Call
from tests.labs.approving import fresh_key
from tests.labs.granting_lab import ANA, BOB, CARA, NOW, GrantingLab, people, policy, rule
from tests.labs.lab import appended, codes

ARGS = {"amount": 40}
BY_FINANCE = ApprovalRule(("finance",), 1, 900)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(
        rule("at_open", "billing.refund", approval=BY_FINANCE),
        rule("at_open", "billing.read"),
        rule("on_request", "crm.delete", approval=BY_FINANCE),
        rule("on_request", "crm.read"),
        rule("ask", "mail.send", approval=BY_FINANCE),
    )
    yield made
    made.authority.close()


def of(bundle: Bundle, audience: str, action: str) -> Capability:
    return next(one for one in reversed(list(bundle)) if one.audience == audience and action in str(one.caveats))


def named(capability: Capability) -> list[tuple[str, ...]]:
    found = [read_approval_caveat(cid) for cid in capability.demands]
    return [one.approvers for one in found if one is not None]


def told(lab: GrantingLab, bundle: Bundle, capability: Capability, action: str) -> tuple[str, ...]:
    sent = ToolCall(action, ARGS)
    text = bundle.present_capability(capability, sent, now=int(lab.clock.now)).text
    verifier = lab.authority.verifier(capability.audience)
    return codes(verifier.decide(text, sent, Call(action, ARGS, tenant="Acme")))


def approved(bundle: Bundle, action: str, key: PrincipalKey = BOB, **how: Any) -> Discharge:
    asked = bundle.approval_request(action, ARGS, now=NOW)
    return key.approve(asked, now=NOW, **how)


def test_what_the_policy_gives_at_open_demands_an_approval(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    refund, read = of(bundle, "billing", "billing.refund"), of(bundle, "billing", "billing.read")
    assert named(refund) == [(BOB.public, CARA.public)]
    assert isinstance(refund.blocks[1], ThirdParty)
    assert read.demands == ()
    assert told(lab, bundle, refund, "billing.refund") == ("needs_discharge",)
    fuller = bundle.holding(approved(bundle, "billing.refund"), now=NOW)
    assert told(lab, fuller, refund, "billing.refund") == ()
    assert told(lab, fuller, refund, "billing.refund") == ("budget_exhausted",)
    assert told(lab, bundle, read, "billing.read") == ()


def test_one_demand_serves_all_grants_of_its_rule() -> None:
    lab = GrantingLab(rule("at_open", "billing.refund", "erp.pay", approval=BY_FINANCE))
    bundle = lab.open().bundle
    assert len({cid for one in bundle for cid in one.demands}) == 1
    assert [len(one.demands) for one in bundle if one.audience != "authority"] == [1, 1]


def test_two_rules_with_other_approvers_are_two_capabilities() -> None:
    legal = ApprovalRule(("legal",), 1, 900)
    lab = GrantingLab(
        rule("at_open", "billing.refund", approval=BY_FINANCE), rule("at_open", "billing.sue", approval=legal)
    )
    bundle = lab.open().bundle
    assert named(of(bundle, "billing", "billing.sue")) == [(CARA.public,)]
    assert named(of(bundle, "billing", "billing.refund")) == [(BOB.public, CARA.public)]


def test_who_is_involved_cannot_approve() -> None:
    lab = GrantingLab(rule("at_open", "billing.refund", approval=BY_FINANCE))
    assert named(of(lab.open(agent="bob").bundle, "billing", "refund")) == [(CARA.public,)]
    lab.policy = policy(
        rule("at_open", "billing.refund", approval=BY_FINANCE),
        principals=people(anna=Principal(name="anna", key=people()["ana"].key, groups=("finance",))),
    )
    assert ANA.public not in named(of(lab.open().bundle, "billing", "refund"))[0]


def test_too_few_who_can_approve_open_nothing() -> None:
    both = ApprovalRule(("finance",), 2, 900)
    lab = GrantingLab(rule("at_open", "billing.refund", approval=both))
    assert lab.open().bundle
    with pytest.raises(InvalidRequest, match="needs the approval of 2, and the policy leaves 1 who can give it"):
        lab.open(agent="bob")
    lab.policy = policy(rule("at_open", "billing.refund", approval=both), principals=people(cara=None))
    with pytest.raises(InvalidRequest, match="leaves 1 who can give it"):
        lab.open()


def test_too_many_who_can_approve_open_nothing() -> None:
    crowd = {
        f"p{number}": Principal(name=f"p{number}", key=_public(fresh_key()), groups=("finance",))
        for number in range(15)
    }
    lab = GrantingLab(rule("at_open", "billing.refund", approval=BY_FINANCE))
    lab.policy = policy(rule("at_open", "billing.refund", approval=BY_FINANCE), principals=people(**crowd))
    with pytest.raises(InvalidRequest, match="17 people could approve, and a token names at most 16"):
        lab.open()


def _public(key: PrincipalKey) -> bytes:
    from capx.crypto.ed25519 import parse_public

    return parse_public(key.public)


def test_the_person_who_wanted_it_may_be_asked_to_confirm() -> None:
    confirm = ApprovalRule((), 1, 900, principal=True)
    lab = GrantingLab(rule("at_open", "billing.refund", approval=confirm))
    bundle = lab.open().bundle
    assert named(of(bundle, "billing", "refund")) == [(ANA.public,)]
    fuller = bundle.holding(approved(bundle, "billing.refund", ANA), now=NOW)
    assert told(lab, fuller, of(bundle, "billing", "refund"), "billing.refund") == ()


def test_two_names_of_one_key_are_one_person() -> None:
    rules = (rule("at_open", "billing.refund", approval=ApprovalRule(("finance",), 2, 900)),)
    twin = Principal(name="bobby", key=people()["bob"].key, groups=("finance",))
    lab = GrantingLab(*rules)
    lab.policy = policy(*rules, principals=people(cara=None, bobby=twin))
    with pytest.raises(InvalidRequest, match="leaves 1 who can give it"):
        lab.open()


def test_a_grant_at_run_time_demands_an_approval(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    granted = lab.granted(bundle, "crm.delete", ARGS)
    assert named(granted) == [(BOB.public, CARA.public)]
    fuller = bundle.holding(granted, now=NOW)
    assert told(lab, fuller, granted, "crm.delete") == ("needs_discharge",)
    with_approval = fuller.holding(approved(fuller, "crm.delete"), now=NOW)
    assert told(lab, with_approval, granted, "crm.delete") == ()
    assert lab.granted(bundle, "crm.read", ARGS).demands == ()


def test_the_same_ask_gets_the_same_bytes_again(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    first = lab.granted(bundle, "crm.delete", ARGS)
    assert lab.granted(bundle, "crm.delete", ARGS) == first
    (record,) = _records(lab)
    assert record.demand == first.demands[0].decode()
    assert record.approval is not None
    assert record.approval.by == (BOB.public, CARA.public)


def _records(lab: GrantingLab) -> list[RequestRecord]:
    return lab.authority.requests()


def test_other_approvers_make_another_grant(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    first = lab.granted(bundle, "crm.delete", ARGS)
    lab.policy = policy(rule("on_request", "crm.delete", approval=BY_FINANCE), principals=people(cara=None))
    second = lab.granted(bundle, "crm.delete", ARGS)
    assert named(second) == [(BOB.public,)]
    assert second != first
    lab.policy = policy(rule("on_request", "crm.delete"))
    assert lab.granted(bundle, "crm.delete", ARGS).demands == ()


def test_too_few_who_can_approve_grant_nothing(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    lab.policy = policy(
        rule("on_request", "crm.delete", approval=ApprovalRule(("finance",), 2, 900)), principals=people(cara=None)
    )
    assert lab.refused(bundle, "crm.delete", ARGS) == ("not_offered",)


def test_a_consent_and_an_approval_are_two_acts(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    request = lab.pending(bundle, "mail.send", ARGS).request
    said = "\n".join(lab.authority.inquiry(request).sentences())
    assert f"each call will need the approval of {BOB.public} or {CARA.public}" in said
    lab.decide(request)
    granted = lab.granted(bundle, "mail.send", ARGS)
    assert told(lab, bundle.holding(granted, now=NOW), granted, "mail.send") == ("needs_discharge",)


def test_a_consent_does_not_count_for_other_approvals(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    request = lab.pending(bundle, "mail.send", ARGS).request
    verdict = lab.verdict(request)
    lab.policy = policy(rule("ask", "mail.send"))
    with pytest.raises(InvalidRequest, match="the policy has changed since"):
        lab.authority.answer(verdict)


def test_a_demand_is_carried_on_into_a_grant(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    child = whole.delegate(to="a", may_ask=["crm.*"], approval=approval(by=[BOB.public]), now=NOW)
    (demand,) = {cid for one in child for cid in one.demands if read_approval_caveat(cid).approvers == (BOB.public,)}  # type: ignore[union-attr] # each is a demand
    granted = lab.granted(child, "crm.read", ARGS)
    assert demand in granted.demands
    fuller = child.holding(granted, now=NOW)
    assert told(lab, fuller, granted, "crm.read") == ("needs_discharge",)
    found = BOB.approve(fuller.approval_request("crm.read", ARGS, audience="crm", now=NOW), now=NOW, uses=None)
    assert told(lab, fuller.holding(found, now=NOW), granted, "crm.read") == ()
    assert lab.granted(child, "crm.read", ARGS) == granted


def test_one_approval_serves_the_token_and_its_grant(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    child = whole.delegate(to="a", may_ask=["billing.*"], approval=approval(by=[BOB.public]), now=NOW)
    lab.policy = policy(rule("on_request", "billing.read"))
    granted = lab.granted(child, "billing.read", ARGS)
    held = of(child, "billing", "billing.read")
    assert granted.demands == held.demands
    found = BOB.approve(child.approval_request("billing.read", ARGS, audience="billing", now=NOW), now=NOW, uses=None)
    fuller = child.holding(granted, now=NOW).holding(found, now=NOW)
    assert told(lab, fuller, granted, "billing.read") == told(lab, fuller, held, "billing.read") == ()


def test_a_grant_has_the_policys_demand_and_the_carried_one(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    child = whole.delegate(to="a", may_ask=["crm.*"], approval=approval(by=[ANA.public]), now=NOW)
    granted = lab.granted(child, "crm.delete", ARGS)
    assert named(granted) == [(BOB.public, CARA.public), (ANA.public,)]
    (record,) = _records(lab)
    assert record.carried == (granted.demands[1].decode(),)
    assert lab.granted(child, "crm.delete", ARGS) == granted


def test_asking_below_does_not_lose_the_demand(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    child = whole.delegate(to="a", may_ask=["crm.*"], approval=approval(by=[BOB.public]), now=NOW)
    below = child.delegate(to="b", may_ask=["crm.*"], now=NOW)
    assert len(lab.granted(below, "crm.read", ARGS).demands) == 1


def test_a_demand_twice_is_carried_once(lab: GrantingLab) -> None:
    demand = approval(by=[BOB.public]).drawn()
    whole = lab.open().bundle
    child = whole.delegate(to="a", may_ask=["crm.*"], approval=demand, now=NOW)
    below = child.delegate(to="b", may_ask=["crm.*"], approval=demand, now=NOW)
    assert lab.granted(below, "crm.read", ARGS).demands == (demand.cid,)


def test_what_is_no_demand_is_not_inherited(lab: GrantingLab) -> None:
    whole = lab.open().bundle
    own = next(one for one in whole if one.audience == "authority")
    opened = approval(by=[BOB.public]).drawn()
    for third in (ThirdParty(bytes(72), b"somebody else's"), ThirdParty(bytes(72), opened.cid)):
        strange = Bundle([appended(own, third)])
        if third.cid == opened.cid:
            assert lab.refused(strange, "crm.read", ARGS) == ("not_inherited",)
        else:
            # It is not understood at all, so nothing can be asked with it.
            with pytest.raises(Exception, match="no demand for an approval"):
                lab.ask(strange, "crm.read", ARGS)


def test_an_approval_of_a_grant_can_be_asked_online(lab: GrantingLab) -> None:
    bundle = lab.open().bundle
    granted = lab.granted(bundle, "crm.delete", ARGS)
    fuller = bundle.holding(granted, now=NOW)
    cid = granted.demands[0].decode()
    answer = lab.authority.ask(fuller, "crm.delete", args=ARGS, demand=cid)
    found = lab.authority.inquiry(answer.request)  # type: ignore[union-attr] # it waits
    assert found.request.approvers == ("bob", "cara")
    from capx.tokens.approval_request import ApprovalRequest

    document = ApprovalRequest.parse(found.request.to_approve or "")
    lab.authority.approve(found.request.id, CARA.approve(document, now=NOW))
    again = lab.authority.ask(fuller, "crm.delete", args=ARGS, demand=cid)
    assert isinstance(again, Approved)
    assert told(lab, fuller.holding(again.discharge, now=NOW), granted, "crm.delete") == ()
    assert isinstance(lab.ask(bundle, "crm.delete", ARGS), Granted)


def test_no_ask_goes_round_a_key_that_acts_and_approves(lab: GrantingLab) -> None:
    # A grant names its last holder alone: a verifier would not see the key above it.
    seed = Signer(bytes(range(32)))
    lea, acting, below = PrincipalKey("lea", seed), AgentKey("acting", seed), AgentKey.generate("below")
    first = AgentKey.generate("first")
    root = lab.open(agent_key=first.public).bundle.with_key(first)
    terms = approval(by=[lea.public])
    agent = root.delegate(to="acting", to_key=acting, may_ask=["crm.*"], approval=terms, now=NOW)
    child = agent.delegate(to="below", to_key=below, may_ask=["crm.*"], now=NOW)
    for bundle in (agent, child):
        assert lab.refused(bundle, "crm.read", ARGS) == ("not_inherited",)
