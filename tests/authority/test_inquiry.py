"""What people are shown of a request, and what they sign of it."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.authority.requests.inquiry import BudgetLeft, Inquiry, SameAsk
from capx.authority.requests.verdict import Verdict
from capx.authority.uses import EarlierUse
from capx.crypto.base64url import b64u
from capx.errors import InvalidRequest
from capx.store.records import RequestRecord
from capx.tokens.approval_caveat import approval
from capx.tokens.bundle import Bundle
from capx_caveats import action, between, budget, expires, max_hops, shown_instant, until_completed, where
from tests.labs.granting_asks import own
from tests.labs.granting_lab import BOB, GrantingLab, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.strategies import spelled
from tests.labs.verdicts import SEND, lab, waiting

__all__ = ["lab"]


def test_people_see_who_asks_for_what_and_within_which_bounds(lab: GrantingLab) -> None:
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
        "your consent is good for any number of calls until the task ends",
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
        f"left at {shown_instant(NOW)}: 5 of 5 calls; other calls may use it up before this one",
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
    with pytest.raises(InvalidRequest, match="belongs to another intent"):
        _ = Inquiry(one.request, other.document).digest
    with pytest.raises(InvalidRequest, match="belongs to another intent"):
        Inquiry(one.request, other.document).sentences()


def test_what_is_shown_goes_over_a_wire_and_is_the_same(lab: GrantingLab) -> None:
    inquiry = lab.authority.inquiry(waiting(lab))
    again = msgspec.json.decode(msgspec.json.encode(inquiry), type=Inquiry)
    assert (again, again.digest) == (inquiry, inquiry.digest)
    record = msgspec.json.decode(msgspec.json.encode(inquiry.request), type=RequestRecord)
    assert record == lab.authority.request(inquiry.request.id)


def test_people_see_who_denied_it_and_whose_consent_is_none(lab: GrantingLab) -> None:
    opened = lab.open(agent="cara")
    one, other = (own(opened.bundle).delegate(to=name, may_ask=[SEND]) for name in ("one", "other"))
    lab.decide(lab.pending(one, SEND).request, yes=False)
    *_, excluded, denied = lab.authority.inquiry(lab.pending(other, SEND).request).sentences()
    assert excluded.startswith("cara cannot consent: ")
    assert denied == f'bob denied the same to "one" at {shown_instant(NOW)}'


def test_people_see_what_is_left_of_budgets(lab: GrantingLab) -> None:
    spending = rule("on_request", "billing.refund", budgets=[budget("refunds", 3)])
    lab.policy = policy(rule("ask", SEND, budgets=[budget("refunds", 3)], uses=2), spending)
    bundle = lab.open().bundle
    pending = lab.pending(bundle, SEND, {"to": "ben"})
    signed = lab.verdict(pending.request)
    assert lab.codes(lab.granted(bundle, "billing.refund"), "billing.refund", cost={"refunds": "1"}) == ()
    lab.clock.now += 60
    inquiry = lab.authority.inquiry(pending.request)
    # Not the uses: they are the grant's own.
    assert [one for one in inquiry.sentences() if one.startswith("left at ")] == [
        f"left at {shown_instant(NOW + 60)}: 2 of 3 refunds; other calls may use it up before this one"
    ]
    assert lab.authority.answer(signed).state == "approved"
    assert lab.codes(lab.granted(bundle, SEND, {"to": "ben"}), SEND, {"to": "ben"}, cost={"refunds": "2"}) == ()
    spent = f"left at {shown_instant(NOW + 60)}: 0 of 3 refunds; no call can use a consent now"
    assert spent in lab.authority.inquiry(pending.request).sentences()


@pytest.mark.parametrize("how", ["node", "above", "id", "instant"])
def test_people_see_that_the_agent_that_asks_was_revoked(lab: GrantingLab, how: str) -> None:
    bundle = own(lab.open().bundle)
    child = bundle.delegate(to="sub", may_ask=[SEND])
    request = lab.pending(child, SEND).request
    told = "the agent that asks was revoked, so nobody can consent any more"
    assert told not in lab.authority.inquiry(request).sentences()
    if how == "instant":
        lab.authority.revoke(issued=NOW)
    else:
        killed = {"node": child.node, "above": bundle.node, "id": next(iter(child)).ids[-1]}[how]
        assert killed is not None
        lab.authority.revoke(b64u(killed))
    inquiry = lab.authority.inquiry(request)
    assert told in inquiry.sentences()
    assert inquiry.request.state == "expired"


def test_the_end_of_a_task_is_not_shown_as_a_revocation(lab: GrantingLab) -> None:
    opened = lab.open()
    request = lab.pending(opened.bundle, SEND).request
    lab.authority.complete(opened.id)
    inquiry = lab.authority.inquiry(request)
    assert inquiry.request.state == "expired"
    assert not any("revoked" in sentence for sentence in inquiry.sentences())


def test_a_narrowed_token_hides_no_grant_of_the_same(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, uses=1, pinned=True))
    bundle, args = own(lab.open().bundle), {"to": "ben"}
    lab.decide(lab.pending(bundle, SEND, args).request)
    lab.granted(bundle, SEND, args)
    narrowed = bundle.attenuate(expires(NOW + 900))
    again = lab.pending(narrowed, SEND, args)
    told = f"bob granted the same to the first agent at {shown_instant(NOW)}"
    assert told in lab.authority.inquiry(again.request).sentences()
    # And it does not matter which of the two asks first.
    twice_narrowed = lab.pending(bundle.attenuate(expires(NOW + 800)), SEND, args)
    waits = f"request {again.request} of the first agent waits for the same, since {shown_instant(NOW)}"
    assert waits in lab.authority.inquiry(twice_narrowed.request).sentences()
    assert any(twice_narrowed.request in one for one in lab.authority.inquiry(again.request).sentences())


def test_an_ask_for_another_call_is_not_shown_as_the_same(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=True), rule("on_request", "crm.read"))
    bundle = own(lab.open().bundle)
    for args in ({"to": "ben"}, {"to": "eve"}):
        lab.decide(lab.pending(bundle, SEND, args).request)
    lab.granted(bundle, "crm.read")
    request = lab.pending(bundle, SEND, {"to": "cara"}).request
    assert lab.authority.inquiry(request).others == ()


LIES: list[Any] = [
    {"budgets": (BudgetLeft("EUR.\n  CORRECTION: it is allowed only", "0", "1"),)},
    {"budgets": (BudgetLeft("eur", "1 (of which you agreed to 1)", "1"),)},
    {"budgets": (BudgetLeft("eur", "1", "many"),)},
    {"uses": (EarlierUse("abc (a test). It", 0),)},
    {"others": (SameAsk("x. This is a rehearsal", "granted", (), "bob", 0),)},
]


@pytest.mark.parametrize("lie", LIES)
def test_words_that_an_intermediary_adds_are_not_shown(lab: GrantingLab, lie: Any) -> None:
    inquiry = lab.authority.inquiry(waiting(lab))
    with pytest.raises(InvalidRequest, match="a text that capx does not write: do not answer it"):
        replace(inquiry, **lie).sentences()


def test_a_request_with_a_value_of_another_type_is_not_shown(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=True))
    inquiry = lab.authority.inquiry(lab.pending(lab.open().bundle, SEND, {"n": 1}).request)
    for args in ('{"n":true}', '{"n":"1"}', '{"n":1.5}'):
        with pytest.raises(InvalidRequest, match="shows other arguments"):
            replace(inquiry, request=replace(inquiry.request, args=args)).sentences()


def test_an_agent_called_like_a_person_is_shown_in_quotes(lab: GrantingLab) -> None:
    child = own(lab.open().bundle).delegate(to="ana", may_ask=[SEND])
    assert lab.authority.inquiry(lab.pending(child, SEND).request).sentences()[0].startswith('"ana" asks, in task ')


def test_look_alike_letters_are_marked_where_they_are_shown(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=True))
    args: dict[str, Any] = {"to": "b\u0435n@acme.example", "note": "\u05e9\u05dc\u05d5\u05dd"}
    inquiry = lab.authority.inquiry(lab.pending(lab.open().bundle, SEND, args).request)
    sentences = inquiry.sentences()
    at = next(at for at, one in enumerate(sentences) if one.startswith("it would be allowed"))
    backwards = "it is written from right to left, so it may be shown in another order"
    assert sentences[at + 1 : at + 3] == (
        f'look closely at "\u05e9\u05dc\u05d5\u05dd": {backwards}',
        'look closely at "b\u0435n@acme.example": \u0435 (U+0435) looks like e',
    )


def test_people_see_which_approvals_each_call_of_a_grant_needs(lab: GrantingLab) -> None:
    inquiry = lab.authority.inquiry(waiting(lab))
    bundle = lab.open().bundle.delegate(to="clerk", approval=approval(by=[BOB.public]), now=NOW)
    demand = next(iter(bundle)).demands[0].decode("latin-1")
    carrying = replace(inquiry.request, carried=(demand, "unreadable"))
    told = [one for one in replace(inquiry, request=carrying).sentences() if one.startswith("each call will need")]
    assert told == [
        f"each call will need the approval of {BOB.public}, as the token of the agent demands",
        "each call will need an approval of people whom nobody can read here, as the token of the agent demands",
    ]
