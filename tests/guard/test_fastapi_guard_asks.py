"""A call to an endpoint with a body model is denied, asked for, approved by a person, and passes: over real HTTP."""

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from capx.agent import httpx_client
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.guard.fastapi import GRANTED, FastAPIGuard
from capx.policy.file import read_policy
from capx.verify.ask import Granted, Pending
from tests.labs.asking_agent import consent
from tests.labs.refunds import grant, policy, refund
from tests.labs.serving import served

POLICY = policy(grant("at_open", "billing.rates.read"), grant("ask", "billing.refund"))


class Refund(BaseModel):
    amount: float
    currency: str = Field("eur", alias="cur")
    note: str | None = None
    to: list[str]


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        yield authority


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("billing"))
    guard.protect(app)

    @app.post("/refunds/{ticket}")
    @guard.action("billing.refund", tenant=GRANTED)
    async def pay(ticket: str, body: Refund) -> str:
        return f"{body.amount} {body.currency} to {body.to[0]} for {ticket}"

    with served(app) as found:
        yield found


SENT = {"amount": 400, "to": ["Acme"]}


def test_a_body_model_is_asked_approved_and_passed(lab: Authority, origin: str) -> None:
    task = refund(lab)
    url, origins = f"{origin}/refunds/T-1", {origin: "billing"}
    with Agent(task.bundle, authority=InProcess(lab, task.bundle), origins=origins, wait=0) as agent:
        with httpx_client.client(origins, agent.bundle) as client:
            denied = client.post(url, json=SENT)
        ask = denied.json()["ask"]
        shown = {"ticket": "T-1", "amount": 400, "cur": "eur", "to": ["Acme"]}
        assert ask == {"audience": "billing", "action": "billing.refund", "args": shown}
        pending = agent.ask(ask["action"], args=ask["args"])
        assert isinstance(pending, Pending)
        assert json.loads(lab.inquiry(pending.request).request.args or "") == shown
        consent(lab, pending.request)
        assert isinstance(agent.ask(ask["action"], args=ask["args"]), Granted)
        with httpx_client.client(origins, agent.bundle) as client:
            # Not for another call: other values, another row, a null that was left out, or a member more.
            for path, more in (
                ("T-1", {"amount": 401}),
                ("T-2", {}),
                ("T-1", {"note": None}),
                ("T-1", {"note": "x"}),
                ("T-1", {"to": ["Acme", "Initech"]}),
            ):
                assert client.post(f"{origin}/refunds/{path}", json={**SENT, **more}).status_code == 403
            # A member that the model ignores changes nothing that the endpoint gets.
            assert client.post(url, json={**SENT, "cur": "eur", "ignored": 1}).json() == "400.0 eur to Acme for T-1"
            assert client.post(url, json=SENT).json()["code"] == "budget_exhausted"
