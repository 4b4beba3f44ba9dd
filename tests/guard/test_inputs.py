"""An endpoint whose inputs cannot all be judged cannot be made."""

from collections.abc import Iterator
from typing import Annotated, Any

import fastapi.dependencies.utils
import pytest
from fastapi import (
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Query,
    Request,
    UploadFile,
    WebSocket,
)
from fastapi import Path as InPath
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBearer,
    HTTPDigest,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OpenIdConnect,
)
from pydantic import BaseModel, Json, SecretStr
from starlette.requests import HTTPConnection

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.fastapi import Check, FastAPIGuard, SyncCheck
from capx_caveats import action, fields
from tests.labs.orders import Filters, Order, awaited, client_of, paged, reading, started


def generating() -> Iterator[int]:
    yield 1


def deferred_without_check(id: int) -> None: ...


def deferred_with_the_other(id: int, check: Check) -> None: ...


def with_filters(filters: Annotated[Filters, Query()]) -> None: ...


def with_filters_or_none(filters: Annotated[Filters | None, Query()] = None) -> None: ...


def with_one_body(order: Order) -> None: ...


def with_two_bodies(order: Order, other: Order) -> None: ...


def with_an_embedded_list(skus: Annotated[list[str], Body(embed=True)]) -> None: ...


def with_a_member_of_that_name(order: Order, amount: int) -> None: ...


def with_a_list(orders: list[Order]) -> None: ...


def with_a_dependency(page: Annotated[int, Depends(paged)]) -> None: ...


def with_a_header(x_tenant: Annotated[str, Header()]) -> None: ...


def with_a_cookie(amount: Annotated[int, Cookie()] = 1) -> None: ...


class Headers(BaseModel):
    amount: int = 1


def with_a_model_of_headers(headers: Annotated[Headers, Header()]) -> None: ...


def authenticated(authorization: Annotated[str, Header()], session: Annotated[str, Cookie()]) -> str:
    return authorization + session


def with_headers_of_a_dependency(user: Annotated[str, Depends(authenticated)]) -> None: ...


class Login(BaseModel):
    name: str
    passwords: list[SecretStr]
    before: "Login | None" = None


def reading_below(read: Annotated[Any, Depends(reading)]) -> Any:
    return read


def with_the_request(request: Request) -> None: ...


def with_the_connection(connection: HTTPConnection) -> None: ...


def with_the_socket(websocket: WebSocket) -> None: ...


def with_a_reading_dependency(read: Annotated[Any, Depends(reading)]) -> None: ...


def with_one_below(read: Annotated[Any, Depends(reading_below)]) -> None: ...


def with_one_name_twice(amount: int, cap: Annotated[int, Query(alias="amount")] = 1) -> None: ...


def with_one_name_in_two_places(amount: int, cap: Annotated[int, Body(validation_alias="amount")]) -> None: ...


def with_a_secret(password: Annotated[SecretStr, Body(embed=True)]) -> None: ...


def with_a_secret_within(login: Annotated[Login | None, Body(embed=True)]) -> None: ...


def taking_more(**more: str) -> None: ...


def named(name: str) -> None: ...


def by_path(id: Annotated[int, InPath()]) -> None: ...


@pytest.mark.parametrize(
    ("states", "endpoint", "why"),
    [
        ({}, generating, "generator"),
        ({}, taking_more, "passed by name"),
        ({"action": "crm x"}, named, "not an action"),
        ({}, with_a_list, "as a whole"),
        ({}, with_a_dependency, "belong to a dependency"),
        ({}, with_the_request, "the whole request"),
        ({}, with_the_connection, "the whole request"),
        ({}, with_the_socket, "the whole request"),
        ({}, with_a_reading_dependency, "of a dependency holds the whole request"),
        ({}, with_one_below, "of a dependency holds the whole request"),
        ({}, with_filters_or_none, "filters is a model of several parameters"),
        ({}, with_a_member_of_that_name, r"order\.amount both as amount"),
        ({}, with_one_name_twice, "amount and cap both as amount"),
        ({}, with_one_name_in_two_places, "amount and cap both as amount"),
        ({}, with_a_secret, "holds a secret"),
        ({}, with_a_secret_within, "holds a secret"),
        ({}, deferred_with_the_other, "deferred plain functions"),
        ({"tenant": with_a_header}, with_a_header, "cannot give it"),
        ({"args": with_a_header}, with_a_header, "cannot give it"),
        ({"tenant": awaited}, named, "deferred"),
        ({"tenant": "a\nb"}, named, "not a tenant"),
    ],
)
def test_an_endpoint_that_cannot_be_judged_cannot_be_made(
    guard: FastAPIGuard, states: dict[str, Any], endpoint: Any, why: str
) -> None:
    stated: dict[str, Any] = {"action": "crm.x", **states}
    with pytest.raises(ConfigurationProblem, match=why):
        guard.action(**stated)(endpoint)


@pytest.mark.parametrize("endpoint", [deferred_without_check, deferred_with_the_other, generating])
def test_a_deferred_endpoint_needs_the_check_that_fits(guard: FastAPIGuard, endpoint: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"SyncCheck|generator"):
        guard.deferred("crm.x")(endpoint)


def with_the_wrong_fact(id: int, allowed: SyncCheck) -> None: ...


async def async_with_the_other(id: int, check: SyncCheck) -> None: ...


def test_a_parameter_of_another_fact_is_told_what_to_import(guard: FastAPIGuard) -> None:
    for state, endpoint, wanted in (
        (guard.action, with_the_wrong_fact, r"an Allowed \(from capx import Allowed\)"),
        (guard.deferred, deferred_with_the_other, r"a SyncCheck \(from capx.guard.fastapi import SyncCheck\)"),
        (guard.deferred, async_with_the_other, r"a Check \(from capx.guard.fastapi import Check\)"),
    ):
        with pytest.raises(ConfigurationProblem, match=f"its parameter must be {wanted}: deferred plain functions"):
            state("crm.x")(endpoint)


def with_a_file(file: UploadFile) -> None: ...


def with_one_field(name: Annotated[str, Form()]) -> None: ...


def with_a_form_of_a_model(order: Annotated[Order, Form()]) -> None: ...


def test_a_file_needs_args_and_a_form_s_field_does_not(guard: FastAPIGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.dependencies.utils, "ensure_multipart_is_installed", lambda: None)
    with pytest.raises(ConfigurationProblem, match="a file"):
        guard.action("crm.x")(with_a_file)
    with pytest.raises(ConfigurationProblem, match="order is the body as a whole, and no model"):
        guard.action("crm.x")(with_a_form_of_a_model)
    guard.action("crm.x")(with_one_field)


@pytest.mark.parametrize(
    ("endpoint", "which"),
    [
        (with_a_header, "x_tenant is a header"),
        (with_a_cookie, "amount is a cookie"),
        (with_a_model_of_headers, "headers is a header"),
    ],
)
def test_a_header_with_which_the_call_would_run_unjudged(guard: FastAPIGuard, endpoint: Any, which: str) -> None:
    with pytest.raises(ConfigurationProblem, match=f"the parameter {which}, .* take it out .*`args=`"):
        guard.action("crm.x")(endpoint)
    guard.action("crm.x", args={})(endpoint)


def test_headers_of_a_dependency_are_the_service_s_own_affair(guard: FastAPIGuard) -> None:
    guard.action("crm.x")(with_headers_of_a_dependency)


class OwnBearer(HTTPBearer):
    """It may read all of the request."""

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials:
        return HTTPAuthorizationCredentials(scheme="Bearer", credentials=request.query_params["user"])


SCHEMES = [
    *(HTTPBearer(), HTTPBasic(), HTTPDigest(), OpenIdConnect(openIdConnectUrl="u"), OAuth2PasswordBearer("t")),
    *(OAuth2AuthorizationCodeBearer("a", "t"), APIKeyHeader(name="k"), APIKeyCookie(name="k")),
]


def user_by(scheme: Any) -> Any:
    def user(credentials: Annotated[Any, Depends(scheme)]) -> Any:
        return credentials

    return user


def taking(dependency: Any) -> Any:
    def endpoint(to: str, user: Annotated[Any, Depends(dependency)]) -> None: ...

    return endpoint


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_user_may_be_authenticated_by_a_security_scheme(lab: Authority, scheme: Any) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.get("/below")(guard.action("crm.x")(taking(user_by(scheme))))
    app.get("/route", dependencies=[Depends(scheme)])(guard.action("crm.x")(by_path))
    assert started(app)[0]["type"] == "lifespan.startup.complete"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_header_that_a_scheme_hands_to_the_endpoint(guard: FastAPIGuard, scheme: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"user is what a security scheme read .* let a dependency take it"):
        guard.action("crm.x")(taking(scheme))
    guard.action("crm.x", args={"to": "to"})(taking(scheme))


@pytest.mark.parametrize("scheme", [OwnBearer(), APIKeyQuery(name="to")])
def test_a_scheme_that_reads_more_than_a_header_is_refused(guard: FastAPIGuard, scheme: Any) -> None:
    for dependency in (scheme, user_by(scheme)):
        with pytest.raises(ConfigurationProblem, match="the parameter request of a dependency holds the whole request"):
            guard.action("crm.x")(taking(dependency))


def test_an_endpoint_that_can_be_judged_can_be_made(guard: FastAPIGuard) -> None:
    def stated(page: int) -> dict[str, int]:
        return {"page": page}

    guard.action("crm.x", args=stated)(with_a_dependency)
    guard.action("crm.x")(by_path)
    for endpoint in (with_filters, with_one_body, with_two_bodies, with_an_embedded_list):
        guard.action("crm.x")(endpoint)
    for other in (with_the_request, with_a_reading_dependency, with_a_secret):
        guard.action("crm.x", args={})(other)


def test_a_model_in_the_json_of_a_parameter_has_the_name_of_that(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/x")
    @guard.action("crm.x")
    def x(f: Annotated[Json[Filters], Query()]) -> int:
        return f.limit

    for entry, status in ((action("crm.x", f=fields(limit=7)), 200), (action("crm.x", limit=7), 403)):
        with client_of(app, lab.open(allow=[entry]).bundle) as client:
            assert client.get("/x", params={"f": '{"limit": 7}'}).status_code == status


def test_a_body_that_is_json_in_json_is_no_model(guard: FastAPIGuard) -> None:
    def endpoint(f: Annotated[Json[Filters], Body()]) -> None: ...

    with pytest.raises(ConfigurationProblem, match="the body as a whole, and no model"):
        guard.action("crm.x")(endpoint)
