"""Members of a body that no model names are judged, or refused."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import (
    Body,
    FastAPI,
)
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    model_serializer,
    model_validator,
)

from capx.authority.authority import Authority
from capx.guard.fastapi import FastAPIGuard
from capx.guard.hidden_fields import hidden_fields
from capx.verify.decision import Allowed
from tests.labs.orders import client_of, refusal


class Leaf(BaseModel):
    hidden: int = Field(0, exclude=True)
    where: Path = Path("/")


class Leaves(RootModel[list[Leaf]]): ...


class Tree(BaseModel):
    model_config = ConfigDict(extra="allow")

    leaves: Leaves

    @model_serializer
    def lie(self) -> dict[str, Any]:
        return {"leaves": []}


def test_fields_that_a_model_does_not_write_are_judged(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/x")
    @guard.action("crm.x")
    def planted(tree: Annotated[Tree, Body(embed=True)], allowed: Allowed) -> dict[str, Any]:
        return dict(allowed.call.args)

    sent = {"tree": {"leaves": [{"hidden": 7, "where": "/etc"}], "more": 1}}
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.post("/x", json=sent).json() == sent


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")

    amount: int = Field(alias="amt")


def test_a_member_posing_as_a_field_of_another_name_is_refused(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/x")
    @guard.action("crm.x")
    def paid(o: Annotated[Loose, Body(embed=True)]) -> int:
        return o.amount

    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.post("/x", json={"o": {"amt": 7}}).json() == 7
        assert refusal(client.post("/x", json={"o": {"amt": 7, "amount": 1}})) == (403, "argument_refused")


class Early(BaseModel):
    later: "list[Late] | None" = None  # type: ignore[name-defined] # noqa: F821 # the fact under test


class SecretExtras(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SecretStr]


def test_a_type_that_was_not_there_yet_is_not_trusted() -> None:
    assert any("holds list[Late] | None, which cannot be read" in problem for problem in hidden_fields(Early))


def test_secrets_among_extra_members_are_found() -> None:
    assert any("a secret" in problem for problem in hidden_fields(SecretExtras))


class Weak(BaseModel):
    """As SQLModel's models: its slot holds only weak references."""

    __slots__ = ("__weakref__",)
    a: int


class Slotted(BaseModel):
    __slots__ = "hid"  # noqa: PLC0205 # the fact under test
    a: int


class SlottedToo(BaseModel):
    __slots__ = ("__weakref__", "hid")
    a: int


def test_only_slots_that_hold_something_are_private() -> None:
    assert list(hidden_fields(Weak)) == list(hidden_fields(BaseModel)) == []
    for kind in (Slotted, SlottedToo):
        assert any("private attributes" in problem for problem in hidden_fields(kind))


class Private(BaseModel):
    a: int
    _hid: int = PrivateAttr(0)


def test_private_attributes_are_found() -> None:
    assert any("private attributes" in problem for problem in hidden_fields(Private))


class Stated(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: "dict[str, SecretStr]"


def test_extra_members_whose_type_is_a_text_are_not_trusted() -> None:
    assert any("holds dict[str, SecretStr], which cannot be read" in problem for problem in hidden_fields(Stated))


class Itself(BaseModel):
    children: "list[Itself]"


def test_a_model_that_holds_itself_is_read_once() -> None:
    assert list(hidden_fields(Itself)) == []


@dataclasses.dataclass
class Init:
    a: int
    hid: dataclasses.InitVar[int]


def test_what_only_the_start_of_a_dataclass_sees_is_found() -> None:
    assert any("whose hid is not a field" in problem for problem in hidden_fields(Init))


class Peeping(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def peep(cls, data: Any) -> Any:
        return data


def test_members_that_only_a_validator_sees_are_found() -> None:
    assert list(hidden_fields(Peeping))


Limited = TypeVar("Limited", int, SecretStr)


def test_the_constraints_of_a_type_variable_are_types() -> None:
    assert any("a secret" in problem for problem in hidden_fields(list[Limited]))  # type: ignore[valid-type] # as a generic model states it


def test_what_annotates_a_type_is_no_type() -> None:
    assert list(hidden_fields(Annotated[int, SecretStr])) == []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


@dataclasses.dataclass
class Owner:
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


def test_a_union_in_a_dataclass_may_state_its_discriminator() -> None:
    assert list(hidden_fields(Owner)) == []
    assert list(hidden_fields(Cat | Dog))
