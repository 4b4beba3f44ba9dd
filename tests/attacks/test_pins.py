"""Attacks on what a consent is pinned to: one yes, then a call with other content."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from capx.authority.requests.inquiry import Inquiry
from capx.errors import InvalidRequest
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.tokens.grants import ask_entries
from capx.verify.ask import Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import action, allow, anything, between, one_of
from tests.labs.granting_asks import first
from tests.labs.granting_lab import BOB, CARA, GrantingLab, policy, rule
from tests.labs.own_constraints import Odd

SEND, REFUND = "mail.send", "billing.refund"
MAIL: dict[str, Any] = {"to": "ben", "subject": "Report", "body": "All is well.", "cc": []}


@pytest.fixture
def lab() -> Iterator[GrantingLab]:
    made = GrantingLab(rule("ask", SEND, pinned=True), rule("ask", REFUND, pinned=True))
    with made.authority:
        yield made


def lists(lab: GrantingLab, *names: str, uses: int | None = 1, **more: Any) -> None:
    """From now on a consent to a mail is pinned to these arguments."""
    lab.policy = policy(rule("ask", SEND, pinned=names, uses=uses, **more))


def agreed(lab: GrantingLab, bundle: Bundle, action: str, args: dict[str, Any]) -> Capability:
    """The grant of this ask, to which a person has consented."""
    assert lab.decide(lab.pending(bundle, action, args).request).state == "approved"
    return lab.granted(bundle, action, args)


def arguments(inquiry: Inquiry) -> str:
    (sentence,) = [one for one in inquiry.sentences() if one.startswith("it would be allowed")]
    return sentence


# Pinned to all arguments.


def test_a_yes_to_one_refund_allows_no_other_amount(lab: GrantingLab) -> None:
    granted = agreed(lab, first(lab), REFUND, {"amount": 400})
    others: list[Any] = [{"amount": 300}, {"amount": 401}, {}, {"amount": "400"}, {"amount": 400, "note": ""}]
    for other in others:
        assert lab.codes(granted, REFUND, other) != ()
    assert lab.codes(granted, REFUND, {"amount": 400}) == ()


def test_nobody_is_asked_for_any_arguments(lab: GrantingLab) -> None:
    answer = lab.ask(first(lab), SEND)
    assert isinstance(answer, Refused)
    (refusal,) = answer.reasons
    assert refusal.code == "not_pinned"
    assert refusal.sentence.endswith("ask for mail.send again with the arguments of the call")
    assert lab.authority.requests() == []


@pytest.mark.parametrize("change", [{"body": "Pay."}, {"to": "eve"}, {"cc": ["eve"]}, {"cc": ""}, {"bcc": "eve"}])
def test_a_yes_to_one_mail_sends_no_other(lab: GrantingLab, change: dict[str, Any]) -> None:
    bundle = first(lab)
    granted = agreed(lab, bundle, SEND, MAIL)
    assert lab.codes(granted, SEND, MAIL | change) != ()
    assert isinstance(lab.ask(bundle, SEND, MAIL | change), Pending)


def test_what_cannot_be_shown_whole_asks_nobody(lab: GrantingLab) -> None:
    bundle = first(lab)
    for body in ("x" * 5_000, [["deep"]], {"*": 1}):
        assert lab.refused(bundle, SEND, MAIL | {"body": body}) == ("not_pinned",)
    lists(lab, "to", "subject", "cc")
    assert "body" not in arguments(
        lab.authority.inquiry(lab.pending(bundle, SEND, MAIL | {"body": "x" * 5_000}).request)
    )


# Pinned to some.


def test_a_list_pins_these_and_the_person_sees_what_is_free(lab: GrantingLab) -> None:
    lists(lab, "to", "bcc")
    bundle = first(lab)
    pending = lab.pending(bundle, SEND, MAIL)
    assert arguments(lab.authority.inquiry(pending.request)) == (
        'it would be allowed mail.send at mail, only with to "ben" and without bcc; its other arguments may be any '
        "that the policy offers"
    )
    lab.decide(pending.request)
    granted = lab.granted(bundle, SEND, MAIL | {"body": "Another."})
    assert granted == lab.granted(bundle, SEND, MAIL)
    others: list[Any] = [{"to": "eve"}, {"bcc": "eve"}, {"bcc": None}, {"bcc": []}]
    for other in others:
        assert lab.codes(granted, SEND, MAIL | other) != ()
    assert lab.codes(granted, SEND, MAIL | {"body": "A third."}) == ()


def test_free_arguments_stay_within_what_the_policy_offers(lab: GrantingLab) -> None:
    offered = action(SEND, to=anything(), subject=one_of("Report"), body=anything(), cc=anything())
    lab.policy = policy(rule("ask", offered, pinned=("to",)))
    granted = agreed(lab, first(lab), SEND, MAIL)
    assert lab.codes(granted, SEND, MAIL | {"subject": "Pay"}) == ("argument_refused",)
    assert lab.codes(granted, SEND, MAIL | {"bcc": "eve"}) == ("argument_not_named",)


def test_another_body_is_no_other_request(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    pending = lab.pending(bundle, SEND, MAIL)
    assert lab.pending(bundle, SEND, MAIL | {"body": "Another."}).request == pending.request
    lab.decide(pending.request, yes=False)
    assert lab.refused(bundle, SEND, MAIL | {"body": "A third."}) == ("request_denied",)
    assert lab.pending(bundle, SEND, MAIL | {"to": "cara"}).request != pending.request


def test_another_body_does_not_use_a_consent_twice(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    granted = agreed(lab, bundle, SEND, MAIL)
    assert lab.codes(granted, SEND, MAIL) == ()
    assert lab.codes(granted, SEND, MAIL | {"body": "Another."}) == ("budget_exhausted",)
    again = lab.pending(bundle, SEND, MAIL | {"body": "Another."})
    assert "it was granted before, once" in lab.authority.inquiry(again.request).sentences()


@pytest.mark.parametrize("pinned", [("to",), ("subject",)])
def test_a_list_frees_no_argument_that_a_delegator_bound(lab: GrantingLab, pinned: tuple[str, ...]) -> None:
    lists(lab, *pinned)
    child = first(lab).delegate(to="sub", may_ask=[action(SEND, to="ben", subject=one_of("Report"))])
    with pytest.raises(Denied):
        lab.ask(child, SEND, {"to": "eve", "subject": "Report"})
    granted = agreed(lab, child, SEND, {"to": "ben", "subject": "Report"})
    for other in ({"to": "eve"}, {"subject": "Pay"}, {"body": "x"}):
        assert lab.codes(granted, SEND, {"to": "ben", "subject": "Report"} | other) != ()


def test_a_list_frees_what_no_delegator_bound(lab: GrantingLab) -> None:
    lists(lab, "to")
    child = first(lab).delegate(to="sub", may_ask=[SEND])
    assert lab.codes(agreed(lab, child, SEND, MAIL), SEND, MAIL | {"body": "x"}) == ()


def test_who_is_asked_follows_from_all_arguments(lab: GrantingLab) -> None:
    small, large = (
        action(REFUND, to=anything(), amount=between(0, 50)),
        action(REFUND, to=anything(), amount=anything()),
    )
    lab.policy = policy(
        rule("ask", small, pinned=("to",)), rule("ask", large, pinned=("to",), approvers=("legal",)), names=()
    )
    bundle = first(lab)
    pending = lab.pending(bundle, REFUND, {"to": "ben", "amount": 400})
    assert pending.approvers == ("legal",)
    with pytest.raises(InvalidRequest, match="cannot answer"):
        lab.decide(pending.request, BOB)
    assert lab.decide(pending.request, CARA).state == "approved"
    assert (
        lab.codes(lab.granted(bundle, REFUND, {"to": "ben", "amount": 400}), REFUND, {"to": "ben", "amount": 9}) == ()
    )


def test_a_yes_to_a_small_one_is_no_yes_to_a_large_one(lab: GrantingLab) -> None:
    small, large = (
        action(REFUND, to=anything(), amount=between(0, 50)),
        action(REFUND, to=anything(), amount=anything()),
    )
    lab.policy = policy(rule("ask", small, pinned=("to",)), rule("ask", large, pinned=("to",), approvers=("legal",)))
    bundle = first(lab)
    signed = lab.verdict(lab.pending(bundle, REFUND, {"to": "ben", "amount": 4}).request)
    # The same arguments are pinned, but each rule has its own requests.
    assert lab.pending(bundle, REFUND, {"to": "ben", "amount": 400}).request != signed.request
    lab.authority.answer(signed)
    assert isinstance(lab.ask(bundle, REFUND, {"to": "ben", "amount": 400}), Pending)
    assert lab.codes(lab.granted(bundle, REFUND, {"to": "ben", "amount": 4}), REFUND, {"to": "ben", "amount": 400})


def test_a_request_that_shows_other_arguments_is_not_signed(lab: GrantingLab) -> None:
    lists(lab, "to")
    inquiry = lab.authority.inquiry(lab.pending(first(lab), SEND, MAIL).request)
    for args in ('{"to":"eve"}', "{}", None, '{"body":"x","to":"ben"}'):
        shown = replace(inquiry, request=replace(inquiry.request, args=args))
        with pytest.raises(InvalidRequest, match="shows other arguments than its grant would have"):
            shown.sentences()


# The same call, pinned otherwise.


def narrowed(bundle: Bundle) -> Bundle:
    """The same agent, which lets itself ask only with arguments: then all that it names is pinned."""
    any_mail = action(SEND, args=dict.fromkeys(MAIL, anything()))
    return Bundle([one.attenuate(allow(*ask_entries([any_mail]))) for one in bundle])


def told(lab: GrantingLab, request: str) -> str:
    return "\n".join(lab.authority.inquiry(request).sentences())


def test_a_no_to_any_body_is_a_no_to_each_body(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND, MAIL).request, yes=False)
    for body in ("All is well.", "Another."):
        assert lab.refused(bundle, SEND, MAIL | {"body": body}) == ("request_denied",)
        assert lab.refused(narrowed(bundle), SEND, MAIL | {"body": body}) == ("request_denied",)
    assert isinstance(lab.ask(narrowed(bundle), SEND, MAIL | {"to": "cara"}), Pending)


def test_a_no_to_one_body_is_no_step_to_any_body(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    lab.decide(lab.pending(narrowed(bundle), SEND, MAIL).request, yes=False)
    assert lab.refused(bundle, SEND, MAIL) == ("request_denied",)
    # A person decides about another mail, and sees the no.
    other = lab.pending(bundle, SEND, MAIL | {"body": "Another."})
    assert "bob denied the same" in told(lab, other.request)


@pytest.mark.parametrize(("before", "now"), [(True, ("to",)), (("to",), ("to", "body")), (("to",), True)])
def test_a_no_outlives_a_policy_that_pins_otherwise(lab: GrantingLab, before: Any, now: Any) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=before))
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND, MAIL).request, yes=False)
    lab.policy = policy(rule("ask", SEND, pinned=now))
    assert lab.refused(bundle, SEND, MAIL) == ("request_denied",)


def test_a_revoked_grant_is_not_had_by_pinning_otherwise(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    granted = agreed(lab, bundle, SEND, MAIL)
    lab.authority.revoke(granted.id)
    assert lab.refused(narrowed(bundle), SEND, MAIL) == ("grant_revoked",)
    child = bundle.delegate(to="sub", may_ask=[action(SEND, args=dict.fromkeys(MAIL, anything()))])
    assert lab.refused(child, SEND, MAIL) == ("grant_revoked",)


def test_a_helper_that_pins_otherwise_does_not_hide_a_no(lab: GrantingLab) -> None:
    lists(lab, "to")
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND, MAIL).request, yes=False)
    child = bundle.delegate(to="sub", may_ask=[action(SEND, args=dict.fromkeys(MAIL, anything()))])
    assert "bob denied the same to the first agent" in told(lab, lab.pending(child, SEND, MAIL).request)


# A policy that pins more than it did.


def test_an_unpinned_request_of_before_can_no_longer_be_approved(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=False))
    bundle = first(lab)
    waiting = lab.pending(bundle, SEND)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    with pytest.raises(InvalidRequest, match=r"can no longer be granted: .* only to a call with its arguments"):
        lab.decide(waiting.request)
    assert lab.refused(bundle, SEND) == ("not_pinned",)
    assert lab.decide(waiting.request, yes=False).state == "denied"


def test_an_unpinned_consent_of_before_is_not_fetched(lab: GrantingLab) -> None:
    lab.policy = policy(rule("ask", SEND, pinned=False))
    bundle = first(lab)
    lab.decide(lab.pending(bundle, SEND).request)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    assert lab.refused(bundle, SEND) == ("not_pinned",)
    assert isinstance(lab.ask(bundle, SEND, MAIL), Pending)


def test_a_consent_to_a_whole_call_holds_if_fewer_are_pinned(lab: GrantingLab) -> None:
    bundle = first(lab)
    waiting = lab.pending(bundle, SEND, MAIL)
    lists(lab, "to", uses=None)
    # It gives less than the policy would give now.
    assert lab.decide(waiting.request).state == "approved"
    # But an ask by this policy is for other terms, so a person is asked anew.
    assert isinstance(lab.ask(bundle, SEND, MAIL), Pending)


def test_a_consent_to_some_arguments_falls_if_all_are_pinned(lab: GrantingLab) -> None:
    lists(lab, "to")
    waiting = lab.pending(first(lab), SEND, MAIL)
    lab.policy = policy(rule("ask", SEND, pinned=True))
    with pytest.raises(InvalidRequest, match="the policy has changed"):
        lab.decide(waiting.request)


# A service's own constraint.


def test_what_an_own_constraint_gives_at_open_is_asked_for(lab: GrantingLab) -> None:
    lab.policy = policy(rule("at_open", action("crm.read", id=Odd())))
    bundle = lab.open().bundle
    answer = lab.ask(bundle, "crm.read")
    assert isinstance(answer, Granted)
    assert '["acme.odd"]' in str(answer.capability.blocks[0])
    assert lab.refused(bundle, "crm.read", {"id": 2}) == ("not_offered",)
    lab.granted(bundle, "crm.read", {"id": 3})
    for request in lab.authority.requests():
        assert any("acme.odd" in sentence for sentence in lab.authority.inquiry(request.id).sentences())
