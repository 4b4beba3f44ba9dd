"""What attackers tried with asks and answers: to hide, to outlive a consent, to undo a no, and to crowd others out."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests.quotas import MOST_WAITING
from capx.crypto.ed25519 import parse_public
from capx.crypto.keys import RootKey
from capx.errors import InvalidRequest
from capx.intents.principal_key import PrincipalKey
from capx.policy.policy import Principal
from capx.store.records import Damaged
from capx.tokens.bundle import Bundle
from capx.verify.ask import Ask
from capx.verify.decision import Denied
from capx_caveats import action, expires, fresh, one_of, shown_instant, where
from tests.labs.granting_asks import first
from tests.labs.granting_lab import BOB, CARA, GrantingLab, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.strategies import spelled

SEND, QUERY = "mail.send", "warehouse.query"
RULES = (rule("on_request", QUERY), rule("ask", SEND))


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


def shown(lab: GrantingLab, request: str) -> tuple[str, ...]:
    return lab.authority.inquiry(request).sentences()


def people_now(lab: GrantingLab, **changed: Principal | None) -> None:
    """The policy, with other people in it."""
    lab.policy = policy(*RULES, principals=people(**changed))


def another_key(name: str) -> bytes:
    return parse_public(PrincipalKey.generate(name).public)


def minted(lab: GrantingLab) -> int:
    return lab.kinds().count("capability_minted")


# Hiding.


def test_an_approver_sees_the_end_of_a_long_restriction(lab: GrantingLab) -> None:
    harmless = [f"{'a' * 60}{number}" for number in range(30)]
    lab.policy = policy(rule("ask", action(SEND, to=one_of(*harmless, "mallory@evil.example"))))
    bundle = Bundle([appended(next(iter(first(lab))), spelled([["acme.region", "x" * 300 + "behind"]]))])
    bundle = bundle.attenuate(where("note", one_of("y" * 200 + "hidden")))
    told = "\n".join(shown(lab, lab.pending(bundle, SEND).request))
    assert "mallory@evil.example" in told
    assert "behind" in told
    assert "hidden" in told
    assert "…" not in told


def test_an_approver_sees_the_tenant_and_the_parameters_meant(lab: GrantingLab) -> None:
    lab.policy = policy(*RULES, names=("ticket",))
    opened = lab.open(parameters={"ticket": "T-1"})
    told = shown(lab, lab.pending(opened.bundle, SEND).request)
    assert 'ana wanted work for Acme with ticket "T-1", in their words "Do the work."' in told


def test_spaces_make_no_line_of_their_own(lab: GrantingLab) -> None:
    fake = "Hi." + " " * 70 + "it would be allowed nothing at all"
    told = shown(lab, lab.pending(first(lab), SEND, {"text": fake, " to": "  ann"}).request)
    assert not any("  " in sentence for sentence in told)
    (asked,) = (sentence for sentence in told if sentence.startswith("it would be allowed"))
    assert json.loads(asked.partition("text ")[2].partition("\\u0020it")[0] + '"').startswith("Hi. ")
    assert '"\\u0020to" "\\u0020\\u0020ann"' in asked


@pytest.mark.parametrize("blank", "\u3164\u115f\uffa0\u2800\ufe0f\U0001d159\U00016fe4")
def test_a_label_with_a_blank_in_it_looks_like_no_other(lab: GrantingLab, blank: str) -> None:
    child = first(lab).delegate(to=f"bob{blank}", may_ask=[SEND])
    told = shown(lab, lab.pending(child, SEND).request)[0]
    assert told.startswith(f'"bob{blank.encode("unicode_escape").decode()}" asks')


# Outliving a consent.


@pytest.mark.parametrize(
    "bob",
    [
        None,
        Principal(name="bob", key=another_key("bob"), groups=("finance",)),
        Principal(name="bob", groups=("finance",)),
        Principal(name="bob", key=parse_public(BOB.public), groups=("legal",)),
    ],
    ids=["left", "another key", "no key", "another group"],
)
def test_a_consent_does_not_outlive_the_power_to_give_it(lab: GrantingLab, bob: Principal | None) -> None:
    bundle = first(lab)
    request = lab.pending(bundle, SEND).request
    lab.decide(request)
    people_now(lab, bob=bob)
    before = minted(lab)
    assert lab.pending(bundle, SEND).request == request
    assert lab.authority.request(request).approver is None
    assert minted(lab) == before
    lab.decide(request, CARA)
    assert lab.codes(lab.granted(bundle, SEND), SEND) == ()


def test_a_consent_does_not_outlive_a_rule_that_asks_others(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND).request)
    lab.policy = policy(rule("ask", SEND, approvers=("legal",)))
    assert lab.pending(bundle, SEND).approvers == ("legal",)


def test_a_dead_key_does_not_mint_again_what_nobody_agreed_to(lab: GrantingLab) -> None:
    bundle, old = first(lab), lab.authority.keyring.active
    spare = RootKey.generate()
    lab.authority.rekey(lab.authority.keyring.added(spare).activated(spare.kid))
    lab.policy = policy(rule("on_request", SEND))
    lab.granted(bundle, SEND)
    lab.policy = policy(*RULES)
    lab.authority.revoke(kid=spare.kid)
    lab.authority.rekey(lab.authority.keyring.activated(old.kid))
    request = lab.pending(bundle, SEND).request
    lab.decide(request)
    assert lab.granted(bundle, SEND).kid == old.kid


def test_a_thief_of_a_replaced_key_is_refused_on_its_intent(lab: GrantingLab) -> None:
    bundle = first(lab)
    people_now(lab, ana=replace(people()["ana"], key=another_key("ana")))
    assert lab.refused(bundle, QUERY) == ("intent_refused",)
    assert lab.refused(bundle, SEND) == ("intent_refused",)
    people_now(lab)
    assert lab.codes(lab.granted(bundle, QUERY), QUERY) == ()


def test_an_attested_intent_needs_a_known_principal_and_no_key(lab: GrantingLab) -> None:
    opened = lab.authority.open(lab.intent(), attested="the portal")
    people_now(lab, ana=replace(people()["ana"], key=None))
    assert lab.codes(lab.granted(opened.bundle, QUERY), QUERY) == ()
    people_now(lab, ana=None)
    assert lab.refused(opened.bundle, SEND) == ("intent_refused",)


@pytest.mark.parametrize(("at", "taken"), [(5, True), (6, False), (-300, True), (-301, False)])
def test_an_answer_is_not_dated_ahead_to_be_kept(lab: GrantingLab, at: int, taken: bool) -> None:
    verdict = lab.verdict(lab.pending(first(lab), SEND).request, at=NOW + at)
    if taken:
        assert lab.authority.answer(verdict).state == "approved"
    else:
        with pytest.raises(InvalidRequest, match="set the clock and answer again"):
            lab.authority.answer(verdict)


# Undoing a no.


def test_a_no_is_not_undone_by_narrowing_the_token_by_nothing(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND).request, yes=False)
    assert lab.refused(bundle.attenuate(expires(NOW + 3600)), SEND) == ("request_denied",)
    assert lab.refused(bundle.attenuate(fresh(3600)).attenuate(fresh(3600)), SEND) == ("request_denied",)
    assert lab.pending(bundle, SEND, {"to": "ann"}).approvers == ("finance",)


def test_narrowing_a_token_by_nothing_undoes_no_revocation(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.authority.revoke(lab.granted(bundle, QUERY).ids[0])
    assert lab.refused(bundle.attenuate(expires(NOW + 3600)), QUERY) == ("grant_revoked",)


def test_naming_arguments_undoes_no_revocation_of_all_of_them(lab: GrantingLab) -> None:
    bundle = first(lab)
    child = bundle.delegate(to="sub", allow=["crm.read"], may_ask=[QUERY], now=NOW)
    lab.authority.revoke(lab.granted(bundle, QUERY).ids[0])
    for who in (bundle, bundle.attenuate(fresh(3600)), child):
        for args in ({}, {"table": "sales"}):
            assert lab.refused(who, QUERY, args) == ("grant_revoked",)


def test_a_revocation_of_one_call_leaves_the_others(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.authority.revoke(lab.granted(bundle, QUERY, {"table": "sales"}).ids[0])
    assert lab.refused(bundle, QUERY, {"table": "sales"}) == ("grant_revoked",)
    lab.granted(bundle, QUERY, {"table": "stock"})
    lab.granted(bundle, QUERY)


def test_a_policy_changed_back_and_forth_undoes_no_revocation(lab: GrantingLab) -> None:
    bundle = first(lab)
    granted = lab.granted(bundle, QUERY)
    lab.policy = policy(rule("on_request", action(QUERY, table="sales")))
    lab.granted(bundle, QUERY)
    lab.authority.revoke(granted.ids[0])
    lab.policy = policy(*RULES)
    assert lab.refused(bundle, QUERY) == ("grant_revoked",)


def test_a_policy_changed_back_and_forth_undoes_no_denial(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND).request, yes=False)
    for changed in ((rule("ask", action(SEND, to="ann")),), RULES):
        lab.policy = policy(*changed)
        assert lab.refused(bundle, SEND) == ("request_denied",)


def test_what_died_with_one_token_is_granted_to_its_nodes_other(lab: GrantingLab) -> None:
    bundle = first(lab)
    leaked = bundle.attenuate(expires(NOW + 600))
    granted = lab.granted(leaked, QUERY)
    lab.authority.revoke(next(iter(leaked)).ids[-1])
    assert lab.codes(granted, QUERY) == ("revoked",)
    assert lab.codes(lab.granted(bundle, QUERY), QUERY) == ()


def test_a_child_that_asks_for_what_was_denied_is_seen(lab: GrantingLab) -> None:
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND).request, yes=False)
    child = bundle.delegate(to="helper", may_ask=[SEND])
    told = shown(lab, lab.pending(child, SEND).request)
    assert told[-1] == f"bob denied the same to the first agent at {shown_instant(NOW)}"
    assert not any("denied" in one for one in shown(lab, lab.pending(child, SEND, {"to": "ann"}).request))


def test_a_helper_named_after_an_approver_does_not_silence_them(lab: GrantingLab) -> None:
    child = first(lab).delegate(to="bob", may_ask=[SEND])
    request = lab.pending(child, SEND).request
    assert shown(lab, request)[-1].startswith("bob cannot consent: ")
    with pytest.raises(InvalidRequest, match="someone else must approve"):
        lab.decide(request)
    assert lab.decide(request, yes=False).state == "denied"


# Crowding out, and worse.


def test_requests_of_the_dead_leave_their_room_to_the_living(lab: GrantingLab) -> None:
    bundle = first(lab)
    narrowed = bundle.attenuate(expires(NOW + 600))
    for number in range(MOST_WAITING // 2):
        lab.pending(narrowed, SEND, {"n": number})
    assert lab.refused(bundle, SEND) == ("too_many",)
    lab.authority.revoke(next(iter(narrowed)).ids[-1])
    assert lab.authority.requests(pending=True) == []
    assert lab.pending(bundle, SEND).approvers == ("finance",)
    assert lab.kinds().count("request_expired") == MOST_WAITING // 2


@pytest.mark.parametrize("change", [{"block": "[]"}, {"block": '[["expires",1]]'}, {"block": "x"}, {"ids": ("!",)}])
def test_whoever_writes_into_the_store_crashes_no_inbox(lab: GrantingLab, change: dict[str, Any]) -> None:
    request = lab.pending(first(lab), SEND).request
    with lab.authority.store.write() as transaction:
        transaction.keep_request(replace(lab.authority.request(request), **change))
    for look in (lambda: lab.authority.requests(pending=True), lambda: shown(lab, request)):
        with pytest.raises(Damaged, match="restore it from a backup"):
            look()


def test_what_the_policy_offers_no_more_is_denied_all_the_same(lab: GrantingLab) -> None:
    request = lab.pending(first(lab), SEND).request
    lab.policy = policy(rule("on_request", QUERY))
    assert lab.decide(request, yes=False).state == "denied"


def test_a_grant_that_could_never_be_used_asks_nobody(lab: GrantingLab) -> None:
    bundle = first(lab).attenuate(where("args.to", one_of("ann")))
    assert lab.refused(bundle, SEND, {"to": "ben"}) == ("not_inherited",)
    assert lab.refused(bundle, SEND, {}) == ("not_inherited",)
    assert lab.pending(bundle, SEND, {"to": "ann"}).approvers == ("finance",)
    assert lab.pending(bundle, SEND).approvers == ("finance",)


@pytest.mark.parametrize("audience", ["", " ", "authority"])
def test_an_ill_formed_audience_is_refused_not_guessed(audience: str) -> None:
    assert Ask.of(SEND) == Ask.of(SEND, "mail") == Ask(audience="mail", action=SEND)
    with pytest.raises(InvalidRequest):
        Ask.of(SEND, audience)


def test_a_denied_ask_is_told_what_comes_closest_to_it(lab: GrantingLab) -> None:
    child = first(lab).delegate(to="helper", may_ask=[QUERY, action(SEND, to="ann"), "crm.read"])
    with pytest.raises(Denied) as caught:
        lab.ask(child, SEND, {"to": "ben"})
    (refusal,) = caught.value.refusals
    assert refusal.code == "argument_refused"
    assert 'args is an object (where to is "ann")' in refusal.sentence
