"""What a service says to ask for, over real HTTP: what the bearer sent, and nothing of its own."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, Cookie, FastAPI, Header
from pydantic import BaseModel

from capx import Allowed, where
from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.guard.fastapi import GRANTED, FastAPIGuard
from capx.guard.fastapi.deferred import Check, SyncCheck
from capx_caveats import JSON, Appendable, action, allow, budget
from tests.labs.serving import served

ROWS = {1: "Acme", 2: "Initech"}


class Job(BaseModel):
    title: str
    draft: bool = True


def _of_the_job(job: Job) -> dict[str, JSON]:
    return {"title": job.title, "owner": "one of ours"}


def _of_the_row(id: int) -> dict[str, JSON]:
    return {"id": id, "of": ROWS.get(id, "nobody")}


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    app = FastAPI(openapi_url=None)
    guard = FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/accounts/{region}")
    @guard.action("crm.accounts.list", tenant=GRANTED, args={"region": "region", "note": "note", "limit": "limit"})
    def accounts(
        region: str,
        note: Annotated[str, Body(embed=True)],
        allowed: Allowed,
        limit: int = 100,
        *,
        x_secret: Annotated[str, Header()] = "header",
        session: Annotated[str, Cookie()] = "cookie",
    ) -> list[str]:
        return [region, note, str(limit), x_secret, session, allowed.task]

    @app.post("/jobs")
    @guard.action("crm.jobs.run", tenant=GRANTED, args=_of_the_job)
    async def run(job: Job) -> str:
        return job.title

    @app.post("/whole")
    @guard.action("crm.whole", tenant=GRANTED)
    async def whole(job: Annotated[Job, Body(embed=True)]) -> str:
        return job.title

    @app.get("/rows/{id}")
    @guard.deferred("crm.rows.read")
    async def row(id: int, check: Check, full: bool = False) -> str:
        tenant = ROWS.get(id) or check.missing()
        await check(tenant=tenant)
        return f"{tenant} {full}"

    @app.get("/sync-rows/{id}")
    @guard.deferred("crm.rows.read", args=_of_the_row)
    def sync_row(id: int, check: SyncCheck) -> str:
        tenant = ROWS.get(id) or check.missing()
        check(tenant=tenant)
        return tenant

    with served(app) as found:
        yield found


def problem(
    lab: Authority, origin: str, method: str, path: str, *caveats: Appendable, allowed: Any = "crm.*", **sent: Any
) -> Any:
    """How a call is refused that is restricted by these caveats."""
    bundle = lab.open(tenant="Acme", allow=[allowed]).bundle
    with httpx_client.client({origin: "crm"}, bundle.attenuate(*caveats) if caveats else bundle) as client:
        answer = client.request(method, f"{origin}{path}", **sent)
    assert answer.status_code == 403, answer.text
    return answer.json()


LIST: dict[str, Any] = {"method": "POST", "path": "/accounts/EU?limit=5", "json": {"note": "x"}}
LISTED = {"audience": "crm", "action": "crm.accounts.list", "args": {"region": "EU", "limit": 5, "note": "x"}}
"""What to ask for, if the call of LIST is refused."""


def test_path_query_and_body_are_asked_for_and_no_header(lab: Authority, origin: str) -> None:
    refused = problem(lab, origin, **LIST, allowed=action("crm.accounts.list", region="US"))
    assert refused["ask"] == LISTED
    refused = problem(
        lab, origin, "POST", "/accounts/EU", allow(action("crm.accounts.list", limit=5)), json={"note": "x"}
    )
    assert refused["ask"]["args"] == {"region": "EU", "limit": 100, "note": "x"}


def test_a_denied_action_is_asked_for_with_arguments(lab: Authority, origin: str) -> None:
    refused = problem(lab, origin, **LIST, allowed="crm.rows.read")
    assert refused["ask"] == LISTED


def test_what_args_derives_is_not_told(lab: Authority, origin: str) -> None:
    refused = problem(lab, origin, "POST", "/jobs", allowed=action("crm.jobs.run", title="b"), json={"title": "a"})
    assert refused["ask"] == {"audience": "crm", "action": "crm.jobs.run"}


def test_an_object_is_asked_for_with_its_members(lab: Authority, origin: str) -> None:
    refused = problem(lab, origin, "POST", "/whole", allowed=action("crm.whole", job="x"), json={"job": {"title": "a"}})
    assert refused["ask"]["args"] == {"job": {"title": "a", "draft": True}}


def test_a_row_of_ours_says_what_to_ask_for_and_no_other_does(lab: Authority, origin: str) -> None:
    only = action("crm.rows.read", id=7)
    assert problem(lab, origin, "GET", "/rows/1", allowed=only)["ask"]["args"] == {"id": 1, "full": False}
    foreign, missing = (problem(lab, origin, "GET", f"/rows/{id_}", allowed=only) for id_ in (2, 3))
    assert "ask" not in foreign
    assert "ask" not in missing
    assert problem(lab, origin, "GET", "/sync-rows/1", allowed=only)["ask"] == {
        "audience": "crm",
        "action": "crm.rows.read",
    }


def test_what_is_spent_says_what_to_ask_for(lab: Authority, origin: str) -> None:
    refused = problem(lab, origin, "GET", "/rows/1", budget("calls", "0"))
    assert (refused["code"], refused["ask"]["args"]) == ("budget_exhausted", {"id": 1, "full": False})


def test_what_no_grant_could_cure_says_nothing(lab: Authority, origin: str) -> None:
    assert "ask" not in problem(lab, origin, "GET", "/rows/1", where("region", "EU"))


def test_a_service_that_keeps_whose_arguments_are_tells_none(lab: Authority) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        passage(scope).judge("crm.read", {"row": "of ours"}, tenant="Acme", sent=scope["path"] == "/sent")

    with served(ASGIGuard(app, lab.verifier("crm")), lifespan="off") as origin:
        only = action("crm.read", row="another")
        assert problem(lab, origin, "GET", "/", allowed=only)["ask"] == {"audience": "crm", "action": "crm.read"}
        assert problem(lab, origin, "GET", "/sent", allowed=only)["ask"]["args"] == {"row": "of ours"}
