"""What caveats see of the values that a function gets, as guarded functions are called."""

import dataclasses
import decimal
import enum
import json
import os
import re
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx.guard.json_values import plain
from capx.verify.decision import Denied
from capx_caveats import absent, action, fields
from tests.labs.counts import repeated


@attrs.define
class Account:
    name: str
    _role: str = "user"


@attrs.define(slots=False)
class Open:
    name: object


class Transfer(msgspec.Struct, omit_defaults=True, rename="camel", tag="transfer"):
    to_whom: str
    amount: int = 100
    note: str | msgspec.UnsetType = msgspec.UNSET


class Point(msgspec.Struct, array_like=True, tag=True):
    x: int
    y: int = 0


class Growing(msgspec.Struct, dict=True):
    x: int


@dataclasses.dataclass
class Row:
    _id: int
    inner: "Row | None" = None


class Slot:
    __slots__ = ("role",)


@dataclasses.dataclass(slots=True)
class Narrow(Slot):
    id: int


class Pair(NamedTuple):
    a: int
    b: Row


class Colour(enum.Enum):
    RED = "red"
    RAW = b"raw"
    BOTH = ["red", "blue"]  # noqa: RUF012 # a member, and no attribute


class Size(enum.IntEnum):
    BIG = 3


class Price(Decimal, enum.Enum):
    LOW = Decimal("1.50")


class Named(dict[str, int]): ...


class Listed(list[int]):
    __slots__ = ("role",)


class OwnIteration(list[str]):
    def __iter__(self) -> Iterator[str]:
        return iter(["ann"])


class OwnItems(dict[str, str]):
    def items(self) -> Any:
        return {"to": "ann"}.items()


class OwnItem(tuple[str, ...]):
    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        return "eve"


class Harmless(dict[str, str]):
    """A subclass that reads as a dict does."""

    def __init__(self, to: str) -> None:
        super().__init__(to=to)

    def __repr__(self) -> str:
        return "Harmless()"


class Untrue(list[str]):
    def __bool__(self) -> bool:
        return False


class OwnEquality(str):
    """A text that equals every other one."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class OwnText(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "eve"


class OwnDigits(Decimal):
    def as_tuple(self) -> Any:
        return Decimal(1).as_tuple()

    def __float__(self) -> float:
        return 1.0


class OwnInstant(datetime):
    def utcoffset(self) -> timedelta:
        return timedelta()


class OwnNumber(UUID):
    def __str__(self) -> str:
        return str(UUID(int=1))


class Dear(Decimal, enum.Enum):
    """A decimal that is another one than the value of its member."""

    def __new__(cls, text: str, value: str) -> Any:
        member = Decimal.__new__(cls, text)
        member._value_ = Decimal(value)
        return member

    LOW = "1000000", "1"


class MultiDict(dict[str, Any]):
    """A dict with several values of one name that shows the first one, as that of werkzeug."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__({name: [value for other, value in pairs if other == name] for name, _ in pairs})

    def __getitem__(self, name: str) -> str:
        return cast("str", super().__getitem__(name)[0])

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class Few(Mapping[str, int]):
    """A mapping that is no dict."""

    def __getitem__(self, name: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class OwnMissing(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "eve"


class Shown(str, enum.Enum):  # noqa: UP042 # as much code spells it
    """A text that is another one than the value of its member."""

    def __new__(cls, text: str, value: str) -> Any:
        member = str.__new__(cls, text)
        member._value_ = value
        return member

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__

    DECK = "deck-eve", "deck-42"


class Same(str, enum.Enum):  # noqa: UP042 # as above
    DECK = "deck-42"


@dataclasses.dataclass(init=False, eq=False)
class Money(Decimal):
    currency: str = "eur"


@dataclasses.dataclass(init=False, eq=False)
class Turning(complex):
    speed: int = 1


@dataclasses.dataclass
class Fixed:
    size: int = dataclasses.field(init=False, default=5)


@attrs.define(init=False, eq=False)
class Tagged(str):
    tag: str = "none"


# Its fields are methods of other tuples, which type checkers do not like.
Counted = cast("Any", namedtuple)("Counted", "count index")


def grown(value: Any, **more: Any) -> Any:
    for name, part in more.items():
        setattr(value, name, part)
    return value


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (Account("ann", "admin"), {"name": "ann", "_role": "admin"}),
        (grown(Open("ann"), role="admin"), {"name": "ann", "role": "admin"}),
        (Transfer("ann"), {"type": "transfer", "toWhom": "ann", "amount": 100}),
        (Point(1), ["Point", 1, 0]),
        (grown(Growing(1), role="admin"), {"x": 1, "role": "admin"}),
        (grown(Row(1, Row(2)), role="admin"), {"_id": 1, "inner": {"_id": 2, "inner": None}, "role": "admin"}),
        ([Narrow(1)], [{"id": 1}]),
        (grown(Narrow(1), role="admin"), {"id": 1, "role": "admin"}),
        (Pair(1, Row(2)), [1, {"_id": 2, "inner": None}]),
        ({Colour.RED: {Size.BIG}}, {"red": [3]}),
        (Colour.BOTH, ["red", "blue"]),
        (Same.DECK, "deck-42"),
        (Named(a=1), {"a": 1}),
        (Harmless("ann"), {"to": "ann"}),
        (Counted(1, 2), [1, 2]),
        (OrderedDict([("a", 1)]), {"a": 1}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (UUID("ABCDEF00-0000-0000-0000-000000000001"), "abcdef00-0000-0000-0000-000000000001"),
        ((date(2026, 11, 25), timedelta(days=1), time(1, 2, 3, 4)), ["2026-11-25", "P1D", "01:02:03.000004"]),
        ({UUID(int=1): 1, date(2026, 11, 25): 2}, {"00000000-0000-0000-0000-000000000001": 1, "2026-11-25": 2}),
        ({Decimal("0.5"), Decimal(2)}, [0.5, 2]),
        (Price.LOW, 1.5),
        (Fixed(), {"size": 5}),
    ],
)
def test_a_value_is_seen_whole(value: Any, seen: Any) -> None:
    assert plain("x", value) == seen


@pytest.mark.parametrize(
    "value", [b"secret", bytearray(b"secret"), memoryview(b"secret"), [b"a"], {b"a": 1}, Colour.RAW, Open(b"")]
)
def test_bytes_do_not_pass_as_a_text(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="it is bytes"):
        plain("x", value)


def holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        grown(Named(a=1), b=2),
        grown(Listed(), role=1),
        {Colour.RED: 1, "red": 2},
        {(1, 2): 3},
        holding_itself(),
        type("T", (str,), {}),
        Shown.DECK,
        Money("1000000"),
        Tagged("eve"),
        OwnIteration(["eve"]),
        OwnItems(to="eve"),
        OwnItem(["ann"]),
        OwnMissing(),
        defaultdict(str, to="eve"),
        Untrue(["eve"]),
        OwnEquality("eve"),
        OwnText("ann"),
        {OwnEquality("to"): 1},
        OwnDigits("1000000"),
        OwnInstant(2026, 11, 25),
        OwnNumber(int=2),
        type("Day", (date,), {})(2026, 11, 25),
        type("Hour", (time,), {})(1),
        type("Delay", (timedelta,), {})(1),
        Dear.LOW,
        Few(),
        MappingProxyType({"a": 1}),
        MultiDict([("to", "ann"), ("to", "eve")]),
        QueryParams("to=eve&to=ann"),
        {1: "a"},
        {Decimal("1.5"): "a"},
        {UUID(int=1): 1, str(UUID(int=1)): 2},
    ],
)
def test_what_cannot_be_seen_whole_is_no_argument(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="'x' cannot be judged"):
        plain("x", value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "a object is not a JSON value: pass a plain dict, list, text or number"),
        (OwnText("ann"), "OwnText is a subclass of str and may read differently: pass a plain str"),
        (OwnInstant(2026, 11, 25), "OwnInstant is a subclass of datetime and may read differently"),
        (Shown.DECK, "Shown.DECK has another content than its value: pass one of the two"),
        (OwnItems(to="eve"), "a OwnItems may read differently than JSON shows it: pass a plain list or dict"),
        (Turning(), "a Turning has the content of complex, which its fields do not show"),
        ({1: "a"}, "the names of the members of an object are texts: pass them as text"),
        (Decimal(1234567890123456), "a JSON number holds no more than 15 digits of a Decimal: pass it as text"),
        (Decimal("NaN"), "a number is beyond ±(2^53 - 1) or not finite: pass it as text"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(value: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'x' cannot be judged, because it is not JSON: {re.escape(why)}"):
        plain("x", value)


DECIMALS: dict[str, Any] = {
    "12.50": 12.5,
    "400.00": 400,
    "1E+3": 1000,
    "-0": 0,
    "-0.00": 0,
    "0E+999999": 0,
    "0.1": 0.1,
    "-19.99": -19.99,
    "123456789012.345": 123456789012.345,
    "999999999999999": 999999999999999,
    "9E+15": 9 * 10**15,
    "1.000000000000000000000": 1,
    "0.00000123456789012345": 0.00000123456789012345,
    "1E-300": 1e-300,
}


@pytest.mark.parametrize("text", DECIMALS)
def test_a_decimal_is_judged_as_the_number_of_its_digits(text: str) -> None:
    # Whatever the calling code does with its own decimals.
    with decimal.localcontext(decimal.Context(prec=1, traps=[decimal.Inexact, decimal.FloatOperation])):
        number: Any = plain("x", Decimal(text))
    assert (number, type(number)) == (DECIMALS[text], type(DECIMALS[text]))
    assert str(number) != "-0.0"


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "sNaN", "-NaN", "Infinity", "-Infinity"),
        *("1234567890123456", "0.1234567890123456", "0.30000000000000004", "9007199254740991", "100000000000000.01"),
        *("1E+16", "-1E+16", "9.1E+15", "1E+400", "1E+999999999"),
        *("1E-400", "1E-999999999", "-1E-400", "1.2345678901234E-320"),
    ],
)
def test_a_decimal_that_no_number_holds_exactly_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"'x' cannot be judged.*: pass it as text"):
        plain("x", Decimal(text))
    assert plain("x", text) == text


def number_of(value: Any) -> Any:
    """The number as which a value is judged; None if it is refused."""
    try:
        number = plain("x", value)
    except InvalidRequest:
        return None
    # As it is over the wire, and where it is read again.
    return json.loads(canonical(number))


def decimal_of(digits: int, exponent: int) -> Decimal:
    return Decimal(f"{digits}E{exponent}")


TIGHT = st.decimals(allow_nan=True, allow_infinity=True) | st.builds(
    decimal_of, st.integers(-(10**18), 10**18), st.integers(-340, 20)
)
"""All decimals, and many around the digits that a double holds."""


@settings(max_examples=repeated(5_000))
@given(TIGHT)
def test_the_number_of_a_decimal_has_its_digits(value: Decimal) -> None:
    number = number_of(value)
    if number is not None:
        assert Decimal(repr(number)) == value
    elif value.is_finite() and abs(value) <= 2**53 - 1 and (value == 0 or abs(value) > Decimal("1E-300")):
        assert len(str(value.normalize(decimal.Context(prec=2_000)).as_tuple().digits).split(",")) > 15


@settings(max_examples=repeated(5_000))
@given(TIGHT, st.integers(-2, 2), st.integers(0, 20))
def test_two_decimals_are_never_judged_as_one_number(value: Decimal, change: int, place: int) -> None:
    if not value.is_finite() or not -400 < value.adjusted() < 30:
        return
    exponent = cast("int", value.as_tuple().exponent)
    with decimal.localcontext(decimal.Context(prec=2_000)):
        other = value + Decimal(f"{change}E{exponent - place}")
    one, two = number_of(value), number_of(other)
    if value == other:
        assert one == two
    else:
        assert one is None or one != two


class Nowhere(tzinfo):
    """A time zone that does not say its offset."""

    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        return None

    dst = utcoffset

    def tzname(self, when: datetime | None, /) -> None:
        return None


class SummerTimeEnds(Nowhere):
    """A time zone in the hour that comes twice."""

    def utcoffset(self, when: datetime | None, /) -> timedelta:
        return timedelta(hours=1 if when is not None and when.fold else 2)


INSTANTS = [
    (datetime(1970, 1, 1, tzinfo=UTC), 0),
    (datetime(2026, 11, 25, tzinfo=UTC), 1795564800),
    (datetime(2026, 11, 25, 2, tzinfo=timezone(timedelta(hours=2))), 1795564800),
    (datetime(2026, 11, 25, 0, 0, 0, 500_000, tzinfo=UTC), 1795564800.5),
    (datetime(2026, 11, 25, 0, 0, 0, 1, tzinfo=UTC), 1795564800.000001),
    (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -0.000001),
    (datetime(9999, 12, 31, tzinfo=UTC), 253402214400),
    (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), -62135647200),
    (datetime(2026, 10, 25, 2, 30, tzinfo=SummerTimeEnds()), 1792888200),
    (datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=SummerTimeEnds()), 1792891800),
]


class Level(enum.Enum):
    low = "low"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        """Keep the raw text of a level that is not known."""
        unknown: Any = object.__new__(cls)
        unknown._name_, unknown._value_, unknown.sent = "low", "low", value
        return unknown


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


def test_a_false_member_of_an_enum_carries_what_was_sent() -> None:
    with pytest.raises(InvalidRequest, match=r"Level.low is no member of its class: have `_missing_` return a member"):
        plain("x", Level("evil"))
    assert plain("x", Level("low")) == "low"


def test_members_of_a_flag_pass_and_false_ones_do_not() -> None:
    assert [plain("x", rights) for rights in (Rights.READ, Rights.READ | Rights.WRITE, Rights(0))] == [1, 3, 0]
    false = int.__new__(Rights, 3)
    false._name_, false._value_ = "READ", 3
    with pytest.raises(InvalidRequest, match="no member of its class"):
        plain("x", false)


@pytest.mark.parametrize(("instant", "seconds"), INSTANTS)
def test_a_time_is_judged_as_its_unix_seconds(instant: datetime, seconds: float) -> None:
    number: Any = plain("x", instant)
    assert (number, type(number)) == (seconds, type(seconds))


@pytest.mark.parametrize("zone", [None, Nowhere()], ids=["no zone", "a zone without an offset"])
def test_a_time_without_a_zone_is_refused(zone: tzinfo | None) -> None:
    with pytest.raises(InvalidRequest, match="names no instant: give it one, as 2026-01-01T00:00:00Z has"):
        plain("x", datetime(2026, 11, 25, tzinfo=zone))


def test_a_time_that_no_number_holds_exactly_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="other digits than this value: pass it as text"):
        plain("x", datetime(9999, 12, 31, microsecond=1, tzinfo=UTC))


ZONES: list[Any] = [UTC, SummerTimeEnds(), timezone(timedelta(hours=-9))]


@settings(max_examples=repeated(5_000))
@given(st.datetimes(timezones=st.sampled_from(ZONES)))
def test_the_number_of_a_time_is_exactly_that_instant(instant: datetime) -> None:
    number = number_of(instant)
    if number is None:
        assert instant.year > 2200 or instant.year < 1700
    else:
        since = instant - datetime(1970, 1, 1, tzinfo=UTC)
        assert Fraction(repr(number)) == Fraction(since // timedelta(microseconds=1), 10**6)


def test_a_field_with_an_underscore_is_refused_in_a_closed_world(lab: Authority) -> None:
    @lab.tool("crm.open")
    def opened(account: Account) -> str:
        return account.name

    with acting(lab.open(allow=[action("crm.open", account=fields(name="ann"))]).bundle):
        with pytest.raises(Denied) as refused:
            opened(Account("ann", "admin"))
        assert refused.value.code == "argument_refused"


def test_a_default_does_not_pass_as_absent(lab: Authority) -> None:
    @lab.tool("crm.transfer")
    def transferred(order: Transfer) -> int:
        return order.amount

    free = fields(type="transfer", toWhom="ann", amount=absent())
    with acting(lab.open(allow=[action("crm.transfer", order=free)]).bundle):
        with pytest.raises(Denied) as refused:
            transferred(Transfer("ann"))
        assert refused.value.code == "argument_refused"


@pytest.mark.parametrize("kind", ["set", "frozenset"])
def test_a_set_judged_in_another_order_by_each_worker(kind: str) -> None:
    program = f"from capx.guard.json_values import plain; print(plain('x', {kind}({[*'abcdefgh', 10, 9]})))"
    orders = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    }
    assert orders == {b"['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 10, 9]\n"}


def test_a_set_is_judged_in_the_order_of_the_json_of_its_values() -> None:
    assert plain("x", {9, 10, "b", "a"}) == ["a", "b", 10, 9]
    assert plain("x", frozenset({9, 10})) == [10, 9]


def test_a_set_of_what_has_no_spelling_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'x' cannot be judged"):
        plain("x", {float("nan"), 1})


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.just(Decimal("1.5"))
        ),
        lambda inner: st.one_of(st.lists(inner), st.tuples(inner), st.dictionaries(st.text(), inner)),
        max_leaves=8,
    )
)
def test_a_value_among_many_is_converted_as_alone(value: Any) -> None:
    alone = _plain_or_refused(value)
    assert _plain_or_refused([*[7] * 40, value]) == (REFUSED if alone == REFUSED else [*[7] * 40, alone])
    members = {f"m{at}": at for at in range(40)}
    assert _plain_or_refused({**members, "last": value}) == (
        REFUSED if alone == REFUSED else {**members, "last": alone}
    )


@pytest.mark.parametrize("value", [2**53, -(2**53), float("inf"), "\ud800", {"\ud800": 1}, [[2**53]]])
def test_what_is_no_json_is_refused_alone_and_among_many(value: Any) -> None:
    assert _plain_or_refused(value) == _plain_or_refused([value]) == _plain_or_refused([*[7] * 40, value]) == REFUSED


def test_values_nest_at_most_64_levels_deep() -> None:
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert plain("x", deep) == deep
    assert _plain_or_refused([deep]) == _plain_or_refused([*[7] * 40, deep]) == REFUSED


REFUSED: Final = "refused"


def _plain_or_refused(value: Any) -> Any:
    try:
        return plain("x", value)
    except InvalidRequest:
        return REFUSED


@pytest.mark.parametrize("given", [{"a": [1]}, [{"a": [1]}] * 40, []])
def test_what_is_json_already_is_returned_as_it_is(given: Any) -> None:
    assert plain("x", given) is given


@pytest.mark.parametrize("given", [[7] * 40, {f"m{at}": at for at in range(40)}])
def test_what_is_json_in_what_is_not_is_returned_as_it_is(given: Any) -> None:
    seen: Any = plain("x", (given,))
    assert seen[0] is given


def test_a_hook_converts_all_members_whatever_their_names() -> None:
    assert plain("x", {"to": 1j}, str) == {"to": "1j"}
    assert plain("x", {"to": 1j, UUID(int=1): 2j, 3j: 0}, str) == {
        "to": "1j",
        "00000000-0000-0000-0000-000000000001": "2j",
        "3j": 0,
    }


def test_a_list_of_many_that_holds_itself_is_refused() -> None:
    endless: list[Any] = [0] * 40
    endless.append(endless)
    with pytest.raises(InvalidRequest, match="because it is not JSON"):
        plain("x", endless)
