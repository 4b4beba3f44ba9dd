"""Amounts and budgets as values: what is one, what a call costs, and what a budget says to it."""

import decimal
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import (
    CALLS,
    Budget,
    Call,
    Facts,
    InvalidCaveat,
    amount,
    budget,
    is_amount,
    plus,
    rest_of,
    shown_amount,
)

NOW = 1_000
AMOUNTS: dict[Any, str] = {
    "0": "0",
    "20": "20",
    "0.5": "0.5",
    "0.000001": "0.000001",
    "999999999999999.999999": "999999999999999.999999",
    "1.500000": "1.5",
    0: "0",
    20: "20",
    10**15 - 1: "999999999999999",
    Decimal("2.50"): "2.5",
    Decimal("1E+3"): "1000",
    Decimal("1E-6"): "0.000001",
}
NONE_AT_ALL: list[Any] = [
    *("", " ", "-1", "+1", "01", "00", ".5", "1.", "1e3", "1_000", "1,5", "0x1", "inf", "NaN", "\u0661", "1\n", "1 "),
    *("1000000000000000", "0.0000001", "9" * 10_000),
    *(0.1, 1.0, float("nan"), True, False, None, b"1", [], 1j),
    *(-1, 10**15, -(10**5000), 10**5000),
    *map(
        Decimal, ("-1", "-0", "NaN", "sNaN", "Infinity", "1E+15", "1E-7", "1E+999999999", "1E-999999999", "0E+999999")
    ),
]


@pytest.mark.parametrize("given", AMOUNTS, ids=repr)
def test_an_amount_is_exact(given: Any) -> None:
    assert shown_amount(amount(given)) == AMOUNTS[given]


@pytest.mark.parametrize("given", NONE_AT_ALL, ids=lambda given: repr(given) if type(given) is not int else "a number")
def test_what_is_no_amount_is_refused_at_once_wherever_it_is_given(given: Any) -> None:
    sentence = r"is not an amount: text such as '20' or '0\.5', a whole number or a Decimal"
    with pytest.raises(InvalidCaveat, match=sentence):
        amount(given)
    with pytest.raises(InvalidCaveat, match=sentence):
        budget("eur", given)
    with pytest.raises(InvalidCaveat, match=sentence):
        Call("a.read", cost={"eur": given})
    assert not (isinstance(given, str) and is_amount(given))


@pytest.mark.parametrize("text", ["1E-9999999", "1E+9999999", "0E-9999999", "0E+9999999"])
def test_a_decimal_of_millions_of_digits_is_refused_without_writing_them_down(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidCaveat):
            amount(Decimal(text))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(
    st.decimals(min_value=0, max_value=10**15 - 1, places=6), st.decimals(min_value=0, max_value=10**15 - 1, places=6)
)
def test_sums_and_rests_are_exact_in_any_context(one: Decimal, other: Decimal) -> None:
    with decimal.localcontext(decimal.Context(prec=1, traps=[decimal.Inexact])):
        added, rest = plus(one, other), rest_of(one, other)
    millionths = [int(value.scaleb(6, decimal.Context(prec=50))) for value in (one, other, added, rest)]
    assert millionths[2] == millionths[0] + millionths[1]
    assert millionths[3] == max(0, millionths[0] - millionths[1])


def test_every_call_costs_one_call_and_what_it_states() -> None:
    call = Call("a.read", cost={"eur": "0.50", "tokens": 3, "usd": Decimal(2)})
    assert [call.cost_in(unit) for unit in (CALLS, "eur", "tokens", "usd", "jpy")] == [1, Decimal("0.5"), 3, 2, None]
    assert Call("a.read").cost_in(CALLS) == 1


@pytest.mark.parametrize("unit", ["calls", "EUR", "", "e u r", "a" * 33, "1st"])
def test_a_cost_is_stated_in_a_unit_that_is_one_and_never_in_calls(unit: str) -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", cost={unit: 1})


def said(caveat: Budget, *, metered: bool = True, **cost: Any) -> str | None:
    refusal = caveat.refusal(Facts(Call("a.read", cost=cost), NOW, 0.0, metered))
    return refusal.code if refusal else None


def test_a_budget_by_itself_refuses_only_what_nothing_spent_could_cure() -> None:
    assert said(budget("calls", 1)) is None
    assert said(budget("calls", 1), metered=False) == "no_meter"
    assert said(budget("calls", "0.999999")) == "budget_exhausted"
    assert said(budget("eur", 5)) == "attribute_missing"
    assert said(budget("eur", 5), usd=1) == "attribute_missing"
    assert said(budget("eur", 5), eur="5.000000") is None
    assert said(budget("eur", 5), eur="5.000001") == "budget_exhausted"
    assert said(budget("eur", 0), eur=0) is None


def test_a_budget_tells_whether_it_is_spent_and_not_how_far() -> None:
    caveat = budget("eur", 10)
    room = caveat.exhausted(Decimal("9.5"), Decimal("0.5"))
    assert room is None
    more, spent, over = (caveat.exhausted(Decimal(held), Decimal(1)) for held in ("9.25", "10", "11"))
    assert more is not None
    assert spent is not None
    assert over is not None
    assert (more.code, more.sentence) == (
        "budget_exhausted",
        "allows at most 10 eur, shared by everyone below, and this call costs more than is left",
    )
    assert spent == over
    assert spent.sentence == "allows at most 10 eur, shared by everyone below, and that is spent"
