"""A parameter with a default that nobody touched denies no token that does not speak of it."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.authority.authority import Authority
from capx.errors import InvalidRequest
from capx.guard.fastapi import FastAPIGuard
from capx.guard.fastapi.defaults import Defaults
from capx.guard.json_values import plain
from capx.guard.model_values import converted
from capx.verify.decision import Allowed, Denied
from capx_caveats import JSON, Entry, action, anything, length, where
from tests.labs.orders import refusal
from tests.labs.serving import served

BOUND = action("crm.refund", amount=5)
"""An entry of a token that was minted before the parameter `note` was added."""


@pytest.fixture
def lab() -> Iterator[Authority]:
    with Authority.temporary() as lab:
        yield lab


def tool(lab: Authority) -> Callable[..., str]:
    @lab.tool("crm.refund")
    def refund(amount: int, note: str = "", urgent: bool = False) -> str:  # as people write
        return f"{amount} {note!r} {urgent}"

    return refund


CASES: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "nothing said of it": (BOUND, {}, True),
    "nothing said of it, and it is given": (BOUND, {"note": "x"}, False),
    "nothing said of it, and its default is given": (BOUND, {"note": ""}, False),
    "named, and as it must be": (action("crm.refund", amount=5, note=length(0, 0)), {}, True),
    "named, and not as it must be": (action("crm.refund", amount=5, note="x"), {}, False),
    "all others free": (action("crm.refund", args={"amount": 5, "*": anything()}), {}, True),
    "all others must be true": (action("crm.refund", args={"amount": 5, "*": True}), {}, False),
    "no argument at all": (action("crm.refund", args={}), {}, False),
}


@pytest.mark.parametrize(("entry", "given", "passes"), CASES.values(), ids=list(CASES))
def test_an_untouched_default_is_seen_by_what_speaks_of_it(
    lab: Authority, entry: Entry, given: dict[str, Any], *, passes: bool
) -> None:
    with acting(lab.open(allow=[entry]).bundle):
        if passes:
            assert tool(lab)(5, **given) == "5 '' False"
        else:
            with pytest.raises(Denied):
                tool(lab)(5, **given)


def test_a_where_on_a_default_sees_it(lab: Authority) -> None:
    for rule, passes in (("", False), (length(0, 0), True)):
        caveat = where("args.note", length(1, 9) if rule == "" else rule)
        with acting(lab.open(allow=[BOUND], caveats=[caveat]).bundle):
            if passes:
                assert tool(lab)(5)
            else:
                with pytest.raises(Denied) as refused:
                    tool(lab)(5)
                assert refused.value.code == "argument_refused"


def test_an_appended_name_does_not_make_a_parent_see_it(lab: Authority) -> None:
    parent = lab.open(allow=[BOUND]).bundle
    child = parent.delegate(to="sub", allow=[action("crm.refund", amount=5, note=length(0, 0))])
    for bundle in (parent, child):
        with acting(bundle):
            assert tool(lab)(5) == "5 '' False"


def test_an_ask_and_its_pin_hold_all_defaults(lab: Authority) -> None:
    with acting(lab.open(allow=["crm.read"]).bundle), pytest.raises(Denied) as refused:
        tool(lab)(5)
    assert refused.value.ask is not None
    assert dict(refused.value.ask.args or {}) == {"amount": 5, "note": "", "urgent": False}
    with acting(lab.open(allow=[refused.value.ask.entry()]).bundle):
        assert tool(lab)(5) == "5 '' False"
        for changed in ({"note": "x"}, {"urgent": True}):
            with pytest.raises(Denied):
                tool(lab)(5, **changed)


class Order(BaseModel):
    amount: int
    note: str = ""
    kind: str = Field("plain", alias="type")


@pytest.fixture
def call(lab: Authority) -> Iterator[Callable[..., httpx.Response]]:
    app = FastAPI(openapi_url=None)
    guard = FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    def stated(allowed: Allowed) -> list[Any]:
        return [dict(allowed.call.args), dict(allowed.call.defaults)]

    @app.post("/model")
    @guard.action("crm.model")
    async def model(order: Order, allowed: Allowed, limit: int = 100) -> Any:
        return stated(allowed)

    @app.post("/embedded")
    @guard.action("crm.embedded")
    async def embedded(
        allowed: Allowed, amount: Annotated[int, Body()], note: Annotated[str, Body()] = "", dry: bool | None = None
    ) -> Any:
        return stated(allowed)

    @app.post("/table")
    @guard.action("crm.table", args={"sum": "order.amount", "note": "order.note", "most": "limit"})
    async def table(order: Order, allowed: Allowed, limit: int = 100) -> Any:
        return stated(allowed)

    @app.get("/made")
    @guard.action("crm.made")
    async def made(allowed: Allowed, tags: Annotated[list[str], Query(default_factory=list)]) -> Any:
        return stated(allowed)

    with served(app) as origin:

        def called(method: str, path: str, body: Any = None, allow: str | Entry = "crm.*") -> httpx.Response:
            bundle = lab.open(allow=[allow]).bundle
            with httpx_client.client({origin: "crm"}, bundle, base_url=origin) as client:
                return client.request(method, path, json=body)

        yield called


@pytest.mark.parametrize(
    ("path", "body", "args", "defaults"),
    [
        ("/model", {"amount": 1}, {"amount": 1}, {"note": "", "type": "plain", "limit": 100}),
        # An endpoint can tell that a member was sent, also if it was sent as it would be by default.
        ("/model", {"amount": 1, "note": ""}, {"amount": 1, "note": ""}, {"type": "plain", "limit": 100}),
        ("/model?limit=7", {"amount": 1, "type": "x"}, {"amount": 1, "type": "x", "limit": 7}, {"note": ""}),
        # It cannot tell whether a parameter was sent as it is by default.
        ("/model?limit=100", {"amount": 1}, {"amount": 1}, {"note": "", "type": "plain", "limit": 100}),
        ("/embedded", {"amount": 1}, {"amount": 1}, {"note": "", "dry": None}),
        ("/embedded", {"amount": 1, "note": "x"}, {"amount": 1, "note": "x"}, {"dry": None}),
        ("/table", {"amount": 1}, {"sum": 1}, {"note": "", "most": 100}),
        ("/table?limit=9", {"amount": 1, "note": ""}, {"sum": 1, "note": "", "most": 9}, {}),
    ],
)
def test_an_endpoint_states_defaults_beside_arguments(
    call: Callable[..., httpx.Response], path: str, body: Any, args: Any, defaults: Any
) -> None:
    assert call("POST", path, body).json() == [args, defaults]


def test_a_default_that_is_made_anew_is_an_argument(call: Callable[..., httpx.Response]) -> None:
    assert call("GET", "/made").json() == [{"tags": []}, {}]


def test_an_old_entry_is_good_at_an_endpoint_with_new_parameters(call: Callable[..., httpx.Response]) -> None:
    old = action("crm.model", amount=1)
    assert call("POST", "/model", {"amount": 1}, old).status_code == 200
    for path, more in (("/model?limit=7", {}), ("/model", {"note": "x"}), ("/model", {"type": "x"})):
        assert refusal(call("POST", path, {"amount": 1, **more}, old)) == (403, "argument_not_named")


def test_a_value_of_another_type_is_no_default() -> None:
    class Fields(BaseModel):
        limit: int = 1

    defaults = Defaults(Fields.model_fields)
    assert defaults.has("limit", 1)
    assert not defaults.has("limit", True)  # a JSON value
    assert not defaults.has("limit", "1")
    assert not defaults.has("other", 1)


class Odd(BaseModel):
    """Defaults that are no JSON as they are."""

    at: PurePosixPath = PurePosixPath("/home")
    what: object = object()
    ratio: float = float("nan")
    needed: int
    made: str = Field(default_factory=str)


def test_a_default_is_compared_as_the_json_that_it_becomes() -> None:
    defaults = Defaults(Odd.model_fields)
    assert defaults.has("at", "/home")
    assert not defaults.has("at", "/root")


@pytest.mark.parametrize("name", ["what", "ratio", "needed", "made"])
def test_nothing_is_the_default_where_there_is_no_json_for_it(name: str) -> None:
    defaults = Defaults(Odd.model_fields)
    values: list[JSON] = [None, "", 0, [], {}]
    assert not any(defaults.has(name, value) for value in values)


def left_out(model: BaseModel) -> frozenset[str]:
    seen: Any = plain("model", model, converted)
    return Defaults(type(model).model_fields).left_out(model, seen)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", validate_by_name=True)

    amount: int = Field(1, alias="amt")
    note: str = ""


def test_what_callers_left_out_has_the_names_they_would_give() -> None:
    assert left_out(Open.model_validate({"other": 3})) == {"amt", "note"}
    for sent in ({"amt": 3}, {"amount": 3}):
        assert left_out(Open.model_validate(sent)) == {"note"}


def test_a_member_that_took_an_alias_was_not_left_out() -> None:
    model = Open.model_validate({})
    # An attribute that the class does not have is an extra member.
    setattr(model, "amt", 5)  # noqa: B010 # the type checkers know of no such attribute
    assert Defaults(Open.model_fields).left_out(model, {"amt": 1, "note": ""}) == {"note"}
    with pytest.raises(InvalidRequest, match="two members of a Open have one name"):
        left_out(model)
