"""A large value is looked at level by level, with the same result as value by value."""

import enum
import math
import tracemalloc
from collections import OrderedDict
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx_caveats import SAFE_INTEGER, Call, InvalidCaveat, demand_json
from capx_caveats.levels import MANY, MAX_DEPTH, levels
from capx_caveats.levels import is_json as has_json_levels


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-SAFE_INTEGER - 2, SAFE_INTEGER + 2),
    st.floats(),
    st.text(),
    st.sampled_from([b"x", "\ud800", Text("a"), Colour.RED, {1}, object(), OrderedDict(a=1), 2**53, 1j]),
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(st.text(max_size=2), st.just(1), st.just("\ud800")), inner, max_size=3),
    ),
    max_leaves=8,
)
"""Values, most of which are JSON, or nearly."""


def is_json(value: Any) -> bool:
    """Whether a value is JSON, by a rule as naive as can be."""
    if type(value) in (list, tuple):
        return all(is_json(element) for element in value)
    if type(value) is dict:
        return all(type(name) is str and is_json(name) and is_json(value[name]) for name in cast("Any", value))
    if type(value) is str:
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if type(value) in (int, float):
        return math.isfinite(value) and abs(value) <= SAFE_INTEGER
    return value is None or type(value) is bool


def accepts(value: Any) -> bool:
    try:
        demand_json(value)
    except InvalidCaveat:
        return False
    return True


@given(values, st.sampled_from([0, MANY, 2 * MANY]))
def test_a_value_among_many_is_accepted_as_alone(value: Any, others: int) -> None:
    expected = is_json(value)
    assert accepts(value) == expected
    assert accepts([*[7] * others, value]) == expected
    assert accepts((value, *["a"] * others)) == expected
    assert accepts({**{f"m{at}": {"n": 0.5} for at in range(others)}, "last": value}) == expected
    assert accepts([[value]] * (others + 1)) == expected
    # Among the arguments of a call, too.
    if expected:
        args = {**{f"m{at}": at for at in range(others)}, "last": value}
        assert Call("a.read", args).args == args
    else:
        with pytest.raises(InvalidCaveat):
            Call("a.read", {**{f"m{at}": at for at in range(others)}, "last": value})


def nested(depth: int, width: int, inner: Any = 7) -> Any:
    """A value in so many lists, each with so many elements more."""
    value: Any = inner
    for _ in range(depth):
        value = [*[0] * width, value]
    return value


@pytest.mark.parametrize("width", [0, MANY, MANY + 1])
def test_a_large_value_may_nest_as_deep_as_a_small_one(width: int) -> None:
    assert accepts(nested(64, width))
    assert not accepts(nested(65, width))
    assert not accepts(nested(64, width, []))
    assert not accepts(nested(64, width, {}))
    assert not accepts(nested(64, width, ()))
    assert Call("a.read", {f"m{at}": nested(64, 0) for at in range(width + 1)}).args
    with pytest.raises(InvalidCaveat, match="deeper than 64 levels"):
        Call("a.read", {f"m{at}": nested(65, 0) for at in range(width + 1)})


def test_levels_hold_each_value_once_by_its_type() -> None:
    value: dict[str, Any] = {"a": [1, True, None, 2.5, "t"], "b": ({"c": 2},), "d": {}}
    found = levels(value, 64)
    assert found is not None
    by_type = [{kind.__name__: [*held] for kind, held in level.values.items()} for level in found]
    assert by_type == [
        {"dict": [value]},
        {"list": [value["a"]], "tuple": [value["b"]], "dict": [{}]},
        {"dict": [{"c": 2}], "int": [1], "bool": [True], "NoneType": [None], "float": [2.5], "str": ["t"]},
        {"int": [2]},
    ]
    assert [[*level.names] for level in found] == [["a", "b", "d"], [], ["c"], []]
    assert found[2].texts == "tc"


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, 2**53, -(2**53), float("nan"), float("-inf")])
def test_a_level_is_no_json_with_such_a_text_or_number(value: Any) -> None:
    array, elements, *members = (level.is_json for level in levels([value, "ä", 2**53 - 1, 0.5], 64) or ())
    assert array
    assert not elements
    assert all(members)


def test_a_level_of_such_texts_and_numbers_is_json() -> None:
    found = levels([2**53 - 1, 1 - 2**53, 0.5, True, None, {"ä": "\U0001f600"}], 64)
    assert found is not None
    assert [level.is_json for level in found] == [True, True, True]


@pytest.mark.parametrize(
    "value", [object(), [b"x"], {"a": {1}}, {1: 2}, {"a": {Text("b"): 1}}, [Text("a")], [Colour.RED]]
)
def test_what_is_no_json_has_no_levels(value: object) -> None:
    assert levels(value, 64) is None


def without_texts(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(without_texts, value))
    return list(map(without_texts, cast("Any", value).values())) if type(value) is dict else None


@given(values)
def test_json_levels_are_those_of_json(value: Any) -> None:
    assert has_json_levels(value) is is_json(value)
    assert has_json_levels([value], with_tuples=False) is (is_json(value) and "(" not in repr(without_texts(value)))


def test_json_nests_at_most_as_deep_as_is_said() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert has_json_levels(value)
    assert not has_json_levels([value])
    assert has_json_levels([value], MAX_DEPTH + 1)


def test_a_value_that_stands_in_another_many_times_takes_no_room() -> None:
    # 10¹² values and names; all in memory, they would take terabytes.
    for many in ([0] * 10**6, dict.fromkeys(map(str, range(10**6)), 0)):
        tracemalloc.start()
        try:
            assert levels([many] * 10**6, 64) is None
            assert tracemalloc.get_traced_memory()[1] < 10**9
        finally:
            tracemalloc.stop()


def test_a_list_that_holds_itself_has_no_levels_and_an_end() -> None:
    endless: list[Any] = [0] * (MANY + 1)
    endless.append(endless)
    assert levels(endless, 64) is None
    assert not accepts(endless)
    twice: list[Any] = []
    twice += [twice, twice]
    # Twice as many at each level: the number of values ends it, long before the depth does.
    assert levels(twice, 1000) is None


def test_a_level_may_hold_values_of_every_kind() -> None:
    value: list[Any] = [1, "a", 1.5, True, None, {}, [], ()]
    found = levels(value, 64)
    assert found is not None
    assert [len(level.values) for level in found] == [1, 8]


def test_scalars_may_stand_one_level_below_the_last_containers() -> None:
    assert len(levels([[7]], 2) or ()) == 3
    assert levels([[7]], 1) is None


def test_as_many_values_are_looked_at_as_a_body_can_hold() -> None:
    assert levels([0] * (2**22 - 1), 64) is not None
    assert levels([0] * 2**22, 64) is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 2**53, -(2**53), 2.0**53, 10**400])
def test_a_number_beyond_the_limits_among_many_is_refused(number: float) -> None:
    for others in (0, MANY):
        for value in ([*[7] * others, number, 1.5], [number, *[1.5] * others]):
            with pytest.raises(InvalidCaveat, match=r"beyond ±\(2\^53 - 1\) or not finite"):
                demand_json(value)
    assert accepts([SAFE_INTEGER, -SAFE_INTEGER, float(SAFE_INTEGER), *[0] * MANY])


@pytest.mark.parametrize(
    ("name", "good"), [("a" * 128, True), ("a" * 129, False), ("", False), ("a\n", False), ("é b", True)]
)
def test_a_name_among_many_is_judged_as_alone(name: str, *, good: bool) -> None:
    for others in (0, MANY):
        args = {**{f"m{at}": at for at in range(others)}, name: 1}
        stated: tuple[dict[str, Any], ...] = ({"args": args}, {"defaults": args})
        for facts in stated:
            if good:
                assert Call("a.read", **facts).arguments == args
            else:
                with pytest.raises(InvalidCaveat, match="is not an argument name"):
                    Call("a.read", **facts)


def test_a_name_that_is_allowed_and_not_printable_is_found() -> None:
    # A space that is not the common one is no hidden character.
    args = {**{f"m{at}": at for at in range(MANY)}, "a\u00a0b": 1}
    assert Call("a.read", args).args == args
