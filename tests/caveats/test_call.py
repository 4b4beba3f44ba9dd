"""A call and what it costs."""

from decimal import Decimal
from typing import Any

import pytest

from capx_caveats import (
    CALLS,
    Call,
    InvalidCaveat,
)


def test_every_call_costs_one_call_and_what_it_states() -> None:
    call = Call("a.read", cost={"eur": "0.50", "tokens": 3, "usd": Decimal(2)})
    assert [call.cost_in(unit) for unit in (CALLS, "eur", "tokens", "usd", "jpy")] == [1, Decimal("0.5"), 3, 2, None]
    assert Call("a.read").cost_in(CALLS) == 1


@pytest.mark.parametrize("unit", ["calls", "EUR", "", "e u r", "a" * 33, "1st"])
def test_a_cost_in_no_unit_or_in_calls_is_refused(unit: str) -> None:
    with pytest.raises(InvalidCaveat):
        Call("a.read", cost={unit: 1})


# The call

ILL_FORMED: dict[str, dict[str, Any]] = {
    "no action": {"action": ""},
    "a pattern": {"action": "a.*"},
    "an action that is no text": {"action": None},
    "an empty tenant": {"tenant": ""},
    "a tenant with a newline": {"tenant": "a\nb"},
    "a tenant that is a number": {"tenant": 5},
    "an empty argument name": {"args": {"": 1}},
    "an argument name that is a number": {"args": {1: 1}},
    "an argument name with NUL": {"args": {"a\0": 1}},
    "a set": {"args": {"x": {1}}},
    "bytes": {"args": {"x": b"1"}},
    "nan": {"args": {"x": float("nan")}},
    "2**53 deep inside": {"args": {"x": [{"y": 2**53}]}},
    "a lone surrogate": {"args": {"x": "\ud800"}},
    "a subclass of int": {"args": {"x": type("Id", (int,), {})(5)}},
    "an attribute in upper case": {"attributes": {"Region": "eu"}},
    "an attribute that is no JSON": {"attributes": {"region": object()}},
}


@pytest.mark.parametrize("fields", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_a_call_that_cannot_be_judged_cannot_be_stated(fields: dict[str, Any]) -> None:
    base: dict[str, Any] = {} if "action" in fields else {"action": "a.read"}
    with pytest.raises(InvalidCaveat):
        Call(**base, **fields)
