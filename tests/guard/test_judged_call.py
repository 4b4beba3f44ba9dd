"""Calls of code that is not ours: judged as those of a guarded function, or not made."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem, InvalidRequest
from capx.guard.call_facts import GRANTED
from capx.guard.current import current_allowed
from capx.guard.tool import ToolGuard
from capx.policy.file import read_policy
from capx.verify.ask import Pending
from capx.verify.decision import Allowed, Decision, Denied
from capx_caveats import action, between, budget
from tests.labs.refunds import grant, policy, refund


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    grants = (grant("at_open", "web.search"), grant("on_request", "web.fetch"), grant("ask", "web.post"))
    with Authority.temporary(policy=read_policy(policy(*grants))) as authority:
        yield authority


@pytest.fixture
def decided() -> list[Decision]:
    return []


@pytest.fixture
def guard(lab: Authority, decided: list[Decision]) -> ToolGuard:
    return ToolGuard(lab.verifier, on_decision=decided.append)


def judged(guard: ToolGuard, is_async: bool, name: str, args: dict[str, Any], **facts: Any) -> Allowed:
    """Judge a call in a block of its own; its decision is the current one in the block."""

    async def judge() -> Allowed:
        async with guard.judging_async(name, args, **facts) as allowed:
            assert current_allowed() is allowed
        return allowed

    if is_async:
        return asyncio.run(judge())
    with guard.judging(name, args, **facts) as allowed:
        assert current_allowed() is allowed
    assert current_allowed() is None
    return allowed


both = pytest.mark.parametrize("is_async", [False, True])


@both
def test_the_block_of_an_allowed_call_runs(lab: Authority, guard: ToolGuard, decided: Any, is_async: bool) -> None:
    task = lab.open(tenant="Acme", allow=[action("web.search", limit=between(1, 20), query="x")])
    with acting(task.bundle):
        allowed = judged(guard, is_async, "web.search", {"query": "x", "limit": 20}, tenant=GRANTED)
        assert dict(allowed.call.args) == {"query": "x", "limit": 20}
        with pytest.raises(Denied) as refused:
            judged(guard, is_async, "web.search", {"query": "x", "limit": 50}, tenant=GRANTED)
    assert refused.value.refusals[0].given == {"limit": 50}
    assert [one.outcome for one in decided] == ["allowed", "denied"]


@both
def test_a_block_runs_for_nobody_without_an_actor(guard: ToolGuard, is_async: bool) -> None:
    with pytest.raises(Denied) as refused:
        judged(guard, is_async, "web.search", {})
    assert refused.value.code == "no_token"


@both
def test_a_denied_block_asks_and_then_runs(lab: Authority, guard: ToolGuard, is_async: bool) -> None:
    agent = Agent(refund(lab).bundle, authority=lab, wait=0)
    with acting(agent):
        assert judged(guard, is_async, "web.fetch", {"url": "/a"}, tenant="Acme").spent == ()
        with pytest.raises(Pending):
            judged(guard, is_async, "web.post", {"url": "/a"}, tenant="Acme")


@both
def test_a_block_that_raises_stays_paid_unless_it_gives_back(lab: Authority, guard: ToolGuard, is_async: bool) -> None:
    task = lab.open(allow=["web.search"], caveats=[budget("eur", 5)])

    async def fail_async() -> None:
        async with guard.judging_async("web.search", {"price": "2"}, cost=of_price):
            raise OSError

    def fail() -> None:
        with guard.judging("web.search", {"price": "2"}, cost=of_price) as allowed:
            allowed.give_back("the network was away")
            raise OSError

    with acting(task.bundle):
        with pytest.raises(OSError):  # noqa: PT011 # raised by the block itself
            asyncio.run(fail_async()) if is_async else fail()
        assert [one.spent for one in lab.counters([task.id])] == [2 if is_async else 0]


def of_price(price: str) -> dict[str, str]:
    return {"eur": price}


def test_what_the_caller_changes_meanwhile_was_not_judged(lab: Authority, guard: ToolGuard) -> None:
    args = {"to": ["ann"]}
    with acting(lab.open(allow=["web.search"]).bundle), guard.judging("web.search", args) as allowed:
        args["to"].append("eve")
        assert dict(allowed.call.args) == {"to": ["ann"]}


def test_a_block_whose_facts_cannot_be_stated_does_not_run(lab: Authority, guard: ToolGuard) -> None:
    with acting(lab.open(allow=["web.search"]).bundle):
        with pytest.raises(ConfigurationProblem, match="not an action"), guard.judging("no action", {}):
            pytest.fail("it ran")
        with (
            pytest.raises(ConfigurationProblem, match="takes price"),
            guard.judging("web.search", {}, cost=of_price),
        ):
            pytest.fail("it ran")
        with pytest.raises(InvalidRequest, match="'it' cannot be judged"), guard.judging("web.search", {"it": ...}):
            pytest.fail("it ran")


@both
def test_a_call_is_judged_at_the_audience_that_is_named(lab: Authority, guard: ToolGuard, is_async: bool) -> None:
    task = lab.open(allow=["web.search"])
    with acting(task.bundle), pytest.raises(Denied) as refused:
        judged(guard, is_async, "web.search", {}, audience="crm")
    assert refused.value.decision.audience == "crm"


async def test_a_caller_that_left_while_it_was_judged_does_not_run(lab: Authority, guard: ToolGuard) -> None:
    task = lab.open(allow=["web.search"], caveats=[budget("calls", 5)])

    async def search() -> None:
        async with guard.judging_async("web.search", {}):
            pytest.fail("it ran")

    with acting(task.bundle):
        running = asyncio.ensure_future(search())
        await asyncio.sleep(0)
    with pytest.raises(Denied):
        await running
    assert all(one.spent == 0 for one in lab.counters([task.id]))
