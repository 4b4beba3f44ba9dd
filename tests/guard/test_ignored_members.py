"""A validator that sees members which its model ignores stops the service, at any depth."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI, Query, UploadFile
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    IPvAnyAddress,
    PlainValidator,
    RootModel,
    Tag,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic.experimental.pipeline import validate_as
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


IGNORING = [
    *[(kind, kind.__name__) for kind in (Before, Wrapped, Inherited, Initiated, Deferred, Itself)],
    *[(kind, "Plain") for kind in (Around, OfField, Annotated[Plain, BeforeValidator(same)])],
    *[(kind, "Before") for kind in (Metadata, RootModel[Before], dict[str, Before], Before | None)],
    (Annotated[Table, WrapValidator(around)], "Table"),
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
        *(Annotated[Record, BeforeValidator(same)], Annotated[str, BeforeValidator(same)]),
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
    assert found.startswith("has a plain validator, which sees what nobody judges: let it run before or after")


def test_types_of_pydantic_itself_are_no_plain_validators() -> None:
    assert list(ignored_members(IPvAnyAddress)) == []
    assert list(ignored_members(UploadFile)) == []


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
