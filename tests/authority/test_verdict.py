"""What people are shown of a request is what they sign."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from capx.authority.requests.verdict import Inquiry, Verdict
from capx.errors import InvalidRequest
from capx.store.events import RequestApproved, RequestDenied
from capx.store.records import RequestRecord
from capx.tokens.bundle import Bundle
from capx_caveats import action, between, budget, expires, max_hops, shown_instant, until_completed, where
from tests.labs.granting_asks import own
from tests.labs.granting_lab import BOB, GrantingLab, people, policy, rule
from tests.labs.lab import NOW, appended
from tests.labs.strategies import spelled
from tests.labs.verdicts import RULES, SEND, waiting


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(*RULES)
    with made.authority:
        yield made


# What is shown.


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
    assert denied == f"bob denied the same to one at {shown_instant(NOW)}"


# Who may answer.


@pytest.mark.parametrize("yes", [True, False])
def test_an_answer_of_somebody_named_is_taken_and_logged(lab: GrantingLab, yes: bool) -> None:
    request = waiting(lab)
    lab.clock.now += 60
    verdict = lab.verdict(request, yes=yes)
    decided = lab.authority.answer(verdict)
    assert (decided.state, decided.approver, decided.answered) == ("approved" if yes else "denied", "bob", NOW + 60)
    fact: type[RequestApproved | RequestDenied] = RequestApproved if yes else RequestDenied
    (said,) = (event.read(fact) for event in lab.authority.log() if event.kind == fact.kind)
    assert (said.request, said.task, said.approver) == (request, decided.task, "bob")
    assert said.signature == verdict.signature
