"""A call to an endpoint with a body model is denied, asked for, approved by a person, and passes: over real HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.guard.fastapi import GRANTED, FastAPIGuard
from capx.policy.file import read_policy
from capx.verify.ask import Pending
from tests.labs.asking_agent import consent
from tests.labs.refunds import grant, policy, refund
from tests.labs.serving import served

POLICY = policy(grant("at_open", "billing.rates.read"), grant("ask", "billing.refund"))


class Clerk(BaseModel):
    name: str
    desk: str = "3"


class Refund(BaseModel):
    by: Clerk
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
        return f"{body.amount} {body.currency} to {body.to[0]} for {ticket}, by {body.by.name}"

    with served(app) as found:
        yield found


SENT: dict[str, Any] = {"amount": 400, "to": ["Acme"], "by": {"name": "Bo"}}


def decisions(lab: Authority, action: str) -> list[dict[str, Any]]:
    return [event.facts() for event in lab.find(action=action)]


def test_a_body_model_is_asked_approved_and_passed(lab: Authority, origin: str) -> None:
    task = refund(lab)
    url, origins = f"{origin}/refunds/T-1", {origin: "billing"}
    with (
        Agent(task.bundle, authority=InProcess(lab, task.bundle), origins=origins, wait=0) as agent,
        agent.http() as client,
    ):
        with pytest.raises(Pending) as pending:
            client.post(url, json=SENT)
        shown = {"ticket": "T-1", "amount": 400, "cur": "eur", "to": ["Acme"], "by": {"name": "Bo", "desk": "3"}}
        assert json.loads(lab.inquiry(pending.value.request).request.args or "") == shown
        consent(lab, pending.value.request)
        # Not for another call: other values, another row, a null that was left out, or a member more.
        for path, more in (
            ("T-1", {"amount": 401}),
            ("T-2", {}),
            ("T-1", {"note": None}),
            ("T-1", {"note": "x"}),
            ("T-1", {"to": ["Acme", "Initech"]}),
            ("T-1", {"by": {"name": "Bo", "desk": "4"}}),
        ):
            with pytest.raises(Pending) as other:
                client.post(f"{origin}/refunds/{path}", json={**SENT, **more})
            assert other.value.request != pending.value.request
        # A member that the model ignores changes nothing that the endpoint gets.
        again = {**SENT, "cur": "eur", "ignored": 1}
        assert client.post(url, json=again).json() == "400.0 eur to Acme for T-1, by Bo"
        assert lab.flush()
        # The first denial came from the gate, before the endpoint had its arguments.
        (allowed,) = (one for one in decisions(lab, "billing.refund") if one["outcome"] == "allowed")
        denied = [one for one in decisions(lab, "billing.refund") if one["outcome"] == "denied"]
        assert denied[0]["reasons"][0]["code"] == "action_not_allowed"
        same = [one for one in denied if one.get("args_digest") == allowed["args_digest"]]
        assert same[0] == denied[0]
        assert len({one["args_digest"] for one in denied}) == 7
        with pytest.raises(Pending) as once_more:
            client.post(url, json=SENT)
        assert once_more.value.request == pending.value.request
