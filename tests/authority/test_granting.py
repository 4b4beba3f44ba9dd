"""What becomes of asks at run time, and what a sub-agent that asks cleverly gains by it: nothing."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.authority import Authority
from capx.authority.requests.granting import OF_NODE, WAITING_OF_NODE, WAITING_OF_TASK
from capx.authority.requests.inheritance import read_asker
from capx.crypto.base64url import b64u
from capx.crypto.keys import RootKey
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.policy.policy import NO_POLICY, Policy
from capx.store.events import AskRefused, CapabilityMinted, RequestMade
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.chain import ThirdParty
from capx.verify.ask import Ask, Granted, Refused
from capx.verify.decision import Denied
from capx_caveats import (
    DEFAULT,
    Allow,
    Budget,
    Call,
    Entry,
    Expires,
    Fields,
    MaxHops,
    NotBefore,
    Tenant,
    UntilCompleted,
    Where,
    action,
    between,
    budget,
    expires,
    fresh,
    max_hops,
    not_before,
    one_of,
    until_completed,
    where,
)
from tests.labs.granting_lab import ANA, GrantingLab, offer, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.lab import codes as codes_of
from tests.labs.strategies import spelled
from tests.models.test_grants_model import OWN

READ, QUERY = "crm.read", "warehouse.query"
REFUND = action("billing.refund", amount=between(0, 50))
RULES = (
    rule("at_open", READ),
    rule("on_request", "warehouse.*"),
    rule("on_request", REFUND, budgets=[budget("refunds", 2)]),
    rule("ask", action("billing.refund", amount=between(50, 500)), budgets=[budget("refunds", 2)]),
    rule("ask", "mail.send"),
)


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


def own(bundle: Bundle) -> Bundle:
    """What a bundle holds for the authority itself."""
    return Bundle(one for one in bundle if one.audience == "authority")


def denied(lab: GrantingLab, bundle: Bundle, what: str, args: Any = None, audience: str | None = None) -> list[str]:
    """Why an ask is not even allowed as a call; nothing but the decision is recorded then."""
    before = lab.kinds()
    with pytest.raises(Denied) as caught:
        lab.ask(bundle, what, args, audience)
    assert lab.kinds() == before
    assert lab.authority.requests() == []
    return [refusal.code for refusal in caught.value.refusals]


def denied_anyhow(lab: GrantingLab, bundle: Bundle, what: str) -> list[str]:
    """Why an ask is not allowed as a call."""
    with pytest.raises(Denied) as caught:
        lab.ask(bundle, what)
    return [refusal.code for refusal in caught.value.refusals]


# What is given, and how.


def test_what_is_granted_covers_what_was_asked_within_what_the_policy_offers(lab: GrantingLab) -> None:
    opened = lab.open()
    granted = lab.granted(opened.bundle, QUERY)
    assert granted.audience == "warehouse"
    assert granted.caveats[0][-3:] == (Allow((Entry("warehouse.*"),)), Allow((Entry(QUERY),)), Expires(opened.expires))
    assert lab.codes(granted, QUERY, {"any": "thing"}) == ()
    assert lab.codes(granted, "warehouse.drop") == ("action_not_allowed",)
    assert lab.codes(granted, QUERY, tenant="Globex") == ("wrong_tenant",)
    held = opened.bundle.holding(granted)
    assert held.audiences == ("crm", "authority", "warehouse")


def test_pinned_arguments_are_granted_alone(lab: GrantingLab) -> None:
    granted = lab.granted(lab.open().bundle, QUERY, {"table": "sales", "rows": 10})
    assert lab.codes(granted, QUERY, {"table": "sales", "rows": 10.0}) == ()
    assert lab.codes(granted, QUERY, {"table": "sales"}) == ("argument_refused",)
    assert lab.codes(granted, QUERY, {"table": "sales", "rows": 10, "also": 1}) == ("argument_not_named",)
    none = lab.granted(lab.open().bundle, QUERY, {})
    assert lab.codes(none, QUERY) == ()
    assert lab.codes(none, QUERY, {"table": "sales"}) == ("argument_not_named",)


def test_an_ask_without_arguments_is_for_those_that_the_policy_lets_pass(lab: GrantingLab) -> None:
    granted = lab.granted(lab.open().bundle, "billing.refund")
    assert lab.codes(granted, "billing.refund", {"amount": 50}, cost={"refunds": "1"}) == ()
    assert lab.codes(granted, "billing.refund", {"amount": 51}, cost={"refunds": "1"}) == ("argument_refused",)


def test_the_first_rule_that_says_yes_to_the_arguments_decides(lab: GrantingLab) -> None:
    opened = lab.open()
    assert isinstance(lab.ask(opened.bundle, "billing.refund", {"amount": 50}), Granted)
    assert lab.pending(opened.bundle, "billing.refund", {"amount": 51}).approvers == ("finance",)
    assert lab.refused(opened.bundle, "billing.refund", {"amount": 501}) == ("not_offered",)


def test_what_is_given_at_open_is_given_to_whoever_may_ask_for_it(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="reader", may_ask=[READ])
    assert lab.codes(lab.granted(child, READ), READ) == ()


def test_what_is_offered_elsewhere_is_asked_for_there(lab: GrantingLab) -> None:
    lab.policy = policy(rule("on_request", offer(QUERY, "archive")))
    opened = lab.open()
    assert lab.refused(opened.bundle, QUERY) == ("not_offered",)
    assert lab.granted(opened.bundle, QUERY, audience="archive").audience == "archive"


def test_what_no_rule_lists_is_never_given(lab: GrantingLab) -> None:
    assert lab.refused(lab.open().bundle, "crm.export") == ("not_offered",)
    assert lab.kinds()[-1] == "ask_refused"


def test_a_task_that_was_opened_by_hand_is_granted_nothing(lab: GrantingLab) -> None:
    assert lab.refused(lab.authority.open(allow=[READ]).bundle, QUERY) == ("no_intent",)


def test_without_a_policy_nothing_is_granted_any_more(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.policy = NO_POLICY
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


def test_a_policy_that_cannot_be_read_answers_nothing(lab: GrantingLab) -> None:
    opened = lab.open()

    def broken() -> Policy:
        raise ConfigurationProblem("it cannot be read")

    beside = Authority(lab.authority.store, lab.authority.keyring, policy=broken, clock=lab.clock)
    with pytest.raises(ConfigurationProblem):
        beside.ask(opened.bundle, QUERY)


@pytest.mark.parametrize("lost", [None, {"purposes": ()}, {"tenants": ("Globex",)}], ids=str)
def test_who_may_ask_for_the_purpose_no_longer_is_granted_nothing_more(lab: GrantingLab, lost: Any) -> None:
    opened = lab.open()
    ana = None if lost is None else replace(people()["ana"], **lost)
    lab.policy = policy(*RULES, principals=people(ana=ana))
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


def test_a_purpose_that_came_to_be_for_one_tenant_gives_nothing_to_a_task_without(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, tenant=False)
    opened = lab.open(tenant=None)
    assert isinstance(lab.ask(opened.bundle, QUERY), Granted)
    lab.policy = policy(*RULES, tenant=True)
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


# One request, one answer.


def test_the_same_ask_is_answered_with_the_same_bytes_whoever_grants_them(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.granted(opened.bundle, QUERY)
    lab.clock.now += 60
    assert lab.granted(opened.bundle, QUERY).text == first.text
    assert lab.kinds().count("capability_minted") == 3
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    assert lab.granted(opened.bundle, QUERY).text == first.text


def test_what_was_minted_under_a_key_that_is_gone_is_minted_anew(lab: GrantingLab) -> None:
    opened, asked_with = lab.open(), lab.authority.keyring.active
    fresh_key = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
    first = lab.granted(opened.bundle, QUERY)
    lab.authority.revoke(kid=fresh_key.kid)
    lab.authority.rekey(lab.authority.keyring.activated(asked_with.kid))
    again = lab.granted(opened.bundle, QUERY)
    assert (first.kid, again.kid) == (fresh_key.kid, asked_with.kid)
    assert lab.codes(first, QUERY) == ("revoked",)
    assert lab.codes(again, QUERY) == ()


@pytest.mark.parametrize("which", [0, 1])
def test_what_was_granted_and_revoked_is_not_granted_again(lab: GrantingLab, which: int) -> None:
    opened = lab.open()
    lab.authority.revoke(lab.granted(opened.bundle, QUERY).ids[which])
    assert lab.refused(opened.bundle, QUERY) == ("grant_revoked",)
    assert lab.refused(opened.bundle.attenuate(fresh(20)), QUERY) == ("grant_revoked",)
    lab.policy = policy(rule("on_request", action(QUERY, table="sales")))
    assert lab.refused(opened.bundle, QUERY) == ("grant_revoked",)


def test_a_no_and_a_revocation_hold_for_the_node_whatever_token_of_it_asks(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.decide(lab.pending(opened.bundle, "mail.send").request, yes=False)
    lab.authority.revoke(lab.granted(opened.bundle, QUERY).id)
    again = opened.bundle.attenuate(fresh(20))
    lab.policy = policy(rule("on_request", action("mail.send", to="ann"), action(QUERY, table="sales")))
    assert lab.refused(again, "mail.send") == ("request_denied",)
    assert lab.refused(again, QUERY) == ("grant_revoked",)
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY, "mail.send"])
    assert lab.refused(child, QUERY) == ("grant_revoked",)
    assert isinstance(lab.ask(child, "mail.send"), Granted)


def test_an_ask_is_decided_anew_where_the_policy_would_grant_something_else(lab: GrantingLab) -> None:
    opened = lab.open()
    wide = lab.granted(opened.bundle, QUERY)
    lab.policy = policy(rule("on_request", action(QUERY, table="sales")))
    narrow = lab.granted(opened.bundle, QUERY)
    assert lab.codes(narrow, QUERY, {"table": "staff"}) == ("argument_refused",)
    assert lab.codes(wide, QUERY, {"table": "staff"}) == ()
    lab.policy = policy(rule("on_request", READ))
    assert lab.refused(opened.bundle, QUERY) == ("not_offered",)


def test_a_consent_is_fetched_by_asking_again_and_what_was_denied_stays_so(lab: GrantingLab) -> None:
    opened = lab.open()
    for yes in (True, False):
        args = {"to": "ann" if yes else "ben"}
        pending = lab.pending(opened.bundle, "mail.send", args)
        assert lab.pending(opened.bundle, "mail.send", args).request == pending.request
        assert lab.decide(pending.request, yes=yes).state == ("approved" if yes else "denied")
        if yes:
            granted = lab.granted(opened.bundle, "mail.send", args)
            assert lab.codes(granted, "mail.send", args) == ()
            assert lab.granted(opened.bundle, "mail.send", args).text == granted.text
        else:
            assert lab.refused(opened.bundle, "mail.send", args) == ("request_denied",)
    assert [one.state for one in lab.authority.requests()] == ["granted", "denied"]
    assert lab.authority.requests(pending=True) == []


def test_what_nobody_answers_expires_and_waits_anew_when_it_is_asked_again(lab: GrantingLab) -> None:
    opened = lab.open()
    first = lab.pending(opened.bundle, "mail.send")
    assert first.until == NOW + 1800
    lab.clock.now += 1800
    assert [one.state for one in lab.authority.requests()] == ["expired"]
    assert lab.authority.requests(pending=True) == []
    again = lab.pending(opened.bundle, "mail.send")
    assert (again.request, again.until) == (first.request, NOW + 3600)
    assert lab.kinds()[-3:] == ["request_made", "request_expired", "request_made"]


def test_requests_end_when_time_is_up_or_their_task_has_ended(lab: GrantingLab) -> None:
    one, other = lab.open(), lab.open()
    lab.pending(one.bundle, "mail.send")
    lab.pending(other.bundle, "mail.send")
    lab.authority.complete(one.id)
    lab.authority.end_overdue()
    assert [request.state for request in lab.authority.requests()] == ["expired", "pending"]
    lab.clock.now += 1800
    lab.authority.end_overdue()
    assert lab.kinds().count("request_expired") == 2


def test_no_request_waits_longer_than_its_asker_lives(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["mail.send"], caveats=[expires(NOW + 60)])
    assert lab.pending(child, "mail.send").until == NOW + 60


@pytest.mark.parametrize("when", ["pending", "approved"])
def test_a_policy_that_was_narrowed_meanwhile_grants_what_it_says_now(lab: GrantingLab, when: str) -> None:
    opened = lab.open()
    pending = lab.pending(opened.bundle, "mail.send")
    if when == "approved":
        lab.decide(pending.request)
    lab.policy = policy(rule("ask", action("mail.send", to="ann")))
    again = lab.pending(opened.bundle, "mail.send")
    assert again.request == pending.request
    assert lab.authority.request(again.request).approver is None
    lab.decide(again.request)
    assert lab.codes(lab.granted(opened.bundle, "mail.send"), "mail.send", {"to": "ben"}) == ("argument_refused",)


def test_what_is_given_without_a_person_by_now_is_given_to_those_who_wait(lab: GrantingLab) -> None:
    opened = lab.open()
    lab.pending(opened.bundle, "mail.send")
    lab.policy = policy(rule("on_request", "mail.send"))
    assert isinstance(lab.ask(opened.bundle, "mail.send"), Granted)
    assert lab.authority.requests(pending=True) == []


# What stands in the log.


def test_the_log_says_who_was_granted_what_on_whose_strength_and_no_arguments(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["billing.refund", "mail.send"])
    granted = lab.granted(child, "billing.refund", {"amount": 7})
    pending = lab.pending(child, "mail.send", {"to": "a secret friend"})
    lab.ask(child, "mail.send", {"to": [[]]})
    events = {event.kind: event for event in lab.authority.log(since=3)}
    minted = events["capability_minted"].read(CapabilityMinted)
    assert minted.allow == ("billing.refund where amount is between 0 and 50, for the arguments of the request alone",)
    assert (minted.ids, minted.asker) == (tuple(map(b64u, granted.ids)), tuple(map(b64u, next(iter(child)).ids)))
    assert (minted.path, minted.hops) == (tuple(map(b64u, child.path)), ("sub",))
    assert (minted.policy, [limit.unit for limit in minted.budgets]) == (lab.policy.digest, ["refunds"])
    made = events["request_made"].read(RequestMade)
    assert (made.request, made.task, made.approvers, made.pinned) == (pending.request, opened.id, ("finance",), True)
    assert events["ask_refused"].read(AskRefused).reasons == ("not_pinned",)
    told = b"".join(event.body for event in lab.authority.log())
    assert b"secret friend" not in told
    assert b'"amount":7' not in told


def test_what_was_granted_stands_in_the_graph_where_its_asker_does(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY])
    granted = lab.granted(child, QUERY)
    node = next(node for node in lab.authority.graph(opened.id).nodes() if node.label == "sub")
    assert node.id == b64u(child.path[-1])
    held = next(one for one in node.capabilities if one.audience == "warehouse")
    assert (held.id, held.asker) == (b64u(granted.id), tuple(map(b64u, next(iter(child)).ids)))
    lab.authority.check()


# What a sub-agent tries.


def test_a_sub_agent_asks_for_no_more_than_its_delegator_allowed_it_to_ask(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["warehouse.*"])
    below = child.delegate(to="below", may_ask=["warehouse.*", "billing.refund", "mail.send"])
    for bundle in (child, below):
        assert denied(lab, bundle, "billing.refund") != []
        assert denied(lab, bundle, "mail.send") != []
        assert denied(lab, bundle, QUERY, audience="billing") != []
    assert isinstance(lab.ask(below, QUERY), Granted)


def test_who_was_not_allowed_to_ask_does_not_ask(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", allow=["task.status"])
    assert denied(lab, child, QUERY) == ["action_not_allowed"]


def test_free_arguments_are_not_asked_for_where_they_were_pinned(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[action("billing.refund", amount=between(0, 10))])
    assert denied(lab, child, "billing.refund") == ["argument_refused"]
    for args in ({}, {"amount": 11}, {"amount": 5, "note": "x"}, {"amount": [5]}, {"amount": {"x": 5}}):
        assert denied(lab, child, "billing.refund", args) == ["argument_refused"], args
    granted = lab.granted(child, "billing.refund", {"amount": 10})
    assert lab.codes(granted, "billing.refund", {"amount": 11}, cost={"refunds": "1"}) == ("argument_refused",)


@pytest.mark.parametrize("args", [{"x": [[1]]}, {"x": {"y": 1}}, {"x": []}, {"x": ""}, {"*": 1}, {"x\n": 1}, {"": 1}])
def test_arguments_that_no_grant_can_hold_a_call_to_are_refused(lab: GrantingLab, args: Any) -> None:
    assert lab.refused(lab.open().bundle, QUERY, args) == ("not_pinned",)


def test_arguments_too_long_for_a_block_are_refused(lab: GrantingLab) -> None:
    opened = lab.open()
    assert lab.refused(opened.bundle, QUERY, {"x": "y" * 5_000}) == ("not_pinned",)
    assert lab.refused(opened.bundle, QUERY, {"x": "y" * 3_900}) == ("not_inherited",)
    assert lab.refused(opened.bundle, QUERY, {f"x{n}": n for n in range(200)}) == ("not_inherited",)


@pytest.mark.parametrize("pattern", ["warehouse.*", "*", "warehouse"])
def test_patterns_are_not_asked_for(lab: GrantingLab, pattern: str) -> None:
    opened = lab.open()
    if pattern == "warehouse":
        assert lab.refused(opened.bundle, pattern) == ("not_offered",)
        return
    with pytest.raises(InvalidRequest, match="is no action"):
        lab.ask(opened.bundle, pattern, audience="warehouse")
    assert lab.authority.requests() == []


def test_nothing_is_asked_for_at_the_authority_itself(lab: GrantingLab) -> None:
    lab.policy = policy(rule("on_request", "grant.request", "node.revoke"))
    opened = lab.open()
    with pytest.raises(InvalidRequest, match="reserved"):
        lab.ask(opened.bundle, "grant.request", audience="authority")


def test_many_grants_have_one_budget_between_them(lab: GrantingLab) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=["billing.refund"])
    askers = [opened.bundle, child, child.attenuate(fresh(20)), child.delegate(to="x", may_ask=["billing.refund"])]
    grants = [lab.granted(asker, "billing.refund", {"amount": n}) for asker in askers for n in (1, 2)]
    outcomes = [
        lab.codes(one, "billing.refund", {"amount": 1 + nth % 2}, cost={"refunds": "1"})
        for nth, one in enumerate(grants)
    ]
    assert outcomes == [(), (), *[("budget_exhausted",)] * 6]


def test_grants_at_many_audiences_count_against_what_their_asker_may_spend(lab: GrantingLab) -> None:
    lab.policy = policy(rule("on_request", READ, QUERY, "mail.send"))
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[READ, QUERY, "mail.send"], caveats=[budget("calls", 2)])
    grants = [(lab.granted(child, what), what) for what in (READ, QUERY, "mail.send")]
    assert [lab.codes(*grant) for grant in grants] == [(), (), ("budget_exhausted",)]


def test_a_budget_of_the_task_is_shared_by_what_is_granted_later(lab: GrantingLab) -> None:
    opened = lab.authority.open(ANA.sign_intent(lab.intent()), caveats=[budget("calls", 2)])
    assert lab.codes(next(iter(opened.bundle)), READ) == ()
    granted = lab.granted(opened.bundle, QUERY)
    assert [lab.codes(granted, QUERY) for _ in range(2)] == [(), ("budget_exhausted",)]


def test_what_could_never_be_used_is_not_granted(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[QUERY], caveats=[where("args.id", one_of(1))])
    assert lab.refused(child, QUERY, {"id": 2}) == ("not_inherited",)
    assert lab.refused(child, QUERY, {}) == ("not_inherited",)
    assert lab.codes(lab.granted(child, QUERY, {"id": 1}), QUERY, {"id": 1}) == ()


def test_a_wider_ask_of_the_node_is_not_repeated_by_who_shares_it(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["billing.refund"])
    assert isinstance(lab.ask(child, "billing.refund"), Granted)
    shared = Bundle([appended(next(iter(child)), spelled([["allow", [["task.status", []]]]]))])
    assert shared.node == child.node
    with pytest.raises(Denied):
        lab.ask(shared, "billing.refund")
    narrower = child.attenuate(where("args.amount", one_of(1)))
    assert lab.codes(lab.granted(narrower, "billing.refund"), "billing.refund", {"amount": 2}) != ()


@pytest.mark.parametrize(
    ("caveat", "kept"),
    [
        (where("region", "eu"), Where),
        (budget("calls", 5), Budget),
        (not_before(NOW), NotBefore),
        (max_hops(1), MaxHops),
        (until_completed("T2"), UntilCompleted),
        (expires(NOW + 9), Expires),
    ],
)
def test_nobody_loses_a_restriction_by_asking(lab: GrantingLab, caveat: Any, kept: Any) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[QUERY], caveats=[caveat])
    stands = [one for one in lab.granted(child, QUERY).caveats[0] if isinstance(one, kept)]
    if kept is Budget:
        assert stands == [Budget("calls", "5", b64u(child.path[-1]))]
    else:
        assert caveat in stands


def test_nobody_loses_a_services_own_caveat_by_asking(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[QUERY])
    bound = Bundle([appended(next(iter(child)), spelled([["acme.region", "eu"]]))])
    granted = lab.granted(bound, QUERY)
    assert lab.codes(granted, QUERY, attributes={"region": "eu"}) == ("not_understood",)
    assert lab.codes(granted, QUERY, vocabulary=OWN, attributes={"region": "eu"}) == ()
    assert lab.codes(granted, QUERY, vocabulary=OWN, attributes={"region": "us"}) == ("wrong_region",)


def test_nobody_loses_the_tenant_by_asking(lab: GrantingLab) -> None:
    opened = lab.open()
    assert Tenant("Acme") in lab.granted(opened.bundle, QUERY).caveats[0]
    other = Bundle([appended(next(iter(own(opened.bundle))), spelled([["tenant", "Globex"]]))])
    assert denied_anyhow(lab, other, QUERY) == ["wrong_tenant"]


def test_nobody_gains_hops_by_asking(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).attenuate(max_hops(2)).delegate(to="sub", may_ask=[QUERY])
    granted = lab.granted(child, QUERY)
    assert lab.codes(granted.delegate(to="a"), QUERY) == ()
    assert lab.codes(granted.delegate(to="a").delegate(to="b"), QUERY) == ("too_many_hops",)


def test_what_a_grant_cannot_hold_is_not_granted(lab: GrantingLab) -> None:
    chain = own(lab.open().bundle)
    for depth in range(40):
        chain = chain.delegate(to=f"agent-{depth}-" + "x" * 90, may_ask=[QUERY])
    assert lab.refused(chain, QUERY) == ("not_inherited",)


def test_more_budgets_than_a_token_has_are_not_granted(lab: GrantingLab) -> None:
    limits = [budget(f"unit_{n}", 5) for n in range(16)]
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["billing.refund", QUERY], caveats=limits)
    assert lab.refused(child, "billing.refund") == ("not_inherited",)
    assert isinstance(lab.ask(child, QUERY), Granted)


def test_what_is_not_understood_or_awaits_another_does_not_ask(lab: GrantingLab) -> None:
    (capability,) = own(lab.open().bundle)
    for block, code in ((spelled([["near", 1]]), "not_understood"), (ThirdParty(b"vid", b"cid"), "needs_discharge")):
        assert denied_anyhow(lab, Bundle([appended(capability, block)]), QUERY) == [code]


def test_nobody_asks_with_what_is_for_another_audience(lab: GrantingLab) -> None:
    opened = lab.open()
    with pytest.raises(InvalidRequest, match="holds nothing for 'authority'"):
        lab.ask(Bundle([lab.granted(opened.bundle, QUERY)]), QUERY)


def test_the_bounds_of_an_ask_are_those_of_the_presentation(lab: GrantingLab) -> None:
    (capability,) = own(lab.open().bundle)
    verifier, sent = lab.authority.own_verifier(), ToolCall("grant.request", {"audience": "crm", "action": READ})
    token = capability.present(sent, now=int(lab.clock.now)).text
    other = {"audience": "warehouse", "action": QUERY}
    assert codes_of(verifier.decide(token, ToolCall("grant.request", other), Call("grant.request", other))) != ()


# Death.

DEATHS = ["task", "node", "above", "id", "first id", "kid", "instant", "root", "other task", "expiry"]


def die(lab: GrantingLab, how: str, asker: Bundle, task: str, other: str) -> None:
    """The death of an asker, or of something that it lasts as long as."""
    (capability,) = own(asker)
    if how == "task":
        lab.authority.complete(task)
    elif how == "other task":
        lab.authority.withdraw(other)
    elif how == "node":
        lab.authority.revoke(asker)
    elif how == "above":
        lab.authority.revoke(b64u(asker.path[-2]))
    elif how == "root":
        lab.authority.revoke(task)
    elif how in {"id", "first id"}:
        lab.authority.revoke(capability.ids[-1 if how == "id" else 0])
    elif how == "kid":
        lab.authority.revoke(kid=capability.kid)
    elif how == "instant":
        lab.authority.revoke(issued=capability.issued_at)
    else:
        lab.clock.now = NOW + 600.999


class Asking:
    """An agent that asks, with what was minted before and under another key than what it will be granted."""

    def __init__(self, lab: GrantingLab) -> None:
        lab.clock.now = NOW + 0.999
        self.other = lab.authority.open(allow=["x.y"]).id
        opened = lab.open()
        self.task = opened.id
        lasting = [until_completed(self.other), expires(NOW + 600)]
        above = own(opened.bundle).delegate(to="above", may_ask=[QUERY, "mail.send"], caveats=lasting)
        self.bundle = above.delegate(to="sub", may_ask=[QUERY, "mail.send"])
        fresh_key = RootKey.generate()
        lab.authority.rekey(lab.authority.keyring.added(fresh_key).activated(fresh_key.kid))
        lab.clock.now += 5


@pytest.mark.parametrize("how", DEATHS)
def test_the_dead_are_granted_nothing(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    die(lab, how, asking.bundle, asking.task, asking.other)
    assert denied_anyhow(lab, asking.bundle, QUERY) != []
    assert lab.authority.requests() == []


@pytest.mark.parametrize("how", DEATHS)
def test_who_died_after_the_ask_was_allowed_is_granted_nothing(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    (capability,) = asking.bundle
    ask = Ask(audience="warehouse", action=QUERY)
    sent = ToolCall("grant.request", ask.arguments())
    verifier = lab.authority.own_verifier()
    authentic = verifier.authenticate(capability.present(sent, now=int(lab.clock.now)).text)
    verifier.admit(authentic, sent).judge(Call("grant.request", sent.args, tenant="Acme"))
    die(lab, how, asking.bundle, asking.task, asking.other)
    answer = lab.authority.answer_asker(read_asker(authentic), ask)
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == ["asker_dead"]


@pytest.mark.parametrize("how", DEATHS)
def test_a_grant_dies_with_whoever_asked_for_it(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    below = granted.delegate(to="below")
    assert lab.codes(below, QUERY) == ()
    die(lab, how, asking.bundle, asking.task, asking.other)
    assert lab.codes(granted, QUERY) != ()
    assert lab.codes(below, QUERY) != ()
    lab.authority.check()


@pytest.mark.parametrize("how", DEATHS)
def test_what_a_person_agreed_to_dies_with_its_asker_too(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    pending = lab.pending(asking.bundle, "mail.send")
    lab.decide(pending.request)
    die(lab, how, asking.bundle, asking.task, asking.other)
    before = lab.kinds()
    assert denied_anyhow(lab, asking.bundle, "mail.send") != []
    assert lab.kinds() == before


@pytest.mark.parametrize("how", ["id", "first id", "kid", "instant"])
def test_what_is_killed_with_its_asker_has_a_death_and_an_event_of_its_own(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    before = lab.authority.end()
    die(lab, how, asking.bundle, asking.task, asking.other)
    said = [event.body for event in lab.authority.log(since=before) if event.kind == "revoked"]
    assert len(said) == 2
    assert b64u(granted.ids[0]).encode() in said[1]


@pytest.mark.parametrize("how", ["id", "kid", "instant"])
def test_a_dry_run_tells_what_was_granted_on_the_strength_of_it(lab: GrantingLab, how: str) -> None:
    asking = Asking(lab)
    granted = lab.granted(asking.bundle, QUERY)
    (capability,) = asking.bundle
    if how == "id":
        tried = lab.authority.revoke(capability.ids[-1], dry_run=True)
    elif how == "kid":
        tried = lab.authority.revoke(kid=capability.kid, dry_run=True)
    else:
        tried = lab.authority.revoke(issued=NOW, dry_run=True)
    assert tried.dying is not None
    assert b64u(granted.id) in tried.dying.capabilities
    assert lab.codes(granted, QUERY) == ()


def test_siblings_of_an_asker_keep_what_they_were_granted(lab: GrantingLab) -> None:
    opened = lab.open()
    one, other = (own(opened.bundle).delegate(to=name, may_ask=[QUERY]) for name in ("one", "other"))
    mine, theirs = lab.granted(one, QUERY), lab.granted(other, QUERY)
    lab.authority.revoke(next(iter(one)).id)
    assert (lab.codes(mine, QUERY), lab.codes(theirs, QUERY)) == (("revoked",), ())


@pytest.mark.parametrize("round_", range(4))
def test_no_grant_outlives_a_revocation_that_it_raced(lab: GrantingLab, round_: int) -> None:
    opened = lab.open()
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY])
    granted: list[Any] = []
    started = threading.Barrier(5)

    def ask(first: int) -> None:
        started.wait()
        for number in range(first, first + 40):
            try:
                answer = lab.ask(child, QUERY, {"id": number})
            except Denied:
                return
            if isinstance(answer, Granted):
                granted.append((answer.capability, number))

    threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    started.wait()
    while len(granted) < 3 * (round_ + 1):
        assert any(thread.is_alive() for thread in threads)
    lab.authority.revoke(next(iter(child)).ids[round_ % 3])
    known = len(granted)
    for thread in threads:
        thread.join()
    assert known > 0
    assert {lab.codes(capability, QUERY, {"id": number}) for capability, number in granted} == {("revoked",)}


def test_racing_asks_for_one_thing_are_granted_one_capability(lab: GrantingLab) -> None:
    opened = lab.open()
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(lab.granted(opened.bundle, QUERY).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert len(set(texts)) == 1


# Bounds.


def test_one_node_makes_so_many_requests_and_another_goes_on(lab: GrantingLab) -> None:
    opened = lab.open()
    for number in range(OF_NODE):
        assert isinstance(lab.ask(opened.bundle, QUERY, {"id": number}), Granted)
    assert lab.refused(opened.bundle, QUERY, {"id": OF_NODE}) == ("too_many",)
    assert isinstance(lab.ask(opened.bundle, QUERY, {"id": 0}), Granted)
    child = own(opened.bundle).delegate(to="sub", may_ask=[QUERY])
    assert isinstance(lab.ask(child, QUERY, {"id": OF_NODE}), Granted)


def test_only_so_many_requests_wait_for_people(lab: GrantingLab) -> None:
    opened = lab.open()
    nodes = [own(opened.bundle).delegate(to=f"sub-{n}", may_ask=["mail.send"]) for n in range(6)]
    for node in nodes[: WAITING_OF_TASK // WAITING_OF_NODE]:
        for number in range(WAITING_OF_NODE):
            lab.pending(node, "mail.send", {"n": number})
        assert lab.refused(node, "mail.send", {"n": WAITING_OF_NODE}) == ("too_many",)
    assert lab.refused(nodes[-1], "mail.send") == ("too_many",)
    assert isinstance(lab.ask(opened.bundle, QUERY), Granted)
    lab.pending(nodes[0], "mail.send", {"n": 0})
    lab.clock.now += 1800
    lab.pending(nodes[-1], "mail.send")


def test_asks_that_are_refused_at_once_take_no_room(lab: GrantingLab) -> None:
    opened = lab.open()
    for number in range(30):
        assert lab.refused(opened.bundle, "crm.export", {"n": number}) == ("not_offered",)
    assert lab.authority.requests() == []


def test_what_a_delegator_pins_is_said_in_the_vocabulary_that_there_is(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[action("billing.refund", amount=between(0, 10))])
    (entry,) = next(one.entries for one in next(iter(child)).caveats[-1] if isinstance(one, Allow))
    assert any(isinstance(pair.constraint, Fields) for pair in entry.args or ())
    assert DEFAULT.decode(spelled([["allow", [entry.wire()]]])) == (Allow((entry,)),)
