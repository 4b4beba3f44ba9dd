"""A large body is stated and judged in a thread, so that it does not hold up the requests of others."""

import time
from collections.abc import Iterator
from threading import get_ident
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from capx.authority.authority import Authority
from capx.guard.fastapi import Check, FastAPIGuard
from capx.guard.guarded_request import SMALL_BODY
from capx.resource.replay import Replay
from capx.verify.decision import Decision
from capx.verify.verifier import Verifier
from tests.labs.lab import Deaths, Records
from tests.labs.orders import client_of, refusal

FRAME = len('{"text":""}')


class Threads(Records):
    """Keeps decisions, and which thread did what for the last request."""

    def __init__(self) -> None:
        super().__init__()
        self.by = dict[str, int]()

    def record(self, decision: Decision) -> None:
        self.by["judge"] = get_ident()
        super().record(decision)


THREADS = Threads()


class Item(BaseModel):
    """A body that notes who looks at its members."""

    model_config = ConfigDict(extra="allow")
    text: str = ""

    @property
    def model_extra(self) -> dict[str, Any] | None:
        THREADS.by["state"] = get_ident()
        return super().model_extra


def its_text(item: Item) -> dict[str, Any]:
    THREADS.by["derive"] = get_ident()
    return {"text": item.text}


def its_item(item: Item) -> dict[str, Any]:
    THREADS.by["derive"] = get_ident()
    return {"item": item}


def stopping(item: Item) -> dict[str, Any]:
    return {"text": next(iter(()))}


def its_tenant(item: Item) -> str:
    THREADS.by["tenant"] = get_ident()
    return "Globex" if item.text.startswith("x") else "Acme"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    app = FastAPI(openapi_url=None)
    with Authority.temporary() as lab:
        an_hour_ago = time.time() - 3600
        guard = FastAPIGuard(
            Verifier(
                "crm",
                lab.verifier("crm")._keys,  # those of the lab
                liveness=Deaths(lab.id),
                replay=Replay.process(clock=lambda: an_hour_ago),
                recorder=THREADS,
            )
        )
        guard.protect(app)

        @app.post("/stated")
        @guard.action("crm.state", tenant=its_tenant)
        async def stated(item: Item) -> int:
            return get_ident()

        @app.post("/derived")
        @guard.action("crm.derive", tenant="Acme", args=its_text)
        async def derived(item: Item) -> int:
            return get_ident()

        @app.post("/sent")
        @guard.action("crm.state", tenant="Acme", args=its_text, sent=True)
        async def sent_ones(item: Item) -> int:
            return get_ident()

        @app.post("/stopping")
        @guard.action("crm.state", tenant="Acme", args=stopping)
        async def stops(item: Item) -> None:
            pytest.fail("it ran")

        @app.post("/deferred")
        @guard.deferred("crm.defer")
        async def deferred(item: Item, check: Check) -> int:
            await check(tenant="Acme")
            return get_ident()

        @app.post("/deferred-derived")
        @guard.deferred("crm.defer", args=its_item)
        async def deferred_derived(item: Item, check: Check) -> int:
            await check(tenant="Globex" if item.text.startswith("x") else "Acme")
            return get_ident()

        @app.post("/forbidden")
        @guard.action("crm.forbid", tenant="Acme")
        async def forbidden(item: Item) -> None:
            pytest.fail("it ran")

        bundle = lab.open(tenant="Acme", allow=["crm.state", "crm.derive", "crm.defer"]).bundle
        with client_of(app, bundle) as client:
            yield client


def sent(client: httpx.Client, path: str, characters: int, first: str = "a") -> tuple[httpx.Response, dict[str, int]]:
    """The answer to a body of so many bytes, and the threads that worked on it."""
    THREADS.by.clear()
    response = client.post(path, json={"text": first + "a" * (characters - FRAME - 1)})
    return response, dict(THREADS.by)


@pytest.mark.parametrize("path", ["/stated", "/derived", "/deferred", "/deferred-derived"])
def test_a_small_body_is_judged_on_the_event_loop(client: httpx.Client, path: str) -> None:
    response, by = sent(client, path, SMALL_BODY)
    assert len(response.request.content) == SMALL_BODY
    assert set(by.values()) == {response.json()}


@pytest.mark.parametrize("path", ["/stated", "/deferred", "/deferred-derived"])
def test_a_large_body_is_stated_and_judged_in_a_thread(client: httpx.Client, path: str) -> None:
    response, by = sent(client, path, SMALL_BODY + 1)
    loop = response.json()
    assert loop not in {by["state"], by["judge"]}
    # Functions of the service run where it expects them.
    assert by.get("tenant", loop) == loop


@pytest.mark.parametrize("path", ["/derived", "/sent", "/deferred-derived"])
def test_a_function_of_the_service_never_leaves_the_loop(client: httpx.Client, path: str) -> None:
    response, by = sent(client, path, SMALL_BODY + 1)
    assert by["derive"] == response.json() != by["judge"]


@pytest.mark.parametrize("characters", [SMALL_BODY, SMALL_BODY + 1])
def test_a_function_that_stops_an_iteration_is_answered(client: httpx.Client, characters: int) -> None:
    response, _ = sent(client, "/stopping", characters)
    assert refusal(response) == (500, "withheld")


def test_a_foreign_row_waits_for_no_thread_however_large(client: httpx.Client) -> None:
    response, by = sent(client, "/stated", SMALL_BODY + 1, first="x")
    assert refusal(response) == (403, "wrong_tenant")
    assert by["judge"] == by["tenant"]
    assert "state" not in by
    response, by = sent(client, "/deferred-derived", SMALL_BODY + 1, first="x")
    assert refusal(response) == (403, "wrong_tenant")
    assert [*by] == ["judge"]


def test_what_a_denial_names_is_stated_in_a_thread_too(client: httpx.Client) -> None:
    response, by = sent(client, "/forbidden", SMALL_BODY + 1)
    assert refusal(response) == (403, "action_not_allowed")
    assert by["state"] != by["judge"]
    _, small = sent(client, "/forbidden", SMALL_BODY)
    assert small["state"] == small["judge"] == by["judge"]
