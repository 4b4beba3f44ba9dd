"""An object whose class the type at its place does not name is denied, at any depth: caveats would see it alike."""

import dataclasses
from collections.abc import Callable, Iterator
from types import GenericAlias
from typing import Annotated, Any, Generic, NamedTuple, NewType, TypeVar

import pytest
from fastapi import Body, FastAPI
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, TypeAdapter, model_validator
from pydantic.experimental.pipeline import validate_as
from typing_extensions import TypeAliasType, TypedDict

from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.fastapi import FastAPIGuard
from capx.guard.fastapi.named_classes import judged, named_classes
from capx_caveats import Entry, action, anything, fields
from tests.labs.orders import client_of, refusal

Of = TypeVar("Of")


class Draft(BaseModel):
    to: str
    amount: int = 0


class Send(BaseModel):
    to: str
    amount: int


def picked(draft: Any) -> Any:
    """Choose the class by whether the bearer sent an amount."""
    return Send(**vars(draft)) if "amount" in draft.model_fields_set else draft


Picked = Annotated[Draft, AfterValidator(picked)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    to: str
    amount: int = 0

    @model_validator(mode="wrap")
    @classmethod
    def dispatched(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        return Loud(**sent) if cls is Message and "amount" in sent else handler(sent)


class Loud(Message):
    amount: int


class Holding(BaseModel):
    op: Picked
    others: list[Send] = []


class Beside(BaseModel):
    """Another place of the same object names the class."""

    op: Picked
    send: Send | None = None


@dataclasses.dataclass
class Record:
    op: Picked


@dataclasses.dataclass
class Kept:
    ops: list[Any]


class Pair(NamedTuple):
    op: Picked
    n: int = 0


class Table(TypedDict):
    op: Picked


class TableOf(TypedDict, Generic[Of]):
    of: Of


class Extras(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Picked]


class Root(RootModel[Picked]): ...


class Either:
    """A class that says itself how pydantic validates it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(Send | Draft)


Bound = TypeVar("Bound", bound=Draft)


class Box(BaseModel, Generic[Of]):
    of: Of


@dataclasses.dataclass
class Case(Generic[Of]):
    of: Of


@dataclasses.dataclass
class Bounded(Generic[Bound]):
    of: Bound


@dataclasses.dataclass
class Grown:
    to: str

    def __post_init__(self) -> None:
        self.hidden = Draft(to=self.to)


@dataclasses.dataclass(frozen=True)
class Cold:
    to: str


Alias = TypeAliasType("Alias", Picked)
Renamed = NewType("Renamed", Draft)

PLACES: list[tuple[Any, Callable[[Any], Any]]] = [
    *[(kind, lambda op: op) for kind in (Picked, Message, Root, Alias, Picked | None)],
    *[(kind, lambda op: {"op": op}) for kind in (Holding, Beside, Record, Table, Extras, dict[str, Picked])],
    *[(kind, lambda op: [op]) for kind in (list[Alias], tuple[Picked, ...], Pair)],
    *[(kind, lambda op: {"of": op}) for kind in (Box[Picked], Case[Picked])],
    (list[Holding], lambda op: [{"op": op}]),
    (Record | None, lambda op: {"op": op}),
]
DRAFT, SEND = {"to": "a"}, {"to": "a", "amount": 0}


def seen(kind: Any, sent: Any) -> Any:
    return judged("x", TypeAdapter[Any](kind).validate_python(sent), named_classes(kind))


@pytest.mark.parametrize(("kind", "around"), PLACES)
def test_a_send_that_was_agreed_to_as_a_draft_is_denied(kind: Any, around: Callable[[Any], Any]) -> None:
    assert seen(kind, around(DRAFT))
    with pytest.raises(InvalidRequest, match=r"x cannot be judged, because it holds a (Send|Loud), which the type at "):
        seen(kind, around(SEND))


@pytest.mark.parametrize(
    "kind",
    [
        *(Either, list[Either], Annotated[Any, validate_as(Send) | validate_as(Draft)]),
        Annotated[Any, AfterValidator(lambda sent: Draft(**sent))],
        Annotated[Any, AfterValidator(lambda _: Kept([Draft(to="a")]))],
        Annotated[Any, AfterValidator(lambda _: Pair(Draft(to="a")))],
        Annotated[Any, AfterValidator(lambda _: {Cold("a")})],
        Annotated[Any, AfterValidator(lambda _: frozenset({Cold("a")}))],
    ],
)
def test_a_class_that_no_type_names_is_denied(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="which the type at its place does not name: have the type name the class"):
        seen(kind, [DRAFT] if kind == list[Either] else DRAFT)


def test_an_attribute_that_is_no_field_holds_no_object() -> None:
    with pytest.raises(InvalidRequest, match="holds a Draft"):
        seen(tuple[Grown, Draft], [{"to": "a"}, DRAFT])


def test_a_class_named_beside_an_object_is_not_named_in_it() -> None:
    with pytest.raises(InvalidRequest, match="holds a Send"):
        seen(tuple[Holding, Send], [{"op": SEND}, SEND])


def test_an_alias_that_holds_itself_is_read_once() -> None:
    class Itself:
        """What `type Itself = list[Itself]` makes in Python 3.12."""

    itself: Any = Itself()
    itself.__value__ = list[itself]
    assert named_classes(itself) == {list}


def test_types_that_aliases_make_anew_are_told_apart() -> None:
    class Anew:
        """Makes its type when it is read; another one may get its place in memory afterwards."""

        def __init__(self, held: Any) -> None:
            self.held = held

        @property
        def __value__(self) -> Any:
            return GenericAlias(list, self.held)

    aliases: Any = Anew(Draft), Anew(Send)
    assert named_classes(tuple[aliases]) == {tuple, list, Draft, Send}


def test_a_value_that_is_no_json_is_told_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match=r"^the argument 'x' cannot be judged, because it is not JSON"):
        seen(object, object())


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (Draft | str, DRAFT),
        (Renamed, DRAFT),
        (Annotated[Draft, Field(description="d")], DRAFT),
        (Bounded[Draft], {"of": DRAFT}),
        (Bounded, {"of": DRAFT}),
        (Box[Draft], {"of": DRAFT}),
        (Case[Draft], {"of": DRAFT}),
        (Case[list[Draft]], {"of": [DRAFT]}),
        (TableOf[Draft], {"of": DRAFT}),
        (dict[str, tuple[Draft, Send]], {"a": [DRAFT, SEND]}),
        (frozenset[str], ["a"]),
        (Any, {"a": [1, None]}),
        (None, None),
    ],
)
def test_an_object_of_the_class_that_its_type_names_is_judged(kind: Any, sent: Any) -> None:
    assert seen(kind, sent) is not ...


def test_a_consent_to_a_draft_does_not_send_over_http() -> None:
    with Authority.temporary() as lab:
        app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
        guard.protect(app)

        @app.post("/own")
        @guard.action("crm.own")
        def own(op: Annotated[Picked, Body(embed=True)]) -> str:
            return type(op).__name__

        @app.post("/table")
        @guard.action("crm.table", args={"op": "held.op", "to": "held.op.to"})
        def table(held: Annotated[Holding, Body(embed=True)]) -> str:
            return type(held.op).__name__

        @app.post("/rest")
        @guard.action("crm.rest", args={"others": "held.others"})
        def rest(held: Annotated[Holding, Body(embed=True)]) -> str:
            return type(held.op).__name__

        allowed: list[str | Entry] = [
            action("crm.own", op=fields(to="a", amount=0)),
            action("crm.table", op=fields(to="a", amount=0), to=anything()),
            "crm.rest",
        ]
        with client_of(app, lab.open(allow=allowed).bundle) as client:
            assert client.post("/own", json={"op": DRAFT}).json() == "Draft"
            assert refusal(client.post("/own", json={"op": SEND})) == (403, "argument_refused")
            assert client.post("/table", json={"held": {"op": DRAFT}}).json() == "Draft"
            assert refusal(client.post("/table", json={"held": {"op": SEND}})) == (403, "argument_refused")
            # What the service does not have judged may be of any class.
            assert client.post("/rest", json={"held": {"op": SEND}}).json() == "Send"


class Two(BaseModel):
    op: Picked
    send: Send | None = None


@pytest.fixture
def lab() -> Iterator[Authority]:
    with Authority.temporary() as lab:
        yield lab


@pytest.mark.parametrize("table", [{"to": "two.op.to", "sent": "two.send.to"}, {"op": "two.op", "sent": "two.send.to"}])
def test_a_class_that_another_path_names_is_not_named_here(lab: Authority, table: dict[str, str]) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/x")
    @guard.action("crm.x", args=table)
    def x(two: Annotated[Two, Body(embed=True)]) -> str:
        return type(two.op).__name__

    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.post("/x", json={"two": {"op": DRAFT, "send": SEND}}).json() == "Draft"
        assert refusal(client.post("/x", json={"two": {"op": SEND, "send": SEND}})) == (403, "argument_refused")
