"""What the policy offers to an ask: within its rules, and within every restriction of the asker."""

from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.authority import Authority
from capx.authority.requests import offering
from capx.authority.requests.offering import REASONS, NotOffered, ask_refusal
from capx.crypto.base64url import b64u
from capx.crypto.ed25519 import parse_public
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.policy.policy import NO_POLICY, Policy
from capx.tokens import wire
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.chain import ThirdParty
from capx.tokens.lineage import MAX_BUDGETS
from capx.tokens.wire import MAX_BLOCK
from capx.verify.ask import Granted, Refused
from capx.verify.decision import Denied
from capx_caveats import (
    DEFAULT,
    Allow,
    Budget,
    Call,
    Entry,
    Expires,
    MaxHops,
    NotBefore,
    Refusal,
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
from capx_caveats.vocabulary import MAX_BRACKETS
from tests.labs.granting_asks import RULES, denied, denied_anyhow, lab, own
from tests.labs.granting_lab import ANA, BOB, GrantingLab, offer, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.lab import codes as codes_of
from tests.labs.strategies import spelled
from tests.models.test_grants_model import OWN

__all__ = ["lab"]


READ, QUERY = "crm.read", "warehouse.query"


# What is given, and how.


def test_a_grant_covers_the_ask_within_what_the_policy_offers(lab: GrantingLab) -> None:
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


def test_an_ask_without_arguments_is_for_what_the_policy_lets_by(lab: GrantingLab) -> None:
    granted = lab.granted(lab.open().bundle, "billing.refund")
    assert lab.codes(granted, "billing.refund", {"amount": 50}, cost={"refunds": "1"}) == ()
    assert lab.codes(granted, "billing.refund", {"amount": 51}, cost={"refunds": "1"}) == ("argument_refused",)


def test_the_first_rule_that_says_yes_to_the_arguments_decides(lab: GrantingLab) -> None:
    opened = lab.open()
    assert isinstance(lab.ask(opened.bundle, "billing.refund", {"amount": 50}), Granted)
    assert lab.pending(opened.bundle, "billing.refund", {"amount": 51}).approvers == ("finance",)
    assert lab.refused(opened.bundle, "billing.refund", {"amount": 501}) == ("not_offered",)


def test_what_is_given_at_open_is_given_to_those_who_may_ask(lab: GrantingLab) -> None:
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
def test_who_may_not_ask_for_the_purpose_any_more_is_refused(lab: GrantingLab, lost: Any) -> None:
    opened = lab.open()
    ana = None if lost is None else replace(people()["ana"], **lost)
    lab.policy = policy(*RULES, principals=people(ana=ana))
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


def test_a_purpose_now_of_one_tenant_gives_nothing_to_others(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, tenant=False)
    opened = lab.open(tenant=None)
    assert isinstance(lab.ask(opened.bundle, QUERY), Granted)
    lab.policy = policy(*RULES, tenant=True)
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


# What a sub-agent tries.


def test_a_sub_agent_is_refused_what_its_delegator_kept(lab: GrantingLab) -> None:
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


UNPINNABLE: list[Any] = [{"x": [[1]]}, {"x": [{}]}, {"x": [1, ""]}, {"x": {"*": 1}}, {"x": {"": 1}}]


@pytest.mark.parametrize("args", UNPINNABLE)
def test_arguments_that_no_grant_can_hold_a_call_to_are_refused(lab: GrantingLab, args: Any) -> None:
    answer = lab.ask(lab.open().bundle, QUERY, args)
    assert isinstance(answer, Refused)
    (refusal,) = answer.reasons
    assert refusal.code == "not_pinned"
    assert 'the argument "x" cannot be pinned: ' in refusal.sentence
    assert "pinned = [ … ] lists the arguments to pin" in refusal.sentence


@pytest.mark.parametrize("args", [{"a": 1, "x": "y" * 5_000}, {"a": 1, "x": "y" * 3_900}])
def test_an_argument_too_long_for_a_block_is_named(lab: GrantingLab, args: Any) -> None:
    answer = lab.ask(lab.open().bundle, QUERY, args)
    assert isinstance(answer, Refused)
    (refusal,) = answer.reasons
    assert refusal.code == "not_pinned"
    assert 'with "x", the largest argument, a grant would hold more than 4096 bytes' in refusal.sentence


def test_more_arguments_than_a_block_can_hold_are_refused(lab: GrantingLab) -> None:
    assert lab.refused(lab.open().bundle, QUERY, {f"x{n}": n for n in range(200)}) == ("not_pinned",)


@pytest.mark.parametrize("pattern", ["warehouse.*", "*", "warehouse"])
def test_patterns_are_not_asked_for(lab: GrantingLab, pattern: str) -> None:
    opened = lab.open()
    if pattern == "warehouse":
        assert lab.refused(opened.bundle, pattern) == ("not_offered",)
        return
    with pytest.raises(InvalidRequest, match="is not an action"):
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


def test_grants_at_many_audiences_count_against_one_budget(lab: GrantingLab) -> None:
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


def test_a_wider_ask_of_the_node_is_not_repeated_by_a_sharer(lab: GrantingLab) -> None:
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
    for depth in range(37):
        chain = chain.delegate(to=f"agent-{depth}-" + "x" * 90, may_ask=[QUERY])
    assert lab.refused(chain, QUERY) == ("not_inherited",)


def test_more_budgets_than_a_token_has_are_not_granted(lab: GrantingLab) -> None:
    limits = [budget(f"unit_{n}", 5) for n in range(16)]
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["billing.refund", QUERY], caveats=limits)
    assert lab.refused(child, "billing.refund") == ("not_inherited",)
    assert isinstance(lab.ask(child, QUERY), Granted)


def test_what_is_not_understood_or_awaits_another_does_not_ask(lab: GrantingLab) -> None:
    (capability,) = own(lab.open().bundle)
    for block in (spelled([["near", 1]]), ThirdParty(b"vid", b"cid")):
        assert denied_anyhow(lab, Bundle([appended(capability, block)]), QUERY) == ["not_understood"]


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


# What is told


def why(lab: GrantingLab, bundle: Bundle, what: str, args: Any = None) -> str:
    """The one reason for which an ask is refused."""
    answer = lab.ask(bundle, what, args)
    assert isinstance(answer, Refused)
    (reason,) = answer.reasons
    assert reason.sentence.startswith(REASONS[reason.code])
    return reason.sentence.removeprefix(REASONS[reason.code])


def test_every_reason_has_a_sentence() -> None:
    assert [ask_refusal(code) for code in REASONS] == [Refusal(code, REASONS[code]) for code in REASONS]


def test_more_about_a_reason_comes_after_it() -> None:
    assert ask_refusal("not_offered", "never").sentence == f"{REASONS['not_offered']}: never"


def test_what_is_raised_has_the_first_code_and_every_reason() -> None:
    refusals = ask_refusal("too_many"), ask_refusal("not_offered")
    raised = NotOffered(*refusals)
    assert (str(raised), raised.refusals) == ("too_many", refusals)


def test_what_is_not_offered_is_named(lab: GrantingLab) -> None:
    assert "crm.export at crm" in why(lab, lab.open().bundle, "crm.export")


def test_an_argument_that_no_grant_names_is_named_with_its_cure(lab: GrantingLab) -> None:
    lab.policy = policy(rule("on_request", action(QUERY, id=one_of(1))))
    held = lab.open().bundle
    told = why(lab, held, QUERY, {"id": 1, "page": 1})
    assert told.endswith('does not name the argument "page": add to that grant "page" = { anything = true }')
    told = why(lab, held, QUERY, {})
    assert told.endswith('that also needs the argument "id": ask again with it')
    told = why(lab, held, QUERY, {"id": 1, "page": 1, "size": 9})
    assert 'the arguments "page" and "size": add to that grant "page" = { anything = true }, "size" = ' in told
    # With another id, no new name would help.
    for args in ({"id": 2, "page": 1}, {"id": 2}):
        assert "does not name" not in why(lab, held, QUERY, args)


def test_what_no_grant_can_pin_is_named(lab: GrantingLab) -> None:
    assert "*" in why(lab, lab.open().bundle, QUERY, {"*": 1})


def test_the_restriction_that_says_no_is_named(lab: GrantingLab) -> None:
    limit = where("args.id", one_of(1))
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[QUERY], caveats=[limit])
    assert limit.sentence() in why(lab, child, QUERY, {"id": 2})


def test_a_restriction_of_an_attribute_is_not_asked_of_arguments(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="sub", may_ask=[QUERY], caveats=[where("region", "eu")])
    assert lab.granted(child, QUERY, {"id": 2}).audience == "warehouse"


def test_a_block_too_long_says_how_long_it_may_be(lab: GrantingLab) -> None:
    assert str(MAX_BLOCK) in why(lab, lab.open().bundle, QUERY, {"x": "y" * 3_900})


def test_too_many_budgets_say_how_many_there_may_be(lab: GrantingLab) -> None:
    limits = [budget(f"unit_{n}", 5) for n in range(MAX_BUDGETS)]
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["billing.refund"], caveats=limits)
    assert str(MAX_BUDGETS) in why(lab, child, "billing.refund")


def test_as_many_budgets_as_a_token_has_are_granted(lab: GrantingLab) -> None:
    limits = [budget(f"unit_{n}", 5) for n in range(MAX_BUDGETS - 1)]
    child = own(lab.open().bundle).delegate(to="sub", may_ask=["billing.refund"], caveats=limits)
    granted = lab.granted(child, "billing.refund")
    assert sum(isinstance(one, Budget) for one in granted.caveats[0]) == MAX_BUDGETS


def test_too_many_brackets_say_how_many_there_may_be(lab: GrantingLab) -> None:
    assert str(MAX_BRACKETS) in why(lab, lab.open().bundle, QUERY, {f"x{n}": n for n in range(200)})


def test_an_intent_whose_signer_has_another_key_is_refused(lab: GrantingLab) -> None:
    opened = lab.open()
    ana = replace(people()["ana"], key=parse_public(BOB.public))
    lab.policy = policy(*RULES, principals=people(ana=ana))
    assert lab.refused(opened.bundle, QUERY) == ("intent_refused",)


def length(granted: Capability) -> int:
    """Of the authority's block, in bytes."""
    block = wire.decode(granted.text).blocks[0]
    assert isinstance(block, bytes)
    return len(block)


def test_a_block_as_long_as_may_be_is_granted(lab: GrantingLab) -> None:
    opened = lab.open()
    short = lab.granted(opened.bundle, QUERY, {"x": "y"})
    room = MAX_BLOCK - length(short)
    assert lab.refused(opened.bundle, QUERY, {"x": "y" * (room + 2)}) == ("not_pinned",)
    whole = lab.granted(opened.bundle, QUERY, {"x": "y" * (room + 1)})
    assert length(whole) == MAX_BLOCK


@pytest.mark.parametrize(
    ("block", "pieces", "fits"),
    [
        pytest.param(b'[["expires",9]]', 1, True, id="as it is meant"),
        pytest.param(b'[["expires",9]]', 2, False, id="fewer caveats than pieces"),
        pytest.param(b'[["near",1]]', 1, False, id="not understood"),
        pytest.param(b'[["acme.near",1]]', 1, True, id="a service's own"),
        pytest.param(b'[["hop","a","AgICAgICAgI"]]', 1, False, id="misplaced"),
    ],
)
def test_only_what_is_read_as_it_is_meant_is_a_block(block: bytes, pieces: int, fits: bool) -> None:
    unfit = offering.unfit(block, pieces, DEFAULT)  # no ask makes all of these
    assert (unfit is None) is fits
