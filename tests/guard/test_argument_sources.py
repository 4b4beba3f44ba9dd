"""The arguments of an endpoint over real HTTP: members of a body model, paths of a table, a function of the service."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import Body, Depends, FastAPI, Header, Query
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr
from pydantic.fields import FieldInfo
from starlette.datastructures import MultiDict, QueryParams

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.fastapi import Check, FastAPIGuard
from capx.guard.fastapi.argument_sources import ArgsFunction, ArgsTable, OwnArguments
from capx.verify.decision import Allowed
from capx_caveats import Entry, absent, action, any_of, anything, between, each, fields, where
from tests.labs.orders import noted, refusal
from tests.labs.serving import served


class Address(BaseModel):
    street: str
    zip: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Labels(RootModel[dict[str, str]]): ...


class Refund(BaseModel):
    amount: float
    currency: str = Field("eur", alias="cur")
    note: str | None = None
    to: Address | None = None
    pet: Cat | Dog | None = Field(None, discriminator="kind")
    lines: list[Address] = []
    labels: Labels = Labels({})


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")

    amount: int = 1


class Filters(BaseModel):
    limit: int = 10
    tags: list[str] = Field([], alias="tag")


class Login(BaseModel):
    name: str
    password: SecretStr


async def refund(body: Refund, allowed: Allowed) -> Any:
    return allowed.call.arguments


async def patch(id: int, patch: Refund, allowed: Allowed, dry: bool = False) -> Any:
    return allowed.call.arguments


async def loose(id: int, body: Loose, allowed: Allowed) -> Any:
    return allowed.call.arguments


async def missing(allowed: Allowed, body: Loose = None) -> Any:  # type: ignore[assignment] # the fact under test
    return allowed.call.arguments


async def listed(filters: Annotated[Filters, Query()], allowed: Allowed) -> Any:
    return allowed.call.arguments


async def changing(rows: Annotated[Any, Body(embed=True)], check: Check) -> Any:
    rows[0]["id"] = 2
    return [(await check()).call.arguments, rows]


async def tabled(id: int, body: Refund, allowed: Allowed, unnamed: str | None = None) -> Any:
    return allowed.call.arguments


TABLE = {"id": "id", "amount": "body.amount", "currency": "body.currency", "street": "body.to.street", "to": "body.to"}


@pytest.fixture(scope="module")
def guard(lab: Authority) -> FastAPIGuard:
    return FastAPIGuard(lab.verifier("crm"))


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.post("/refund")(guard.action("crm.refund")(refund))
    app.patch("/patch/{id}")(guard.action("crm.patch")(patch))
    app.post("/loose/{id}")(guard.action("crm.loose")(loose))
    app.post("/missing")(guard.action("crm.missing")(missing))
    app.get("/listed")(guard.action("crm.listed")(listed))
    app.post("/tabled/{id}")(guard.action("crm.tabled", args=TABLE)(tabled))
    app.post("/changing")(guard.deferred("crm.changing")(changing))
    app.post("/none")(guard.action("crm.none", args={})(refund))
    with served(app) as found:
        yield found


@pytest.fixture
def call(lab: Authority, origin: str) -> Callable[..., httpx.Response]:
    def called(method: str, path: str, body: Any = None, allow: str | Entry = "crm.*", *caveats: Any) -> httpx.Response:
        bundle = lab.open(allow=[allow], caveats=caveats).bundle
        with httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client:
            return client.request(method, path, json=body)

    return called


Call = Callable[..., httpx.Response]
LEAST: dict[str, Any] = {"amount": 1, "cur": "eur", "lines": [], "labels": {}}
"""What is judged of a refund that says only its amount."""


@pytest.mark.parametrize(
    ("sent", "judged"),
    [
        ({}, {}),
        ({"note": None, "to": None}, {"note": None, "to": None}),
        ({"to": {"street": "a"}}, {"to": {"street": "a"}}),
        ({"to": {"street": "a", "zip": None}}, {"to": {"street": "a", "zip": None}}),
        ({"cur": "usd"}, {"cur": "usd"}),
        ({"pet": {"kind": "cat", "lives": 9}}, {"pet": {"kind": "cat", "lives": 9}}),
        ({"pet": {"kind": "dog", "tricks": ["sit"]}}, {"pet": {"kind": "dog", "tricks": ["sit"]}}),
        ({"lines": [{"street": "a"}]}, {"lines": [{"street": "a"}]}),
        ({"labels": {"a.b": "c"}}, {"labels": {"a.b": "c"}}),
        ({"unknown": 1}, {}),
    ],
)
def test_the_members_of_a_body_model_are_arguments(call: Call, sent: Any, judged: Any) -> None:
    assert call("POST", "/refund", {"amount": 1, **sent}).json() == LEAST | judged


REST: dict[str, Any] = {"lines": anything(), "labels": anything()}


def test_a_closed_world_names_each_member(call: Call) -> None:
    may = action("crm.refund", args={"amount": between(1, 50), "cur": "eur", "to": fields(street="a"), **REST})
    assert call("POST", "/refund", {"amount": 5, "to": {"street": "a"}}, may).status_code == 200
    for more in (
        {"to": {"street": "b"}},
        {"to": {"street": "a", "zip": "1"}},
        {"to": {"street": "a", "zip": None}},
        {"to": None},
        {"to": {"street": "a"}, "note": None},
        {},
    ):
        assert refusal(call("POST", "/refund", {"amount": 5, **more}, may))[0] == 403


@pytest.mark.parametrize(("name", "given"), [("note", "x"), ("to", {"street": "a"})])
def test_null_does_not_pass_as_absent_or_absent_as_null(call: Call, name: str, given: Any) -> None:
    bodies: dict[str, dict[str, Any]] = {"left out": {}, "null": {name: None}, "given": {name: given}}
    closed = {"amount": 5, "cur": "eur", **REST}
    allowed = {"left out": absent(), "null": None, "given": any_of(given if name == "note" else fields(given))}
    for wanted, constraint in allowed.items():
        entry = action("crm.refund", args={**closed, name: constraint})
        for kind, body in bodies.items():
            for may, caveats in ((entry, ()), ("crm.refund", (where(f"args.{name}", constraint),))):
                response = call("POST", "/refund", {"amount": 5, **body}, may, *caveats)
                assert response.status_code == (200 if kind == wanted else 403), (wanted, kind)


def test_path_and_query_stand_beside_the_members(call: Call) -> None:
    expected = LEAST | {"id": 7, "dry": True}
    assert call("PATCH", "/patch/7?dry=1", {"amount": 1}).json() == expected


def test_an_extra_member_posing_as_a_path_parameter_is_refused(call: Call) -> None:
    assert call("POST", "/loose/7", {"amount": 1, "more": 2}).json() == {"id": 7, "amount": 1, "more": 2}
    response = call("POST", "/loose/7", {"amount": 1, "id": 1})
    assert refusal(response) == (403, "argument_refused")
    assert "two arguments have the name 'id'" in response.json()["detail"]


def test_a_body_that_is_none_all_the_same_is_refused(call: Call) -> None:
    assert call("POST", "/missing", {}).json() == {"amount": 1}
    response = call("POST", "/missing")
    assert refusal(response) == (403, "argument_refused")
    assert "body cannot be judged by its members, because it is no Loose" in response.json()["detail"]


def test_a_model_of_query_parameters_is_judged_by_its_members(call: Call) -> None:
    assert call("GET", "/listed?limit=5&tag=a&tag=b").json() == {"limit": 5, "tag": ["a", "b"]}
    assert refusal(call("GET", "/listed?limit=50", None, action("crm.listed", limit=between(1, 9))))[0] == 403


async def with_the_name_of_a_field(amount: int, body: Refund) -> None: ...


async def with_an_alias_of_a_field(body: Refund, x: Annotated[int, Query(alias="cur")] = 1) -> None: ...


async def in_both_models(filters: Annotated[Filters, Query()], body: Filters) -> None: ...


class Same(BaseModel):
    a: int = Field(alias="x")
    b: int = Field(alias="x")


async def with_one_name_twice(body: Same) -> None: ...


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (with_the_name_of_a_field, "amount and body.amount both as amount"),
        (with_an_alias_of_a_field, "x and body.currency both as cur"),
        (in_both_models, "filters.limit and body.limit both as limit"),
        (with_one_name_twice, "body.a and body.b both as x"),
    ],
)
def test_names_that_collide_stop_the_service(guard: FastAPIGuard, endpoint: Any, why: str) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        guard.action("crm.x")(endpoint)


async def with_labels(body: Labels) -> None: ...


async def with_either(body: Annotated[Cat | Dog, Body()]) -> None: ...


async def with_none(body: Refund | None = None) -> None: ...


async def with_a_dict(body: dict[str, int]) -> None: ...


async def with_a_secret(body: Login) -> None: ...


@pytest.mark.parametrize("endpoint", [with_labels, with_either, with_none, with_a_dict, with_a_secret])
def test_a_body_that_is_not_one_model_needs_args(guard: FastAPIGuard, endpoint: Any) -> None:
    with pytest.raises(ConfigurationProblem, match="args="):
        guard.action("crm.x")(endpoint)
    guard.action("crm.x", args={})(endpoint)


@pytest.mark.parametrize(
    ("sent", "judged"),
    [
        ({}, {}),
        ({"to": {"street": "a"}}, {"street": "a", "to": {"street": "a"}}),
        ({"to": {"street": "a", "zip": None}}, {"street": "a", "to": {"street": "a", "zip": None}}),
        # Left out is missing, and an explicit null on the way is null.
        ({"to": None}, {"street": None, "to": None}),
        ({"cur": "usd", "note": "unseen"}, {"currency": "usd"}),
    ],
)
def test_a_table_of_paths_says_what_is_judged(call: Call, sent: Any, judged: Any) -> None:
    expected = {"id": 7, "amount": 1, "currency": "eur"}
    assert call("POST", "/tabled/7", {"amount": 1, **sent}).json() == expected | judged


def test_a_table_without_paths_judges_no_arguments(call: Call) -> None:
    assert call("POST", "/none", {"amount": 1}, action("crm.none", args={})).json() == {}


async def with_all(
    body: Refund | None,
    pet: Cat | Dog,
    box: Loose,
    login: Login,
    *,
    note: Annotated[str, Depends(noted)],
    x_tenant: Annotated[str, Header()],
) -> None: ...


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"a": "order.amount"}, "order is not a path, query or body parameter"),
        ({"a": ""}, " is not a path, query or body parameter"),
        ({"a": "body.cur"}, "cur is not a field of a model"),
        ({"a": "body.to.city"}, "city is not a field of a model"),
        ({"a": "body.amount.real"}, "real is not a field of a model"),
        ({"a": "body.lines.street"}, "street is not a field of a model"),
        ({"a": "body.labels.a"}, "a is not a field of a model"),
        ({"a": "pet.lives"}, "lives is not a field of a model"),
        ({"a": "box.more"}, "more is not a field of a model"),
        ({"a": "box.model_extra"}, "model_extra is not a field of a model"),
        ({"a": "login.password"}, "which holds a secret"),
        ({"a": "login"}, "which holds a secret"),
        # What a dependency returns is the service's own data, and a header is no argument.
        ({"a": "note"}, "note is not a path, query or body parameter"),
        ({"a": "x_tenant"}, "x_tenant is not a path, query or body parameter"),
        ({"a": 1}, 'maps a to 1: give a path of parameters and fields such as "job.deck", or a function$'),
        ({"a": ["body"]}, "give a path"),
        ({"": "body"}, "cannot be the name of an argument"),
        ({1: "body"}, "cannot be the name of an argument"),
        (["body"], "neither a table nor a function"),
        ("body", "neither a table nor a function"),
        (5, "neither a table nor a function"),
    ],
)
def test_a_table_that_leads_nowhere_stops_the_service(guard: FastAPIGuard, args: Any, why: str) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        guard.action("crm.x", args=args)(with_all)


def test_what_is_no_table_is_told_what_to_give() -> None:
    with pytest.raises(
        ConfigurationProblem, match=r"^`args=` is neither .* or a function that returns names and values"
    ):
        ArgsTable(5, {})


def test_a_table_may_follow_what_each_of_several_models_has(guard: FastAPIGuard) -> None:
    guard.action("crm.x", args={"kind": "pet.kind", "name": "login.name", "street": "body.to.street"})(with_all)


@pytest.mark.parametrize("stated", [QueryParams("to=ann&to=eve"), [("to", "ann")], MultiDict(to="ann"), None])
def test_a_function_that_returns_no_plain_dict_is_refused(stated: Any) -> None:
    source = ArgsFunction(lambda: stated, [], sent=False)
    with pytest.raises(ConfigurationProblem, match=r"returned no dict of names and values: a .+ pass a plain dict"):
        source.taken({})


@pytest.mark.parametrize("many", [1, 100])
def test_a_deferred_endpoint_cannot_change_what_is_judged(call: Call, many: int) -> None:
    rows = [{"id": 1}] * many
    response = call("POST", "/changing", {"rows": rows}, action("crm.changing", rows=each(fields(id=1))))
    assert response.json() == [{"rows": rows}, [{"id": 2}, *rows[1:]]]


def its_owner(owner: str) -> dict[str, Any]:
    return {"owner": owner}


def addressed(id: int) -> dict[str, Any]:
    return {"id": id, "to": Address(street="a")}


def at_most(limit: Any) -> dict[str, Any]:
    return {"most": limit}


def test_a_function_that_takes_more_is_told_by_its_part() -> None:
    with pytest.raises(ConfigurationProblem, match=r"^`args=` takes owner, which the guard cannot give it"):
        ArgsFunction(its_owner, ["id"], sent=False)


@pytest.mark.parametrize("sent", [False, True])
def test_a_function_s_values_are_arguments_and_no_defaults(*, sent: bool) -> None:
    source = ArgsFunction(addressed, ["id"], sent=sent)
    assert source.sent is sent
    assert source.stated(source.taken({"id": 7, "other": 8})) == ({"id": 7, "to": {"street": "a"}}, {})


def test_the_service_may_change_what_its_function_returned() -> None:
    kept: dict[str, Any] = {"rows": [{"id": 1}]}

    def of_service() -> dict[str, Any]:
        return kept

    source = ArgsFunction(of_service, [], sent=False)
    stated = source.stated(source.taken({}))
    kept["rows"][0]["id"] = 2
    assert stated.args == {"rows": [{"id": 1}]}


# What was left out stands beside what was sent.


class Parcel(BaseModel):
    street: str = "a"
    floor: int = 0


class Job(BaseModel):
    amount: int = 1
    copies: int = 1
    to: Parcel = Parcel(street="b")
    via: Parcel = Parcel()


def boxing(boxed: Annotated[Job, "noted"] | None) -> None: ...


OWN = {
    "id": FieldInfo(annotation=int),
    "limit": FieldInfo(annotation=int, default=100),
    "job": FieldInfo(annotation=Job, default=1),
    "boxed": FieldInfo(annotation=boxing.__annotations__["boxed"]),
}


@pytest.mark.parametrize(("limit", "untouched"), [(100, True), (7, False)])
def test_a_parameter_with_its_default_counts_as_left_out(limit: int, *, untouched: bool) -> None:
    values = {"id": 7, "limit": limit, "job": Job(amount=1)}
    own = OwnArguments(OWN, {"id": "id", "limit": "most", "job": "job"}, {"job": Job})
    table = ArgsTable({"id": "id", "most": "limit"}, OWN)
    most = {"most": limit}
    left = {"copies": 1, "to": {"street": "b", "floor": 0}, "via": {"street": "a", "floor": 0}}
    sent, rest = ({}, most) if untouched else (most, {})
    assert own.stated(own.taken(values)) == ({"id": 7, "amount": 1} | sent, left | rest)
    assert table.stated(table.taken(values)) == ({"id": 7} | sent, rest)


def test_a_path_is_left_out_unless_each_step_was_sent() -> None:
    paths = {"sum": "job.amount", "copies": "job.copies", "to": "job.to.street", "street": "job.via.street"}
    table = ArgsTable({**paths, "floor": "job.via.floor"}, OWN)
    values = {"job": Job(amount=1, via=Parcel(street="a"))}
    # The amount was sent, as the parameter would be by default. The model set the street of `to`, not the caller.
    assert table.stated(values) == ({"sum": 1, "street": "a"}, {"copies": 1, "to": "b", "floor": 0})


class Endless(BaseModel):
    until: float = float("inf")


def test_a_step_of_a_path_that_cannot_be_judged_is_named() -> None:
    own = OWN | {"endless": FieldInfo(annotation=Endless)}
    for path, value, told in (
        ("job.amount", Parcel(), r"job\.amount cannot be judged: a validator returned something else than the model"),
        ("endless.until", Endless(), r"the argument 'until' cannot be judged, because it is not JSON"),
    ):
        with pytest.raises(InvalidRequest, match=f"^{told}"):
            ArgsTable({"x": path}, own).stated({path.partition(".")[0]: value})


def test_a_path_may_lead_through_an_annotated_model() -> None:
    table = ArgsTable({"sum": "boxed.amount"}, OWN)
    assert table.stated({"boxed": Job(amount=5)}) == ({"sum": 5}, {})
    assert table.stated({"boxed": None}) == ({"sum": None}, {})
    with pytest.raises(ConfigurationProblem, match="size is not a field of a model there"):
        ArgsTable({"sum": "boxed.size"}, OWN)


def test_a_value_that_is_no_json_is_told_by_its_argument() -> None:
    values = {"limit": b"secret"}
    function = ArgsFunction(at_most, ["limit"], sent=False)
    for source in (OwnArguments(OWN, {"limit": "most"}, {}), ArgsTable({"most": "limit"}, OWN), function):
        with pytest.raises(InvalidRequest, match=r"^the argument 'most' cannot be judged, because it is not JSON"):
            source.stated(source.taken(values))
