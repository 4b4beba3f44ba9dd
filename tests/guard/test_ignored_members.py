"""A validator that sees members which its model ignores stops the service, at any depth."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import pytest
from fastapi import FastAPI, Query, UploadFile
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    IPvAnyAddress,
    PlainValidator,
    RootModel,
    Tag,
    TypeAdapter,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic.experimental.pipeline import validate_as
from pydantic_core import core_schema
from typing_extensions import TypedDict

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.fastapi import FastAPIGuard
from capx.guard.ignored_members import ignored_members
from tests.labs.orders import client_of


class Plain(BaseModel):
    to: str = ""


class After(Plain):
    made: str = Field(default_factory=lambda data: data["to"])

    @field_validator("to", mode="before")
    @classmethod
    def stripped(cls, sent: Any) -> Any:
        return sent

    @model_validator(mode="after")
    def same(self) -> Any:
        return self


class Before(Plain):
    @model_validator(mode="before")
    @classmethod
    def read(cls, sent: Any) -> Any:
        return sent


class Wrapped(Plain):
    @model_validator(mode="wrap")
    @classmethod
    def read(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(sent)


class Inherited(Before):
    cc: str = ""


class Initiated(Plain):
    def __init__(self, **sent: Any) -> None:
        super().__init__(**sent)


class Deferred(Before):
    model_config = ConfigDict(defer_build=True)


class Strict(Before):
    model_config = ConfigDict(extra="forbid")


class Loose(Before):
    model_config = ConfigDict(extra="allow")


class Around(Strict):
    """It forbids members that it does not know, but the models in it ignore theirs, and its validator sees these."""

    plain: list[Plain] = []


class OfField(BaseModel):
    plain: Plain

    @field_validator("plain", mode="wrap")
    @classmethod
    def read(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(sent)


class Itself(BaseModel):
    again: "Annotated[Itself | None, BeforeValidator(str)]" = None


class Metadata(BaseModel):
    """Its field has the name of what pydantic's steps hold beside other steps."""

    metadata: Before
    config: dict[str, Before] = {}


class Table(TypedDict):
    to: str


class Record(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc] # pydantic's own way to say it
    to: str


@dataclasses.dataclass
class Row:
    to: str


@checked_dataclass
class Checked:
    to: str


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


def same(sent: Any) -> Any:
    return sent


def around(sent: Any, handler: Callable[[Any], Any]) -> Any:
    return handler(sent)


class Custom:
    """A class of the service with pydantic's steps of its own, which have no name."""

    extra: ClassVar[Any] = {}

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: Any) -> Any:
        to = core_schema.typed_dict_field(core_schema.str_schema())
        return core_schema.no_info_before_validator_function(
            same, core_schema.typed_dict_schema({"to": to}, **cls.extra)
        )


class Whole(Custom):
    extra: ClassVar[Any] = {"extra_behavior": "forbid"}


class Closed(BaseModel):
    """Its configuration is not that of the steps in it."""

    model_config = ConfigDict(extra="forbid")
    custom: Custom


IGNORING = [
    *[(kind, kind.__name__) for kind in (Before, Wrapped, Inherited, Initiated, Deferred, Itself)],
    *[(kind, "Plain") for kind in (Around, OfField, Annotated[Plain, BeforeValidator(same)])],
    *[(kind, "Before") for kind in (Metadata, RootModel[Before], dict[str, Before], Before | None)],
    (Annotated[Table, WrapValidator(around)], "Table"),
    *[(kind, "typed dict") for kind in (Custom, Closed, tuple[Closed, Custom])],
    (Annotated[list[Row], BeforeValidator(same)], "Row"),
    (Annotated[Checked, BeforeValidator(same)], "Checked"),
    (Annotated[Any, validate_as(Any).transform(same).validate_as(Plain)], "Plain"),
    (Annotated[Annotated[Cat, Tag("cat")] | Annotated[int, Tag("int")], Discriminator(same)], "Cat"),
]


@pytest.mark.parametrize(("kind", "named"), IGNORING)
def test_a_validator_that_sees_ignored_members_is_found(kind: Any, named: str) -> None:
    (problem, *_) = ignored_members(kind)
    assert problem.startswith(f"holds a {named}, which ignores members that a validator sees: give it the config")


@pytest.mark.parametrize(
    "kind",
    [
        *(Plain, After, Strict, Loose, Table, Row, Checked, str, Cat, dict[str, Any], list[After], Plain | None),
        *(Whole, Annotated[Record, BeforeValidator(same)], Annotated[str, BeforeValidator(same)]),
        Annotated[dict[str, int], WrapValidator(around)],
    ],
)
def test_what_no_validator_sees_may_be_ignored(kind: Any) -> None:
    assert list(ignored_members(kind)) == []


def read_plainly(sent: Any) -> Any:
    return Plain(to=sent["to"])


class Job(BaseModel):
    order: Annotated[Plain, PlainValidator(read_plainly)]


class PlainField(BaseModel):
    to: str

    @field_validator("to", mode="plain")
    @classmethod
    def read(cls, sent: Any) -> Any:
        return sent["to"]


@pytest.mark.parametrize("kind", [Job, PlainField, list[Job], Annotated[Plain, PlainValidator(read_plainly)]])
def test_a_plain_validator_sees_what_nobody_judges(kind: Any) -> None:
    """It may choose by a member that is not in what it returns: the class of an order, or a copy to somebody."""
    (found,) = ignored_members(kind)
    assert found.startswith("has a plain validator, which sees what nobody judges: let it run after, or name")


def read_in_a_shop(sent: Any) -> Any:
    return Plain(to=sent["to"])


read_in_a_shop.__module__ = "fastapi_shop.models"


@pytest.mark.parametrize(
    "function",
    [read_in_a_shop, Before.model_validate, TypeAdapter(Before).validate_python, str.upper],
)
def test_a_plain_validator_posing_as_one_of_the_library(function: Any) -> None:
    (found,) = ignored_members(Annotated[Any, PlainValidator(function)])
    assert found.startswith("has a plain validator")


class Part(Strict):
    to: str = Field(validation_alias=AliasPath("mail", "to"))


class LoosePart(Loose):
    to: str = Field(validation_alias=AliasChoices("to", AliasPath("mails", 0)))


class PlainPart(BaseModel):
    to: str = Field(validation_alias=AliasPath("mail", "to"))


@pytest.mark.parametrize("kind", [Part, LoosePart])
def test_a_part_of_a_member_whose_rest_only_a_validator_sees(kind: Any) -> None:
    """Pydantic counts the member as used: it neither forbids nor keeps what else is in it."""
    (found,) = ignored_members(kind)
    assert found.startswith(
        f"holds a {kind.__name__}, of which an AliasPath takes a part of a member that a validator "
    )


class One(Strict):
    to: str = Field(validation_alias=AliasChoices("to", "recipient"))
    cc: str = Field("", validation_alias=AliasPath("copy"))


@pytest.mark.parametrize("kind", [PlainPart, One])
def test_an_alias_that_conceals_nothing_from_caveats_may_stay(kind: Any) -> None:
    assert list(ignored_members(kind)) == []


class Spelt(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc] # pydantic's own way to say it
    amount: Annotated[int, Field(alias="amt")]


@checked_dataclass(config=ConfigDict(alias_generator=str.upper))
class Upper:
    amount: int


@pytest.mark.parametrize("kind", [Spelt, Upper, Annotated[Spelt, BeforeValidator(same)]])
def test_an_extra_member_that_a_field_overwrites(kind: Any) -> None:
    """A validator sees `amount`, and what is judged is `amt`, by the name `amount`."""
    (found,) = ignored_members(kind)
    named = "Upper" if kind is Upper else "Spelt"
    assert found.startswith(f"holds a {named}, whose members have an alias: make it a model, or name what is judged")


@pytest.mark.parametrize("kind", [IPvAnyAddress, UploadFile, re.Pattern[str]])
def test_types_of_pydantic_itself_are_no_plain_validators(kind: Any) -> None:
    assert list(ignored_members(kind)) == []


def test_each_type_is_told_once() -> None:
    class Twice(BaseModel):
        one: Before
        two: Before

    assert len(list(ignored_members(Twice))) == 1


class Early(BaseModel):
    later: "Late"  # type: ignore[name-defined] # noqa: F821 # the fact under test


def test_a_model_that_cannot_be_read_is_not_trusted() -> None:
    (problem,) = ignored_members(Early)
    assert problem.startswith("cannot be read (")


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as lab:
        yield lab


@pytest.mark.parametrize("kind", [Before, Annotated[Before, Query()], Annotated[Plain, BeforeValidator(same)]])
def test_an_endpoint_that_takes_ignored_members_cannot_be_made(lab: Authority, kind: Any) -> None:
    async def send(mail: Any) -> None: ...

    send.__annotations__ = {"mail": kind}
    guard = FastAPIGuard(lab.verifier("crm"))
    with pytest.raises(ConfigurationProblem, match=r"the parameter mail holds a (Before|Plain), which ignores"):
        guard.action("crm.send")(send)
    guard.action("crm.send", args={"to": "mail.to"})(send)


def test_a_member_that_only_a_validator_would_see_is_refused(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/send")
    @guard.action("crm.send")
    async def send(mail: Strict) -> str:
        return mail.to

    with client_of(app, lab.open(allow=["crm.send"]).bundle) as client:
        assert client.post("/send", json={"to": "a"}).json() == "a"
        assert client.post("/send", json={"to": "a", "evil": "b"}).status_code == 422
