"""What runs is what was judged: nobody else holds the arguments that the function gets."""

import dataclasses
import enum
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.argument_copy import own_copy
from capx.guard.json_values import plain
from capx_caveats import action, each

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=9,
)


@given(json_values)
def test_a_copy_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    copy = own_copy("x", value)
    assert copy == value
    assert plain("x", copy) == plain("x", value)
    assert not {id(one) for one in holding(copy)} & {id(one) for one in holding(value)}


def holding(value: Any) -> list[Any]:
    """The lists and dicts in a value, itself among them."""
    if not isinstance(value, list | dict):
        return []
    held: list[Any] = [*(value if isinstance(value, list) else value.values())]
    return [value, *(inner for element in held for inner in holding(element))]


class Point(msgspec.Struct, frozen=True):
    rows: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    rows: list[int]


@dataclasses.dataclass
class Sharing:
    rows: list[int]

    def __copy__(self) -> "Sharing":
        return self

    def __deepcopy__(self, memo: object) -> "Sharing":
        return self


@attrs.frozen
class Attrs:
    rows: list[int]


class Named(NamedTuple):
    rows: list[int]


class Rows(list[Any]):
    def __repr__(self) -> str:
        return "rows"


def ordered(rows: list[int]) -> OrderedDict[str, list[int]]:
    return OrderedDict(rows=rows)


MAKERS: list[Any] = [Point, Slotted, Sharing, Attrs, Named, ordered]


@pytest.mark.parametrize("make", MAKERS)
def test_an_object_is_copied_with_what_it_holds(make: Any) -> None:
    rows = [1]
    value = make(rows)
    copy = own_copy("x", value)
    rows.append(2)
    assert type(copy) is type(value)
    assert plain("x", copy) == plain("x", make([1]))
    assert plain("x", copy) != plain("x", value)


def test_the_copy_of_a_subclass_has_its_type_and_content() -> None:
    copy = own_copy("x", Rows([1, [2]]))
    assert type(copy) is Rows
    assert list(copy) == [1, [2]]
    assert own_copy("x", {1, 2}) == {1, 2}
    assert own_copy("x", (1, [2])) == (1, [2])


def test_what_cannot_change_is_not_copied() -> None:
    kind = enum.Enum("kind", ["ONE"])
    for value in ("text", 1, 1.5, None, True, Decimal("1.5"), datetime.now(UTC), kind.ONE):
        assert own_copy("x", value) is value


@dataclasses.dataclass(eq=False)
class Loose:
    rows: list[int]


@pytest.mark.parametrize("kind", [set, frozenset])
def test_what_a_set_holds_is_copied(kind: Any) -> None:
    inner = Loose([1])
    (copy,) = own_copy("x", kind([inner]))
    inner.rows.append(2)
    assert copy is not inner
    assert copy.rows == [1]


def test_few_lists_that_hold_too_many_values_are_refused() -> None:
    shared: list[Any] = [1]
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(InvalidRequest, match="the argument 'x' cannot be judged: it holds too many values"):
        own_copy("x", shared)


def test_an_argument_holds_at_most_2_20_values_with_itself() -> None:
    most = [0] * (2**20 - 1)
    assert own_copy("x", most) == most
    with pytest.raises(InvalidRequest, match="it holds too many values"):
        own_copy("x", [*most, 0])


def test_an_argument_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidRequest, match="the argument 'x' cannot be judged: it nests too deep"):
        own_copy("x", endless)


def test_a_list_changed_while_the_call_is_judged_is_not_run() -> None:
    to = ["ann"]

    def attack(to: list[str]) -> dict[str, str]:
        outside.append("eve")
        to.append("eve")
        return {}

    with Authority.temporary() as lab:

        @lab.tool("crm.mail", cost=attack)
        def mail(to: list[str]) -> list[str]:
            return to

        outside = to
        with acting(lab.open(allow=[action("crm.mail", to=each("ann"))]).bundle):
            assert mail(to) == ["ann"]
        assert to == ["ann", "eve"]


def test_a_shared_default_is_copied_for_each_call() -> None:
    with Authority.temporary() as lab:

        @lab.tool("crm.mail")
        def mail(to: list[str] = []) -> list[str]:  # noqa: B006 # what people write
            to.append("more")
            return to

        with acting(lab.open(allow=["crm.mail"]).bundle):
            assert mail() == mail() == ["more"]
