"""Asks at once are one ask; whoever waits holds up nobody else."""

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import trio
from fastapi import FastAPI

from capx.agent.agent import Agent
from capx.agent.ask_queue import AskQueue
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import InvalidRequest
from capx.guard.fastapi import GRANTED, FastAPIGuard
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import budget
from tests.labs.asking_agent import Tools, consent, noting
from tests.labs.processes import in_a_child
from tests.labs.waiting import until, until_async


def test_asks_of_threads_at_once_end_in_one_capability(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    authority.open.clear()
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(agent.tool(tools.accounts), str(count)) for count in range(16)]
        until(lambda: authority.asked)
        authority.open.set()
        assert {call.result(30) for call in calls} == {f"accounts {count} False" for count in range(16)}
    assert len(agent.bundle) == len(task.bundle) + 1
    assert len(lab.requests(task=task.id)) == 1


async def test_asks_of_tasks_at_once_end_in_one_capability(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    authority.open.clear()
    calls = [asyncio.create_task(agent.tool(tools.accounts_async)(str(count))) for count in range(16)]
    await until_async(lambda: authority.asked)
    await asyncio.sleep(0)
    authority.open.set()
    assert await asyncio.gather(*calls) == [f"accounts {count}" for count in range(16)]
    # Whoever was refused before, and asks after it was answered, asks the same again.
    assert {action for action, _ in authority.asked} == {"crm.accounts.read@crm"}
    assert len(lab.requests(task=task.id)) == 1
    assert len(agent.bundle) == len(task.bundle) + 1


async def test_who_is_cancelled_leaves_and_later_grants_are_held(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task, wait=30)
    deleting = asyncio.create_task(agent.tool(tools.delete_async)("Acme"))
    await until_async(lambda: lab.requests(task=task.id, pending=True))
    began = time.monotonic()
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    left = time.monotonic() - began
    assert len(agent.bundle) == len(task.bundle)
    (request,) = lab.requests(task=task.id, pending=True)
    consent(lab, request.id)
    await until_async(lambda: len(agent.bundle) > len(task.bundle))
    asked = len(authority.asked)
    assert await agent.tool(tools.delete_async)("Acme") == "delete Acme"
    assert len(authority.asked) == asked
    assert left < 1
    assert tools.ran == ["delete Acme"]


async def test_a_wait_holds_up_neither_the_loop_nor_its_threads(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    deleting = asyncio.create_task(agent.tool(tools.delete_async)("Acme"))
    await until_async(lambda: lab.requests(task=task.id, pending=True))
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    consent(lab, lab.requests(task=task.id)[0].id)
    assert await deleting == "delete Acme"


async def test_one_who_waits_shorter_leaves_the_other_waiting(lab: Authority, task: OpenedTask) -> None:
    agent, _ = noting(lab, task)
    longer = asyncio.create_task(agent.ask_async("crm.accounts.delete", args={"name": "Acme"}, wait=30))
    shorter = await agent.ask_async("crm.accounts.delete", args={"name": "Acme"}, wait=0)
    assert isinstance(shorter, Pending)
    consent(lab, shorter.request)
    assert isinstance(await longer, Granted)


def test_an_agent_that_is_closed_waits_for_nobody_any_more(lab: Authority, task: OpenedTask) -> None:
    with ThreadPoolExecutor() as pool:
        with Agent(task.bundle, authority=lab, wait=1000) as agent:
            asking = pool.submit(agent.ask, "crm.accounts.delete", args={"name": "Acme"})
            until(lambda: lab.requests(task=task.id, pending=True))
        assert isinstance(asking.result(10), Pending)


@pytest.mark.parametrize("wait", [-1, float("inf"), float("nan")])
def test_a_wait_is_a_number_of_seconds(task: OpenedTask, wait: float) -> None:
    with pytest.raises(InvalidRequest, match="number of seconds"):
        Agent(task.bundle, wait=wait)


# Under trio.


def test_under_trio_a_tool_asks_waits_and_runs(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def consenting() -> None:
        while not (waiting := lab.requests(task=task.id, pending=True)):
            await trio.sleep(0.01)
        consent(lab, waiting[0].id)

    async def act() -> list[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consenting)
            deleted = await agent.tool(tools.delete_async)("Acme")
        assert (await agent.status_async()).state == "active"
        return [deleted, await agent.tool(tools.accounts_async)("Acme")]

    assert trio.run(act) == ["delete Acme", "accounts Acme"]


def test_under_trio_who_is_cancelled_leaves_at_once(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def act() -> None:
        with trio.move_on_after(0.5) as scope:
            await agent.tool(tools.delete_async)("Acme")
        assert scope.cancelled_caught
        agent.wait = 0
        with pytest.raises(Pending):
            await agent.tool(tools.delete_async)("Acme")

    began = time.monotonic()
    trio.run(act)
    assert time.monotonic() - began < 10
    assert not tools.ran


def test_under_trio_a_plain_tool_waits_for_no_person(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def act() -> None:
        with pytest.raises(Pending):
            agent.tool(tools.delete)("Acme")

    began = time.monotonic()
    trio.run(act)
    assert time.monotonic() - began < 10


def test_under_trio_a_cancelled_block_revokes_its_sub_agent(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent = Agent(task.bundle, authority=lab)

    helpers: list[Agent] = []

    async def act() -> None:
        with trio.CancelScope() as scope:
            async with agent.delegated(to="helper", may_ask=["crm.accounts.read"]) as helper:
                helpers.append(helper)
                assert await helper.tool(tools.accounts_async)() == "accounts Acme"
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught

    trio.run(act)
    with pytest.raises(Denied) as dead:
        helpers[0].tool(tools.accounts)()
    assert dead.value.code == "revoked"


def test_under_trio_a_client_asks_and_a_service_counts(lab: Authority, task: OpenedTask) -> None:
    app = FastAPI(openapi_url=None)
    guard = FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.get("/accounts/{account}")
    @guard.action("crm.accounts.read", tenant=GRANTED)
    async def account(account: int) -> int:
        return account

    child = task.bundle.delegate(to="helper", audiences=["crm", "authority"], may_ask=["crm.*"])
    counted = Agent(child.attenuate(budget("calls", 5)), authority=lab)

    async def act() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with counted.async_http({"http://crm": "crm"}, transport=transport) as client:
            return [(await client.get(f"http://crm/accounts/{number}")).json() for number in range(2)]

    assert trio.run(act) == [0, 1]


def test_a_child_forked_while_an_ask_waits_asks_anew() -> None:
    parent, asked, answered = os.getpid(), threading.Event(), threading.Event()

    def answer(ask: Ask, _: float) -> Answer:
        asked.set()
        if os.getpid() == parent:
            assert answered.wait(30)
        return Refused(())

    def holds() -> bool:
        signal.alarm(20)
        return queue.run(Ask.of("crm.export"), 0.0) == Refused(())

    queue = AskQueue(answer, lambda _, __: None)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.run, Ask.of("crm.export"), 0.0)
        assert asked.wait(30)
        # Whatever its threads did: the lock of the parent may have been held.
        with queue._lock:  # no caller holds it for long enough
            assert in_a_child(holds)
        answered.set()
        assert waiting.result(30) == Refused(())


def test_a_child_of_an_agent_that_was_closed_waits_for_no_person() -> None:
    queue = AskQueue(lambda ask, _: Pending(ask, request="r", until=0, approvers=()), lambda _, __: None)
    queue.close()

    def holds() -> bool:
        signal.alarm(20)
        return isinstance(queue.run(Ask.of("crm.export"), 60.0), Pending)

    assert in_a_child(holds)
