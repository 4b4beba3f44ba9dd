"""What calls cost, through every guard: stated, counted once, refused before anything runs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest, Unavailable
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.guard.current import current_allowed
from capx.guard.fastapi import GRANTED, Check, FastAPIGuard, SyncCheck
from capx.guard.tool import ToolGuard
from capx.tokens.bundle import Bundle
from capx.verify.decision import Allowed, Denied, reason
from capx_caveats import action, between, budget, where
from tests.labs.meters import NotingMeter
from tests.labs.serving import served

T = TypeVar("T")


def spent(lab: Authority) -> list[tuple[str, Decimal]]:
    """The units and totals of the counters, in order."""
    return [(counter.unit, counter.spent) for counter in lab.counters()]


def newly_spent(lab: Authority, act: Callable[[], object]) -> list[tuple[str, Decimal]]:
    before = spent(lab)
    act()
    now = spent(lab)
    for one in before:
        now.remove(one)
    return now


def of_price(price: str) -> dict[str, str]:
    return {"eur": price}


def cause_of(act: Callable[[], object]) -> str:
    """The code of the denial for which nobody can say whether an act is allowed."""
    with pytest.raises(Unavailable) as away:
        act()
    assert isinstance(away.value.__cause__, Denied)
    return away.value.__cause__.code


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(Denied) as refused:
        act()
    return refused.value.code


# Tools


def test_a_tool_runs_until_its_budget_is_spent(lab: Authority) -> None:
    ran: list[str] = []

    @lab.tool("travel.book", cost=of_price)
    def book(price: str) -> None:
        ran.append(price)

    with acting(lab.open(allow=["travel.book"], caveats=[budget("eur", "100")]).bundle):
        book("60.50")
        assert code_of(lambda: book("39.51")) == "budget_exhausted"
        book("39.50")
        assert code_of(lambda: book("0.01")) == "budget_exhausted"
    assert ran == ["60.50", "39.50"]


def test_a_constant_cost_may_be_text_a_whole_number_or_a_decimal(lab: Authority) -> None:
    costs: list[dict[str, Any]] = [{"eur": "0.5"}, {"eur": 2}, {"eur": Decimal("1.25")}]
    for cost in costs:
        pay = lab.tool("pay.out", cost=cost)(lambda: None)
        with acting(lab.open(allow=["pay.out"], caveats=[budget("eur", 9)]).bundle):
            assert newly_spent(lab, pay) == [("eur", Decimal(cost["eur"]))]


def test_a_decimal_is_judged_presented_and_paid_exactly(lab: Authority) -> None:
    def in_euros(amount: Decimal) -> dict[str, Decimal]:
        return {"eur": amount}

    @lab.tool("pay.out", cost=in_euros)
    def pay(amount: Decimal) -> Any:
        allowed = current_allowed()
        assert allowed is not None
        return allowed.call.args["amount"]

    may = action("pay.out", amount=between(0.1, 12.5))
    with acting(lab.open(allow=[may], caveats=[budget("eur", "12.8")]).bundle):
        # As floats, these three would cost more than 0.3.
        assert [pay(Decimal("0.1")), pay(Decimal("0.10")), pay(Decimal("1E-1"))] == [0.1, 0.1, 0.1]
        assert code_of(lambda: pay(Decimal("12.51"))) == "argument_refused"
        assert code_of(lambda: pay(Decimal("0.0999999999999999"))) == "argument_refused"
        assert pay(Decimal("12.50")) == 12.5
        assert code_of(lambda: pay(Decimal("0.1"))) == "budget_exhausted"
        with pytest.raises(InvalidRequest, match="pass it as text"):
            pay(Decimal("0.1000000000000001"))


ODD: dict[str, Any] = {
    "a float": 0.5,
    "a negative amount": -1,
    "a negative zero": Decimal("-0"),
    "true": True,
    "nothing": None,
    "no number": "ten",
    "an exponent": "1e3",
    "a sign": "+1",
    "white space": "1 ",
    "other digits": "\u0661",
    "not a number": Decimal("NaN"),
    "infinity": Decimal("Infinity"),
    "seven decimals": "0.0000001",
    "a tiny decimal": Decimal("1e-999999999"),
    "a huge decimal": Decimal("1e999999999"),
    "sixteen digits": 10**15,
    "a number that cannot be written down": 10**5000,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
def test_what_is_no_amount_is_refused_and_says_what_is_one(lab: Authority, odd: Any) -> None:
    with pytest.raises(ConfigurationProblem, match=r"is not an amount: text such as '20' or '0\.5', a"):
        lab.tool("pay.out", cost={"eur": odd})(lambda: None)
    pay = lab.tool("pay.out", cost=lambda: {"eur": odd})(lambda: pytest.fail("it ran"))
    with acting(lab.open(allow=["pay.out"], caveats=[budget("eur", 9)]).bundle), pytest.raises(Denied) as refused:
        pay()
    assert refused.value.code == "argument_refused"
    # What is wrong with it is for the log: the service may have taken it from a row.
    assert str(refused.value) == "the cost cannot be counted"
    assert "is not an amount" in reason(refused.value.decision.refusals[0])["sentence"]


def test_costs_that_cannot_be_meant_are_refused_when_stated(lab: Authority) -> None:
    for cost in ({"EUR": 1}, {"": 1}, {"calls": 2}, [("eur", 1)], "1"):
        with pytest.raises(ConfigurationProblem, match="cost"):
            lab.tool("pay.out", cost=cost)(lambda: None)  # type: ignore[arg-type] # what an untyped caller may pass
    with pytest.raises(ConfigurationProblem, match="takes price, which the guard cannot give it"):
        lab.tool("pay.out", cost=of_price)(lambda: None)
    pay = lab.tool("pay.out", cost=lambda: 5)(lambda: pytest.fail("it ran"))  # type: ignore[arg-type, return-value] # likewise
    with (
        acting(lab.open(allow=["pay.out"]).bundle),
        pytest.raises(ConfigurationProblem, match="`cost=` returned a int: return a mapping"),
    ):
        pay()


def test_a_tool_without_a_cost_in_a_budgets_unit_is_refused(lab: Authority) -> None:
    pay = lab.tool("pay.out")(lambda: pytest.fail("it ran"))
    with acting(lab.open(allow=["pay.out"], caveats=[budget("eur", 9)]).bundle):
        assert code_of(pay) == "attribute_missing"


def test_a_refused_tool_costs_nothing(lab: Authority) -> None:
    pay = lab.tool("pay.out", cost={"eur": 1}, attributes={"region": "us"})(lambda: pytest.fail("it ran"))
    bundle = lab.open(allow=["pay.out"], caveats=[budget("eur", 9), where("region", "eu")]).bundle

    def act() -> None:
        with acting(bundle):
            assert code_of(pay) == "argument_refused"

    assert newly_spent(lab, act) == []


def test_a_tool_can_ask_what_is_left(lab: Authority) -> None:
    def left() -> dict[str, str] | None:
        allowed = current_allowed()
        return None if allowed is None else dict(allowed.remaining)

    @lab.tool("pay.out", cost={"eur": 3})
    def outer() -> list[dict[str, str] | None]:
        return [left(), inner(), left()]

    inner = lab.tool("pay.out", cost={"eur": 4})(left)

    @lab.tool("pay.out", cost={"eur": 1})
    async def later() -> dict[str, str] | None:
        await asyncio.sleep(0)
        return left()

    with acting(lab.open(allow=["pay.out"], caveats=[budget("eur", 9)]).bundle):
        assert outer() == [{"eur": "6"}, {"eur": "2"}, {"eur": "6"}]
        assert asyncio.run(_awaited(later())) == {"eur": "1"}
        assert code_of(outer) == "budget_exhausted"
    assert left() is None


async def _awaited(one: Awaitable[T]) -> T:
    return await one


def test_the_next_capability_pays_when_the_newest_is_empty(lab: Authority) -> None:
    task = lab.open(allow=["pay.out"])
    more = lab.mint(task.id, allow=["pay.out"], caveats=[budget("calls", 1)])
    pay = lab.tool("pay.out")(lambda: "paid")
    with acting(Bundle([*task.bundle, *more])):
        assert newly_spent(lab, pay) == [("calls", Decimal(1))]
        assert newly_spent(lab, pay) == []


def test_racing_tools_never_overspend(lab: Authority) -> None:
    ran: list[int] = []
    pay = lab.tool("pay.out")(lambda: ran.append(1))
    bundle, begin = lab.open(allow=["pay.out"], caveats=[budget("calls", 5)]).bundle, threading.Barrier(8)

    def act() -> None:
        begin.wait()
        with acting(bundle):
            for _ in range(2):
                with suppress(Denied):
                    pay()

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 5


async def while_it_waits(meter: NotingMeter, acting_on: Any) -> Any:
    """What comes of something that spends, where nothing can be spent until the event loop has run on."""
    with meter.write():
        waiting = asyncio.ensure_future(acting_on)
        while not (meter.payers or waiting.done()):
            await asyncio.sleep(0.001)
    return await waiting


def test_an_async_tool_does_not_hold_up_the_event_loop(lab: Authority, meter: NotingMeter) -> None:
    guard = ToolGuard(lambda audience: lab.verifier(audience, meter=meter))

    @guard.tool("pay.out")
    async def pay() -> str:
        await asyncio.sleep(0)
        return "paid"

    async def act() -> str:
        with acting(lab.open(allow=["pay.out"], caveats=[budget("calls", 1)]).bundle):
            return str(await while_it_waits(meter, pay()))

    assert asyncio.run(act()) == "paid"


@pytest.mark.parametrize("gone", ["closed", "deleted"])
def test_store_gone_and_nothing_runs(lab: Authority, meter: NotingMeter, gone: str) -> None:
    if gone == "closed":
        meter.close()
    else:
        meter.path.unlink()
    guard = ToolGuard(lambda audience: lab.verifier(audience, meter=meter))
    pay = guard.tool("pay.out")(lambda: pytest.fail("it ran"))
    with acting(lab.open(allow=["pay.out"], caveats=[budget("calls", 1)]).bundle):
        assert cause_of(pay) == "unavailable"


def test_without_a_meter_nothing_runs(lab: Authority) -> None:
    guard = ToolGuard(lambda audience: lab.verifier(audience, meter=None))
    pay = guard.tool("pay.out")(lambda: pytest.fail("it ran"))
    with acting(lab.open(allow=["pay.out"], caveats=[budget("calls", 1)]).bundle):
        assert cause_of(pay) == "no_meter"


# FastAPI

PRICES = {1: ("Acme", "2.50"), 2: ("Globex", "7")}


def shop(guard: FastAPIGuard) -> FastAPI:
    app = FastAPI(openapi_url=None)
    guard.protect(app)

    @app.get("/sync")
    @guard.action("crm.pay", tenant=GRANTED, cost=of_price)
    def sync(price: str, allowed: Allowed) -> dict[str, str]:
        return dict(allowed.remaining)

    @app.get("/async")
    @guard.action("crm.pay", tenant=GRANTED, cost={"eur": "1"})
    async def in_the_loop(allowed: Allowed) -> dict[str, str]:
        await asyncio.sleep(0)
        return dict(allowed.remaining)

    @app.get("/plain/{row}")
    @guard.deferred("crm.pay")
    def plain(row: int, check: SyncCheck) -> dict[str, str]:
        tenant, price = PRICES.get(row) or check.missing()
        check(tenant=tenant, cost={"eur": price})
        return dict(check(tenant=tenant, cost={"eur": price}).remaining)

    @app.get("/row/{row}")
    @guard.deferred("crm.pay")
    async def deferred(row: int, check: Check) -> dict[str, str]:
        tenant, price = PRICES.get(row) or check.missing()
        await check(tenant=tenant, cost={"eur": price})
        return dict((await check(tenant=tenant, cost={"eur": price})).remaining)

    return app


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    with served(shop(FastAPIGuard(lab.verifier("crm")))) as origin:
        yield origin


def client(lab: Authority, origin: str, limit: str, *, calls: int | None = None, tenant: str = "Acme") -> httpx.Client:
    caveats = [budget("eur", limit), *([] if calls is None else [budget("calls", calls)])]
    bundle = lab.open(tenant=tenant, allow=["crm.pay"], caveats=caveats).bundle
    return httpx_client.client({origin: "crm"}, bundle, base_url=origin)


def test_an_endpoint_sees_what_is_left_and_is_refused_at_zero(lab: Authority, origin: str) -> None:
    with client(lab, origin, "3", calls=9) as agent:
        assert agent.get("/sync", params={"price": "1.75"}).json() == {"calls": "8", "eur": "1.25"}
        assert agent.get("/sync", params={"price": "1.5"}).json()["code"] == "budget_exhausted"
        assert agent.get("/sync", params={"price": "1.25"}).json() == {"calls": "7", "eur": "0"}
        assert agent.get("/sync", params={"price": "-1"}).json()["code"] == "argument_refused"
        assert agent.get("/sync", params={"price": "0"}).json() == {"calls": "6", "eur": "0"}


@pytest.mark.parametrize("path", ["/plain", "/row"])
def test_a_deferred_check_that_is_made_twice_spends_once(lab: Authority, origin: str, path: str) -> None:
    with client(lab, origin, "5", calls=9) as agent:
        assert agent.get(f"{path}/1").json() == {"calls": "8", "eur": "2.5"}
        assert agent.get(f"{path}/1").json() == {"calls": "7", "eur": "0"}
        refused = agent.get(f"{path}/1")
        assert (refused.status_code, refused.json()["code"]) == (403, "budget_exhausted")


@pytest.mark.parametrize("path", ["/plain", "/row"])
def test_existence_of_a_foreign_row_is_not_told_by_what_it_costs(lab: Authority, origin: str, path: str) -> None:
    with client(lab, origin, "5") as agent:

        def told(row: int) -> object:
            answer = agent.get(f"{path}/{row}")
            return answer.status_code, [(one["code"], one["sentence"]) for one in answer.json()["reasons"]]

        assert newly_spent(lab, lambda: told(2)) == []
        assert told(2) == told(3)
        assert told(2) == (
            403,
            [("wrong_tenant", 'the task\'s grant is for tenant "Acme", and this call is for another one or for none')],
        )


def test_async_endpoints_spend_too(lab: Authority, origin: str) -> None:
    with client(lab, origin, "2") as agent:
        assert [agent.get("/async").json() for _ in range(2)] == [{"eur": "1"}, {"eur": "0"}]
        assert agent.get("/async").json()["code"] == "budget_exhausted"


def test_no_meter_is_told_of_a_row_too(lab: Authority) -> None:
    app = shop(FastAPIGuard(lab.verifier("crm", meter=None)))
    with served(app) as origin, client(lab, origin, "5") as agent:
        refused = agent.get("/row/1")
        assert (refused.status_code, refused.json()["code"]) == (503, "no_meter")


@pytest.mark.parametrize("path", ["/sync?price=1", "/async", "/plain/1", "/row/1"])
def test_store_gone_and_no_endpoint_answers(lab: Authority, meter: NotingMeter, path: str) -> None:
    meter.close()
    app = shop(FastAPIGuard(lab.verifier("crm", meter=meter)))
    with served(app) as origin, client(lab, origin, "5") as agent:
        refused = agent.get(path)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize("path", ["/async", "/row/1"])
def test_an_endpoint_does_not_hold_up_the_event_loop(lab: Authority, meter: NotingMeter, path: str) -> None:
    app = shop(FastAPIGuard(lab.verifier("crm", meter=meter)))
    bundle = lab.open(tenant="Acme", allow=["crm.pay"], caveats=[budget("eur", "10")]).bundle

    async def act() -> tuple[bool, int]:
        inside = httpx.ASGITransport(app)
        async with httpx_client.async_client(
            {"http://crm": "crm"}, bundle, transport=inside, base_url="http://crm"
        ) as agent:
            answer = await while_it_waits(meter, agent.get(path))
            return bool(meter.payers), answer.status_code

    assert asyncio.run(act()) == (True, 200)


def test_an_endpoint_whose_cost_cannot_be_meant_is_not_made(lab: Authority) -> None:
    guard = FastAPIGuard(lab.verifier("crm"))
    odd: list[Any] = [{"eur": 0.5}, {"calls": 1}, of_price]
    for cost in odd:
        with pytest.raises(ConfigurationProblem, match="cost"):
            guard.action("crm.pay", cost=cost)(lambda: None)


# ASGI


@pytest.mark.parametrize("is_async", [False, True])
def test_an_asgi_application_states_what_a_request_costs(lab: Authority, is_async: bool) -> None:
    async def pay(scope: Scope, receive: Receive, send: Send) -> None:
        current = passage(scope)
        facts: dict[str, Any] = {"tenant": GRANTED, "cost": {"eur": "1"}}
        verdicts = [
            await current.judge_async("crm.pay", {}, **facts) if is_async else current.judge("crm.pay", {}, **facts)
            for _ in range(2)
        ]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": verdicts[1].remaining["eur"].encode()})

    with (
        served(ASGIGuard(pay, lab.verifier("crm")), lifespan="off") as origin,
        client(lab, origin, "2") as agent,
    ):
        assert [agent.get("/").text for _ in range(2)] == ["1", "0"]
        assert agent.get("/").json()["code"] == "budget_exhausted"
