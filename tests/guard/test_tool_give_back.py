"""A call whose effect failed gives back what it spent, through every guard."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from typing import Any, cast

import httpx
import pytest
import trio
from fastapi import FastAPI, HTTPException

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.guard.current import current_allowed
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard, SyncCheck
from capx.guard.tool import ToolGuard, on_loop
from capx.verify.decision import Allowed, Decision, Denied
from capx_caveats import budget
from tests.labs.serving import served

AWAY = "the bank was away"


def spent(lab: Authority, task: str) -> dict[str, Decimal]:
    return {counter.unit: counter.spent for counter in lab.counters([task])}


def of_price(eur: str) -> dict[str, str]:
    return {"eur": eur}


class BankError(Exception):
    """The bank did nothing."""


def test_a_tool_gives_back_what_it_spent_and_may_run_again(lab: Authority) -> None:
    failures = [BankError()]

    @lab.tool("pay.out", cost=of_price)
    def pay(eur: str) -> str:
        allowed = current_allowed()
        assert allowed is not None
        if failures:
            allowed.give_back(AWAY)
            raise failures.pop()
        return f"paid {eur}"

    task = lab.open(allow=["pay.out"], caveats=[budget("eur", "5"), budget("calls", 1)])
    with acting(task.bundle):
        with pytest.raises(BankError):
            pay("5")
        assert spent(lab, task.id) == {"calls": 0, "eur": 0}
        assert pay("5") == "paid 5"
        with pytest.raises(Denied):
            pay("0")


def test_a_tool_gives_back_its_own_call_and_not_that_around_it(lab: Authority) -> None:
    @lab.tool("pay.out", cost={"eur": 4})
    def inner() -> None:
        allowed = current_allowed()
        assert allowed is not None
        assert allowed.give_back(AWAY) == {"eur": "4"}

    @lab.tool("pay.out", cost={"eur": 1})
    def outer() -> None:
        inner()

    task = lab.open(allow=["pay.out"], caveats=[budget("eur", 5)])
    with acting(task.bundle):
        outer()
    assert spent(lab, task.id) == {"eur": 1}


def test_an_async_tool_gives_back_without_holding_up_the_loop(lab: Authority) -> None:
    @lab.tool("pay.out")
    async def pay() -> None:
        allowed = current_allowed()
        assert allowed is not None
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        await allowed.give_back_async(AWAY)
        ticking.cancel()
        assert ticks > 1

    task = lab.open(allow=["pay.out"], caveats=[budget("calls", 1)])
    with acting(task.bundle):
        asyncio.run(pay())
    assert spent(lab, task.id) == {"calls": 0}


def bank(guard: FastAPIGuard) -> FastAPI:
    app = FastAPI(openapi_url=None)
    guard.protect(app)

    @app.get("/sync")
    @guard.action("crm.pay", tenant=GRANTED, cost={"eur": 2})
    def sync(allowed: Allowed) -> None:
        allowed.give_back(AWAY)
        raise HTTPException(502)

    @app.get("/async")
    @guard.action("crm.pay", tenant=GRANTED, cost={"eur": 2})
    async def in_the_loop(allowed: Allowed) -> None:
        await allowed.give_back_async(AWAY)
        raise HTTPException(502)

    @app.get("/plain")
    @guard.deferred("crm.pay")
    def plain(check: SyncCheck) -> None:
        check(tenant="Acme", cost={"eur": 1})
        check(tenant="Acme", cost={"eur": 2}).give_back(AWAY)
        raise HTTPException(502)

    @app.get("/row")
    @guard.deferred("crm.pay")
    async def deferred(check: Check) -> None:
        allowed = await check(tenant="Acme", cost={"eur": 2})
        await allowed.give_back_async(AWAY)
        raise HTTPException(502)

    @app.get("/again")
    @guard.deferred("crm.pay")
    async def again(check: Check) -> str:
        await (await check(tenant="Acme", cost={"eur": 2})).give_back_async(AWAY)
        await check(tenant="Acme", cost={"eur": 2})
        return "done without paying"

    return app


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    with served(bank(FastAPIGuard(lab.verifier("crm")))) as origin:
        yield origin


def client(lab: Authority, origin: str) -> tuple[str, httpx.Client]:
    task = lab.open(tenant="Acme", allow=["crm.pay"], caveats=[budget("eur", 2), budget("calls", 1)])
    return task.id, httpx_client.client({origin: "crm"}, task.bundle, base_url=origin)


@pytest.mark.parametrize("path", ["/sync", "/async", "/plain", "/row"])
def test_an_endpoint_gives_back_and_may_be_called_again(lab: Authority, origin: str, path: str) -> None:
    task, agent = client(lab, origin)
    with agent:
        assert [agent.get(path).status_code for _ in range(3)] == [502] * 3
    assert spent(lab, task) == {"calls": 0, "eur": 0}


def test_an_endpoint_that_gave_back_does_nothing_more(lab: Authority, origin: str) -> None:
    task, agent = client(lab, origin)
    with agent:
        refused = agent.get("/again")
    assert (refused.status_code, refused.json()["code"]) == (401, "replayed")
    assert spent(lab, task) == {"calls": 0, "eur": 0}


def test_an_asgi_application_gives_back(lab: Authority) -> None:
    async def pay(scope: Scope, receive: Receive, send: Send) -> None:
        facts: dict[str, Any] = {"tenant": GRANTED, "cost": {"eur": "2"}}
        allowed = await passage(scope).judge_async("crm.pay", {}, **facts)
        given = await allowed.give_back_async(AWAY)
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": repr(given).encode()})

    with served(ASGIGuard(pay, lab.verifier("crm")), lifespan="off") as origin:
        task, agent = client(lab, origin)
        with agent:
            assert [agent.get("/").text for _ in range(2)] == ["{'calls': '1', 'eur': '2'}"] * 2
    assert spent(lab, task) == {"calls": 0, "eur": 0}


def in_asyncio(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(act())


@pytest.mark.parametrize("run", [in_asyncio, trio.run], ids=["asyncio", "trio"])
def test_a_twin_and_a_give_back_work_in_any_event_loop(lab: Authority, run: Any) -> None:
    @lab.tool("pay.out", cost=of_price)
    def pay(eur: str) -> str:
        return f"paid {eur}"

    @lab.tool("pay.back", cost=of_price)
    async def back(eur: str) -> dict[str, str]:
        allowed = current_allowed()
        assert allowed is not None
        return await allowed.give_back_async(AWAY)

    task = lab.open(allow=["pay.out", "pay.back"], caveats=[budget("eur", "5"), budget("calls", 1)])

    async def act() -> None:
        with acting(task.bundle):
            assert await back("5") == {"calls": "1", "eur": "5"}
            assert await on_loop(pay)("5") == "paid 5"
            with pytest.raises(Denied, match="at most 1 call,"):
                await on_loop(pay)("1")

    run(act)
    assert spent(lab, task.id) == {"calls": 1, "eur": 5}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_that_is_denied_after_its_payment_costs_nothing(lab: Authority, *, is_async: bool) -> None:
    ran: list[list[str]] = []

    def leaving(rows: list[str]) -> dict[str, str]:
        # Between the first look at who acts and the call, as another thread would.
        block.__exit__(None, None, None)
        return {"eur": "1"}

    def note(rows: list[str]) -> None:
        ran.append(rows)

    async def note_async(rows: list[str]) -> None:
        ran.append(rows)

    tool = lab.tool("pay.out", cost=leaving)(note_async if is_async else note)
    task = lab.open(allow=["pay.out"], caveats=[budget("eur", "5"), budget("calls", 1)])
    block = acting(task.bundle)

    async def call_async() -> None:
        block.__enter__()
        await cast("Any", tool([]))

    def call() -> None:
        block.__enter__()
        tool([])

    with pytest.raises(Denied, match="no token was presented"):
        asyncio.run(call_async()) if is_async else call()
    assert ran == []
    assert spent(lab, task.id) == {"calls": 0, "eur": 0}
    assert [event.kind for event in lab.log(since=task.position)].count("given_back") == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_payment_that_stays_paid_changes_no_denial(lab: Authority, *, is_async: bool) -> None:
    def leave(decision: Decision) -> None:
        if decision.allowed:
            block.__exit__(None, None, None)
            # What has ended gives nothing back.
            lab.complete(task.id)

    guard = ToolGuard(lab.verifier, on_decision=leave)

    @guard.tool("pay.out")
    def pay() -> None:
        pytest.fail("it ran")

    @guard.tool("pay.out")
    async def pay_async() -> None:
        pytest.fail("it ran")

    async def call_async() -> None:
        block.__enter__()
        await pay_async()

    def call() -> None:
        block.__enter__()
        pay()

    task = lab.open(allow=["pay.out"], caveats=[budget("calls", 1)])
    block = acting(task.bundle)
    with pytest.raises(Denied, match="no token was presented"):
        asyncio.run(call_async()) if is_async else call()
    assert spent(lab, task.id) == {"calls": 1}


def test_what_a_derived_cost_changes_does_not_run(lab: Authority) -> None:
    def spoiling(rows: list[Any]) -> dict[str, str]:
        rows.append(object())
        return {"eur": "1"}

    @lab.tool("pay.out", cost=spoiling)
    def pay(rows: list[Any]) -> list[Any]:
        return rows

    task = lab.open(allow=["pay.out"], caveats=[budget("eur", "5"), budget("calls", 1)])
    rows = ["one"]
    with acting(task.bundle):
        assert pay(rows) == rows == ["one"]
