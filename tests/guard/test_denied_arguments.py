"""A denial of the action names the arguments, over real HTTP: they are validated, and nothing else happens."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, Request
from pydantic import BaseModel, Field, field_validator

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.guard.fastapi import Check, FastAPIGuard, SyncCheck
from capx.verify.evaluator import MAX_REPORTED
from capx_caveats import JSON, action, allow, where
from tests.labs.orders import Order, refusal
from tests.labs.serving import served

ran: list[str] = []


async def yielding() -> AsyncIterator[str]:
    ran.append("yield")
    yield "ours"
    ran.append("end")


def returning(page: int = 1) -> str:
    ran.append(f"page {page}")
    return "ours"


def owner_of(order: Order) -> dict[str, JSON]:
    ran.append("args")
    return {"sku": order.sku, "owner": "one of ours"}


def sku_of(order: Order) -> dict[str, JSON]:
    return {"sku": order.sku}


def kept_of(order: Order, kept: str) -> dict[str, JSON]:
    ran.append("args")
    return {"sku": order.sku, "kept": kept}


class Odd(BaseModel):
    how: str
    at: int = Field(default_factory=lambda: 7)

    @field_validator("how")
    @classmethod
    def fail(cls, sent: str) -> str:
        ran.append("validator")
        if sent == "recursion":
            return cls.fail(sent)
        if sent == "key":
            raise KeyError(sent)
        if sent == "value":
            raise ValueError(sent)
        return sent


class Tree(BaseModel):
    leaf: str = ""
    inner: "Tree | None" = None


def named_endpoints(app: FastAPI, guard: FastAPIGuard) -> None:
    """Add the endpoints whose denials name arguments."""

    @app.put("/orders/{region}", dependencies=[Depends(yielding)])
    @guard.action("crm.orders", args={"region": "region", "sku": "sku", "amount": "amount", "deck": "deck"})
    async def orders(
        region: str,
        sku: Annotated[str, Body()],
        amount: Annotated[int, Body()] = 1,
        *,
        x_secret: Annotated[str, Header()],
        session: Annotated[str, Cookie()] = "cookie",
        deck: int = 5,
        kept: Annotated[str, Depends(yielding)],
    ) -> None: ...

    @app.post("/model")
    @guard.action("crm.model")
    def model(order: Order) -> None: ...

    @app.post("/tree/{id}")
    @guard.deferred("crm.tree")
    async def tree(id: int, tree: Tree, check: Check) -> None:
        await check()

    @app.get("/rows/{id}")
    @guard.deferred("crm.rows")
    def rows(id: int, check: SyncCheck) -> None: ...

    @app.post("/table")
    @guard.action("crm.table", args={"sku": "order.sku"})
    async def table(order: Order, request: Request, kept: Annotated[str, Depends(returning)]) -> None: ...

    @app.post("/sent")
    @guard.action("crm.sent", args=sku_of, sent=True)
    async def sent(order: Order) -> None: ...

    @guard.action("crm.both")
    async def both(id: int, tenant: str) -> None: ...

    app.get("/by-path/{id}")(both)
    app.get("/by-query")(both)
    router = APIRouter(prefix="/of/{tenant}", dependencies=[Depends(yielding)])
    router.get("/{id}")(both)
    app.include_router(router)

    @app.post("/odd")
    @guard.action("crm.odd")
    async def odd(odd: Odd) -> None: ...


def unnamed_endpoints(app: FastAPI, guard: FastAPIGuard) -> None:
    """Add endpoints whose denials name none."""

    @app.post("/owned")
    @guard.action("crm.owned", args=owner_of)
    async def owned(order: Order) -> None: ...

    @app.post("/kept")
    @guard.action("crm.kept", args=kept_of, sent=True)
    async def kept(order: Order, kept: Annotated[str, Depends(returning)]) -> None: ...

    def part(user: Annotated[Order, Body()]) -> str:
        return user.sku

    @app.post("/parts")
    @guard.action("crm.parts", args={"sku": "order.sku"})
    async def parts(order: Order, user: Annotated[str, Depends(part)]) -> None: ...


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)
    app.router.dependencies.append(Depends(yielding))
    named_endpoints(app, guard)
    unnamed_endpoints(app, guard)
    with served(app) as found:
        yield found


Call = Callable[..., httpx.Response]


@pytest.fixture
def call(lab: Authority, origin: str) -> Call:
    """Call with a token that allows another action."""

    def called(method: str, path: str, allowed: Any = "crm.other", **sent: Any) -> httpx.Response:
        ran.clear()
        with httpx_client.client({origin: "crm"}, lab.open(allow=[allowed]).bundle, base_url=origin) as client:
            response = client.request(method, path, **sent)
        assert response.status_code == 403, response.text
        return response

    return called


def named(response: httpx.Response) -> Any:
    assert refusal(response) == (403, "action_not_allowed")
    assert [reason["code"] for reason in response.json()["reasons"]] == ["action_not_allowed"]
    return response.json()["ask"].get("args")


def test_a_denied_action_names_the_arguments_and_runs_nothing(call: Call) -> None:
    response = call("PUT", "/orders/EU", json={"sku": "a"}, headers={"cookie": "session=s"})
    # A header is missing that the endpoint needs: headers are not read.
    assert named(response) == {"region": "EU", "sku": "a", "amount": 1, "deck": 5}
    assert not ran


def test_a_body_model_and_a_deferred_endpoint_name_them_too(call: Call) -> None:
    assert named(call("POST", "/model", json={"sku": "a", "amount": 3})) == {"sku": "a", "amount": 3}
    assert named(call("POST", "/tree/7", json={"leaf": "x", "inner": None})) == {"id": 7, "leaf": "x", "inner": None}
    assert named(call("GET", "/rows/7")) == {"id": 7}
    assert not ran


@pytest.mark.parametrize(
    "path", ["/by-path/7?tenant=Acme&id=8", "/by-query?tenant=Acme&id=7", "/of/Acme/7?tenant=x&id=8"]
)
def test_one_function_of_several_routes_names_what_each_gets(call: Call, path: str) -> None:
    assert named(call("GET", path)) == {"id": 7, "tenant": "Acme"}
    assert not ran


def test_the_arguments_named_are_those_that_are_judged(call: Call) -> None:
    for path, sent in (("/model", {"sku": "a"}), ("/tree/7", {"leaf": "x"}), ("/table", {"sku": "a"})):
        early = named(call("POST", path, json=sent))
        late = call("POST", path, action(f"crm.{path.split('/')[1]}", args={}), json=sent)
        assert early
        assert late.json()["ask"]["args"] == early


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("PUT", "/orders/EU?deck=many", {"json": {"sku": "a"}}),
        ("PUT", "/orders/EU", {"json": {"amount": 1}}),
        ("PUT", "/orders/EU", {"json": None}),
        ("POST", "/model", {"json": {"amount": "many"}}),
        ("POST", "/model", {"json": []}),
        ("POST", "/model", {"content": b'{"sku": "a"}'}),
        ("POST", "/model", {}),
        ("GET", "/rows/x", {}),
        ("POST", "/tree/7", {"content": rb'{"leaf": "\ud800"}', "headers": {"content-type": "application/json"}}),
    ],
)
def test_what_does_not_validate_is_denied_as_before(call: Call, method: str, path: str, sent: Any) -> None:
    response = call(method, path, **sent)
    assert named(response) is None
    # No validation error, and no word of what the endpoint takes.
    assert not {"sku", "amount", "deck", "leaf"} & set(response.text.replace('"', " ").split())
    assert response.json().keys() == call(method, path, "crm.another", **sent).json().keys()
    assert not ran


@pytest.mark.parametrize("how", ["recursion", "key", "value"])
def test_a_validator_that_fails_changes_no_denial(call: Call, how: str) -> None:
    assert named(call("POST", "/odd", json={"how": how})) is None
    assert "validator" in ran
    assert named(call("POST", "/odd", json={"how": "good"})) == {"how": "good", "at": 7}


def test_what_a_function_derives_is_neither_named_nor_derived(call: Call) -> None:
    response = call("POST", "/owned", json={"sku": "a"})
    assert named(response) is None
    assert "an ask cannot name them: only a grant with `pinned = false` can help" in response.json()["detail"]
    assert not ran
    late = call("POST", "/owned", action("crm.owned", sku="b"), json={"sku": "a"})
    assert late.json()["ask"] == {"audience": "crm", "action": "crm.owned"}
    assert "`pinned = false`" in late.json()["detail"]
    assert "one of ours" not in late.text


def test_a_denial_that_suggests_no_ask_says_nothing_of_pins(lab: Authority, origin: str) -> None:
    bundles = (
        lab.open(allow=["crm.owned"], caveats=[where("region", "EU")]).bundle,
        # So many refusals that the list is cut: one that no grant can cure may be missing.
        lab.open(allow=["crm.other"]).bundle.attenuate(*[allow("crm.other")] * MAX_REPORTED),
    )
    for bundle in bundles:
        with httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client:
            response = client.post("/owned", json={"sku": "a"})
        assert response.status_code == 403
        assert "ask" not in response.json()
        assert "pinned" not in response.text


def test_a_function_that_returns_what_was_sent_is_named(call: Call) -> None:
    response = call("POST", "/sent", json={"sku": "a"})
    assert named(response) == {"sku": "a"}
    assert "pinned" not in response.text
    late = call("POST", "/sent", action("crm.sent", sku="b"), json={"sku": "a"})
    assert late.json()["ask"]["args"] == {"sku": "a"}


def test_arguments_that_need_a_dependency_are_not_named(call: Call) -> None:
    assert named(call("POST", "/kept", json={"sku": "a"})) is None
    # With the dependency's part of the body, the whole body would be read in another way.
    assert named(call("POST", "/parts", json={"order": {"sku": "a"}, "user": {"sku": "b"}})) is None
    assert named(call("POST", "/parts", json={"sku": "a"})) is None
    assert not ran


def test_a_denial_that_names_arguments_is_recorded_once(call: Call, lab: Authority) -> None:
    lab.flush()
    before = {event.position for event in lab.log()}
    response = call("POST", "/model", json={"sku": "a"})
    assert named(response) == {"sku": "a", "amount": 1}
    lab.flush()
    decisions = [event for event in lab.log() if event.position not in before and event.kind == "decision"]
    assert len(decisions) == 1
    assert response.headers["capx-decision"] == response.json()["decision"]
    found = lab.decision(response.json()["decision"])
    assert found is not None
    assert found.position == decisions[0].position
    assert b'"sku"' not in found.body


@pytest.mark.parametrize("authorization", ["", "Capx x", "Bearer x"])
def test_a_stranger_s_arguments_are_not_validated(origin: str, authorization: str) -> None:
    ran.clear()
    headers = {"authorization": authorization} if authorization else {}
    with httpx.Client(base_url=origin, headers=headers) as client:
        for sent in ({"how": "good"}, {"how": 5}, "}{"):
            response = client.post("/odd", json=sent)
            assert response.status_code == 401
            assert "ask" not in response.json()
    assert not ran


def test_other_refusals_name_no_arguments(call: Call, lab: Authority, origin: str) -> None:
    task = lab.open(allow=["crm.other"])
    lab.complete(task.id)
    ran.clear()
    with httpx_client.client({origin: "crm"}, task.bundle, base_url=origin) as client:
        response = client.post("/odd", json={"how": "good"})
    assert refusal(response) == (403, "task_completed")
    assert "ask" not in response.json()
    assert not ran
