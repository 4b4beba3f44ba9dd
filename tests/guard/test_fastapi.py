"""The guard of a FastAPI application, over real HTTP: its three places, and what keeps it from starting."""

import asyncio
import functools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import fastapi.dependencies.utils
import httpx
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    UploadFile,
    WebSocket,
)
from fastapi import Path as InPath
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, model_serializer
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Route, Router
from starlette.staticfiles import StaticFiles

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.asgi.messages import Message, Scope
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard, SyncCheck
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from capx.verify.decision import Allowed, Denied
from capx_caveats import DEFAULT, Caveat, Entry, Facts, Refusal, absent, action, between, one_of, where
from tests.labs.serving import served

ROWS = {1: "Acme", 2: "Other"}
REGIONS = {1: "EU", 2: "EU", 3: "US"}


class Order(BaseModel):
    sku: str
    amount: int = 1


class Filters(BaseModel):
    limit: int = 10


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture(scope="module")
def guard(lab: Authority) -> FastAPIGuard:
    return FastAPIGuard(lab.verifier("crm"), max_body=10_000)


ran: list[str] = []


def noted() -> str:
    ran.append("dependency")
    return "noted"


def paged(page: int = 1) -> int:
    return page


@pytest.fixture(scope="module")
def app(guard: FastAPIGuard) -> FastAPI:  # noqa: C901 # one application, with many small endpoints
    app = FastAPI(openapi_url=None)
    guard.protect(app, public=["/healthz", "/open/{name}"])

    @app.get("/healthz")
    def healthz() -> str:
        return "up"

    @app.get("/open/{name}")
    async def opened(name: str) -> str:
        return name

    @app.get("/accounts")
    @guard.action("crm.accounts.list", tenant=GRANTED)
    def accounts(allowed: Allowed, limit: int = 100) -> dict[str, Any]:
        return {"tenant": allowed.tenant, "limit": limit, "hops": allowed.hops}

    @app.get("/accounts/{id}")
    @guard.deferred("crm.accounts.read")
    async def account(id: int, check: Check) -> str:
        row = ROWS.get(id) or check.missing()
        await check(tenant=row)
        return row

    @app.get("/sync/{id}")
    @guard.deferred("crm.accounts.read")
    def account_sync(id: int, check: SyncCheck) -> str:
        row = ROWS.get(id) or check.missing()
        check(tenant=row)
        return row

    @app.get("/regions/{id}")
    @guard.deferred("crm.regions.read")
    def region(id: int, check: SyncCheck) -> str:
        row = REGIONS.get(id) or check.missing()
        check(tenant="Acme", attributes={"region": row})
        return row

    @app.get("/swallowing/{id}")
    @guard.deferred("crm.accounts.read")
    async def swallowing(id: int, check: Check) -> str:
        with suppress(Denied):
            await check(tenant=ROWS[id])
        return "secret"

    @app.get("/forgetful")
    @guard.deferred("crm.accounts.read")
    async def forgetful(check: Check) -> str:
        return "secret"

    @app.get("/unawaited")
    @guard.deferred("crm.accounts.read")
    async def unawaited(check: Check) -> str:
        check(tenant="Acme").close()
        return "secret"

    @app.get("/telling/{id}")
    @guard.deferred("crm.accounts.read")
    async def telling(id: int, check: Check) -> str:
        if id not in ROWS:
            raise HTTPException(404, "no such row")
        await check(tenant=ROWS[id])
        return "row"

    @app.get("/streamed")
    @guard.deferred("crm.accounts.read")
    async def streamed(check: Check) -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            yield "secret"
            await check(tenant="Acme")

        return StreamingResponse(rows())

    def stated(order: Order, note: str) -> dict[str, Any]:
        return {"sku": order.sku, "n": order.amount, "note": note}

    @app.post("/orders")
    @guard.action("crm.orders.write", tenant="Acme", args=stated)
    async def orders(order: Order, note: Annotated[str, Depends(noted)]) -> Order:
        return order

    def its_tenant(customer: str) -> str:
        return customer

    @app.post("/fields/{customer}")
    @guard.action("crm.fields.write", tenant=its_tenant)
    async def fields(  # noqa: PLR0917 # FastAPI passes all of them by name
        customer: str,
        tasks: BackgroundTasks,
        name: Annotated[str, Body()],
        size: Annotated[int, Body()] = 1,
        deck: Annotated[str, Query(alias="deck-id")] = "d",
        trace: Annotated[str, Header()] = "",
        session: Annotated[str, Cookie()] = "",
    ) -> list[Any]:
        return [customer, name, size, deck, trace, session]

    @app.get("/depending")
    @guard.action("crm.depending", tenant=GRANTED)
    def depending(note: Annotated[str, Depends(noted)], limit: int) -> str:
        return note

    def its_room(room: str) -> dict[str, Any]:
        return {"room": room}

    @app.websocket("/socket")
    @guard.action("crm.socket", tenant=GRANTED, args=its_room)
    async def socket(websocket: WebSocket, room: str = "lobby") -> None:
        await websocket.accept()
        await websocket.send_text(room)
        await websocket.close()

    return app


@pytest.fixture(scope="module")
def origin(app: FastAPI) -> Iterator[str]:
    with served(app) as url:
        yield url


Agent = Callable[..., httpx.Client]


@pytest.fixture
def agent(lab: Authority, origin: str) -> Iterator[Agent]:
    opened: list[httpx.Client] = []

    def act(*allow: str | Entry, tenant: str | None = "Acme", **parts: Any) -> httpx.Client:
        task = lab.open(tenant=tenant, allow=list(allow), **parts)
        opened.append(httpx_client.client({origin: "crm"}, task.bundle, base_url=origin))
        return opened[-1]

    yield act
    for client in opened:
        client.close()


@pytest.fixture
def stranger(origin: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=origin) as client:
        yield client


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return str(response.json()["code"])


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, code(response)


def test_the_granted_tenant_is_what_the_handler_gets(agent: Agent) -> None:
    response = agent("crm.accounts.list").get("/accounts")
    assert response.json() == {"tenant": "Acme", "limit": 100, "hops": []}
    assert response.headers["capx-decision"]


def test_granted_without_a_tenant_is_incomplete_authority(agent: Agent) -> None:
    response = agent("crm.accounts.list", tenant=None).get("/accounts")
    assert refusal(response) == (403, "incomplete_authority")


def test_presentation_none(stranger: httpx.Client) -> None:
    for path in ("/accounts", "/accounts/1", "/nowhere", "/healthz/", "/docs", "/openapi.json"):
        assert refusal(stranger.get(path)) == (401, "no_token")


def test_public_paths_need_none(stranger: httpx.Client) -> None:
    assert stranger.get("/healthz").json() == "up"
    assert stranger.get("/open/x").json() == "x"


def test_defaults_are_judged(agent: Agent) -> None:
    client = agent(action("crm.accounts.list", limit=between(1, 50)))
    assert client.get("/accounts?limit=50").status_code == 200
    response = client.get("/accounts")
    assert refusal(response) == (403, "argument_refused")
    assert response.json()["reasons"][0]["given"] == {"limit": 100}


def test_a_repeated_query_parameter_is_judged_as_it_is_executed(agent: Agent) -> None:
    client = agent(action("crm.accounts.list", limit=between(1, 50)))
    assert client.get("/accounts?limit=5&limit=1000").status_code == 403
    assert client.get("/accounts?limit=1000&limit=5").json()["limit"] == 5


def test_no_validation_error_and_no_dependency_for_those_not_allowed_the_action(agent: Agent) -> None:
    ran.clear()
    response = agent("crm.accounts.list").get("/depending?limit=many")
    assert refusal(response) == (403, "action_not_allowed")
    assert not ran
    assert agent("crm.depending").get("/depending?limit=many").status_code == 422
    assert ran == ["dependency"]


def test_a_foreign_tenant_s_row_is_refused_and_ours_is_not(agent: Agent) -> None:
    client = agent("crm.accounts.read")
    for path in ("/accounts", "/sync"):
        assert client.get(f"{path}/1").json() == "Acme"
        assert refusal(client.get(f"{path}/2")) == (403, "wrong_tenant")


def bare(response: httpx.Response) -> tuple[Any, ...]:
    """All of an answer but the decision's id and the time."""
    body = response.json()
    del body["decision"]
    headers = {name: value for name, value in response.headers.items() if name not in ("capx-decision", "date")}
    return response.status_code, body, headers


@pytest.mark.parametrize("path", ["/accounts", "/sync"])
@pytest.mark.parametrize("tenant", ["Acme", None])
def test_existence_of_a_foreign_row_is_not_told(agent: Agent, path: str, tenant: str | None) -> None:
    client = agent("crm.accounts.read", tenant=tenant)
    assert bare(client.get(f"{path}/2")) == bare(client.get(f"{path}/9"))


def test_existence_of_a_row_hidden_by_an_attribute_is_not_told(agent: Agent) -> None:
    client = agent("crm.regions.read", caveats=[where("region", "EU")])
    assert client.get("/regions/1").json() == "EU"
    assert bare(client.get("/regions/3")) == bare(client.get("/regions/9"))


def test_an_argument_is_refused_in_its_own_words_where_the_row_is_ours(agent: Agent) -> None:
    response = agent(action("crm.accounts.read", id=one_of(7))).get("/accounts/1")
    assert refusal(response) == (403, "argument_refused")


@pytest.mark.parametrize("path", ["/swallowing/2", "/forgetful", "/unawaited", "/telling/9", "/streamed"])
def test_a_handler_that_swallows_or_forgets_the_refusal_is_withheld(
    agent: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = agent("crm.accounts.read").get(path)
    assert refusal(response) == (500, "withheld")
    assert "secret" not in response.text
    assert "withheld" in caplog.text


def test_a_handler_that_could_swallow_but_passed_is_answered(agent: Agent) -> None:
    assert agent("crm.accounts.read").get("/swallowing/1").json() == "secret"


def test_a_whole_body_is_judged_by_what_args_names(agent: Agent) -> None:
    client = agent(action("crm.orders.write", sku="a", n=between(1, 3), note="noted"))
    assert client.post("/orders", json={"sku": "a", "amount": 3}).json() == {"sku": "a", "amount": 3}
    assert refusal(client.post("/orders", json={"sku": "a", "amount": 4})) == (403, "argument_refused")


def test_arguments_are_path_query_and_body_and_never_headers_or_cookies(agent: Agent) -> None:
    arguments: dict[str, Any] = {
        "customer": "Acme",
        "name": "n",
        "size": 1,
        "deck-id": "d",
        "trace": absent(),
        "session": absent(),
    }
    client = agent(action("crm.fields.write", args=arguments))
    sent: dict[str, Any] = {"json": {"name": "n"}, "headers": {"trace": "t", "cookie": "session=s"}}
    assert client.post("/fields/Acme", **sent).json() == ["Acme", "n", 1, "d", "t", "s"]
    assert refusal(client.post("/fields/Acme?deck-id=e", **sent)) == (403, "argument_refused")


def test_a_header_or_a_cookie_posing_as_an_argument(agent: Agent) -> None:
    client = agent(action("crm.fields.write", args={"trace": "t"}))
    assert refusal(client.post("/fields/Acme", json={"name": "n"}, headers={"trace": "t"}))[0] == 403


def test_a_tenant_from_the_path_is_judged(agent: Agent) -> None:
    response = agent("crm.fields.write").post("/fields/Other", json={"name": "n"})
    assert refusal(response) == (403, "wrong_tenant")


def test_what_is_not_there_is_told_to_those_admitted(agent: Agent) -> None:
    client = agent("crm.accounts.list")
    assert client.get("/nowhere").status_code == 404
    assert client.post("/accounts").status_code == 405


def test_use_after_completion(lab: Authority, origin: str) -> None:
    task = lab.open(tenant="Acme", allow=["crm.accounts.list"])
    with httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        assert client.get("/accounts").status_code == 200
        lab.complete(task.id)
        assert refusal(client.get("/accounts")) == (403, "task_completed")


def test_the_decision_in_the_answer_is_the_one_in_the_log(lab: Authority, agent: Agent) -> None:
    response = agent("crm.accounts.list").get("/depending?limit=1")
    lab.flush()
    event = lab.decision(response.headers["capx-decision"])
    assert event is not None
    assert json.loads(event.body)["action"] == "crm.depending"


def socket_messages(lab: Authority, app: FastAPI, *allow: str, token: bool = True) -> list[str]:
    told: list[Message] = []
    headers: list[tuple[bytes, bytes]] = []
    if token:
        capability, *_ = lab.open(tenant="Acme", allow=list(allow)).bundle
        presentation = capability.present(HttpRequest(method="GET", target="/socket?room=a"))
        headers.append((b"authorization", presentation.authorization.encode()))
    scope = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"room=a",
        "root_path": "",
        "headers": headers,
        "subprotocols": [],
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    return [message["type"] for message in told]


def test_a_websocket_is_judged_before_it_is_accepted(lab: Authority, app: FastAPI) -> None:
    assert socket_messages(lab, app, token=False) == ["websocket.close"]
    assert socket_messages(lab, app, "crm.other") == ["websocket.close"]
    assert socket_messages(lab, app, "crm.socket") == ["websocket.accept", "websocket.send", "websocket.close"]


# What an application is made of, and whether it starts.


async def plain(scope: Scope, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"secret"})


def unmarked() -> str:
    ran.append("unmarked")
    return "secret"


async def starlette_endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse("secret")


def included(guard: FastAPIGuard, endpoint: Any) -> APIRouter:
    inner, outer = APIRouter(), APIRouter(prefix="/inner")
    inner.get("/x")(endpoint)
    outer.include_router(inner, prefix="/more")
    return outer


def frontend(app: FastAPI, folder: Path) -> None:
    (folder / "index.html").write_text("secret")
    app.frontend("/front", directory=folder)


FAULTS: dict[str, Callable[[FastAPI, FastAPIGuard, Path], Any]] = {
    "states no action": lambda app, guard, folder: app.get("/x")(unmarked),
    "/inner/more/x: it states no action": lambda app, guard, folder: app.include_router(included(guard, unmarked)),
    "/plain: what is mounted here cannot be seen through": lambda app, guard, folder: app.mount("/plain", plain),
    "/static: what is mounted": lambda app, guard, folder: app.mount("/static", StaticFiles(directory=folder)),
    "/sub/x: it states no action": lambda app, guard, folder: app.mount(
        "/sub", Router([Route("/x", starlette_endpoint)])
    ),
    "/sub/openapi.json: it states no action": lambda app, guard, folder: app.mount("/sub", FastAPI()),
    "/s: it states no action": lambda app, guard, folder: app.add_route("/s", starlette_endpoint),
    "only FastAPI's own": lambda app, guard, folder: app.add_route(
        "/s", guard.action("crm.x", args={})(starlette_endpoint)
    ),
    "/w: it states no action": lambda app, guard, folder: app.add_api_websocket_route("/w", unmarked),
    "a frontend is served": lambda app, guard, folder: frontend(app, folder),
    "and is public: which": lambda app, guard, folder: app.get("/healthz")(guard.action("crm.x")(lambda: "x")),
    "of a dependency can be asked": lambda app, guard, folder: app.get("/x", dependencies=[Depends(reading)])(
        guard.action("crm.x")(lambda: "x")
    ),
    "belong to a dependency": lambda app, guard, folder: app.get("/x", dependencies=[Depends(paged)])(
        guard.action("crm.x")(lambda: "x")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_route_that_is_not_guarded_keeps_the_application_from_starting(
    lab: Authority, tmp_path: Path, fault: str
) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/healthz"])
    app.get("/healthz")(unmarked)
    FAULTS[fault](app, guard, tmp_path)
    (answer,) = started(app)
    assert answer["type"] == "lifespan.startup.failed"
    assert fault in answer["message"]
    capability, *_ = lab.open(allow=["crm.*"]).bundle
    for path in ("/x", "/healthz"):
        assert asked(app, path, capability.present(HttpRequest(method="GET", target=path)).authorization)[0] == 500


@pytest.mark.parametrize("public", ["/health", "/healthz/", "/{any}"])
def test_a_public_entry_that_matches_nothing_keeps_the_application_from_starting(lab: Authority, public: str) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/healthz", public])
    app.get("/healthz")(unmarked)
    (answer,) = started(app)
    assert f"public={public!r} matches no route" in answer["message"]


def test_documentation_routes_are_routes(lab: Authority) -> None:
    app, guard = FastAPI(), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    (answer,) = started(app)
    assert "/openapi.json: it states no action" in answer["message"]


def test_a_server_does_not_serve_what_did_not_start(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.get("/x")(unmarked)
    with served(app) as origin, pytest.raises(httpx.ConnectError):
        httpx.get(f"{origin}/x")


def test_a_route_added_after_start_up_does_not_run(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/{name}"])
    app.get("/{name}")(awaited)
    capability, *_ = lab.open(allow=["crm.*"]).bundle
    with served(app) as origin, httpx_client.client({origin: "crm"}, Bundle([capability]), base_url=origin) as client:
        assert client.get("/late").json() == "late"
        ran.clear()
        app.router.routes.insert(0, _route(app, "/late", unmarked))
        app.router.routes.insert(0, Route("/later", starlette_endpoint))
        for path in ("/late", "/later"):
            assert refusal(client.get(path)) == (500, "withheld")
            assert refusal(httpx.get(origin + path)) == (500, "withheld")
        assert not ran


def _route(app: FastAPI, path: str, endpoint: Any) -> Any:
    app.get(path)(endpoint)
    return app.router.routes.pop()


def test_included_and_mounted_endpoints_are_guarded(lab: Authority, tmp_path: Path) -> None:
    app, sub, guard = FastAPI(openapi_url=None), FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    (tmp_path / "file.txt").write_text("open to all")
    guard.protect(app, public=["/static"])

    @guard.action("crm.x", tenant=GRANTED)
    def x(n: int = 1) -> int:
        return n

    app.include_router(included(guard, x))
    sub.get("/x")(x)
    app.mount("/sub", sub)
    app.mount("/static", StaticFiles(directory=tmp_path))
    task = lab.open(tenant="Acme", allow=[action("crm.x", n=1)])
    with served(app) as origin, httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        for path in ("/inner/more/x", "/sub/x"):
            assert httpx.get(origin + path).status_code == 401
            assert client.get(path).json() == 1
            assert refusal(client.get(f"{path}?n=2")) == (403, "argument_refused")
        assert client.get("/sub/nowhere").status_code == 404
        assert httpx.get(f"{origin}/static/file.txt").text == "open to all"
        assert httpx.get(f"{origin}/static/nothing.txt").status_code == 404


def test_the_gate_comes_before_dependencies_of_application_router_and_route(lab: Authority) -> None:
    def first() -> None:
        ran.append("too early")

    app, guard = FastAPI(openapi_url=None, dependencies=[Depends(first)]), FastAPIGuard(lab.verifier("crm"))
    router = APIRouter(dependencies=[Depends(first)])
    router.get("/x", dependencies=[Depends(first)])(guard.action("crm.x")(lambda: "x"))
    app.get("/y", dependencies=[Depends(first)])(guard.action("crm.x")(lambda: "y"))
    app.include_router(router)
    guard.protect(app)
    ran.clear()
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.y"]).bundle, base_url=origin) as client,
    ):
        for path in ("/x", "/y"):
            assert refusal(client.get(path)) == (403, "action_not_allowed")
    assert not ran


def test_preflights_are_answered_before_the_guard_and_calls_are_not(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    app.add_middleware(CORSMiddleware, allow_origins=["https://ui"], allow_headers=["Authorization"])
    asks = {"Origin": "https://ui", "Access-Control-Request-Method": "GET"}
    with served(app) as origin:
        assert httpx.options(f"{origin}/x", headers=asks).status_code == 200
        assert refusal(httpx.options(f"{origin}/x")) == (401, "no_token")
        answer = httpx.get(f"{origin}/x", headers=asks)
    assert refusal(answer) == (401, "no_token")
    assert answer.headers["access-control-allow-origin"] == "https://ui"


def test_a_root_path_is_what_clients_see(lab: Authority, app: FastAPI) -> None:
    capability, *_ = lab.open(tenant="Acme", allow=["crm.accounts.list"]).bundle
    with served(app, root_path="/crm") as origin:
        assert httpx.get(f"{origin}/healthz").json() == "up"
        for target, expected in (("/crm/accounts", 200), ("/accounts", 401)):
            presentation = capability.present(HttpRequest(method="GET", target=target))
            response = httpx.get(f"{origin}/accounts", headers={"Authorization": presentation.authorization})
            assert response.status_code == expected


def test_a_route_added_while_the_application_starts(lab: Authority) -> None:
    @asynccontextmanager
    async def late(app: FastAPI) -> AsyncGenerator[None]:
        app.get("/late")(unmarked)
        yield

    app, guard = FastAPI(openapi_url=None, lifespan=late), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/healthz"])
    app.get("/healthz")(unmarked)
    with served(app) as origin:
        for path in ("/late", "/healthz"):
            assert refusal(httpx.get(origin + path)) == (500, "withheld")


def test_a_guarded_route_below_a_public_pattern_stays_guarded(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/items/{name}"])
    app.get("/items/secret")(guard.action("crm.x")(lambda: "secret"))
    app.get("/items/{name}")(awaited)
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert httpx.get(f"{origin}/items/other").json() == "other"
        assert refusal(httpx.get(f"{origin}/items/secret")) == (401, "no_token")
        assert client.get("/items/secret").json() == "secret"


def test_a_decorator_that_answers_from_a_cache_is_withheld(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    guarded = guard.action("crm.x")(with_a_default)

    @functools.wraps(guarded)
    def cached(**arguments: Any) -> int:
        return 42

    app.get("/x")(cached)
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert refusal(client.get("/x")) == (500, "withheld")


class Caching(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return PlainTextResponse("secret")


def test_middleware_that_answers_from_a_cache_is_withheld(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    app.add_middleware(Caching)
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert refusal(client.get("/x")) == (500, "withheld")


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return await call_next(request)


def test_the_refusal_survives_middleware_and_handlers_of_errors(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    app.add_middleware(Passing)
    guard.protect(app)

    @app.exception_handler(Denied)
    def forgive(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("secret")

    app.get("/x")(guard.action("crm.x")(with_a_default))
    task = lab.open(allow=[action("crm.x", n=2)])
    with served(app) as origin, httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        response = client.get("/x")
    assert refusal(response) == (500, "withheld")


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_before_the_verdict_is_not_told_by_handlers_and_debug_pages(
    lab: Authority, caplog: pytest.LogCaptureFixture, *, debug: bool
) -> None:
    app, sub = FastAPI(openapi_url=None, debug=debug), FastAPI(openapi_url=None, debug=debug)
    guard = FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    async def tell(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(str(error))

    if not debug:
        app.add_exception_handler(Exception, tell)
        sub.add_exception_handler(Exception, tell)

    @guard.deferred("crm.x")
    async def failing(check: Check) -> str:
        raise RuntimeError("secret of another tenant")

    app.get("/x")(failing)
    sub.get("/x")(failing)
    app.mount("/sub", sub)
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        for path in ("/x", "/sub/x"):
            caplog.clear()
            assert refusal(client.get(path)) == (500, "withheld")
            assert "RuntimeError: secret of another tenant" in caplog.text


def test_an_error_after_the_verdict_is_left_to_handlers(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.exception_handler(KeyError)
    @app.exception_handler(Exception)
    async def tell(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"told {error}", 500)

    @app.get("/x")
    @guard.action("crm.x")
    def failing() -> str:
        raise ValueError("ours")

    capability, *_ = lab.open(allow=["crm.x"]).bundle
    presentation = capability.present(HttpRequest(method="GET", target="/x"))
    with served(app) as origin:
        response = httpx.get(f"{origin}/x", headers={"Authorization": presentation.authorization})
    assert (response.status_code, response.text) == (500, "told ours")


@pytest.mark.parametrize("middle", [False, True])
def test_background_tasks_of_a_refused_call_do_not_run(lab: Authority, *, middle: bool) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    if middle:
        app.add_middleware(Passing)
    guard.protect(app)

    @app.get("/x/{tenant}")
    @guard.deferred("crm.x")
    async def swallowing(tenant: str, check: Check, tasks: BackgroundTasks) -> str:
        tasks.add_task(ran.append, tenant)
        with suppress(Denied):
            await check(tenant=tenant)
        return "secret"

    ran.clear()
    task = lab.open(tenant="Acme", allow=["crm.x"])
    with served(app) as origin, httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        assert refusal(client.get("/x/Globex")) == (500, "withheld")
        assert client.get("/x/Acme").json() == "secret"
    assert ran == ["Acme"]


def test_a_tenant_or_an_attribute_of_the_bearer_s_making_is_refused_and_recorded(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    def its_owner(tenant: str) -> str:
        return tenant

    def its_size(size: float) -> dict[str, Any]:
        return {"size": size}

    @app.get("/x/{tenant}")
    @guard.action("crm.x", tenant=its_owner, attributes=its_size, args={})
    def owned(tenant: str, size: float = 1) -> str:
        return tenant

    @app.get("/row/{tenant}")
    @guard.deferred("crm.x")
    async def row(tenant: str, check: Check) -> str:
        await check(tenant=tenant)
        return tenant

    task = lab.open(tenant="Acme", allow=["crm.x"])
    with served(app) as origin, httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        assert client.get("/x/Acme").json() == "Acme"
        for path in ("/x/%00", "/x/" + "x" * 200, "/row/%00"):
            response = client.get(path)
            assert refusal(response) == (403, "wrong_tenant")
            lab.flush()
            assert lab.decision(response.headers["capx-decision"]) is not None
        assert refusal(client.get("/x/Acme?size=nan")) == (403, "argument_refused")
        assert bare(client.get("/row/%00"))[1]["code"] == bare(client.get("/row/Other"))[1]["code"]


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
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert client.post("/x", json=sent).json() == sent


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")

    amount: int = Field(alias="amt")


def test_a_member_that_poses_as_a_field_called_otherwise_is_refused(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/x")
    @guard.action("crm.x")
    def paid(o: Annotated[Loose, Body(embed=True)]) -> int:
        return o.amount

    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert client.post("/x", json={"o": {"amt": 7}}).json() == 7
        assert refusal(client.post("/x", json={"o": {"amt": 7, "amount": 1}})) == (403, "argument_refused")


def test_an_argument_that_is_no_json_is_refused(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/x")
    @guard.action("crm.x")
    def odd(pattern: re.Pattern[str]) -> str:
        return "secret"

    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert refusal(client.get("/x?pattern=a")) == (403, "argument_refused")


def test_a_marked_endpoint_without_a_guard_before_it_answers_nothing(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with pytest.raises(ConfigurationProblem, match="no guard"):
        asked(app, "/x", "")


def test_another_guard_s_mark_is_none(lab: Authority) -> None:
    app, guard, other = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm")), FastAPIGuard(lab.verifier("hr"))
    guard.protect(app)
    app.get("/x")(other.action("hr.x")(lambda: "x"))
    (answer,) = started(app)
    assert "/x: it states no action" in answer["message"]


def with_a_default(n: int = 1) -> int:
    return n


async def awaited(name: str) -> str:
    return name


def generating() -> Iterator[int]:
    yield 1


def deferred_without_check(id: int) -> None: ...


def deferred_with_the_other(id: int, check: Check) -> None: ...


def with_filters(filters: Annotated[Filters, Query()]) -> None: ...


def with_one_body(order: Order) -> None: ...


def with_a_dependency(page: Annotated[int, Depends(paged)]) -> None: ...


def with_a_header(x_tenant: Annotated[str, Header()]) -> None: ...


class Login(BaseModel):
    name: str
    passwords: list[SecretStr]
    before: "Login | None" = None


async def reading(request: Request) -> Any:
    return await request.json()


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
        ({}, with_filters, "args="),
        ({}, with_one_body, "as a whole"),
        ({}, with_a_dependency, "belong to a dependency"),
        ({}, with_the_request, "all of the request"),
        ({}, with_the_connection, "all of the request"),
        ({}, with_the_socket, "all of the request"),
        ({}, with_a_reading_dependency, "of a dependency can be asked"),
        ({}, with_one_below, "of a dependency can be asked"),
        ({}, with_one_name_twice, "amount and cap are both amount"),
        ({}, with_one_name_in_two_places, "amount and cap are both amount"),
        ({}, with_a_secret, "holds a secret"),
        ({}, with_a_secret_within, "holds a secret"),
        ({}, deferred_with_the_other, "asks for another"),
        ({"tenant": with_a_header}, with_a_header, "may see"),
        ({"args": with_a_header}, with_a_header, "may see"),
        ({"tenant": awaited}, named, "deferred"),
        ({"tenant": "a\nb"}, named, "not a tenant"),
    ],
)
def test_an_endpoint_that_cannot_be_judged_cannot_be_made(
    guard: FastAPIGuard, states: dict[str, Any], endpoint: Any, why: str
) -> None:
    with pytest.raises(ConfigurationProblem, match=why):
        guard.action(states.pop("action", "crm.x"), **states)(endpoint)


@pytest.mark.parametrize("endpoint", [deferred_without_check, deferred_with_the_other, generating])
def test_a_deferred_endpoint_needs_the_check_that_fits(guard: FastAPIGuard, endpoint: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"SyncCheck|generator"):
        guard.deferred("crm.x")(endpoint)


def with_a_file(file: UploadFile) -> None: ...


def with_one_field(name: Annotated[str, Form()]) -> None: ...


def test_a_file_needs_args_and_a_form_s_field_does_not(guard: FastAPIGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.dependencies.utils, "ensure_multipart_is_installed", lambda: None)
    with pytest.raises(ConfigurationProblem, match="a file"):
        guard.action("crm.x")(with_a_file)
    guard.action("crm.x")(with_one_field)


def test_an_endpoint_that_can_be_judged_can_be_made(guard: FastAPIGuard) -> None:
    def stated(page: int) -> dict[str, int]:
        return {"page": page}

    guard.action("crm.x", args=stated)(with_a_dependency)
    guard.action("crm.x")(by_path)
    for endpoint in (with_the_request, with_a_reading_dependency, with_a_secret):
        guard.action("crm.x", args={"page": 1})(endpoint)


@pytest.mark.parametrize("args", [["page"], "page", 5])
def test_arguments_that_are_no_names_and_values_stop_the_service(guard: FastAPIGuard, args: Any) -> None:
    with pytest.raises(ConfigurationProblem, match="model_dump"):
        guard.action("crm.x", args=args)(with_a_dependency)


def test_the_environment_describes_a_guard(lab: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = tmp_path / "crm.keys"
    lab.export_keys("crm").save(key_file)
    monkeypatch.setenv("CAPX_AUDIENCE", "crm")
    monkeypatch.setenv("CAPX_KEY_FILE", str(key_file))
    with pytest.raises(ConfigurationProblem, match="set one of CAPX_STORE, CAPX_FEED, CAPX_SNAPSHOT: none is set"):
        FastAPIGuard.from_env()
    monkeypatch.setenv("CAPX_STORE", lab.store.place)
    guard = FastAPIGuard.from_env()
    app = FastAPI(openapi_url=None)
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with (
        served(app) as origin,
        httpx_client.client({origin: "crm"}, lab.open(allow=["crm.x"]).bundle, base_url=origin) as client,
    ):
        assert client.get("/x").json() == "x"


class OnWeekdays(Caveat, frozen=True, tag="acme.on_weekdays"):
    def refusal(self, facts: Facts) -> Refusal | None:
        return None

    def sentence(self) -> str:
        return "on weekdays"


def test_a_guard_of_the_environment_may_know_a_services_own_caveats(
    lab: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.export_keys("crm").save(tmp_path / "crm.keys")
    monkeypatch.setenv("CAPX_AUDIENCE", "crm")
    monkeypatch.setenv("CAPX_KEY_FILE", str(tmp_path / "crm.keys"))
    monkeypatch.setenv("CAPX_STORE", lab.store.place)
    statuses: list[int] = []
    for vocabulary in (DEFAULT, DEFAULT.extended(OnWeekdays)):
        guard = FastAPIGuard.from_env(vocabulary=vocabulary)
        app = FastAPI(openapi_url=None)
        guard.protect(app)
        app.get("/x")(guard.action("crm.x")(lambda: "x"))
        bundle = lab.open(allow=["crm.x"]).bundle.attenuate(OnWeekdays())
        with served(app) as origin, httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client:
            statuses.append(client.get("/x").status_code)
    assert statuses == [403, 200]


def started(app: FastAPI) -> list[Message]:
    """What a server hears when it starts the application and stops it again."""
    return _run(app, {"type": "lifespan", "state": {}})


def asked(app: FastAPI, path: str, authorization: str) -> tuple[int, bytes]:
    headers = [(b"authorization", authorization.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
    start, body = _run(app, scope | {"query_string": b"", "root_path": ""})
    return start["status"], body["body"]


def _run(app: FastAPI, scope: dict[str, Any]) -> list[Message]:
    told: list[Message] = []
    messages = iter([{"type": "http.request"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    return told
