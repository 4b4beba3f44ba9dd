"""Members of a body that no model names are judged, or refused."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import (
    Body,
    FastAPI,
)
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, model_serializer

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
