"""What of an endpoint's arguments is judged, over real HTTP: nothing that callers sent is kept from caveats."""

import dataclasses
import functools
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import fastapi.dependencies.utils
import httpx
import pytest
from fastapi import Body, FastAPI, Form, Query
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypeAliasType, TypedDict

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.fastapi import FastAPIGuard
from capx.verify.decision import Allowed
from capx_caveats import Entry, action, fields
from tests.labs.orders import client_of

LOOSE = ConfigDict(extra="allow")


@checked_dataclass(config=LOOSE)
class LooseRecord:
    a: int


@dataclasses.dataclass
class Marked:
    a: int

    def __post_init__(self) -> None:
        self.granted = "admin"


@dataclasses.dataclass
class WithInitVar:
    a: int
    role: dataclasses.InitVar[str] = "user"

    def __post_init__(self, role: str) -> None:
        self.granted = role


@dataclasses.dataclass
class Unfilled:
    a: int
    late: int = dataclasses.field(init=False)


class LooseDict(TypedDict):
    __pydantic_config__ = LOOSE  # type: ignore[misc] # how pydantic is told

    a: int


class Pair(NamedTuple):
    a: int
    b: int = 2


class Keeping(BaseModel):
    model_config = LOOSE

    a: int

    @model_validator(mode="wrap")
    @classmethod
    def keep(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        made = handler(sent)
        object.__setattr__(made, "sent", sent)
        return made


class Initiated(BaseModel):
    model_config = LOOSE

    a: int

    def __init__(self, **sent: Any) -> None:
        super().__init__(**sent)
        object.__setattr__(self, "sent", sent)


class Summed(BaseModel):
    a: int

    @computed_field
    def twice(self) -> int:
        return 2 * self.a

    @functools.cached_property
    def thrice(self) -> int:
        return 3 * self.a


class Posing(Summed):
    def model_post_init(self, context: Any, /) -> None:
        vars(self)["thrice"] = 3 * self.a


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    model_config = LOOSE

    kind: Literal["dog"] = "dog"


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    held: T


class Private(BaseModel):
    a: int
    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def keep(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        made = handler(sent)
        made._sent = sent
        return made


class Slotted(BaseModel):
    __slots__ = ("role",)

    a: int


def made_private(sent: Any) -> Private:
    return Private.model_validate(sent)


def in_bytes(sent: str) -> bytes:
    return sent.encode()


def in_parts(sent: str) -> Any:
    return memoryview(sent.encode())


class Text(str):
    """A text that may hold more."""


def more_than_a_list(sent: list[int]) -> Any:
    class Listed(list[int]):
        role = "user"

    made = Listed(sent)
    made.role = "admin"
    return made


def spelt_alike(sent: Any) -> Any:
    return {Path("/etc"): 1, "/etc": sent}


@pytest.fixture(scope="module")
def guard(lab: Authority) -> FastAPIGuard:
    return FastAPIGuard(lab.verifier("crm"))


def taking(kind: Any) -> Callable[..., Any]:
    """An endpoint that takes one member `x` of a body, and answers what was judged of it."""

    async def judged(x: Any, allowed: Allowed) -> Any:
        return allowed.call.args["x"]

    judged.__annotations__ = {"x": kind, "allowed": Allowed}
    return judged


def answer(lab: Authority, kind: Any, sent: Any, allow: str | Entry = "crm.x") -> httpx.Response:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.post("/x")(guard.action("crm.x")(taking(Annotated[kind, Body(embed=True)])))
    with client_of(app, lab.open(allow=[allow]).bundle) as client:
        return client.post("/x", json={"x": sent})


@pytest.mark.parametrize(
    ("kind", "sent", "judged"),
    [
        (LooseRecord, {"a": 1, "b": "more"}, {"a": 1, "b": "more"}),
        (LooseRecord, {"a": 1, "__dict__": {}}, {"a": 1, "__dict__": {}}),
        (list[LooseRecord], [{"a": 1, "b": 2}], [{"a": 1, "b": 2}]),
        (RootModel[list[LooseRecord]], [{"a": 1, "b": 2}], [{"a": 1, "b": 2}]),
        (Box[LooseRecord], {"held": {"a": 1, "b": 2}}, {"held": {"a": 1, "b": 2}}),
        (Json[LooseRecord], '{"a": 1, "b": 2}', {"a": 1, "b": 2}),
        (Marked, {"a": 1}, {"a": 1, "granted": "admin"}),
        (Unfilled, {"a": 1}, {"a": 1}),
        (LooseDict, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (Pair, {"a": 1}, [1, 2]),
        (Keeping, {"a": 1, "b": 2}, {"a": 1, "b": 2, "sent": {"a": 1, "b": 2}}),
        (Initiated, {"a": 1, "b": 2}, {"a": 1, "b": 2, "sent": {"a": 1, "b": 2}}),
        (Summed, {"a": 1}, {"a": 1}),
        (Posing, {"a": 1}, {"a": 1, "thrice": 3}),
        (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog", "b": 2}, {"kind": "dog", "b": 2}),
        (Dog, {"model_extra": 1, "root": 2, "_c": 3}, {"kind": "dog", "model_extra": 1, "root": 2, "_c": 3}),
        (Decimal, "100.0", 100),
        (Decimal, 12.5, 12.5),
        (datetime, "1970-01-02T01:00:00+01:00", 86400),
        (AnyUrl, "http://a:80", "http://a/"),
    ],
)
def test_all_that_a_value_holds_is_judged(lab: Authority, kind: Any, sent: Any, judged: Any) -> None:
    assert answer(lab, kind, sent).json() == judged


@pytest.mark.parametrize("kind", [LooseRecord, Keeping, Initiated, Posing, LooseDict, Dog])
def test_an_undeclared_member_is_refused_in_a_closed_world(lab: Authority, kind: Any) -> None:
    named = {"kind": "dog"} if kind is Dog else {"a": 1}
    response = answer(lab, kind, {"a": 1, "kind": "dog", "b": "more"}, action("crm.x", x=fields(named)))
    assert (response.status_code, response.json()["code"]) == (403, "argument_refused")


@pytest.mark.parametrize(
    ("kind", "sent", "why"),
    [
        (bytes, "secret", "it is bytes"),
        (dict[bytes, int], {"a": 1}, "it is bytes"),
        (Annotated[str, AfterValidator(in_bytes)], "secret", "it is bytes"),
        (Annotated[str, AfterValidator(in_parts)], "secret", "it is bytes"),
        (Annotated[str, AfterValidator(Text)], "a", "a subclass of str"),
        (Annotated[Any, AfterValidator(made_private)], {"a": 1, "b": 2}, "private attributes"),
        (Annotated[list[int], AfterValidator(more_than_a_list)], [1], "attributes that JSON would lose"),
        (Annotated[int, AfterValidator(spelt_alike)], 1, "the same spelling"),
        (Decimal, "1234567890123456", "pass it as text"),
        (Decimal, 0.1 + 0.2, "pass it as text"),
        (datetime, "1970-01-02T00:00:00", "names no instant"),
    ],
)
def test_what_is_not_seen_as_the_endpoint_gets_it_is_refused(lab: Authority, kind: Any, sent: Any, why: str) -> None:
    response = answer(lab, kind, sent)
    assert (response.status_code, response.json()["code"]) == (403, "argument_refused")
    assert why in response.json()["detail"]


def test_bytes_are_judged_by_what_args_says_of_them(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    def its_text(x: bytes) -> dict[str, Any]:
        return {"x": x.decode()}

    app.post("/x")(guard.action("crm.x", args=its_text)(taking(Annotated[bytes, Body(embed=True)])))
    task = lab.open(allow=[action("crm.x", x="ours")])
    with client_of(app, task.bundle) as client:
        assert client.post("/x", json={"x": "ours"}).json() == "ours"
        assert client.post("/x", json={"x": "secret"}).status_code == 403


@dataclasses.dataclass
class Holding:
    secret: SecretStr


class HoldingDict(TypedDict):
    within: WithInitVar


class HoldingTuple(NamedTuple):
    within: WithInitVar


class Unreadable(NamedTuple):
    within: "Nowhere"  # type: ignore[name-defined] # noqa: F821 # the fact under test


Alias = TypeAliasType("Alias", list[WithInitVar])
B = TypeVar("B", bound=WithInitVar)
C = TypeVar("C", int, WithInitVar)


class BoundBox(BaseModel, Generic[B]):
    held: B


class EitherBox(BaseModel, Generic[C]):
    held: C


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (WithInitVar, "whose role is not a field"),
        (list[WithInitVar], "whose role is not a field"),
        (WithInitVar | None, "whose role is not a field"),
        (Json[WithInitVar], "whose role is not a field"),
        (Box[WithInitVar], "whose role is not a field"),
        (BoundBox, "whose role is not a field"),
        (EitherBox, "whose role is not a field"),
        (NewType("Renamed", WithInitVar), "whose role is not a field"),
        (Alias, "whose role is not a field"),
        (HoldingDict, "whose role is not a field"),
        (HoldingTuple, "whose role is not a field"),
        (Private, "has private attributes"),
        (dict[str, Private], "has private attributes"),
        (Slotted, "has private attributes"),
        (Holding, "holds a secret"),
        (Unreadable, "cannot be read"),
    ],
)
def test_a_type_that_can_conceal_what_was_sent_is_refused(guard: FastAPIGuard, kind: Any, why: str) -> None:
    endpoint = taking(Annotated[kind, Body(embed=True)])
    with pytest.raises(ConfigurationProblem, match=f"{why}.*args="):
        guard.action("crm.x")(endpoint)
    guard.action("crm.x", args={})(endpoint)


@pytest.mark.parametrize(("kind", "where"), [(Dog | None, Query()), (Dog, Form()), (Dog | None, Form())])
def test_a_model_whose_members_come_one_by_one_is_no_argument(
    guard: FastAPIGuard, monkeypatch: pytest.MonkeyPatch, kind: Any, where: Any
) -> None:
    monkeypatch.setattr(fastapi.dependencies.utils, "ensure_multipart_is_installed", lambda: None)
    with pytest.raises(ConfigurationProblem, match="args="):
        guard.action("crm.x")(taking(Annotated[kind, where]))
