"""A FastAPI application with a guard, its authority, and agents of two tenants, over real HTTP."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    WebSocket,
)
from fastapi.responses import StreamingResponse

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard, SyncCheck
from capx.tokens.binding import Received
from capx.verify.admitted import Admitted
from capx.verify.decision import Allowed, Denied
from capx.verify.verifier import Verifier
from capx_caveats import Entry
from tests.labs.meters import meter
from tests.labs.orders import REGIONS, ROWS, Agent, Order, noted
from tests.labs.serving import served

__all__ = ["meter"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture(scope="module")
def guard(lab: Authority) -> FastAPIGuard:
    return FastAPIGuard(lab.verifier("crm"), max_body=10_000)


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
    @guard.action(
        "crm.fields.write",
        tenant=its_tenant,
        args={"customer": "customer", "name": "name", "size": "size", "deck-id": "deck"},
    )
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

    @app.websocket("/socket")
    @guard.action("crm.socket", tenant=GRANTED, args={"room": "room"})
    async def socket(websocket: WebSocket, room: str = "lobby") -> None:
        await websocket.accept()
        await websocket.send_text(room)
        await websocket.close()

    return app


@pytest.fixture(scope="module")
def origin(app: FastAPI) -> Iterator[str]:
    with served(app) as url:
        yield url


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


@pytest.fixture
def admitted_calls(monkeypatch: pytest.MonkeyPatch) -> list[Received]:
    """What verifiers were asked to admit, in this order."""
    asked: list[Received] = []
    admit = Verifier.admit

    def noted(verifier: Verifier, token: str, call: Received) -> Admitted:
        asked.append(call)
        return admit(verifier, token, call)

    monkeypatch.setattr(Verifier, "admit", noted)
    return asked
