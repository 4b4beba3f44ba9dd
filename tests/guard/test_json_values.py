"""What caveats see of the values that a function gets, as guarded functions are called."""

import dataclasses
import enum
import os
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID

import attrs
import msgspec
import pytest

from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.json_values import plain
from capx.verify.decision import Denied
from capx_caveats import absent, action, fields


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


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


class Size(enum.IntEnum):
    BIG = 3


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
        (Same.DECK, "deck-42"),
        (Named(a=1), {"a": 1}),
        (Harmless("ann"), {"to": "ann"}),
        (Counted(1, 2), [1, 2]),
        (OrderedDict([("a", 1)]), {"a": 1}),
        (Decimal("100.0"), "100.0"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((date(2026, 11, 25), timedelta(days=1)), ["2026-11-25", "P1D"]),
        (datetime(2026, 11, 25, tzinfo=UTC), "2026-11-25T00:00:00Z"),
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
    ],
)
def test_what_cannot_be_seen_whole_is_no_argument(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="'x' cannot be judged"):
        plain("x", value)


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


def test_a_set_of_what_has_no_spelling_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'x' cannot be judged"):
        plain("x", {float("nan"), 1})
