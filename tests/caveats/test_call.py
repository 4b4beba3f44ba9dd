"""A call and what it costs."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from capx_caveats import (
    CALLS,
    JSON,
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


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "the action": ({"action": "a.*"}, "'a.*' is not an action (labels joined by dots)"),
    "the tenant": ({"tenant": "a\nb"}, r"'a\nb' is not a tenant"),
    "the unit": ({"cost": {"EUR": 1}}, "'EUR' is not a unit"),
    "the unit of calls": ({"cost": {"calls": 1}}, "a call always costs 1 in `calls`: leave that unit out of `cost`"),
    "the default": (
        {"args": {"x": 1}, "defaults": {"x": 1}},
        "the argument 'x' was given, so it has no default",
    ),
}


@pytest.mark.parametrize(("fields", "sentence"), NAMED.values(), ids=list(NAMED))
def test_the_error_about_a_call_names_what_is_wrong(fields: dict[str, Any], sentence: str) -> None:
    stated: dict[str, Any] = {"action": "a.read", **fields}
    with pytest.raises(InvalidCaveat, match=f"^{re.escape(sentence)}$"):
        Call(**stated)


def test_a_rule_sees_the_defaults_that_it_names() -> None:
    call = Call("a.read", {"x": 1, "y": 2}, defaults={"z": 3, "w": 4})
    assert call.seen_by([]) == call.seen_by(["x", "v"]) == {"x": 1, "y": 2}
    assert call.seen_by(["x", "z"]) == {"x": 1, "y": 2, "z": 3}
    assert call.seen_by(["*"]) == call.seen_by(["z", "*"]) == {"x": 1, "y": 2, "z": 3, "w": 4} == call.arguments


class Same(str):
    """A text that equals every other one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class MultiDict(dict[str, Any]):
    """A dict that shows the first of several values, as that of werkzeug."""

    def items(self) -> Any:
        return [(name, values[0]) for name, values in super().items()]


class Few(Mapping[str, int]):
    """A mapping that is no dict."""

    def __getitem__(self, name: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


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
    "a text that equals every text": {"args": {"x": Same("eve")}},
    "an argument name that equals every text": {"args": {Same("to"): 1}},
    "an attribute that equals every text": {"attributes": {Same("region"): 1}},
    "a unit that equals every text": {"cost": {Same("eur"): 1}},
    "an amount that equals every text": {"cost": {"eur": Same("1")}},
    "a list that shows the first of two": {"args": {"x": type("First", (list,), {})([1, 2])}},
    "an attribute in upper case": {"attributes": {"Region": "eu"}},
    "an attribute that is no JSON": {"attributes": {"region": object()}},
}


@pytest.mark.parametrize("fields", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_a_call_that_cannot_be_judged_cannot_be_stated(fields: dict[str, Any]) -> None:
    base: dict[str, Any] = {} if "action" in fields else {"action": "a.read"}
    with pytest.raises(InvalidCaveat):
        Call(**base, **fields)


# What `of_json` is told to be JSON: it looks at names, and not at values.
UNSEEN = {
    "a set",
    "bytes",
    "nan",
    "2**53 deep inside",
    "a lone surrogate",
    "a subclass of int",
    "a text that equals every text",
    "a list that shows the first of two",
}


@pytest.mark.parametrize("told", [told for told in ILL_FORMED if told not in UNSEEN])
def test_a_call_of_json_is_looked_at_but_for_its_values(told: str) -> None:
    fields: dict[str, Any] = {"action": "a.read", "args": {}, **ILL_FORMED[told]}
    with pytest.raises(InvalidCaveat):
        Call.of_json(**fields)


def test_a_call_of_json_is_the_call_of_these_values() -> None:
    defaults: dict[str, JSON] = {"z": [2]}
    called = Call.of_json("a.read", {"x": 1}, "Acme", attributes={"region": "eu"}, cost={"eur": 2}, defaults=defaults)
    assert called == Call("a.read", {"x": 1}, "Acme", {"region": "eu"}, {"eur": 2}, {"z": [2]})
    assert Call.of_json("a.read", {"x": 1}) == Call("a.read", {"x": 1})
    with pytest.raises(InvalidCaveat, match="so it has no default"):
        Call.of_json("a.read", {"x": 1}, defaults={"x": 1})
    repeated: Any = MultiDict(a=[1])
    states: list[dict[str, Any]] = [{"args": repeated}, {"args": {}, "defaults": repeated}]
    for stated in states:
        with pytest.raises(InvalidCaveat, match="may hold more than it shows"):
            Call.of_json("a.read", **stated)


MAPPINGS: list[Any] = [MultiDict(a=[1, 2]), Few(), MultiDict(), [("a", 1)], None, "a", 1]


@pytest.mark.parametrize("mapping", [*MAPPINGS, *map(MappingProxyType, MAPPINGS[:3])], ids=lambda one: repr(one)[:30])
@pytest.mark.parametrize("part", ["args", "attributes", "cost"])
def test_a_mapping_that_shows_the_first_of_two_is_refused(part: str, mapping: Any) -> None:
    with pytest.raises(InvalidCaveat, match="may hold more than it shows: pass a plain dict, in which a name that is"):
        Call("a.read", **{part: mapping})


@pytest.mark.parametrize("part", ["args", "attributes", "cost"])
def test_a_view_of_a_dict_is_stated_as_the_dict(part: str) -> None:
    stated: dict[str, Any] = {part: MappingProxyType({"a": 1})}
    assert getattr(Call("a.read", **stated), part) == {"a": 1}
