"""A consent to one member of a union must not fit another one that caveats would see alike."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import attrs
import msgspec
import pytest
import typing_extensions
from fastapi import Body, Query
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FutureDate,
    FutureDatetime,
    JsonValue,
    RootModel,
    Tag,
)
from typing_extensions import TypeAliasType, TypedDict

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.fastapi import FastAPIGuard
from capx.guard.unions import alike

Of = TypeVar("Of")


class Draft(BaseModel):
    to: str
    amount: int = 0


class Send(BaseModel):
    to: str
    amount: int


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


@dataclasses.dataclass
class Record:
    to: str


@dataclasses.dataclass
class Kennel:
    pet: Cat | Dog = Field(discriminator="kind")  # noqa: RUF009 # what pydantic reads


@dataclasses.dataclass
class LooseKennel:
    pet: Cat | Dog = Field(description="either")  # noqa: RUF009 # what pydantic reads


class Typed(TypedDict):
    to: str


class Pair(NamedTuple):
    a: int


class Struct(msgspec.Struct):
    to: str


class Row(msgspec.Struct, array_like=True):
    to: str


@attrs.define
class Attrs:
    to: str


class Size(StrEnum):
    BIG = "big"


class Place(Enum):
    FIRST = 1
    BEST = "best"


class Nothing(Enum):
    NONE = None


class Number(IntEnum):
    ONE = 1


class Holding(BaseModel):
    op: Send | Draft


class Telling(BaseModel):
    pet: Cat | Dog | None = Field(None, discriminator="kind")
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []


class Nested(BaseModel):
    kind: Literal["nested"]
    op: Send | Draft


@dataclasses.dataclass
class NestedRecord:
    kind: Literal["record"]
    op: Send | Draft


class Extras(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Send | Draft]


class Root(RootModel[str]): ...


class TellingRoot(RootModel[Annotated[Cat | Dog, Discriminator("kind")]]): ...


@dataclasses.dataclass
class Case(Generic[Of]):
    of: Of


class Marker:
    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(dict[str, str])


def by_kind(_: Any) -> str:
    return "cat"


Alias = TypeAliasType("Alias", Send | Draft)
Renamed = NewType("Renamed", list[Alias])
Pet = TypeAliasType("Pet", Cat | Dog)
Either = TypeVar("Either", Send, Draft)
Otherwise = typing_extensions.TypeVar("Otherwise", default=Send | Draft)


Meant = typing_extensions.TypeVar("Meant", default=Send)
Drafted = typing_extensions.TypeVar("Drafted", bound=Draft)
Sent = NewType("Sent", Send)
Sending = TypeAliasType("Sending", Send)


class Generous(BaseModel, Generic[Otherwise]):
    of: Otherwise


BY_FUNCTION = Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(by_kind)]
BY_NAME = Annotated[Cat | Dog, Field(discriminator="kind")]
DESCRIBED = Annotated[BY_NAME, Field(description="a pet")]


@pytest.fixture(scope="module")
def guard() -> Iterator[FastAPIGuard]:
    with Authority.temporary() as authority:
        yield FastAPIGuard(authority.verifier("crm"))


def taking(kind: Any) -> Callable[..., Any]:
    async def endpoint(x: Any) -> None: ...

    endpoint.__annotations__ = {"x": kind}
    return endpoint


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (Send | Draft, "Send and Draft"),
        (Send | Draft | None, "Send and Draft"),
        (Send | Annotated[Draft, Field(description="d")], "Send and Draft"),
        (list[Send | Draft], "Send and Draft"),
        (dict[str, list[Send | Draft]], "Send and Draft"),
        (Holding, "Send and Draft"),
        (Extras, "Send and Draft"),
        (Alias, "Send and Draft"),
        (Alias | None, "Send and Draft"),
        (Renamed, "Send and Draft"),
        (Either, "Send and Draft"),
        (Generous, "Send and Draft"),
        (Cat | Dog, "Cat and Dog"),
        (BY_FUNCTION, "Cat and Dog"),
        (LooseKennel, "Cat and Dog"),
        (BY_NAME | Draft, "Cat | .*Dog and Draft"),
        (list[BY_NAME] | tuple[BY_NAME, ...], "list.* and tuple.*"),
        (Send | Record, "Send and Record"),
        (Send | Draft | Typed, "Send, Draft and Typed"),
    ],
)
def test_a_consent_to_a_draft_that_would_send(guard: FastAPIGuard, kind: Any, members: str) -> None:
    endpoint = taking(Annotated[kind, Body(embed=True)])
    with pytest.raises(ConfigurationProblem, match=f"holds a union of {members}, and .*: .*name what .* `args=`"):
        guard.action("crm.x")(endpoint)
    with pytest.raises(ConfigurationProblem, match=f"which holds a union of {members}"):
        guard.action("crm.x", args={"x": "x"})(endpoint)
    guard.action("crm.x", args={})(endpoint)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (Send | dict[str, str], "Send and dict"),
        (Send | Marker, "Send and Marker"),
        (Send | Any, "Send and "),
        (list[int] | set[int], "list.int. and set.int."),
        (Pair | list[int], "Pair and list"),
        (Root | str, "Root and str"),
        (TellingRoot | dict[str, str], "TellingRoot and dict"),
        (Decimal | int, "Decimal and float"),
        (datetime | float, "datetime and float"),
        (Decimal | datetime, "Decimal and datetime"),
        (timedelta | str, "timedelta and str"),
        (UUID | str, "UUID and str"),
        (AnyUrl | str, "AnyUrl and str"),
        (PurePath | str, "PurePath and str"),
        (IPv4Address | str, "IPv4Address and str"),
        (IPv4Address | IPv6Address, "IPv4Address and IPv6Address"),
        (FutureDatetime | float, "datetime and float"),
        (Size | str, "Size and str"),
        (Size | Literal["big"], "Size and str"),
        (Place | int, "Place and float"),
        (Number | int, "Number and float"),
    ],
)
def test_a_value_of_another_type_in_the_same_spelling(guard: FastAPIGuard, kind: Any, members: str) -> None:
    with pytest.raises(ConfigurationProblem, match=f"holds a union of {members}.*which one it is: name what"):
        guard.action("crm.x")(taking(Annotated[kind, Body(embed=True)]))


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (Meant | Draft, "Send and Draft"),
        (Drafted | Send, "Draft and Send"),
        (Of | Send, "Any and Send"),
        (Sent | Draft, "Send and Draft"),
        (Sending | Draft, "Send and Draft"),
        (Nothing | object, "Nothing and NoneType"),
        (Row | list[int], "Row and list.int."),
        *[(Marker | kind, f"Marker and {kind.__name__}") for kind in (bool, float, str, Row, Pair)],
    ],
)
def test_a_member_is_found_behind_its_name(kind: Any, members: str) -> None:
    assert re.match(f"holds a union of {members}, and caveats", alike(kind) or "")


@pytest.mark.parametrize("kind", [Drafted | str, Marker | None, Attrs | str, Row | Send])
def test_members_that_differ_behind_their_names(kind: Any) -> None:
    assert alike(kind) is None


def test_a_struct_looks_like_a_model(guard: FastAPIGuard) -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        op: Send | Struct

    with pytest.raises(ConfigurationProblem, match="Send and Struct"):
        guard.action("crm.x")(taking(Annotated[Odd, Body(embed=True)]))


def test_a_discriminator_is_advised_where_one_may_be(guard: FastAPIGuard) -> None:
    for kind in (Send | Draft, Send | Record, BY_NAME | Draft, Send | Typed, Send | Case[int]):
        with pytest.raises(ConfigurationProblem, match="give it a discriminator, or name what is judged with `args=`"):
            guard.action("crm.x")(taking(Annotated[kind, Body(embed=True)]))


def test_no_discriminator_is_advised_beside_a_root() -> None:
    problem = alike(Annotated[Cat | TellingRoot, Discriminator("kind")] | Draft) or ""
    assert problem.endswith("could not see which one it is: name what is judged with `args=`")


@pytest.mark.parametrize(
    "kind",
    [
        BY_NAME,
        DESCRIBED,
        BY_NAME | None,
        BY_NAME | str,
        list[BY_NAME],
        Annotated[Cat | Dog, Discriminator("kind")],
        Annotated[Cat | Dog, Field(discriminator=Discriminator("kind"))],
        Annotated[Pet | None, Field(discriminator="kind")],
        Telling,
        TellingRoot,
        Kennel,
        Send | None,
        Send | list[Send] | str | int | bool | None,
        int | float,
        Decimal | str,
        date | datetime,
        FutureDate | datetime,
        str | Literal["a"] | Annotated[str, Field(max_length=9)],
        date | FutureDate,
        JsonValue,
        Any,
    ],
)
def test_a_union_whose_members_differ_in_json_can_be_judged(guard: FastAPIGuard, kind: Any) -> None:
    guard.action("crm.x")(taking(Annotated[kind, Body(embed=True)]))


def test_a_discriminator_of_the_parameter_counts(guard: FastAPIGuard) -> None:
    guard.action("crm.x")(taking(Annotated[Cat | Dog, Body(embed=True, discriminator="kind")]))
    guard.action("crm.x", args={"pet": "x.pet", "pets": "x.pets"})(taking(Annotated[Telling, Body(embed=True)]))


@pytest.mark.parametrize("member", [Nested, NestedRecord])
def test_a_discriminator_does_not_reach_into_a_member(guard: FastAPIGuard, member: Any) -> None:
    with pytest.raises(ConfigurationProblem, match="Send and Draft"):
        guard.action("crm.x")(taking(Annotated[Cat | member, Body(embed=True, discriminator="kind")]))


def test_a_date_in_the_query_that_could_be_text(guard: FastAPIGuard) -> None:
    with pytest.raises(ConfigurationProblem, match="date and str"):
        guard.action("crm.x")(taking(Annotated[date | str, Query()]))
