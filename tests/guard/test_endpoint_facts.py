"""An endpoint by itself, without a server: what it states, when, and what cannot be guarded at all."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from fastapi import Body, Cookie, Depends, FastAPI, Header

from capx.errors import ConfigurationProblem
from capx.guard.call_facts import CallSpec
from capx.guard.fastapi import Check, FastAPIGuard, SyncCheck
from capx.guard.fastapi.endpoint import GATE, EndpointSpec, spec_of, wrapped
from capx.guard.guarded_request import GuardedRequest
from capx.guard.observer import Observer
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Allowed, Denied
from capx_caveats import Caveat, Tenant, action, allow, budget
from tests.labs.lab import NOW, Lab, minted
from tests.labs.orders import asked


async def no_gate() -> GuardedRequest:
    raise AssertionError("FastAPI calls the gate")


class World:
    """Requests of agents of Acme, and the endpoints that they call."""

    def __init__(self, store: SQLiteStore) -> None:
        self.lab = Lab(meter=store)

    def current(self, *caveats: Caveat, **parts: Any) -> GuardedRequest:
        """An admitted request whose token was made for no action."""
        current = GuardedRequest(self.lab.verifier, Observer(), public=False)
        received = HttpRequest(method="GET", target="/x")
        token = minted(Tenant("Acme"), *caveats, **parts).present(received, now=NOW).text
        current.admitted = self.lab.verifier.admit(token, received)
        return current

    @property
    def decided(self) -> list[tuple[str | None, str]]:
        """The action and the code of each decision."""
        return [(one.action, one.code) for one in self.lab.records.decisions]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = SQLiteStore.create(tmp_path / "meter.db")
    yield World(store)
    store.close()


def specified(function: Callable[..., Any], args: Any = None, *, sent: bool = False, **facts: Any) -> EndpointSpec:
    deferred = facts.pop("deferred", False)
    return EndpointSpec(no_gate, function, CallSpec("a.read", **facts), deferred=deferred, args=args, sent=sent)


def called(function: Callable[..., Any], spec: EndpointSpec, current: GuardedRequest, **arguments: Any) -> Any:
    """What FastAPI gets of the endpoint."""
    result = wrapped(function, spec)(**{GATE: current}, **arguments)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def plain_read(id: int, allowed: Allowed, limit: int = 100) -> Any:
    return allowed, id, limit


async def async_read(id: int, allowed: Allowed, limit: int = 100) -> Any:
    return allowed, id, limit


def plain_row(id: int, check: SyncCheck, tenant: str = "Acme") -> Any:
    return check(tenant=tenant)


async def async_row(id: int, check: Check, tenant: str = "Acme") -> Any:
    return await check(tenant=tenant)


READS = (plain_read, async_read)
ROWS = (plain_row, async_row)


def its_region(id: int) -> dict[str, Any]:
    return {"region": f"region {id}"}


def its_cost(limit: int) -> dict[str, Any]:
    return {"eur": limit}


def its_tenant(id: int) -> str:
    return "Acme" if id < 9 else "Globex"


@pytest.mark.parametrize("function", READS)
def test_an_endpoint_states_all_facts_of_its_call(world: World, function: Callable[..., Any]) -> None:
    spec = specified(function, tenant=its_tenant, attributes=its_region, cost=its_cost)
    current = world.current(budget("eur", "150"))
    allowed, id, limit = called(function, spec, current, id=7, limit=100)
    assert (id, limit) == (7, 100)
    assert isinstance(allowed, Allowed)
    assert allowed is current.allowed
    assert current.entered
    call = allowed.call
    assert (call.action, call.tenant, call.attributes) == ("a.read", "Acme", {"region": "region 7"})
    assert (call.args, call.defaults) == ({"id": 7}, {"limit": 100})
    assert allowed.remaining == {"eur": "50"}


@pytest.mark.parametrize("function", READS)
def test_nothing_is_stated_for_a_foreign_tenant(world: World, function: Callable[..., Any]) -> None:
    ran: list[int] = []

    def derived(id: int) -> dict[str, Any]:
        ran.append(id)
        return {"id": id}

    current = world.current()
    with pytest.raises(Denied, match="another one"):
        called(function, specified(function, derived, tenant=its_tenant), current, id=9, limit=1)
    assert not ran
    # From here on, even an error of the endpoint needs a decision to leave.
    assert current.entered
    assert world.decided == [("a.read", "wrong_tenant")]


@pytest.mark.parametrize("function", ROWS)
def test_what_a_row_check_derives_waits_for_its_tenant(world: World, function: Callable[..., Any]) -> None:
    ran: list[int] = []

    def derived(id: int) -> dict[str, Any]:
        ran.append(id)
        return {"row": id}

    spec = specified(function, derived, deferred=True)
    with pytest.raises(Denied, match="another one"):
        called(function, spec, world.current(), id=7, tenant="Globex")
    assert not ran
    allowed = called(function, spec, world.current(), id=7, tenant="Acme")
    assert (allowed.call.args, ran) == ({"row": 7}, [7])


@pytest.mark.parametrize("is_async", [False, True])
def test_what_was_sent_is_stated_before_a_row_is_read(world: World, *, is_async: bool) -> None:
    def change(orders: list[int], check: SyncCheck) -> Any:
        orders.append(2)
        return check(tenant="Acme")

    async def change_async(orders: list[int], check: Check) -> Any:
        orders.append(2)
        return await check(tenant="Acme")

    function: Callable[..., Any] = change_async if is_async else change
    spec = specified(function, {"orders": "orders"}, deferred=True)
    assert called(function, spec, world.current(), orders=[1]).call.args == {"orders": [1]}


NO_JSON = {plain_read: {"limit": 1}, async_read: {"limit": 1}, plain_row: {}, async_row: {}}


@pytest.mark.parametrize("function", NO_JSON)
@pytest.mark.parametrize("sent", [False, True])
def test_an_argument_that_is_no_json_is_denied(world: World, function: Callable[..., Any], *, sent: bool) -> None:
    def odd(id: int) -> dict[str, Any]:
        return {"sesame": b"4711"}

    spec = specified(function, odd, sent=sent, deferred=function in ROWS, tenant=None if function in ROWS else "Acme")
    with pytest.raises(Denied) as caught:
        called(function, spec, world.current(), id=7, **NO_JSON[function])
    assert world.decided == [("a.read", "argument_refused")]
    # The name may be of the service's making: the bearer learns it only if it sent it.
    assert ("sesame" in str(caught.value)) is sent
    assert caught.value.__context__ is None


@pytest.mark.parametrize("function", [*READS, *ROWS])
@pytest.mark.parametrize("sent", [False, True])
def test_a_refused_value_is_named_only_if_it_was_sent(
    world: World, function: Callable[..., Any], *, sent: bool
) -> None:
    def same(id: int) -> dict[str, Any]:
        return {"id": id}

    spec = specified(function, same, sent=sent, deferred=function in ROWS, tenant=None if function in ROWS else "Acme")
    current = world.current(allowed=allow(action("a.read", id=4711)))
    with pytest.raises(Denied) as caught:
        called(function, spec, current, id=7, **NO_JSON[function])
    assert caught.value.ask is not None
    assert caught.value.ask.arguments().get("args") == ({"id": 7} if sent else None)
    assert bool(spec.advice) is not sent
    assert sent or "the arguments of a.read by itself" in spec.advice


def test_an_endpoint_without_its_gate_does_not_run() -> None:
    spec = specified(plain_read)
    for more in ({}, {GATE: None}, {GATE: "a request"}):
        with pytest.raises(ConfigurationProblem, match="without its gate: let FastAPI call it"):
            wrapped(plain_read, spec)(id=7, limit=1, **more)


@pytest.mark.parametrize("function", READS)
def test_fastapi_sees_the_gate_and_no_injected_parameter(function: Callable[..., Any]) -> None:
    spec = specified(function)
    made = wrapped(function, spec)
    assert (made.__name__, spec_of(made, no_gate)) == (function.__name__, spec)
    assert inspect.iscoroutinefunction(made) is inspect.iscoroutinefunction(function)
    seen = inspect.signature(made).parameters
    assert [*seen] == [GATE, "id", "limit"] == ["capx_passage", "id", "limit"]
    assert {one.kind for one in seen.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert (seen["limit"].default, seen["id"].annotation) == (100, int)
    assert get_args(seen[GATE].annotation) == (GuardedRequest, Depends(no_gate))


def test_a_function_that_no_guard_wrapped_states_nothing() -> None:
    assert spec_of(plain_read, no_gate) is None

    def posing() -> None: ...

    vars(posing)["__capx_spec__"] = "no spec"
    assert spec_of(posing, no_gate) is None


def test_an_endpoint_of_another_guard_states_nothing() -> None:
    async def other_gate() -> GuardedRequest:
        raise AssertionError

    assert spec_of(wrapped(plain_read, specified(plain_read)), other_gate) is None


def test_a_spec_tells_what_it_states() -> None:
    named, own = specified(plain_read, {"id": "id"}), specified(plain_read)
    assert (named.states_args, own.states_args) == (True, False)
    assert (own.action, own.gate, own.deferred) == ("a.read", no_gate, False)
    assert own.advice == named.advice == ""
    # Unless the service says that a function returns what was sent, it does not.
    assert EndpointSpec(no_gate, plain_read, CallSpec("a.read"), deferred=False, args=its_region).advice
    assert own.name == f"{__name__}.plain_read"
    assert own.injected == {"allowed": Allowed}
    assert specified(plain_row, deferred=True).injected == {"check": SyncCheck}
    assert specified(async_row, deferred=True).injected == {"check": Check}


def generating(id: int) -> Iterator[int]:
    yield id


async def generating_async(id: int) -> AsyncIterator[int]:
    yield id


def unreadable(id: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821 # the fact under test


def by_position(id: int, /) -> None: ...


def several(*ids: int) -> None: ...


def named_ones(**ids: int) -> None: ...


def without_check(id: int) -> None: ...


async def without_check_async(id: int) -> None: ...


UNGUARDED: list[tuple[Any, bool, str]] = [
    (generating, False, "it is a generator, which would answer before it is judged: return a response"),
    (generating_async, True, "it is a generator, which would answer before it is judged: return a response"),
    (unreadable, False, "its annotations cannot be read: name 'Nowhere' is not defined"),
    (by_position, False, "the parameter id cannot be passed by name"),
    (several, False, "the parameter ids cannot be passed by name"),
    (named_ones, False, "the parameter ids cannot be passed by name"),
    (without_check, True, "it is deferred, so it needs a parameter of the type SyncCheck"),
    (without_check_async, True, "it is deferred, so it needs a parameter of the type Check"),
    (plain_row, False, "its parameter must be an Allowed (from capx import Allowed): deferred plain"),
    (plain_read, True, "its parameter must be a SyncCheck (from capx.guard.fastapi import SyncCheck): deferred"),
    (async_read, True, "its parameter must be a Check (from capx.guard.fastapi import Check): deferred"),
]


@pytest.mark.parametrize(("function", "deferred", "why"), UNGUARDED)
def test_what_cannot_be_guarded_is_told_by_its_name(function: Any, deferred: bool, why: str) -> None:
    with pytest.raises(ConfigurationProblem) as caught:
        specified(function, deferred=deferred)
    assert str(caught.value).startswith(f"{__name__}.{function.__name__}: {why}")


def with_a_header_beside(id: int, x_tenant: Annotated[str, Header()], kept: Annotated[str, Cookie()]) -> None: ...


def of_header(x_tenant: str) -> Any: ...


def of_cookie(kept: str) -> Any: ...


def of_injected(allowed: Allowed) -> Any: ...


@pytest.mark.parametrize(
    ("function", "derived", "name"),
    [
        (with_a_header_beside, of_header, "x_tenant"),
        (with_a_header_beside, of_cookie, "kept"),
        (plain_read, of_injected, "allowed"),
    ],
)
def test_facts_come_from_no_header_cookie_or_injected_one(function: Any, derived: Any, name: str) -> None:
    for where in ("args", "tenant", "attributes", "cost"):
        stated: dict[str, Any] = {"args": {}, where: derived}
        with pytest.raises(ConfigurationProblem, match=f"`{where}=` takes {name}, which the guard cannot give it"):
            specified(function, **stated)


def part(user: Annotated[int, Body()] = 1) -> int:
    return user


def with_a_part(id: int, user: Annotated[int, Depends(part)]) -> None: ...


def stated_id(id: int) -> dict[str, Any]:
    return {"id": id}


@pytest.mark.parametrize(
    ("function", "states", "named"),
    [
        (plain_read, {}, {"id": 7, "limit": 100}),
        (plain_read, {"args": {"number": "id"}}, {"number": 7}),
        (plain_read, {"args": stated_id, "sent": True}, {"id": 7}),
        (plain_read, {"args": stated_id}, None),
        # With the part of a dependency, FastAPI would read the rest of the body in another way.
        (with_a_part, {"args": {"id": "id"}}, None),
    ],
)
def test_a_denied_action_names_what_was_sent(world: World, function: Any, states: Any, named: Any) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(world.lab.verifier)
    guard.protect(app)
    app.get("/x/{id}")(guard.action("a.forbidden", tenant="Acme", **states)(function))
    received = HttpRequest(method="GET", target="/x/7")
    status, body = asked(app, "/x/7", minted(Tenant("Acme")).present(received, now=NOW).authorization)
    assert (status, json.loads(body)["code"]) == (403, "action_not_allowed")
    assert json.loads(body)["ask"].get("args") == named
