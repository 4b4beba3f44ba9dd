"""Attacks on what leaves a guard: what a holder reads of rows of others, or of what others have spent."""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.guard.asgi import ASGIGuard, passage
from capx.guard.asgi.messages import Message, Receive, Scope, Send
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Capability
from capx.verify.decision import Decision
from capx_caveats import budget
from tests.labs.orders import bare, refusal
from tests.labs.serving import served

ROWS = {1: "Acme", 2: "Globex"}
SECRET = "Project Zeus of Globex"
FOREIGN, MISSING = 2, 3


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as lab:
        yield lab


class World:
    """A guarded application, and whatever its guard decided."""

    def __init__(self, lab: Authority) -> None:
        self.app = FastAPI(openapi_url=None)
        self.decisions: list[Decision] = []
        self.guard = FastAPIGuard(lab.verifier("crm"), on_decision=self.decisions.append)
        self._lab = lab

    def ask(self, *paths: str, app: Any = None) -> list[httpx.Response]:
        """The answers to an agent of Acme."""
        bundle = self._lab.open(tenant="Acme", allow=["crm.read"]).bundle
        with (
            served(app or self.app) as origin,
            httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client,
        ):
            return [client.get(path) for path in paths]


@pytest.fixture
def world(lab: Authority) -> World:
    return World(lab)


def both(world: World, path: str, app: Any = None) -> None:
    """The answers about a foreign and a missing row are one and the same, and each is one decision."""
    foreign, missing, own = world.ask(f"{path}/{FOREIGN}", f"{path}/{MISSING}", f"{path}/1", app=app)
    assert bare(foreign) == bare(missing)
    assert refusal(foreign) == (403, "wrong_tenant")
    assert own.status_code == 200
    assert [one.code for one in world.decisions] == ["wrong_tenant", "wrong_tenant", ""]
    assert [one.headers["capx-decision"] for one in (foreign, missing, own)] == [one.id for one in world.decisions]


def asgi(deny: Callable[[Any, str | None], object]) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = passage(scope)
        tenant = ROWS.get(int(scope["path"].rpartition("/")[2]))
        deny(request.admitted, tenant)
        await request.judge_async("crm.read", {}, tenant=tenant)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def by_missing(admitted: Any, tenant: str | None) -> None:
    if tenant is None:
        raise admitted.missing_row("crm.read")


def by_tenant(admitted: Any, tenant: str | None) -> None:
    admitted.demand_tenant("crm.read", tenant)


@pytest.mark.parametrize("deny", [by_missing, by_tenant])
def test_a_denial_of_the_admitted_token_tells_no_missing_row(
    lab: Authority, world: World, deny: Callable[[Any, str | None], object]
) -> None:
    app = ASGIGuard(asgi(deny), lab.verifier("crm"), on_decision=world.decisions.append)
    both(world, "", app)


@pytest.mark.parametrize("handled", [False, True])
def test_a_denial_in_a_task_group_tells_no_missing_row(world: World, *, handled: bool) -> None:
    world.guard.protect(world.app)

    @world.app.get("/x/{id}")
    @world.guard.deferred("crm.read")
    async def grouped(id: int, check: Check) -> str:
        tenant = ROWS.get(id) or check.missing()
        async with asyncio.TaskGroup() as group:
            group.create_task(check(tenant=tenant))
        return "row"

    if handled:

        @world.app.exception_handler(ExceptionGroup)
        async def tell(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"error": str(error)}, 500)

    both(world, "/x")


def test_a_denial_of_another_token_is_no_answer(lab: Authority, world: World) -> None:
    other = lab.verifier("billing")
    world.guard.protect(world.app)

    @world.app.get("/x")
    @world.guard.action("crm.read", tenant=GRANTED)
    async def relays() -> None:
        other.authenticate("")

    @world.app.get("/y")
    @world.guard.deferred("crm.read")
    async def relays_before(check: Check) -> None:
        other.authenticate("")

    before, after = world.ask("/y", "/x")
    assert refusal(before) == (500, "withheld")
    assert after.status_code == 500
    assert "no_token" not in after.text


class Down(Exception):
    pass


def row(id: int) -> int:
    """A dependency that looks at a row, and fails with its data."""
    if id == FOREIGN:
        raise Down(SECRET)
    if id == MISSING:
        raise HTTPException(503, SECRET)
    return id


def of_row(id: int) -> str | None:
    return ROWS.get(id)


def guarded(app: FastAPI, guard: FastAPIGuard, path: str) -> None:
    @app.get(path)
    @guard.action("crm.read", tenant=of_row, args={"id": "id"})
    async def read(found: Annotated[int, Depends(row)], id: int) -> str:
        return "row"


def told(app: FastAPI) -> None:
    @app.exception_handler(Exception)
    async def tell(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": repr(error)}, 500)


def test_an_error_of_the_service_before_its_decision_is_held(world: World) -> None:
    sub = FastAPI(openapi_url=None)
    told(world.app)
    told(sub)
    for app in (world.app, sub):
        guarded(app, world.guard, "/x/{id}")
    # Below a public pattern, too.
    guarded(world.app, world.guard, "/files/special")

    @world.app.get("/files/{name}")
    async def public(name: str) -> str:
        raise Down("anybody may read this")

    world.app.mount("/sub", sub)
    world.guard.protect(world.app, public=["/files/{name}"])
    paths = [f"{path}{id}" for path in ("/x/", "/sub/x/", "/files/special?id=") for id in (FOREIGN, MISSING)]
    *held, open_error = world.ask(*paths, "/files/x")
    assert [refusal(one) for one in held] == [(500, "withheld")] * 6
    assert SECRET not in "".join(one.text for one in held)
    assert "anybody may read this" in open_error.text


def test_a_socket_that_is_refused_gives_no_reason(lab: Authority) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 1008, "reason": SECRET})

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "websocket", "path": "/x", "query_string": b"", "headers": [], "scheme": "ws"}
    guard = ASGIGuard(app, lab.verifier("crm"), public=["/x"])
    asyncio.run(guard(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def newest(bundle: Bundle) -> Capability:
    *_, last = (one for one in bundle if one.audience == "billing")
    return last


def test_a_budget_of_its_own_shows_a_holder_no_other(lab: Authority) -> None:
    app, decisions = FastAPI(openapi_url=None), list[Decision]()
    guard = FastAPIGuard(lab.verifier("billing"), on_decision=decisions.append)
    guard.protect(app)

    def in_euros(amount: Decimal) -> dict[str, Decimal]:
        return {"eur": amount}

    @app.post("/refund/{amount}")
    @guard.action("billing.refund", tenant=GRANTED, cost=in_euros)
    async def refund(amount: Decimal) -> str:
        return "done"

    task = lab.open(tenant="Acme", allow=["billing.refund"], caveats=[budget("eur", "1000")])
    first = newest(task.bundle)
    delegated = newest(task.bundle.delegate(to="me", allow=["billing.refund"]))
    with served(app) as origin:

        def paid(capability: Capability, amount: str) -> httpx.Response:
            bundle = Bundle((capability,))
            with httpx_client.client({origin: "billing"}, bundle, base_url=origin) as client:
                return client.post(f"/refund/{amount}")

        assert paid(first, "137.42").status_code == 200
        for holder in (first, delegated):
            used_up = holder.attenuate(budget("calls", 1))
            assert paid(used_up, "0").status_code == 200
            answers = [paid(used_up, amount) for amount in ("862.58", "862.59")]
            assert [len(answer.json()["reasons"]) for answer in answers] == [1, 1]
            assert answers[0].json()["reasons"] == answers[1].json()["reasons"]
            # The log has both.
            assert [len(one.refusals) for one in decisions[-2:]] == [1, 2]
