"""A client that is refused asks, and sends once more; what services say is not believed."""

import asyncio
import contextvars
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from capx.agent import httpx_client
from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.httpx_client import ASK_EXTENSION, GRANTED_EXTENSION, MAX_BODY
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.verify.ask import Answer, Ask, Pending, Refused
from capx_caveats import JSON
from tests.labs.asking_agent import Liar, Noting, consent, noting
from tests.labs.refunds import refund
from tests.labs.serving import served
from tests.labs.waiting import until, until_async

REFUND: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", None)
REFUND_100: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", {"amount": 100})
REFUND_501: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", {"amount": 501})


def test_a_client_that_is_refused_asks_and_sends_once_more(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    with agent.http({origin: "crm"}) as client:
        for _ in range(3):
            assert client.post(f"{origin}/crm.accounts.read", content=b"x" * 1000).text == "done"
        refused = client.get(f"{origin}/crm.export")
    assert authority.asked == [("crm.accounts.read@crm", None), ("crm.export@crm", None)]
    assert refused.status_code == 403
    assert refused.json()["code"] == "action_not_allowed"
    sought = refused.extensions[ASK_EXTENSION]
    assert isinstance(sought, Refused)
    assert [reason.code for reason in sought.reasons] == ["not_offered"]


def test_an_async_client_does_too(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)

    async def act() -> httpx.Response:
        async with agent.async_http({origin: "crm"}) as client:
            answers = await asyncio.gather(*(client.get(f"{origin}/crm.accounts.read") for _ in range(8)))
            assert {answer.text for answer in answers} == {"done"}
            with pytest.raises(Pending):
                await client.get(f"{origin}/crm.accounts.delete")
            return await client.get(f"{origin}/crm.export")

    refused = asyncio.run(act())
    assert isinstance(refused.extensions[ASK_EXTENSION], Refused)
    assert [what for what, _ in authority.asked].count("crm.accounts.read@crm") <= 8
    assert len(lab.requests(task=task.id)) == 2


def test_a_first_request_asks_for_its_action_then_its_arguments(lab: Authority, task: OpenedTask, refunds: str) -> None:
    agent, authority = noting(lab, task)
    agent.ask("billing.rates.read")
    with agent.http({str(httpx.URL(refunds).join("/")): "billing"}) as client:
        with pytest.raises(Pending) as pending:
            client.get(f"{refunds}?100")
        assert authority.asked[1:] == [REFUND, REFUND_100]
        consent(lab, pending.value.request)
        assert client.get(f"{refunds}?100").text == "done"
        assert authority.asked[3:] == [REFUND_100]


def test_a_response_refused_after_a_grant_says_what_was_granted(lab: Authority, task: OpenedTask, refunds: str) -> None:
    agent, authority = noting(lab, task)
    agent.ask("billing.rates.read")
    origins = {str(httpx.URL(refunds).join("/")): "billing"}

    async def act() -> httpx.Response:
        async with agent.async_http(origins) as client:
            return await client.get(f"{refunds}?501")

    refused = asyncio.run(act())
    assert refused.json()["code"] == "argument_refused"
    assert refused.extensions[GRANTED_EXTENSION] == (Ask(audience="billing", action="billing.refund"),)
    assert isinstance(refused.extensions[ASK_EXTENSION], Refused)
    assert authority.asked[1:] == [REFUND, REFUND_501]


def test_a_client_of_whoever_acts_asks_for_them(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, _ = noting(lab, task)
    with httpx_client.client({origin: "crm"}) as client:
        with acting(task.bundle):
            assert client.get(f"{origin}/crm.accounts.read").status_code == 403
        with acting(agent):
            assert client.get(f"{origin}/crm.accounts.read").status_code == 200


def test_a_request_refused_after_its_block_ended_has_not_failed(lab: Authority, task: OpenedTask, refunds: str) -> None:
    decided = threading.Event()

    class Slow(Noting):
        def answer(self, ask: Ask, wait: float) -> Answer:
            answer = super().answer(ask, wait)
            assert ask.args is None or decided.wait(30)
            return answer

    authority = Slow(lab, task.bundle)
    agent = Agent(task.bundle, authority=authority, wait=0)
    agent.ask("billing.rates.read")

    def send() -> None:
        origins = {str(httpx.URL(refunds).join("/")): "billing"}
        with agent.http(origins) as client, pytest.raises(InvalidRequest, match="has ended"):
            client.get(f"{refunds}?501")

    with ThreadPoolExecutor() as pool:
        with acting(agent):
            sent = pool.submit(contextvars.copy_context().run, send)
            until(lambda: REFUND_501 in authority.asked)
        decided.set()
        sent.result(30)


@pytest.mark.parametrize("is_agents_own", [True, False])
def test_a_run_cancelled_while_a_person_decides_sends_nothing(
    lab: Authority, task: OpenedTask, refunds: str, *, is_agents_own: bool
) -> None:
    agent, _ = noting(lab, task, wait=30)
    agent.ask("billing.rates.read")
    outcomes: list[object] = []

    def work(client: httpx.Client) -> None:
        try:
            outcomes.append(client.get(f"{refunds}?100").text)
        except InvalidRequest as error:
            outcomes.append(str(error))

    async def run(client: httpx.Client) -> None:
        with acting(agent):
            await asyncio.to_thread(work, client)

    async def act(client: httpx.Client) -> None:
        running = asyncio.ensure_future(run(client))
        await until_async(lambda: lab.requests(task=task.id, pending=True))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        consent(lab, lab.requests(task=task.id, pending=True)[0].id)
        await until_async(lambda: outcomes)

    origins = {str(httpx.URL(refunds).join("/")): "billing"}
    with agent.http(origins) if is_agents_own else httpx_client.client(origins) as client:
        asyncio.run(act(client))
    assert len(outcomes) == 1
    assert "has ended" in str(outcomes[0])


def test_where_nothing_is_held_a_request_says_to_ask_first(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    with agent.http({origin: "sms"}) as client, pytest.raises(InvalidRequest, match=r"agent\.ask\(ACTION"):
        client.get(f"{origin}/sms.send")
    assert not authority.asked


LIES: dict[str, Any] = {
    "at another audience": {"audience": "billing", "action": "billing.refund"},
    "at the authority": {"audience": "authority", "action": "task.complete"},
    "for a pattern": {"audience": "crm", "action": "crm.*"},
    "for no action": {"audience": "crm", "action": ""},
    "for a nameless argument": {"audience": "crm", "action": "crm.accounts.read", "args": {"": 1}},
    "hugely": {"audience": "crm", "action": "crm.accounts.read", "args": {"of": "x" * 17_000}},
    "for a number beyond all": {"audience": "crm", "action": "crm.accounts.read", "args": {"of": 2**60}},
    "with a list": ["crm", "crm.accounts.read"],
    "with nothing": None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_service_that_tells_to_ask(lab: Authority, task: OpenedTask, liars: tuple[Liar, str], lie: Any) -> None:
    liar, origin = liars
    liar.says(ask=lie)
    agent, authority = noting(lab, task)
    with agent.http({origin: "crm"}) as client:
        answer = client.get(f"{origin}/x")
    assert answer.status_code == 403
    assert not authority.asked
    assert ASK_EXTENSION not in answer.extensions


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 60_000, b"\xff", b"null", b'{"ask":' + b" " * MAX_BODY + b"null}"],
    ids=["empty", "nested", "no text", "null", "a megabyte"],
)
def test_a_service_that_refuses_with_what_is_no_problem(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str], body: bytes
) -> None:
    liar, origin = liars
    liar.body = body
    agent, authority = noting(lab, task)
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/x").content == body
    assert not authority.asked


def test_a_service_that_tells_to_ask_without_end(lab: Authority, task: OpenedTask, liars: tuple[Liar, str]) -> None:
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.read"})
    liar.seen = 0
    agent, authority = noting(lab, task)
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/x").status_code == 403
        assert len(authority.asked) == 1
        # Once with what it held, and once with the grant.
        assert liar.seen == 2
        client.get(f"{origin}/x")
    # What it was granted it holds, so that there is nothing to send again; the other one does not allow the action.
    assert (len(authority.asked), liar.seen) == (2, 3)


def test_a_service_that_refuses_other_arguments_each_time(lab: Authority, task: OpenedTask) -> None:
    seen: list[int] = []

    async def shifty(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        seen.append(len(seen))
        code = "argument_refused" if len(seen) > 1 else "action_not_allowed"
        asked = {"audience": "crm", "action": "crm.accounts.read", "args": {"of": len(seen)}}
        headers = [(b"www-authenticate", b"Capx")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send(
            {"type": "http.response.body", "body": json.dumps({"ask": asked, "reasons": [{"code": code}]}).encode()}
        )

    agent, authority = noting(lab, task)
    with served(shifty, lifespan="off") as origin, agent.http({origin: "crm"}) as client:
        refused = client.get(f"{origin}/x")
    assert [args for _, args in authority.asked] == [None, {"of": 2}]
    assert [ask.args for ask in refused.extensions[GRANTED_EXTENSION]] == [None, {"of": 2}]
    # With what it held, with the first grant, and with the second.
    assert len(seen) == 3


def test_a_service_that_names_what_its_caller_does_not_need(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str]
) -> None:
    # It can make an agent ask for any action at its own audience, where it needs no agent to do anything.
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.delete", "args": {"name": "Acme"}})
    agent, _ = noting(lab, task)
    with agent.http({origin: "crm"}) as client, pytest.raises(Pending):
        client.get(f"{origin}/x")
    (request,) = lab.requests(task=task.id)
    assert (request.audience, request.action, request.state) == ("crm", "crm.accounts.delete", "pending")
    assert agent.bundle == task.bundle


def test_an_origin_that_is_not_of_the_map_makes_nobody_ask(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str], origin: str
) -> None:
    liar, elsewhere = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.read"})
    agent, authority = noting(lab, task)
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{elsewhere}/x").status_code == 403
    assert not authority.asked


def test_a_client_signs_what_it_presents_and_the_grant(lab: Authority, origin: str) -> None:
    key = AgentKey.generate("planner")
    held = refund(lab, agent_key=key.public).bundle
    with Agent(held, key=key, authority=lab) as agent, agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/crm.tickets.read").text == "done"
        assert client.get(f"{origin}/crm.accounts.read").text == "done"
        # The client of a bundle reads it from the block.
        with acting(agent.bundle), httpx_client.client({origin: "crm"}) as other:
            assert other.get(f"{origin}/crm.accounts.read").text == "done"

    async def act() -> str:
        async with Agent(held, key=key, authority=lab) as agent, agent.async_http({origin: "crm"}) as client:
            return (await client.get(f"{origin}/crm.accounts.read")).text

    assert asyncio.run(act()) == "done"
