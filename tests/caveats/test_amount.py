"""Amounts and budgets as values: what is one, what a call costs, and what a budget says to it."""

import decimal
import re
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import (
    Call,
    InvalidCaveat,
    amount,
    budget,
    is_amount,
    plus,
    rest_of,
    shown_amount,
)

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
    Decimal("999999999999999.999999"): "999999999999999.999999",
    Decimal("0E+3"): "0",
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


@pytest.mark.parametrize(
    ("value", "text"), [("20.000", "20"), ("100", "100"), ("1E+3", "1000"), ("0.00", "0"), ("1E-6", "0.000001")]
)
def test_an_amount_is_shown_in_its_shortest_form(value: str, text: str) -> None:
    assert shown_amount(Decimal(value)) == text


@pytest.mark.parametrize("given", NONE_AT_ALL, ids=lambda given: repr(given) if type(given) is not int else "a number")
def test_what_is_no_amount_is_refused_wherever_it_is_given(given: Any) -> None:
    sentence = r"is not an amount: text such as '20' or '0\.5', a whole number or a Decimal"
    with pytest.raises(InvalidCaveat, match=sentence):
        amount(given)
    with pytest.raises(InvalidCaveat, match=sentence):
        budget("eur", given)
    with pytest.raises(InvalidCaveat, match=sentence):
        Call("a.read", cost={"eur": given})
    assert not (isinstance(given, str) and is_amount(given))


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("1,5", "'1,5'"),
        (0.1, "0.1"),
        (-5, "-5"),
        ("9" * 100, "'" + "9" * 79),
        (10**15, "this number"),
        (-(10**5000), "this number"),
    ],
    ids=["text", "a float", "less than zero", "a long text", "a large number", "a number that cannot be written"],
)
def test_the_error_names_what_is_no_amount(given: Any, quoted: str) -> None:
    with pytest.raises(InvalidCaveat, match=f"^{re.escape(quoted)} is not an amount: "):
        amount(given)


@pytest.mark.parametrize("text", ["1E-9999999", "1E+9999999", "0E-9999999", "0E+9999999"])
def test_a_decimal_of_millions_of_digits_is_refused_unwritten(text: str) -> None:
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
