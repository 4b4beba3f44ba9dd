"""An agent works in a block: nothing of it can act after the block, however the block ends."""

import asyncio
from collections.abc import Iterator

import pytest
import trio

from capx.agent.actor import current_actor
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import InvalidRequest
from capx.verify.decision import Denied
from tests.labs.asking_agent import Tools


def test_the_task_ends_with_the_block(lab: Authority, task: OpenedTask, agent: Agent, tools: Tools) -> None:
    with agent.working() as working:
        assert working is agent
        assert current_actor() is agent
        assert tools.tickets() == "tickets"
        assert lab.task(task.id).state == "active"
    assert current_actor() is None
    assert lab.task(task.id).state == "completed"
    with pytest.raises(Denied, match="completed"):
        agent.tool(tools.tickets)()


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_the_task_ends_with_an_async_block(
    lab: Authority, task: OpenedTask, agent: Agent, tools: Tools, run: object
) -> None:
    async def work() -> None:
        async with agent.working():
            assert await tools.accounts_async() == "accounts Acme"

    trio.run(work) if run is trio.run else asyncio.run(work())
    assert lab.task(task.id).state == "completed"


def test_the_task_ends_with_a_block_that_raises(lab: Authority, task: OpenedTask, agent: Agent) -> None:
    with pytest.raises(KeyError) as raised, agent.working():
        raise KeyError
    assert not hasattr(raised.value, "__notes__")
    assert lab.task(task.id).state == "completed"


async def test_the_task_ends_with_a_run_that_is_cancelled(lab: Authority, task: OpenedTask, agent: Agent) -> None:
    async def work() -> None:
        async with agent.working():
            await asyncio.sleep(30)

    run = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert lab.task(task.id).state == "completed"


def test_a_task_that_has_ended_needs_no_completion(lab: Authority, task: OpenedTask, agent: Agent) -> None:
    with agent.working():
        lab.complete(task.id)


def test_a_run_that_is_interrupted_goes_on_later(lab: Authority, task: OpenedTask, agent: Agent, tools: Tools) -> None:
    with agent.working(complete=False):
        assert tools.tickets() == "tickets"
    assert lab.task(task.id).state == "active"
    with agent.working(complete=False):
        assert tools.tickets() == "tickets"


def test_a_completion_that_fails_is_told(lab: Authority, task: OpenedTask, agent: Agent) -> None:
    helper = agent.delegate(to="helper", may_ask=["crm.accounts.read"])
    with pytest.raises(Denied, match=r"may|allows"), helper.working():
        pass
    with pytest.raises(KeyError) as raised, helper.working():
        raise KeyError
    assert "the task could not be completed" in raised.value.__notes__[0]
    assert lab.task(task.id).state == "active"


def test_an_agent_without_an_authority_cannot_complete(task: OpenedTask) -> None:
    with pytest.raises(InvalidRequest, match="no authority"):
        Agent(task.bundle).working()
    with Agent(task.bundle).working(complete=False):
        pass


def test_a_generator_cannot_work_for_its_caller(agent: Agent) -> None:
    def pages() -> Iterator[int]:
        with agent.working():
            yield 1

    with pytest.raises(InvalidRequest, match="generator"):
        next(pages())


def test_a_block_left_out_of_order_ends_the_task(lab: Authority, task: OpenedTask, agent: Agent) -> None:
    outer, inner = agent.working(), agent.working(complete=False)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(InvalidRequest, match="was left while another"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert lab.task(task.id).state == "completed"
    # Looking resets the block that was left too early: a copy of this context, as asyncio makes, could not.
    assert current_actor() is None
