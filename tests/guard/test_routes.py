"""Routes: those that no guard covers keep an application from starting, the others come behind it."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    APIRouter,
    Body,
    Depends,
    FastAPI,
    Header,
    Request,
)
from fastapi.responses import PlainTextResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.guard.asgi.messages import Scope
from capx.guard.fastapi import GRANTED, FastAPIGuard
from capx.guard.fastapi.routes import path_of
from capx.tokens.binding import HttpRequest
from capx.tokens.bundle import Bundle
from capx_caveats import action
from tests.labs.orders import asked, awaited, client_of, noted, paged, ran, reading, refusal, started
from tests.labs.serving import served

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


class Own(BaseRoute):
    """A route of a kind that no framework has, which takes every path."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def __repr__(self) -> str:
        return "Own()"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.FULL, {"endpoint": self}

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        await plain(scope, receive, send)


def frontend(app: FastAPI, folder: Path) -> None:
    (folder / "index.html").write_text("secret")
    app.frontend("/front", directory=folder)


FAULTS: dict[str, Callable[[FastAPI, FastAPIGuard, Path], Any]] = {
    "/x: it states no action: mark it with the guard, right below the decorator of the route, or list it in public=": (
        lambda app, guard, folder: app.get("/x")(unmarked)
    ),
    "/x: it states": lambda app, guard, folder: app.host("own.example", Router([Route("/x", starlette_endpoint)])),
    "/a/x: it states": lambda app, guard, folder: app.mount("", Router([Route("/a/x", starlette_endpoint)])),
    "/sub/in/plain: the guard cannot see": lambda app, guard, folder: app.mount(
        "/sub", Router([Mount("/in", Router([Mount("/plain", plain)]))])
    ),
    "Own(): the guard cannot see into what is mounted here": lambda app, guard, folder: app.router.routes.append(Own()),
    "/inner/more/x: it states no action": lambda app, guard, folder: app.include_router(included(guard, unmarked)),
    "/plain: the guard cannot see into what is mounted": lambda app, guard, folder: app.mount("/plain", plain),
    "/static: the guard cannot see": lambda app, guard, folder: app.mount("/static", StaticFiles(directory=folder)),
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
    "and is public: remove": lambda app, guard, folder: app.get("/healthz")(guard.action("crm.x")(lambda: "x")),
    "of a dependency holds the whole": lambda app, guard, folder: app.get("/x", dependencies=[Depends(reading)])(
        guard.action("crm.x")(lambda: "x")
    ),
    "belong to a dependency": lambda app, guard, folder: app.get("/x", dependencies=[Depends(paged)])(
        guard.action("crm.x")(lambda: "x")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unguarded_route_keeps_the_application_from_starting(lab: Authority, tmp_path: Path, fault: str) -> None:
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


def adding(name: str, annotation: Any) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """A decorator for endpoints that takes a parameter of its own from the request."""

    def around(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def called(**values: Any) -> str:
            return f"{values.pop(name)} {function(**values)}"

        signature = inspect.signature(function)
        more = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        called.__signature__ = signature.replace(parameters=[*signature.parameters.values(), more])  # type: ignore[attr-defined] # what FastAPI reads
        return called

    return around


@pytest.mark.parametrize("annotation", [str, Annotated[dict[str, str], Body()], Request, Annotated[str, Header()]])
@pytest.mark.parametrize("states", [{}, {"args": {"to": "to"}}])
def test_a_decorator_above_the_guard_takes_what_nobody_judges(
    lab: Authority, annotation: Any, states: dict[str, Any]
) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/x")
    @adding("more", annotation)
    @guard.action("crm.x", **states)
    def x(to: str) -> str:
        return to

    (answer,) = started(app)
    assert "/x: it states no action: mark it with the guard, right below" in answer["message"]


def test_a_late_route_with_a_decorator_above_does_not_run(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.get("/x").json() == "x"
        app.get("/late")(adding("more", str)(guard.action("crm.x")(unmarked)))
        ran.clear()
        assert refusal(client.get("/late?more=evil")) == (500, "withheld")
        assert not ran


def test_a_parameter_of_a_decorator_below_is_judged(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/x")
    @guard.action("crm.x", tenant=GRANTED)
    @adding("more", str)
    def x(to: str) -> str:
        return to

    with client_of(app, lab.open(tenant="Acme", allow=[action("crm.x", to="a", more="b")]).bundle) as client:
        assert client.get("/x?to=a&more=b").json() == "b a"
        assert refusal(client.get("/x?to=a&more=evil")) == (403, "argument_refused")


def current() -> str:
    return "nobody"


def below(user: Annotated[str, Depends(current)]) -> str:
    return user


@pytest.mark.parametrize(
    ("other", "fault"), [(paged, "belong to a dependency"), (reading, "of a dependency holds the whole request")]
)
@pytest.mark.parametrize("at", ["", "/inner/more", "/sub"])
@pytest.mark.parametrize("depth", [current, below])
def test_an_overridden_dependency_takes_what_nobody_judges(
    lab: Authority, other: Any, fault: str, at: str, depth: Any
) -> None:
    app, sub, guard = FastAPI(openapi_url=None), FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @guard.action("crm.x")
    def x(user: Annotated[str, Depends(depth)]) -> str:
        return user

    if at == "/sub":
        sub.get("/x")(x)
        app.mount(at, sub)
    elif at:
        app.include_router(included(guard, x))
    else:
        app.get("/x")(x)
    # Only the overrides of the application that holds the route count.
    (app if at == "/sub" else sub).dependency_overrides[current] = other
    assert started(app)[0]["type"] == "lifespan.startup.complete"
    (sub if at == "/sub" else app).dependency_overrides[current] = other
    (answer,) = started(app)
    assert f"{at}/x: the parameter" in answer["message"]
    assert fault in answer["message"]


def test_an_override_that_takes_nothing_runs(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/x")
    @guard.action("crm.x")
    def x(user: Annotated[str, Depends(below)]) -> str:
        return user

    app.dependency_overrides[current] = lambda: "ann"
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.get("/x").json() == "ann"


@pytest.mark.parametrize("public", ["/health", "/healthz/", "/{any}"])
def test_a_public_entry_that_matches_nothing_stops_the_start(lab: Authority, public: str) -> None:
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


@pytest.mark.parametrize("made", [functools.partial(FastAPI, openapi_url=None), APIRouter])
def test_a_late_route_of_a_mounted_application_does_not_run(
    lab: Authority, made: Callable[[], FastAPI | APIRouter]
) -> None:
    sub = made()
    app, inner, guard = FastAPI(openapi_url=None), FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    for each in (sub, inner):
        each.get("/x")(guard.action("crm.x")(lambda: "x"))
    sub.mount("/inner", inner)
    app.router.routes.append(Mount("/sub", sub, middleware=[Middleware(GZipMiddleware)]))
    assert [started(app)[0]["type"] for _ in range(2)] == ["lifespan.startup.complete"] * 2
    assert len(inner.router.dependencies) == 1
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.get("/sub/x").json() == client.get("/sub/inner/x").json() == "x"
        for each in (sub, inner):
            each.get("/late")(unmarked)
        ran.clear()
        for path in ("/sub/late", "/sub/inner/late"):
            assert refusal(client.get(path)) == (500, "withheld")
        assert not ran


def test_a_late_route_of_a_public_mount_is_public(lab: Authority) -> None:
    app, sub, guard = FastAPI(openapi_url=None), FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/sub"])
    sub.get("/x")(unmarked)
    app.mount("/sub", sub)
    with served(app) as origin:
        sub.get("/late")(unmarked)
        assert httpx.get(f"{origin}/sub/late").json() == "secret"


def test_what_stands_in_a_public_mount_is_public(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/boX"])
    routes = [Route("/x", starlette_endpoint), Mount("/in", Router([Mount("/plain", plain)])), Own("/own")]
    app.mount("/boX", Router(routes))
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with served(app) as origin:
        for path in ("/boX/x", "/boX/in/plain/any", "/boX/own"):
            assert httpx.get(origin + path).text == "secret"
        assert refusal(httpx.get(f"{origin}/x")) == (401, "no_token")


def test_a_route_of_an_own_kind_is_public_with_all_below_it(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/own/"])
    app.router.routes.append(Own("/own/"))
    with served(app) as origin:
        for path in ("/own/", "/own/y"):
            assert httpx.get(origin + path).text == "secret"
        for path in ("/own", "/other"):
            assert refusal(httpx.get(origin + path)) == (401, "no_token")


def test_the_path_of_a_host_opens_nothing_below_it(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app, public=["/open"])
    app.host("own.example", Router([Route("/open", starlette_endpoint), Route("/open/x", starlette_endpoint)]))
    (answer,) = started(app)
    assert "/open/x: it states no action" in answer["message"]
    assert "/open: " not in answer["message"]


def test_a_dependency_of_a_mount_does_not_run_for_a_late_route(lab: Authority) -> None:
    app, sub = FastAPI(openapi_url=None), FastAPI(openapi_url=None, dependencies=[Depends(noted)])
    guard = FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    sub.get("/x")(guard.action("crm.x")(lambda: "x"))
    app.mount("/sub", sub)
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.get("/sub/x").json() == "x"
        sub.get("/late")(unmarked)
        ran.clear()
        assert refusal(client.get("/sub/late")) == (500, "withheld")
        assert not ran


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        (None, "/a/b", "/a/b"),
        ("", "/a/b", "/a/b"),
        ("/a", "/a/b", "/b"),
        ("/a/", "/a/b", "/b"),
        ("/boX", "/boX/b", "/b"),
        ("/a", "/ab", "/ab"),
        ("/a", "/a", "/a"),
    ],
)
def test_a_path_is_without_the_root_path(root: str | None, path: str, expected: str) -> None:
    assert path_of({"path": path} if root is None else {"path": path, "root_path": root}) == expected


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


def test_the_gate_comes_before_dependencies_of_every_level(lab: Authority) -> None:
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


def test_preflights_are_answered_before_the_guard_calls_are_not(lab: Authority) -> None:
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
