"""What people are shown of a request for the approval of one call, of the authority and in a file: every word."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from capx.authority.requests.inquiry import Inquiry, SameAsk, request_sentences
from capx.authority.uses import EarlierUse
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.tokens.approval_caveat import approval
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from capx_caveats import shown_instant
from tests.labs.granting_lab import BOB, CARA, NOW, GrantingLab, policy, rule

NAMED = {"amount": 40, "to whom": 'a"b'}
AT, UNTIL = shown_instant(NOW), shown_instant(NOW + 3_600)
DEFAULTS = "an argument that is not named has the service's default, if there is one"
LASTS = "an approval is good for the agent that asks and those below it, for 15m at most"


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(rule("at_open", "billing.*"))
    yield made
    made.authority.close()


def demanding(lab: GrantingLab, *by: Any, count: int = 1) -> Bundle:
    terms = approval(by=[one.public for one in by or (BOB,)], count=count)
    return lab.open().bundle.delegate(to="clerk", approval=terms, now=NOW)


def asked(lab: GrantingLab, bundle: Bundle, args: Any) -> Inquiry:
    demand = next(iter(bundle)).demands[0].decode()
    answer = lab.authority.ask(bundle, "billing.refund", args=args, demand=demand)
    assert isinstance(answer, Pending)
    return lab.authority.inquiry(answer.request)


def document(inquiry: Inquiry) -> ApprovalRequest:
    return ApprovalRequest.parse(inquiry.request.to_approve or "")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, "without arguments"),
        ({"amount": 40}, "only with amount 40"),
        (NAMED, 'only with amount 40 and "to whom" "a\\"b"'),
    ],
)
def test_people_see_which_call_they_approve(lab: GrantingLab, args: Any, told: str) -> None:
    inquiry = asked(lab, demanding(lab), args)
    task = inquiry.request.task
    call = f"it wants one call approved: billing.refund at billing, {told}"
    needs = f"it needs the approval of {BOB.public}"
    assert inquiry.sentences() == (
        f'"clerk" asks, in task {task}',
        'ana wanted work for Acme, in their words "Do the work."',
        *(call, DEFAULTS, needs, LASTS),
        f"asked at {AT}, to be answered before {UNTIL} by bob",
    )
    file = document(inquiry)
    assert request_sentences(file, None) == (
        f"the agent at node {file.node}, or one below it, asks, in task {task}",
        f"on intent {file.intent}",
        *(call, DEFAULTS, f"asked at {AT}", needs, LASTS),
    )
    without = request_sentences(replace(file, intent=UNSET), None)
    assert without[1] == "its task was opened on no intent"


def test_people_see_who_has_signed_and_what(lab: GrantingLab) -> None:
    inquiry = asked(lab, demanding(lab, BOB, CARA, count=2), {"amount": 40})
    file = document(inquiry)
    needs = f"it needs the approval of 2 of {BOB.public}, {CARA.public}"
    ends = f"  expires at {shown_instant(NOW + 600)}"
    allows = "  allows only billing.refund where amount is 40"
    for uses, said in (
        (1, "  at most 1 call, shared by everyone below"),
        (None, "  for any number of calls until it expires"),
    ):
        half = BOB.approve(file, uses=uses, now=NOW)
        told = request_sentences(file, half.text)
        begin = told.index(needs)
        assert told[begin + 2] == f"it says that {BOB.public} has signed this approval:"
        assert sorted(told[begin + 3 :]) == sorted((allows, ends, said))
        lab.authority.approve(inquiry.request.id, half) if uses else None
    shown = lab.authority.inquiry(inquiry.request.id).sentences()
    assert shown[4 : 4 + 3] == (needs, LASTS, f"it says that {BOB.public} has signed this approval:")
    assert shown[-1] == f"asked at {AT}, to be answered before {UNTIL} by bob or cara"


OTHERS = {"audience": "mail", "action": "billing.credit", "args": {"amount": 400}, "task": "another", "intent": UNSET}


@pytest.mark.parametrize("name", OTHERS)
def test_nobody_is_shown_another_call_than_the_one_they_sign(lab: GrantingLab, name: str) -> None:
    inquiry = asked(lab, demanding(lab), {"amount": 40})
    other = canonical(replace(document(inquiry), **{name: OTHERS[name]}).document()).decode()
    with pytest.raises(InvalidRequest, match="a text that capx does not write"):
        Inquiry(replace(inquiry.request, to_approve=other), inquiry.document).sentences()


def test_people_see_what_was_wanted_and_by_which_numbers(lab: GrantingLab) -> None:
    lab.policy = policy(rule("at_open", "billing.*"), tenant=False, names=("account", "year"))
    opened = lab.open(tenant=UNSET, parameters={"account": "a 7", "year": 2026})
    bundle = opened.bundle.delegate(to="clerk", approval=approval(by=[BOB.public]), now=NOW)
    assert asked(lab, bundle, {}).sentences()[1] == (
        'ana wanted work with account "a 7" and year 2026, in their words "Do the work."'
    )


def test_people_see_a_signature_of_somebody_whom_nobody_demanded(lab: GrantingLab) -> None:
    both = document(asked(lab, demanding(lab, BOB, CARA), {"amount": 40}))
    of_cara = CARA.approve(both, now=NOW).text
    alone = document(asked(lab, demanding(lab), {"amount": 40}))
    assert "it says that a key that the token does not name has signed this approval:" in request_sentences(
        alone, of_cara
    )


def test_people_see_what_became_of_the_same_call(lab: GrantingLab) -> None:
    inquiry = asked(lab, demanding(lab), {"amount": 40})
    other = SameAsk(request="other", state="granted", labels=("one",), approver=None, at=NOW)
    told = replace(inquiry, others=(other,), uses=(EarlierUse("d-1", NOW),)).sentences()
    assert told[-2:] == (
        f"billing reports that decision d-1 allowed a call with it at {AT}",
        f'the policy granted the same to "one" at {AT}',
    )
