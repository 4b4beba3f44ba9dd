"""Canonical JSON is that of RFC 8785, and what is no JSON has none."""

import json
from hashlib import sha256
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from capx.crypto import base64url
from capx.crypto.canonical_json import canonical, sorted_json
from capx.tokens.binding import HttpRequest, ToolCall
from capx_caveats import JSON, SAFE_INTEGER, Call, InvalidCaveat, demand_json

READ = ToolCall("a.read", {"id": 1})
REQUEST = HttpRequest(method="POST", target="/accounts?limit=5", content_type="application/json", body=b"{}")
numbers = st.one_of(st.integers(-SAFE_INTEGER, SAFE_INTEGER), st.floats(-SAFE_INTEGER, SAFE_INTEGER))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just("\ud800"), st.just(2**53)
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner), st.dictionaries(st.one_of(st.text(), st.integers()), inner)
    ),
    max_leaves=10,
)


@given(json_values)
def test_sorted_json_is_json_of_the_same_value(value: JSON) -> None:
    assert json.loads(sorted_json(value)) == value


def test_sorted_json_has_an_order_and_tells_1_from_1_0() -> None:
    assert sorted_json({"b": 1, "a": {"d": True, "c": 1.0}}) == b'{"a":{"c":1.0,"d":true},"b":1}'
    for wrong in ("\ud800", object()):
        with pytest.raises((TypeError, ValueError)):
            sorted_json(wrong)  # type: ignore[arg-type] # what an untyped caller may pass


@given(json_values)
def test_canonical_json_is_that_of_rfc_8785(value: JSON) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7},  # RFC 8785, 3.2.3
        {"": "", "\x7f": "\u2028\u2029", "\x1f\b\t\n\f\r": '"\\/'},
        [0.0, -0.0, 1e-7, 5e-324, 0.1, 333333333.3333333, 2**53 - 1],
    ],
)
def test_canonical_json_orders_and_escapes_as_rfc_8785_says(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(anything)
def test_what_is_no_json_has_no_canonical_form(value: JSON) -> None:
    try:
        demand_json(value)
    except InvalidCaveat:
        with pytest.raises(InvalidCaveat):
            canonical(value)
    else:
        assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), 1e16, float("nan"), float("inf"), "\ud800", {"\ud800": 1}, {1: 1}, b"x", {1}, object()]
)
def test_values_outside_json_have_no_digest(value: JSON) -> None:
    with pytest.raises(InvalidCaveat):
        ToolCall("a.read", {"x": value}).digest()
    with pytest.raises(InvalidCaveat):
        Call("a.read", {"x": value})


def test_a_value_that_nests_too_deeply_has_no_digest() -> None:
    value: JSON = 1
    for _ in range(3000):
        value = [value]
    with pytest.raises(InvalidCaveat):
        ToolCall("a.read", {"x": value}).digest()


def test_the_digests_are_over_the_canonical_form() -> None:
    assert READ.digest() == base64url.b64u(sha256(b'{"action":"a.read","args":{"id":1}}').digest())
    body = base64url.b64u(sha256(b"{}").digest())
    assert REQUEST.digest() == base64url.b64u(
        sha256(
            f'{{"body_sha256":"{body}","content_encoding":null,"content_type":"application/json",'
            '"method":"POST","target":"/accounts?limit=5"}'.encode()
        ).digest()
    )


@given(json_values, st.sampled_from([0, 40]))
def test_json_among_many_values_is_written_as_alone(value: JSON, others: int) -> None:
    # What is written without a look at each part, level by level, and part by part.
    for whole in ([*[7] * others, value], {**{f"m{at}": "a" for at in range(others)}, "last": value}, [[value]] * 40):
        assert canonical(whole) == rfc8785.dumps(whole)


@pytest.mark.parametrize(
    "part", [1.0, -0.0, 1e-7, 5e-324, "a.b", "e-", "\\", "\x7f", "\u2028", "é", {"b": 1, "a": 2}, 1]
)
@pytest.mark.parametrize("others", [0, 40])
def test_each_part_that_may_be_written_differently_is(part: JSON, others: int) -> None:
    for whole in ([part, *[7] * others], {"x": part, **{f"m{at}": at for at in range(others)}}):
        assert canonical(whole) == rfc8785.dumps(whole)


@pytest.mark.parametrize("value", [object(), "\ud800", [object()] * 40, ["\ud800"] * 40])
def test_what_is_no_json_after_all_is_refused(value: Any) -> None:
    with pytest.raises(InvalidCaveat):
        canonical(value)
