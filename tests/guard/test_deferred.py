"""Endpoints that judge by themselves, later: what they may tell of rows, and what they may forget."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capx.guard.call_facts import StatedArguments
from capx.guard.fastapi import Check, SyncCheck
from capx.guard.guarded_request import GuardedRequest
from capx.guard.observer import Observer
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import HttpRequest
from capx.verify.decision import Allowed, Denied
from capx_caveats import Caveat, Tenant, action, allow, budget, max_hops, one_of, where
from tests.labs.lab import NOW, Lab, minted
from tests.labs.orders import Agent, bare, refusal


def test_a_foreign_tenant_s_row_is_refused_and_ours_is_not(agent: Agent) -> None:
    client = agent("crm.accounts.read")
    for path in ("/accounts", "/sync"):
        assert client.get(f"{path}/1").json() == "Acme"
        assert refusal(client.get(f"{path}/2")) == (403, "wrong_tenant")


@pytest.mark.parametrize("path", ["/accounts", "/sync"])
@pytest.mark.parametrize("tenant", ["Acme", None])
def test_existence_of_a_foreign_row_is_not_told(agent: Agent, path: str, tenant: str | None) -> None:
    client = agent("crm.accounts.read", tenant=tenant)
    assert bare(client.get(f"{path}/2")) == bare(client.get(f"{path}/9"))


def test_existence_of_a_row_hidden_by_an_attribute_is_not_told(agent: Agent) -> None:
    client = agent("crm.regions.read", caveats=[where("region", "EU")])
    assert client.get("/regions/1").json() == "EU"
    assert bare(client.get("/regions/3")) == bare(client.get("/regions/9"))


def test_an_argument_of_our_row_is_refused_in_its_own_words(agent: Agent) -> None:
    response = agent(action("crm.accounts.read", id=one_of(7))).get("/accounts/1")
    assert refusal(response) == (403, "argument_refused")


@pytest.mark.parametrize("path", ["/swallowing/2", "/forgetful", "/unawaited", "/telling/9", "/streamed"])
def test_a_response_is_withheld_if_a_handler_swallows_refusal(
    agent: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = agent("crm.accounts.read").get(path)
    assert refusal(response) == (500, "withheld")
    assert "secret" not in response.text
    assert "withheld" in caplog.text


def test_a_withheld_answer_without_a_row_tells_what_to_call(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    agent("crm.accounts.read").get("/telling/9")
    assert "no check passed; for a row that is not there, call `check.missing()`" in caplog.text


def test_a_handler_that_could_swallow_but_passed_is_answered(agent: Agent) -> None:
    assert agent("crm.accounts.read").get("/swallowing/1").json() == "secret"


def test_what_is_not_there_is_told_to_those_admitted(agent: Agent) -> None:
    client = agent("crm.accounts.list")
    assert client.get("/nowhere").status_code == 404
    assert client.post("/accounts").status_code == 405


# A check by itself: what it states of the call.


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Lab]:
    store = SQLiteStore.create(tmp_path / "meter.db")
    yield Lab(meter=store)
    store.close()


KINDS = (SyncCheck, Check)
STATED = StatedArguments({"id": 7}, {"limit": 100})


def check_of(lab: Lab, kind: type[Any], *caveats: Caveat, sent: bool = False, **parts: Any) -> Any:
    """The check of an endpoint that reads a row of Acme."""
    received = HttpRequest(method="GET", target="/x")
    token = minted(Tenant("Acme"), *caveats, **parts).present(received, now=NOW).text
    current = GuardedRequest(lab.verifier, Observer(), public=False)
    current.admitted = lab.verifier.admit(token, received)

    async def stated() -> StatedArguments:
        return STATED

    return kind(current, "a.read", stated if kind is Check else lambda: STATED, sent=sent)


def checked(check: Any, **facts: Any) -> Allowed:
    if isinstance(check, SyncCheck):
        return check(**facts)
    assert isinstance(check, Check)

    async def run() -> Allowed:
        return await check(**facts)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_a_check_states_all_that_is_known_of_the_call(world: Lab, kind: type[Any]) -> None:
    check = check_of(world, kind, where("region", one_of("eu")), budget("eur", "9"))
    allowed = checked(check, tenant="Acme", attributes={"region": "eu"}, cost={"eur": "2.5"})
    call = allowed.call
    assert (call.action, call.args, call.defaults) == ("a.read", {"id": 7}, {"limit": 100})
    assert (call.tenant, call.attributes) == ("Acme", {"region": "eu"})
    assert allowed.remaining == {"eur": "6.5"}


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_are_json_are_not_looked_at_again(
    world: Lab, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[object] = []
    monkeypatch.setattr("capx_caveats.call.demand_members", looked_at.append)
    call = checked(check_of(world, kind), tenant="Acme").call
    assert (call.args, call.defaults) == STATED
    assert STATED.args not in looked_at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sent", [False, True])
def test_a_denial_names_arguments_only_if_they_were_sent(world: Lab, kind: type[Any], *, sent: bool) -> None:
    check = check_of(world, kind, sent=sent, allowed=allow(action("a.read", id=one_of(1))))
    with pytest.raises(Denied) as caught:
        checked(check, tenant="Acme")
    assert caught.value.ask is not None
    assert caught.value.ask.arguments().get("args") == ({"id": 7, "limit": 100} if sent else None)
    assert ("7" in str(caught.value)) is sent


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_has_the_action_of_a_row_that_is_not_ours(world: Lab, kind: type[Any]) -> None:
    with pytest.raises(Denied, match="another one"):
        checked(check_of(world, kind), tenant="Globex")
    with pytest.raises(Denied, match="another one"):
        check_of(world, kind).missing()
    assert [(one.action, one.code) for one in world.records.decisions] == [("a.read", "wrong_tenant")] * 2


@pytest.mark.parametrize("limits", [0, 31, 32, 40])
def test_restrictions_without_number_do_not_tell_of_a_hidden_row(world: Lab, limits: int) -> None:
    # A denial names 32 refusals at most: a holder could push out the one that is about the row.
    request = HttpRequest(method="GET", target="/x")
    capability = minted(Tenant("Acme"), where("region", "EU"))
    for _ in range(limits):
        capability = capability.attenuate(max_hops(0))
    text = capability.delegate(to="x", now=NOW).present(request, now=NOW).text

    def told(*, there: bool) -> tuple[Any, ...]:
        current = GuardedRequest(world.verifier, Observer(), public=False)
        # Each answer needs an admission of its own, and a presentation is burnt once.
        current.admitted = Lab(meter=None).verifier.admit(text, request)
        check = SyncCheck(current, "a.read", lambda: STATED, sent=True)
        with pytest.raises(Denied) as denied:
            check(tenant="Acme", attributes={"region": "US"}) if there else check.missing()
        problem = denied.value.problem()
        return problem["status"], problem["code"], problem["reasons"]

    assert told(there=True) == told(there=False)
