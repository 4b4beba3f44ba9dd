"""The guard of a FastAPI application, over real HTTP: what is judged, withheld and left alone."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from starlette.middleware.base import BaseHTTPMiddleware

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.asgi.messages import Message
from capx.guard.fastapi import Check, FastAPIGuard
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Denied
from capx_caveats import DEFAULT, Caveat, Facts, Refusal, absent, action, between
from tests.labs.orders import Agent, asked, bare, client_of, ran, refusal, started
from tests.labs.serving import served


def test_the_granted_tenant_is_what_the_handler_gets(agent: Agent) -> None:
    response = agent("crm.accounts.list").get("/accounts")
    assert response.json() == {"tenant": "Acme", "limit": 100, "hops": []}
    assert response.headers["capx-decision"]


def test_granted_without_a_tenant_is_incomplete_authority(agent: Agent) -> None:
    response = agent("crm.accounts.list", tenant=None).get("/accounts")
    assert refusal(response) == (403, "incomplete_authority")


def test_a_denial_of_granted_is_logged_with_its_action(agent: Agent, lab: Authority) -> None:
    response = agent("crm.accounts.list", tenant=None).get("/accounts")
    assert refusal(response) == (403, "incomplete_authority")
    lab.flush()
    record = lab.decision(response.json()["decision"])
    assert record is not None
    assert json.loads(record.body)["action"] == "crm.accounts.list"


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


def test_who_may_not_act_sees_no_validation_error_or_dependency(agent: Agent) -> None:
    ran.clear()
    response = agent("crm.accounts.list").get("/depending?limit=many")
    assert refusal(response) == (403, "action_not_allowed")
    assert not ran
    assert agent("crm.depending").get("/depending?limit=many").status_code == 422
    assert ran == ["dependency"]


def test_a_whole_body_is_judged_by_what_args_names(agent: Agent) -> None:
    client = agent(action("crm.orders.write", sku="a", n=between(1, 3), note="noted"))
    assert client.post("/orders", json={"sku": "a", "amount": 3}).json() == {"sku": "a", "amount": 3}
    assert refusal(client.post("/orders", json={"sku": "a", "amount": 4})) == (403, "argument_refused")


def test_arguments_are_path_query_and_body_and_no_headers(agent: Agent) -> None:
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


def test_an_error_of_a_dependency_before_the_judgement(lab: Authority) -> None:
    def failing() -> None:
        raise HTTPException(503, "row 4711 is locked")

    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.get("/x", dependencies=[Depends(failing)])(guard.action("crm.x")(with_a_default))
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert refusal(client.get("/x")) == (500, "withheld")


class Caching(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return PlainTextResponse("secret")


def test_middleware_that_answers_from_a_cache_is_withheld(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    app.add_middleware(Caching)
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
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
    with client_of(app, task.bundle) as client:
        response = client.get("/x")
    assert refusal(response) == (500, "withheld")


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_before_the_verdict_is_kept_from_debug_pages(
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
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
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
    with client_of(app, task.bundle) as client:
        assert refusal(client.get("/x/Globex")) == (500, "withheld")
        assert client.get("/x/Acme").json() == "secret"
    assert ran == ["Acme"]


def test_a_tenant_or_attribute_of_the_bearers_making_is_refused(lab: Authority) -> None:
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
    with client_of(app, task.bundle) as client:
        assert client.get("/x/Acme").json() == "Acme"
        for path in ("/x/%00", "/x/" + "x" * 200, "/row/%00"):
            response = client.get(path)
            assert refusal(response) == (403, "wrong_tenant")
            lab.flush()
            assert lab.decision(response.headers["capx-decision"]) is not None
        assert refusal(client.get("/x/Acme?size=nan")) == (403, "argument_refused")
        assert bare(client.get("/row/%00"))[1]["code"] == bare(client.get("/row/Other"))[1]["code"]


def test_an_argument_that_is_no_json_is_refused(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/x")
    @guard.action("crm.x")
    def odd(pattern: re.Pattern[str]) -> str:
        return "secret"

    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert refusal(client.get("/x?pattern=a")) == (403, "argument_refused")


def test_a_marked_endpoint_without_a_guard_answers_nothing(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with pytest.raises(ConfigurationProblem, match="did not come through a guard"):
        asked(app, "/x", "")


def test_another_guard_s_mark_is_none(lab: Authority) -> None:
    app, guard, other = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm")), FastAPIGuard(lab.verifier("hr"))
    guard.protect(app)
    app.get("/x")(other.action("hr.x")(lambda: "x"))
    (answer,) = started(app)
    assert "/x: it states no action" in answer["message"]


def with_a_default(n: int = 1) -> int:
    return n


def test_the_environment_describes_a_guard(lab: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = tmp_path / "crm.keys"
    lab.export_keys("crm").save(key_file)
    monkeypatch.setenv("CAPX_AUDIENCE", "crm")
    monkeypatch.setenv("CAPX_KEY_FILE", str(key_file))
    with pytest.raises(ConfigurationProblem, match="exactly one of CAPX_STORE, CAPX_FEED, CAPX_SNAPSHOT: none"):
        FastAPIGuard.from_env()
    monkeypatch.setenv("CAPX_STORE", lab.store.place)
    guard = FastAPIGuard.from_env()
    app = FastAPI(openapi_url=None)
    guard.protect(app)
    app.get("/x")(guard.action("crm.x")(lambda: "x"))
    with client_of(app, lab.open(allow=["crm.x"]).bundle) as client:
        assert client.get("/x").json() == "x"


class OnWeekdays(Caveat, frozen=True, tag="acme.on_weekdays"):
    def refusal(self, facts: Facts) -> Refusal | None:
        return None

    def sentence(self) -> str:
        return "on weekdays"


def test_a_guard_of_the_environment_may_know_own_caveats(
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
        with client_of(app, bundle) as client:
            statuses.append(client.get("/x").status_code)
    assert statuses == [403, 200]
