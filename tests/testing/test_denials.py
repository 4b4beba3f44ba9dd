"""A block that demands a denial passes for that denial, and says what happened instead."""

import pytest

import capx
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.testing import OpensByHand, denied
from capx.tokens.bundle import Bundle
from capx_caveats import action, between


def refund(authority: Authority, bundle: Bundle, amount: int) -> None:
    @authority.tool("billing.refund")
    def refund(amount: int) -> None: ...

    with capx.acting(bundle):
        refund(amount)


@pytest.fixture
def child(capx_bundle: OpensByHand) -> Bundle:
    narrow = action("billing.refund", amount=between(1, 50))
    return capx_bundle("billing.refund", tenant=None).delegate(to="clerk", allow=[narrow])


def failure(code: str, hop: int | None, authority: Authority, bundle: Bundle, amount: int) -> str:
    with pytest.raises(AssertionError) as caught, denied(code, hop):
        refund(authority, bundle, amount)
    return str(caught.value)


def test_the_denial_that_is_named_passes(capx_authority: Authority, child: Bundle) -> None:
    with denied("argument_refused", hop=1) as caught:
        refund(capx_authority, child, 80)
    assert caught.error is not None
    assert caught.error.refusals[0].given == {"amount": 80}
    with denied("argument_refused"):
        refund(capx_authority, child, 80)


def test_another_code_fails_and_says_which_it_was(capx_authority: Authority, child: Bundle) -> None:
    assert failure("expired", 1, capx_authority, child, 80) == (
        "the call must be denied for expired by hop 1, but it was denied for argument_refused by hop 1 "
        '(hop 1 ("clerk") allows billing.refund only where amount is between 1 and 50; "amount" is 80)'
    )


def test_another_hop_fails_and_says_whose_it_was(capx_authority: Authority, child: Bundle) -> None:
    said = failure("argument_refused", 0, capx_authority, child, 80)
    assert "for argument_refused by hop 0, but it was denied for argument_refused by hop 1 (" in said


def test_a_reason_of_no_hop_is_of_none(capx_authority: Authority) -> None:
    empty = Bundle([*capx_authority.open(allow=["crm.read"]).bundle])
    assert failure("no_token", 0, capx_authority, empty, 1).startswith(
        "the call must be denied for no_token by hop 0, but it was denied for no_token (no token was presented: "
    )


def test_a_call_that_is_allowed_fails(capx_authority: Authority, child: Bundle) -> None:
    assert failure("argument_refused", None, capx_authority, child, 20) == (
        "the call must be denied for argument_refused, but it was allowed"
    )


def test_another_error_of_capx_fails_and_is_named(capx_authority: Authority, child: Bundle) -> None:
    with pytest.raises(AssertionError) as caught, denied("argument_refused"):
        Agent(child).__reduce__()
    assert "but InvalidRequest was raised: an agent cannot be pickled" in str(caught.value)
    assert isinstance(caught.value.__cause__, capx.InvalidRequest)


def test_a_foreign_error_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), denied("argument_refused"):
        _ = 1 / 0
