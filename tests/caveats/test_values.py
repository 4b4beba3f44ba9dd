"""Values: which ones are JSON, when two are the same, and how much they hold."""

from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from capx_caveats import JSON, MISSING, SAFE_INTEGER, InvalidCaveat, Value, demand_json
from capx_caveats.values import Literal, as_array, demand_dict, demand_members, holds_more, same


def nested(levels: int, inner: JSON = 1) -> JSON:
    """A value within so many arrays and objects, in turn."""
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


MANY: list[Any] = [0] * 100
EMPTY: dict[str, Any] = {}


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        SAFE_INTEGER,
        -SAFE_INTEGER,
        float(SAFE_INTEGER),
        float(-SAFE_INTEGER),
        "é",
        [],
        (),
        {},
        nested(64),
        nested(64, "a"),
        nested(63, ()),
        [*MANY, nested(63)],
        nested(63, MANY),
        {str(n): n for n in range(100)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_is_of_plain_types_and_at_most_64_levels_deep(value: JSON) -> None:
    demand_json(value)
    demand_members({"a": value})
    demand_members({str(n): value for n in range(100)})


ORDERED = OrderedDict[str, int](a=1)
NO_JSON: list[tuple[Any, str]] = [
    (SAFE_INTEGER + 1, "a number is beyond"),
    (-SAFE_INTEGER - 1, "a number is beyond"),
    (float("inf"), "not finite"),
    (float("nan"), "not finite"),
    ("\ud800", "a lone surrogate"),
    ({1: 2}, "a name is a int"),
    ({10**9_000: 1}, "a name is a int"),
    ({"\ud800": 1}, "a lone surrogate"),
    ([b"x"], "a bytes is not a JSON value"),
    ([{"a": {1, 2}}], "a set is not a JSON value"),
    (ORDERED, "a OrderedDict is not a JSON value"),
    (nested(65), "deeper than 64 levels"),
    (nested(64, []), "deeper than 64 levels"),
    (nested(64, {}), "deeper than 64 levels"),
    (nested(64, MANY), "deeper than 64 levels"),
]


def alone(value: Any) -> Any:
    return value


def among_many(value: Any) -> Any:
    return [*MANY, value]


@pytest.mark.parametrize("around", [alone, among_many])
@pytest.mark.parametrize(("value", "says"), NO_JSON, ids=lambda value: type(value).__name__)
def test_what_is_no_json_is_refused_wherever_it_is(around: Callable[[Any], Any], value: Any, says: str) -> None:
    with pytest.raises(InvalidCaveat, match=says):
        demand_json(around(value))
    with pytest.raises(InvalidCaveat, match=says):
        demand_members({"a": around(value)})


def test_a_member_among_many_may_not_be_too_deep() -> None:
    few = {str(n): 1 for n in range(100)}
    demand_members({**few, "a": nested(64)})
    with pytest.raises(InvalidCaveat, match="deeper than 64 levels"):
        demand_members({**few, "a": nested(65)})
    with pytest.raises(InvalidCaveat, match="deeper than 64 levels"):
        demand_json([*MANY, nested(64)])


def test_arguments_are_in_a_plain_dict_or_a_view_of_one() -> None:
    demand_dict({"a": 1})
    demand_dict(MappingProxyType({"a": 1}))
    for other in (ORDERED, MappingProxyType(ORDERED)):
        with pytest.raises(InvalidCaveat, match="a OrderedDict may hold more than it shows"):
            demand_dict(other)
    for name in ({1: 2}, MappingProxyType({"a": 1, 1: 2})):
        with pytest.raises(InvalidCaveat, match="a name is a int"):
            demand_dict(name)


@pytest.mark.parametrize(
    ("value", "literal", "said"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1.0, 2, False),
        (1, 2, False),
        (True, 1, None),
        (1, True, None),
        ("1", 1, None),
        (1, "1", None),
        ("a", "a", True),
        ("a", "b", False),
        (None, None, True),
        (None, False, None),
        (MISSING, "a", None),
        ([1, 2], (1, 2), True),
        ((1, 2.0), (1.0, 2), True),
        ([2, 1], (1, 1), False),
        ([1], (1, 1), False),
        ([1, 1], (1,), False),
        ([2, "1"], (1, 1), None),
        ((True,), (1,), None),
        ("a", ("a",), None),
        (["a"], "a", None),
        ({"a": 1}, ("a",), None),
        ({"a": 1}, 1, None),
    ],
)
def test_values_are_the_same_only_if_their_types_are(value: Value, literal: Literal, said: bool | None) -> None:
    assert same(value, literal) is said


def test_an_array_is_a_list_or_a_tuple_and_no_text() -> None:
    assert (as_array([1]), as_array((1,)), as_array([])) == ([1], (1,), [])
    for other in ("ab", {"a": 1}, 1, None, MISSING):
        assert as_array(other) is None


HELD: list[tuple[Any, int, int]] = [
    (1, 0, 0),
    ("abc", 0, 3),
    ([], 0, 0),
    ([1, 2, 3], 3, 0),
    ((1, "ab", "c"), 3, 3),
    ([[1], [2]], 4, 0),
    ({"key": ["a", {"b": "cd"}]}, 4, 3),
    (MappingProxyType({"a": "b"}), 1, 1),
    (["", [1, 2]], 4, 0),
    ([[[[]]]], 3, 0),
]


@pytest.mark.parametrize(("value", "values", "characters"), HELD)
def test_what_a_value_holds_is_counted_at_all_depths(value: object, values: int, characters: int) -> None:
    assert not holds_more(value, values, characters)
    assert not holds_more(value, values + 1, characters + 1)
    assert not values or holds_more(value, values - 1, characters)
    assert not characters or holds_more(value, values, characters - 1)
