"""An agent that holds approvals, binds the right one, asks, waits and makes its call again by itself."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from anyio.lowlevel import checkpoint

import capx
from capx.agent import httpx_client
from capx.agent.agent import Agent
from capx.agent.unproven_grants import MAX_IN_VAIN
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import read_policy
from capx.tokens.approval_caveat import ApprovalTerms
from capx.tokens.approval_request import ApprovalRequest
from capx.tokens.discharge import Discharge
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from tests.labs.refunds import ANA, BEN, grant, policy
from tests.labs.serving import served
from tests.labs.waiting import until

POLICY = policy(grant("at_open", "billing.credit", "billing.read"), grant("on_request", "billing.rates"))
BY_BEN: ApprovalTerms = capx.approval(by=[BEN.public])


@pytest.fixture
def lab() -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        yield authority


@pytest.fixture
def agent(lab: Authority, task: OpenedTask) -> Iterator[Agent]:
    """An agent whose calls Ben must approve."""
    with Agent(task.bundle, authority=lab).delegate(to="agent", may_ask=["billing.rates"], approval=BY_BEN) as made:
        yield made


class Credits:
    """Guarded tools that note what ran."""

    def __init__(self, lab: Authority) -> None:
        self.ran: list[float] = []

        @lab.tool("billing.credit", tenant="Acme")
        def credit(amount: float, note: str = "") -> str:
            self.ran.append(amount)
            return f"credited {amount}{note}"

        @lab.tool("billing.credit", tenant="Acme")
        async def credit_async(amount: float) -> str:
            await checkpoint()
            self.ran.append(amount)
            return f"credited {amount}"

        self.credit, self.credit_async = credit, credit_async


@pytest.fixture
def tools(lab: Authority) -> Credits:
    return Credits(lab)


def answer(lab: Authority, request: str, key: PrincipalKey = BEN, **how: Any) -> Discharge:
    found = lab.request(request)
    asked = ApprovalRequest.parse(found.to_approve or "")
    before = found.discharge
    discharge = key.approve(asked, **how) if before is None else key.cosign(asked, Discharge.parse(before))
    lab.approve(request, discharge)
    return discharge


def answering(lab: Authority, **how: Any) -> Callable[[], None]:
    """Somebody who approves the first request that waits."""

    def answers() -> None:
        until(lambda: bool(lab.requests(pending=True)))
        answer(lab, lab.requests(pending=True)[0].id, **how)

    thread = threading.Thread(target=answers)
    thread.start()
    return thread.join


def test_a_tool_asks_waits_and_runs_once(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab)
    assert agent.calling(tools.credit)(40) == "credited 40"
    joined()
    assert tools.ran == [40]
    assert len(agent.bundle.approvals) == 1


def test_an_async_tool_does_too(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab)
    assert asyncio.run(_called(agent, tools)) == "credited 40"
    joined()
    assert tools.ran == [40]


async def _called(agent: Agent, tools: Credits) -> str:
    return await agent.calling(tools.credit_async)(40)


def test_nobody_waits_longer_than_the_agent_says(lab: Authority, task: OpenedTask, tools: Credits) -> None:
    with Agent(task.bundle, authority=lab, wait=0.0) as whole:
        agent = whole.delegate(to="agent", approval=BY_BEN)
        began = time.monotonic()
        with pytest.raises(Pending) as pending:
            agent.calling(tools.credit)(40)
        assert time.monotonic() - began < 5
        answer(lab, pending.value.request)
        assert agent.calling(tools.credit)(40) == "credited 40"


def test_an_approval_for_one_amount_is_none_for_another(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab)
    agent.calling(tools.credit)(40)
    joined()
    agent.wait = 0.0
    with pytest.raises(Pending) as pending:
        agent.calling(tools.credit)(400)
    assert pending.value.ask.args == {"amount": 400, "note": ""}
    assert tools.ran == [40]


def test_a_used_up_approval_is_asked_for_again(lab: Authority, agent: Agent, tools: Credits) -> None:
    for _ in range(2):
        joined = answering(lab)
        agent.calling(tools.credit)(40)
        joined()
    assert tools.ran == [40, 40]


def test_an_approval_for_two_calls_is_asked_for_once(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab, uses=2)
    for _ in range(2):
        agent.calling(tools.credit)(40)
    joined()
    assert len(lab.requests()) == 1
    assert tools.ran == [40, 40]


def test_a_denied_approval_is_told(lab: Authority, agent: Agent, tools: Credits) -> None:
    from tests.labs.asking_agent import consent

    agent.wait = 0.0
    with pytest.raises(Pending) as pending:
        agent.calling(tools.credit)(40)
    consent(lab, pending.value.request, yes=False)
    with pytest.raises(Denied) as denied:
        agent.calling(tools.credit)(40)
    assert denied.value.code == "needs_discharge"
    assert "asked for an approval and did not get it" in str(denied.value)
    assert tools.ran == []


def test_two_demands_are_asked_for_one_after_the_other(lab: Authority, agent: Agent, tools: Credits) -> None:
    below = agent.delegate(to="below", approval=capx.approval(by=[ANA.public]))
    people = {BEN.public: BEN, ANA.public: ANA}

    def waits(number: int) -> bool:
        return len(lab.requests()) >= number and bool(lab.requests(pending=True))

    def answers() -> None:
        for number in (1, 2):
            until(partial(waits, number))
            request = lab.requests(pending=True)[0]
            (approver,) = ApprovalRequest.parse(request.to_approve or "").caveat.approvers
            answer(lab, request.id, people[approver])

    thread = threading.Thread(target=answers)
    thread.start()
    assert below.calling(tools.credit)(40) == "credited 40"
    thread.join()
    assert len(below.bundle.approvals) == 2


def test_a_child_asks_for_itself_and_uses_what_it_was_given(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab, uses=None)
    agent.calling(tools.credit)(40)
    joined()
    child = agent.delegate(to="child")
    assert child.bundle.approvals == agent.bundle.approvals
    assert child.calling(tools.credit)(40) == "credited 40"
    child.wait = 0.0
    with pytest.raises(Pending):
        child.calling(tools.credit)(41)
    assert lab.requests(pending=True)[0].labels == ("agent", "child")


def test_without_an_authority_the_denial_makes_the_request(task: OpenedTask, tools: Credits) -> None:
    bundle = task.bundle.delegate(to="agent", approval=BY_BEN)
    with pytest.raises(Denied) as denied:
        bundle.calling(tools.credit)(40)
    asked = denied.value.approval_request(bundle)
    assert (asked.action, asked.args) == ("billing.credit", {"amount": 40, "note": ""})
    mine = bundle.holding(BEN.approve(asked))
    assert mine.calling(tools.credit)(40) == "credited 40"
    with pytest.raises(Denied) as spent:
        mine.calling(tools.credit)(40)
    assert spent.value.code == "budget_exhausted"
    assert mine.holding(BEN.approve(spent.value.approval_request(mine))).calling(tools.credit)(40)


def test_a_denial_that_no_approval_changes_makes_none(task: OpenedTask, tools: Credits) -> None:
    bundle = task.bundle.delegate(to="agent", allow=["billing.read"], approval=BY_BEN)
    with pytest.raises(Denied) as denied:
        bundle.calling(tools.credit)(40)
    assert denied.value.approve is None
    with pytest.raises(capx.InvalidRequest, match="no approval of a person would change this denial"):
        denied.value.approval_request(bundle)


async def billing(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ACTION?amount=N` is that action with that amount."""
    del receive
    current = passage(scope)
    assert current.admitted is not None
    amount = int(scope["query_string"].decode().partition("=")[2])
    current.judge(scope["path"][1:], {"amount": amount}, tenant=current.admitted.tenant, sent=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def origin(lab: Authority) -> Iterator[str]:
    with served(ASGIGuard(billing, lab.verifier("billing")), lifespan="off") as found:
        yield found


def test_a_client_asks_waits_and_sends_once_more(lab: Authority, agent: Agent, origin: str) -> None:
    joined = answering(lab)
    with agent.http({origin: "billing"}) as client:
        assert client.post(f"{origin}/billing.credit?amount=40").text == "done"
    joined()


def test_an_async_client_does_too(lab: Authority, agent: Agent, origin: str) -> None:
    async def act() -> str:
        async with agent.async_http({origin: "billing"}) as client:
            return (await client.post(f"{origin}/billing.credit?amount=40")).text

    joined = answering(lab)
    assert asyncio.run(act()) == "done"
    joined()


def test_a_client_finds_the_approval_of_the_call(lab: Authority, agent: Agent, origin: str) -> None:
    with agent.http({origin: "billing"}) as client:
        for amount in (40, 41):
            joined = answering(lab, uses=None)
            assert client.post(f"{origin}/billing.credit?amount={amount}").text == "done"
            joined()
        # The newest is for 41: the denial names the call, and the older one is found.
        assert client.post(f"{origin}/billing.credit?amount=40").text == "done"
        assert client.post(f"{origin}/billing.credit?amount=41").text == "done"
    assert len(lab.requests()) == 2
    # A bundle asks nobody, so what it holds is all that it finds.
    with httpx_client.client({origin: "billing"}, agent.bundle) as client:
        for amount in (40, 41):
            assert client.post(f"{origin}/billing.credit?amount={amount}").text == "done"


def test_a_client_says_what_is_to_be_approved(lab: Authority, task: OpenedTask, origin: str) -> None:
    bundle = task.bundle.delegate(to="agent", approval=BY_BEN)
    with Agent(bundle).http({origin: "billing"}) as client:
        found = client.post(f"{origin}/billing.credit?amount=40")
    assert found.status_code == 403
    assert found.json()["approve"] == {"audience": "billing", "action": "billing.credit", "args": {"amount": 40}}


def test_a_service_that_lies_makes_people_work_a_few_times(lab: Authority, agent: Agent) -> None:
    # It demands approvals of its own invention, whatever was approved.
    lie = {
        "reasons": [{"code": "needs_discharge", "sentence": "demands the approval of ben"}],
        "approve": {"audience": "billing", "action": "billing.credit", "args": {"amount": 1}},
    }

    async def liar(scope: Scope, receive: Receive, send: Send) -> None:
        import json

        headers = [(b"content-type", b"application/problem+json"), (b"www-authenticate", b"Capx")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(lie).encode()})

    agent.wait = 0.0
    with served(liar, lifespan="off") as url, agent.http({url: "billing"}) as client:
        with pytest.raises(Pending) as pending:
            client.get(url)
        answer(lab, pending.value.request, uses=None)
        for _ in range(MAX_IN_VAIN + 3):
            assert client.get(url).status_code == 403
        lie["approve"]["audience"] = "crm"  # type: ignore[index] # a dict
        assert client.get(url).status_code == 403
    assert len(lab.requests()) == 1


def test_the_bundle_of_an_agent_stays_a_bundle(lab: Authority, agent: Agent, tools: Credits) -> None:
    joined = answering(lab)
    agent.calling(tools.credit)(40)
    joined()
    assert capx.Bundle.parse(agent.bundle.text) == agent.bundle
    assert isinstance(httpx.__version__, str)


def test_an_agent_may_ask_beforehand(lab: Authority, agent: Agent, tools: Credits) -> None:
    cid = agent.bundle.demands_for(capx.Call("billing.credit", {"amount": 40}), audience="billing")[0].decode()
    joined = answering(lab)
    agent.ask("billing.credit", args={"amount": 40, "note": ""}, demand=cid, wait=10)
    joined()
    agent.wait = 0.0
    assert agent.calling(tools.credit)(40) == "credited 40"


def test_a_grant_that_demands_an_approval_gets_both(lab: Authority, agent: Agent) -> None:
    below = agent.delegate(to="below", may_ask=["billing.rates"], allow=["billing.read"])
    ran: list[str] = []

    @lab.tool("billing.rates", tenant="Acme")
    def rates() -> None:
        ran.append("rates")

    joined = answering(lab)
    below.calling(rates)()
    joined()
    assert ran == ["rates"]
