"""An agent: what it asks for when it is refused, what it never asks for, and whom it waits for."""

import asyncio
import gzip
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.middleware.gzip import GZipMiddleware

from capx.agent import httpx_client
from capx.agent.actor import acting, current_actor
from capx.agent.agent import Agent
from capx.agent.authority_client import AuthorityClient
from capx.agent.httpx_client import ASK_EXTENSION, GRANTED_EXTENSION, MAX_BODY
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess, LocalAuthority
from capx.authority.opening import OpenedTask
from capx.authority.requests.verdict import Verdict
from capx.errors import ConfigurationProblem, InvalidRequest, StoreProblem, Unavailable
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.policy.file import read_policy
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx_caveats import JSON, action
from tests.labs.refunds import BEN, grant, policy, refund
from tests.labs.serving import served

SPENT = grant("on_request") + 'budget = { calls = 1 }\nallow = ["billing.refund"]\n'
POLICY = policy(
    grant("at_open", "crm.tickets.read", "mail.drafts.read"),
    grant("on_request", "crm.accounts.read", "crm.notes.write", "sms.send", "billing.rates.read"),
    grant("on_request") + 'allow."billing.refund" = { amount = { range = [0.01, 50] } }\n',
    grant("ask") + 'allow."billing.refund" = { amount = { range = [50, 500] } }\n',
    grant("ask", "crm.accounts.delete"),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(POLICY)) as authority:
        yield authority


@pytest.fixture
def task(lab: Authority) -> OpenedTask:
    return refund(lab)


class Noting(InProcess):
    """An authority of this process that notes what it is asked, and can be made to wait before it answers."""

    def __init__(self, authority: LocalAuthority, bundle: Bundle) -> None:
        super().__init__(authority, bundle)
        self.asked: list[tuple[str, dict[str, JSON] | None]] = []
        self.open = threading.Event()
        self.open.set()

    def acting_for(self, bundle: Bundle, /) -> "Noting":
        other = type(self)(self._authority, bundle)
        other.asked, other.open = self.asked, self.open
        return other

    def ask(self, action: str, *, audience: str | None = None, args: Any = None, wait: float = 0.0) -> Answer:
        self.asked.append((f"{action}@{audience}", None if args is None else dict(args)))
        assert self.open.wait(30)
        return super().ask(action, audience=audience, args=args, wait=wait)


def noting(lab: Authority, task: OpenedTask, wait: float = 0.0) -> tuple[Agent, Noting]:
    authority = Noting(lab, task.bundle)
    return Agent(task.bundle, authority=authority, wait=wait), authority


def consent(lab: Authority, request: str, *, yes: bool = True) -> None:
    inquiry = lab.inquiry(request)
    lab.answer(Verdict.sign(inquiry, BEN, yes=yes, at=int(time.time())))


def until(what: Callable[[], object], seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.005)


async def until_async(what: Callable[[], object], seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)


class Tools:
    """Guarded tools that note when they run."""

    def __init__(self, lab: Authority) -> None:
        self.ran: list[str] = []

        @lab.tool("crm.tickets.read", tenant="Acme")
        def tickets() -> str:
            return self._noted("tickets")

        @lab.tool("crm.accounts.read", tenant="Acme")
        def accounts(name: str = "Acme", *, deep: bool = False) -> str:
            return self._noted(f"accounts {name} {deep}")

        @lab.tool("crm.accounts.read", tenant="Acme")
        async def accounts_async(name: str = "Acme") -> str:
            await asyncio.sleep(0)
            return self._noted(f"accounts {name}")

        @lab.tool("crm.accounts.delete", tenant="Acme")
        def delete(name: str) -> str:
            return self._noted(f"delete {name}")

        @lab.tool("crm.accounts.delete", tenant="Acme")
        async def delete_async(name: str) -> str:
            await asyncio.sleep(0)
            return self._noted(f"delete {name}")

        @lab.tool("billing.refund", tenant="Acme")
        def refund(amount: float) -> str:
            return self._noted(f"refund {amount}")

        @lab.tool("billing.refund", tenant="Acme")
        async def refund_async(amount: float) -> str:
            await asyncio.sleep(0)
            return self._noted(f"refund {amount}")

        @lab.tool("crm.export", tenant="Acme")
        def export() -> str:
            return self._noted("export")

        @lab.tool("crm.notes.write", tenant="Acme")
        def compose(text: str) -> str:
            return self._noted(f"compose {text}") + export()

        @lab.tool("sms.send", tenant="Acme")
        def sms(to: str) -> str:
            return self._noted(f"sms {to}")

        self.tickets, self.accounts, self.accounts_async = tickets, accounts, accounts_async
        self.delete, self.delete_async = delete, delete_async
        self.refund, self.refund_async = refund, refund_async
        self.export, self.compose, self.sms = export, compose, sms

    def _noted(self, what: str) -> str:
        self.ran.append(what)
        return what


@pytest.fixture(scope="module")
def guarded(lab: Authority) -> Tools:
    return Tools(lab)


@pytest.fixture
def tools(guarded: Tools) -> Tools:
    guarded.ran.clear()
    return guarded


# Tools.


def test_a_tool_that_is_refused_asks_and_runs_once(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    accounts = agent.tool(tools.accounts)
    assert agent.tool(tools.tickets)() == "tickets"
    assert accounts("Acme") == "accounts Acme False"
    assert authority.asked == [("crm.accounts.read@crm", None)]
    assert accounts("Initech", deep=True) == "accounts Initech True"
    assert tools.ran == ["tickets", "accounts Acme False", "accounts Initech True"]
    assert len(authority.asked) == 1
    assert len(agent.bundle) == len(task.bundle) + 1
    assert current_actor() is None


def test_an_async_tool_does_too(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)

    async def act() -> list[str]:
        accounts = agent.tool(tools.accounts_async)
        return [await accounts("Acme"), await accounts("Initech")]

    assert asyncio.run(act()) == ["accounts Acme", "accounts Initech"]
    assert authority.asked == [("crm.accounts.read@crm", None)]


def test_a_refused_ask_is_noted_on_the_denial(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.export)()
    assert refused.value.code == "action_not_allowed"
    (note,) = refused.value.__notes__
    assert note.startswith("more was asked for, and refused: ")
    assert "the policy offers" in note
    assert authority.asked == [("crm.export@crm", None)]
    assert not tools.ran


def test_what_a_tool_calls_asks_for_itself_and_no_tool_runs_twice(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied):
        agent.tool(tools.compose)("hello")
    assert tools.ran == ["compose hello"]
    assert authority.asked == [("crm.notes.write@crm", None), ("crm.export@crm", None)]


def test_a_tool_at_an_audience_where_nothing_is_held_asks_too(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    assert agent.tool(tools.sms)("+1") == "sms +1"
    assert authority.asked == [("sms.send@sms", None)]
    assert "sms" in agent.bundle.audiences


def test_arguments_that_were_refused_are_what_is_asked_for(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    pay = agent.tool(tools.refund)
    assert pay(20) == "refund 20"
    with pytest.raises(Pending) as pending:
        pay(100)
    assert authority.asked == [("billing.refund@billing", None), ("billing.refund@billing", {"amount": 100})]
    consent(lab, pending.value.request)
    assert pay(100) == "refund 100"
    assert authority.asked[2:] == [("billing.refund@billing", {"amount": 100})]
    assert tools.ran == ["refund 20", "refund 100"]


REFUND: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", None)
REFUND_100: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", {"amount": 100})
REFUND_501: tuple[str, dict[str, JSON] | None] = ("billing.refund@billing", {"amount": 501})
SHORT = "billing.refund at billing was granted, and does not suffice"


def test_a_first_call_that_needs_a_person_asks_for_its_action_and_then_for_its_arguments(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Pending) as pending:
        agent.tool(tools.refund)(100)
    assert authority.asked == [REFUND, REFUND_100]
    assert not tools.ran
    consent(lab, pending.value.request)
    assert agent.tool(tools.refund)(100) == "refund 100"
    assert agent.tool(tools.refund)(20) == "refund 20"
    assert authority.asked[2:] == [REFUND_100]


def test_a_first_call_passes_when_its_person_answers_within_the_wait(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def act() -> str:
        refunding = asyncio.create_task(agent.tool(tools.refund_async)(100))
        await until_async(lambda: lab.requests(task=task.id, pending=True))
        consent(lab, lab.requests(task=task.id, pending=True)[0].id)
        return await refunding

    assert asyncio.run(act()) == "refund 100"
    assert tools.ran == ["refund 100"]
    assert len(agent.bundle) == len(task.bundle) + 2


def test_a_call_that_is_refused_after_a_grant_says_that_it_was_granted(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.refund)(501)
    assert authority.asked == [REFUND, REFUND_501]
    assert refused.value.code == "argument_refused"
    granted, more = refused.value.__notes__
    assert granted == SHORT
    assert more.startswith("more was asked for, and refused: the policy offers")


def test_what_is_granted_already_and_does_not_suffice_is_told() -> None:
    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), SPENT))) as lab:
        agent, authority = noting(lab, refund(lab))
        pay = agent.tool(Tools(lab).refund)
        assert pay(10) == "refund 10"
        with pytest.raises(Denied) as refused:
            pay(10)
    assert refused.value.code == "budget_exhausted"
    assert refused.value.__notes__ == [SHORT]
    assert authority.asked == [REFUND, REFUND]


def test_a_newer_capability_for_another_action_does_not_hide_which_arguments_are_refused(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task)
    assert isinstance(agent.ask("billing.refund"), Granted)
    assert isinstance(agent.ask("billing.rates.read"), Granted)
    with pytest.raises(Pending):
        agent.tool(tools.refund)(100)
    assert authority.asked[2:] == [REFUND_100]


def test_what_may_only_be_asked_for_with_arguments_is_pinned_to_them(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    child = task.bundle.delegate(
        to="helper", audiences=["crm", "authority"], may_ask=[action("crm.accounts.read", name="Acme", deep=False)]
    )
    authority = Noting(lab, child)
    agent = Agent(child, authority=authority)
    # The delegator's list holds what is granted, too.
    with acting(agent):
        assert tools.accounts("Acme") == "accounts Acme False"
        with pytest.raises(Denied) as refused:
            tools.accounts("Initech")
    assert [args for _, args in authority.asked] == [
        None,
        {"name": "Acme", "deep": False},
        {"name": "Initech", "deep": False},
    ]
    assert "hop 1 (helper)" in refused.value.__notes__[0]


def test_an_async_tool_asks_with_its_arguments_too(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    child = task.bundle.delegate(
        to="helper", audiences=["crm", "authority"], may_ask=[action("crm.accounts.read", name="Acme")]
    )
    authority = Noting(lab, child)

    async def act() -> None:
        with acting(Agent(child, authority=authority)):
            assert await tools.accounts_async("Acme") == "accounts Acme"
            with pytest.raises(Denied) as refused:
                await tools.accounts_async("Initech")
            assert "hop 1 (helper)" in refused.value.__notes__[0]

    asyncio.run(act())
    assert [args for _, args in authority.asked] == [None, {"name": "Acme"}, {"name": "Initech"}]


@pytest.fixture
def no_threads() -> Iterator[None]:
    """Where no thread can be had: none has room for so large a stack."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_to_ask_in_a_refusal_says_so(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.accounts)()
    assert "no thread can be had" in refused.value.__notes__[0]
    with pytest.raises(Unavailable):
        agent.ask("crm.accounts.read")
    with pytest.raises(Unavailable):
        asyncio.run(agent.ask_async("crm.accounts.read"))
    assert not authority.asked


def test_an_authority_that_is_away_for_a_moment_is_waited_for(lab: Authority, task: OpenedTask) -> None:
    class Away(Noting):
        def ask(self, action: str, *, audience: str | None = None, args: Any = None, wait: float = 0.0) -> Answer:
            if len(self.asked) == 1:
                self.asked.append((action, None))
                consent(lab, lab.requests(task=task.id, pending=True)[0].id)
                raise StoreProblem("away")
            return super().ask(action, audience=audience, args=args, wait=wait)

    authority = Away(lab, task.bundle)
    assert isinstance(Agent(task.bundle, authority=authority, wait=30).ask("crm.accounts.delete"), Granted)
    assert len(authority.asked) == 3


def test_pending_is_raised_when_nobody_answers_in_time(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task)
    with pytest.raises(Pending) as pending:
        agent.tool(tools.delete)("Acme")
    assert str(pending.value) == (
        'crm.accounts.delete at crm needs the consent of a person ("finance"), who was asked: request '
        f"{pending.value.request}. Nothing was done. Go on with other work, and try the very same call again later; "
        f"nobody can consent after {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(pending.value.until))}."
    )
    assert isinstance(pending.value.__context__, Denied)
    assert str(pickle.loads(pickle.dumps(pending.value))) == str(pending.value)
    assert not tools.ran


def test_an_answer_within_the_wait_lets_the_call_go_on(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task, wait=30)
    with ThreadPoolExecutor() as pool:
        deleting = pool.submit(agent.tool(tools.delete), "Acme")
        until(lambda: lab.requests(task=task.id, pending=True))
        (request,) = lab.requests(task=task.id, pending=True)
        assert not tools.ran
        consent(lab, request.id)
        assert deleting.result(30) == "delete Acme"
    assert {what for what, _ in authority.asked} == {"crm.accounts.delete@crm"}
    assert len(lab.requests(task=task.id)) == 1


def test_a_person_who_refuses_within_the_wait_is_heard(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    with ThreadPoolExecutor() as pool:
        deleting = pool.submit(agent.tool(tools.delete), "Acme")
        until(lambda: lab.requests(task=task.id, pending=True))
        consent(lab, lab.requests(task=task.id)[0].id, yes=False)
        with pytest.raises(Denied) as refused:
            deleting.result(30)
    assert "refused" in refused.value.__notes__[0]


def test_without_an_authority_a_refusal_stays_as_it_is(task: OpenedTask, tools: Tools) -> None:
    with pytest.raises(Denied) as refused:
        Agent(task.bundle).tool(tools.accounts)()
    assert refused.value.ask is not None
    assert not hasattr(refused.value, "__notes__")
    with pytest.raises(InvalidRequest, match="no authority to ask"):
        Agent(task.bundle).ask("crm.accounts.read")


def test_an_agent_that_may_ask_for_nothing_is_refused_as_it_is(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    child = task.bundle.delegate(to="helper", allow=["crm.tickets.read"])
    authority = Noting(lab, child)
    with pytest.raises(Denied) as refused, acting(Agent(child, authority=authority)):
        tools.accounts()
    assert not authority.asked
    assert not hasattr(refused.value, "__notes__")


def test_a_plain_tool_in_an_event_loop_waits_for_no_person(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def act() -> float:
        began = time.monotonic()
        with pytest.raises(Pending):
            agent.tool(tools.delete)("Acme")
        return time.monotonic() - began

    assert asyncio.run(act()) < 10


# What is asked for by hand.


def test_what_is_asked_for_by_hand_is_held(lab: Authority, task: OpenedTask) -> None:
    agent, _ = noting(lab, task)
    granted = agent.ask("crm.accounts.read")
    assert isinstance(granted, Granted)
    assert granted.capability in agent.bundle
    assert agent.ask("crm.accounts.read") == granted
    assert isinstance(agent.ask("crm.export"), Refused)
    pending = agent.ask("crm.accounts.delete", args={"name": "Acme"})
    assert isinstance(pending, Pending)
    assert pending.ask.args == {"name": "Acme"}
    assert len(agent.bundle) == len(task.bundle) + 1


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


def test_asks_of_tasks_at_once_end_in_one_capability(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    authority.open.clear()

    async def act() -> list[str]:
        calls = [asyncio.create_task(agent.tool(tools.accounts_async)(str(count))) for count in range(16)]
        await until_async(lambda: authority.asked)
        await asyncio.sleep(0)
        authority.open.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(act()) == [f"accounts {count}" for count in range(16)]
    # Whoever was refused before, and asks after it was answered, asks the same again.
    assert {action for action, _ in authority.asked} == {"crm.accounts.read@crm"}
    assert len(lab.requests(task=task.id)) == 1
    assert len(agent.bundle) == len(task.bundle) + 1


def test_whoever_is_cancelled_leaves_at_once_and_what_is_granted_then_is_held(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, authority = noting(lab, task, wait=30)

    async def act() -> float:
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
        return left

    assert asyncio.run(act()) < 1
    assert tools.ran == ["delete Acme"]


def test_a_wait_holds_up_neither_the_loop_nor_its_threads(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def act() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        deleting = asyncio.create_task(agent.tool(tools.delete_async)("Acme"))
        await until_async(lambda: lab.requests(task=task.id, pending=True))
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
        consent(lab, lab.requests(task=task.id)[0].id)
        return await deleting

    assert asyncio.run(act()) == "delete Acme"


def test_one_who_waits_shorter_leaves_the_other_waiting(lab: Authority, task: OpenedTask) -> None:
    agent, _ = noting(lab, task)

    async def act() -> Answer:
        longer = asyncio.create_task(agent.ask_async("crm.accounts.delete", wait=30))
        shorter = await agent.ask_async("crm.accounts.delete", wait=0)
        assert isinstance(shorter, Pending)
        consent(lab, shorter.request)
        return await longer

    assert isinstance(asyncio.run(act()), Granted)


def test_an_agent_that_is_closed_waits_for_nobody_any_more(lab: Authority, task: OpenedTask) -> None:
    with ThreadPoolExecutor() as pool:
        with Agent(task.bundle, authority=lab, wait=1000) as agent:
            asking = pool.submit(agent.ask, "crm.accounts.delete")
            until(lambda: lab.requests(task=task.id, pending=True))
        assert isinstance(asking.result(10), Pending)


@pytest.mark.parametrize("wait", [-1, float("inf"), float("nan")])
def test_a_wait_is_a_number_of_seconds(task: OpenedTask, wait: float) -> None:
    with pytest.raises(InvalidRequest, match="number of seconds"):
        Agent(task.bundle, wait=wait)


# Delegation and the end.


def test_a_sub_agent_asks_within_what_it_may(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent = Agent(task.bundle, authority=lab)
    with agent.delegated(to="helper", may_ask=["crm.accounts.read"]) as helper:
        assert helper.bundle.hops == ("helper",)
        assert helper.tool(tools.accounts)() == "accounts Acme False"
        with pytest.raises(Denied) as refused:
            helper.tool(tools.compose)("hello")
        assert "hop 1 (helper)" in refused.value.__notes__[0]
    assert len(agent.bundle) == len(task.bundle)
    with pytest.raises(Denied) as dead:
        helper.tool(tools.accounts)()
    assert dead.value.code == "revoked"
    assert dead.value.ask is None
    assert agent.tool(tools.accounts)() == "accounts Acme False"


def test_a_sub_agent_of_an_async_block_is_revoked_at_its_end(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    async def act() -> Agent:
        agent = Agent(task.bundle, authority=lab)
        async with agent, agent.delegated(to="helper", may_ask=["crm.accounts.read"]) as helper:
            assert await helper.tool(tools.accounts_async)() == "accounts Acme"
        return helper

    helper = asyncio.run(act())
    with pytest.raises(Denied) as dead:
        helper.tool(tools.accounts)()
    assert dead.value.code == "revoked"


def test_an_agent_passes_on_what_it_was_granted(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    agent.ask("crm.accounts.read")
    helper = agent.delegate(to="helper", allow=["crm.accounts.read"])
    assert helper.tool(tools.accounts)() == "accounts Acme False"
    assert len(authority.asked) == 1


def test_an_agent_looks_at_its_task_and_ends_it(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent = Agent(task.bundle, authority=lab)
    assert (agent.status().task, agent.status().state) == (task.id, "active")
    agent.complete()
    with pytest.raises(Denied) as ended:
        agent.tool(tools.tickets)()
    assert ended.value.code == "task_completed"
    assert ended.value.ask is None
    with pytest.raises(Denied) as gone:
        agent.ask("crm.accounts.read")
    assert gone.value.code == "task_completed"


def test_async_code_ends_a_task_too(lab: Authority, task: OpenedTask) -> None:
    async def act() -> str:
        agent = Agent(task.bundle, authority=lab)
        assert (await agent.status_async()).state == "active"
        await agent.complete_async()
        return lab.task(task.id).state

    assert asyncio.run(act()) == "completed"


def test_a_sub_agent_may_not_end_the_task_unless_it_was_said(lab: Authority, task: OpenedTask) -> None:
    helper = Agent(task.bundle, authority=lab).delegate(to="helper", may_ask=["crm.accounts.read"])
    with pytest.raises(Denied) as refused:
        helper.complete()
    assert refused.value.code == "action_not_allowed"
    assert lab.task(task.id).state == "active"


def test_an_agent_asks_with_its_own_bundle_whosever_client_it_is_given(lab: Authority, task: OpenedTask) -> None:
    helper = task.bundle.delegate(to="helper", may_ask=["crm.accounts.read"])
    agent = Agent(helper, authority=InProcess(lab, task.bundle), wait=0)
    granted = agent.ask("crm.accounts.read")
    assert isinstance(granted, Granted)
    assert granted.capability.hops == ("helper",)
    with pytest.raises(Denied) as refused:
        agent.ask("crm.notes.write")
    assert "hop 1 (helper)" in str(refused.value)


class Kept(httpx.BaseTransport):
    """A transport to nowhere that tells whether it was closed."""

    closed = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nowhere", request=request)

    def close(self) -> None:
        self.closed = True


def test_an_agent_closes_what_is_its_own_and_nothing_else(task: OpenedTask) -> None:
    transport = Kept()
    with AuthorityClient("http://127.0.0.1:9", task.bundle, transport=transport) as client:
        with Agent(task.bundle, authority=client) as agent, agent.delegate(to="helper"):
            pass
        assert not transport.closed
        with pytest.raises(Unavailable):
            client.status()
    assert transport.closed


class NobodyAnswers:
    """What acts for a holder, and has no answer."""

    def acting_for(self, bundle: Bundle, /) -> None:
        return None


@pytest.mark.parametrize(
    "authority", [7, b"http://127.0.0.1:9", ToolCall("crm.read", {}), Authority, NobodyAnswers(), NobodyAnswers]
)
def test_what_is_no_authority_is_told_by_its_type(task: OpenedTask, authority: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"and not a {type(authority).__name__}$"):
        Agent(task.bundle, authority=authority)


def test_an_authority_is_named_by_its_url(task: OpenedTask) -> None:
    with Agent(task.bundle, authority="http://127.0.0.1:9/") as agent, pytest.raises(Unavailable):
        agent.status()
    with pytest.raises(InvalidRequest, match="is no origin"):
        Agent(task.bundle, authority="authority.internal")


WITHOUT_HTTPX = """
import os
import sys
sys.modules["httpx"] = None
import capx
with capx.Authority.temporary() as lab:
    bundle = lab.open(allow=["crm.read"]).bundle
    os.environ["CAPX_TOKEN"] = bundle.text
    agent = capx.Agent(bundle, authority=lab)
    helper = agent.delegate(to="helper", allow=["task.status"])
    print(helper.status().state)
    with agent.delegated(to="other") as other:
        print(other.bundle.hops)
    for attempt in (
        lambda: agent.http({}),
        lambda: agent.async_http({}),
        lambda: capx.Agent.from_env(),
        lambda: capx.Agent(bundle, authority="http://127.0.0.1:9"),
        lambda: capx.AuthorityClient,
        lambda: capx.RemoteAuthority,
    ):
        try:
            attempt()
        except (capx.ConfigurationProblem, ImportError) as error:
            print(error)
    print("CAPX_TOKEN" in os.environ)
"""


def test_in_one_process_nobody_needs_httpx_and_elsewhere_it_is_said_what_to_install() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT_HTTPX], capture_output=True, text=True, check=True)
    needs = " needs httpx: pip install 'capx-auth[httpx]'"
    names = ("Agent.http", "Agent.async_http", "Agent.from_env", "an authority elsewhere")
    exported = ("capx.AuthorityClient", "capx.RemoteAuthority")
    told = [f"{name}{needs}" for name in (*names, *exported)]
    assert said.stdout.splitlines() == ["active", "('other',)", *told, "False"]


def test_an_agent_shows_no_secret_and_is_not_pickled(lab: Authority, task: OpenedTask) -> None:
    agent = Agent(task.bundle, authority=lab)
    assert "capx1_" not in repr(agent)
    with pytest.raises(InvalidRequest, match="secret"):
        pickle.dumps(agent)


# HTTP.


async def crm(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ACTION` is that action, with the tenant that was granted; `own` of the query is an argument."""
    del receive
    current = passage(scope)
    assert current.admitted is not None
    current.judge(scope["path"][1:], {}, tenant=current.admitted.tenant)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def billing(scope: Scope, receive: Receive, send: Send) -> None:
    """`/billing.refund?AMOUNT` refunds so much."""
    del receive
    current = passage(scope)
    assert current.admitted is not None
    args: dict[str, JSON] = {"amount": int(scope["query_string"])}
    current.judge("billing.refund", args, tenant=current.admitted.tenant, sent=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def refunds(lab: Authority) -> Iterator[str]:
    with served(ASGIGuard(billing, lab.verifier("billing")), lifespan="off") as found:
        yield f"{found}/billing.refund"


@pytest.fixture(scope="module")
def origin(lab: Authority) -> Iterator[str]:
    with served(GZipMiddleware(ASGIGuard(crm, lab.verifier("crm")), minimum_size=1), lifespan="off") as found:
        yield found


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


def test_a_first_request_that_needs_a_person_asks_for_its_action_and_then_for_its_arguments(
    lab: Authority, task: OpenedTask, refunds: str
) -> None:
    agent, authority = noting(lab, task)
    agent.ask("billing.rates.read")
    with agent.http({str(httpx.URL(refunds).join("/")): "billing"}) as client:
        with pytest.raises(Pending) as pending:
            client.get(f"{refunds}?100")
        assert authority.asked[1:] == [REFUND, REFUND_100]
        consent(lab, pending.value.request)
        assert client.get(f"{refunds}?100").text == "done"
        assert authority.asked[3:] == [REFUND_100]


def test_a_response_that_refuses_after_a_grant_says_what_was_granted(
    lab: Authority, task: OpenedTask, refunds: str
) -> None:
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


def test_a_refusal_that_is_streamed_is_read_as_it_was_sent(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, _ = noting(lab, task)
    with agent.http({origin: "crm"}) as client, client.stream("GET", f"{origin}/crm.export") as response:
        raw = b"".join(response.iter_raw())
    assert json.loads(gzip.decompress(raw))["code"] == "action_not_allowed"


def test_the_authority_that_is_away_leaves_the_refusal(lab: Authority, task: OpenedTask, origin: str) -> None:
    with Agent(task.bundle, authority="http://127.0.0.1:9") as agent, agent.http({origin: "crm"}) as client:
        refused = client.get(f"{origin}/crm.accounts.read")
    assert refused.status_code == 403
    assert isinstance(refused.extensions[ASK_EXTENSION], StoreProblem)


def test_where_nothing_is_held_a_request_says_to_ask_first(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    with agent.http({origin: "sms"}) as client, pytest.raises(InvalidRequest, match=r"agent\.ask\(ACTION"):
        client.get(f"{origin}/sms.send")
    assert not authority.asked


class Liar:
    """A service that answers each presentation with one refusal, whatever it says."""

    def __init__(self) -> None:
        self.body = b""
        self.seen = 0

    def says(self, **problem: Any) -> None:
        self.body = msgspec.json.encode(
            {"code": "action_not_allowed", "reasons": [{"code": "action_not_allowed"}], **problem}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        self.seen += 1
        headers = [(b"www-authenticate", b"Capx"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture(scope="module")
def liars() -> Iterator[tuple[Liar, str]]:
    liar = Liar()
    with served(liar, lifespan="off") as found:
        yield liar, found


LIES: dict[str, Any] = {
    "at another audience": {"audience": "billing", "action": "billing.refund"},
    "at the authority": {"audience": "authority", "action": "task.complete"},
    "for a pattern": {"audience": "crm", "action": "crm.*"},
    "for no action": {"audience": "crm", "action": ""},
    "for an object": {"audience": "crm", "action": "crm.accounts.read", "args": {"of": {"a": 1}}},
    "hugely": {"audience": "crm", "action": "crm.accounts.read", "args": {"of": "x" * 3000}},
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
        # Once with each capability, and once more with each, after the grant.
        assert liar.seen == 1 + 2
        client.get(f"{origin}/x")
    # What it was granted it holds, so that there is nothing to send again.
    assert (len(authority.asked), liar.seen) == (2, 5)


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
    # With each capability that was held: at first, after the first grant, and after the second.
    assert len(seen) == 1 + 2 + 3


def test_a_long_refusal_is_read_as_it_was_sent_and_asks_for_nothing(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str]
) -> None:
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.read"}, more="x" * 1_000_000)
    agent, authority = noting(lab, task)

    async def act() -> None:
        async with agent.async_http({origin: "crm"}) as client:
            assert (await client.get(f"{origin}/x")).content == liar.body
            async with client.stream("GET", f"{origin}/x") as left_early:
                assert left_early.status_code == 403

    asyncio.run(act())
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/x").content == liar.body
        with client.stream("GET", f"{origin}/x") as left_early:
            assert left_early.status_code == 403
    assert not authority.asked


@pytest.mark.parametrize("packed", ["br", "gzip"])
def test_a_refusal_that_cannot_be_unpacked_asks_for_nothing(lab: Authority, task: OpenedTask, packed: str) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"www-authenticate", b"Capx"), (b"content-encoding", packed.encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ask":{"audience":"crm","action":"crm.accounts.read"}}'})

    agent, authority = noting(lab, task)
    with (
        served(odd, lifespan="off") as origin,
        agent.http({origin: "crm"}) as client,
        client.stream("GET", f"{origin}/x") as response,
    ):
        assert response.status_code == 403
    assert not authority.asked


def test_a_service_that_packs_a_bomb_into_its_refusal(lab: Authority, task: OpenedTask) -> None:
    bomb = gzip.compress(b'{"ask":' + b" " * 50_000_000 + b"null}")

    async def packed(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"www-authenticate", b"Capx"), (b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": bomb})

    agent, authority = noting(lab, task)
    with (
        served(packed, lifespan="off") as origin,
        agent.http({origin: "crm"}) as client,
        client.stream("GET", f"{origin}/x") as response,
    ):
        assert response.status_code == 403
    assert not authority.asked


def test_a_service_that_names_what_its_caller_does_not_need(
    lab: Authority, task: OpenedTask, liars: tuple[Liar, str]
) -> None:
    # It can make an agent ask for any action at its own audience, where it needs no agent to do anything.
    liar, origin = liars
    liar.says(ask={"audience": "crm", "action": "crm.accounts.delete"})
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


# The environment.


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("CAPX_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_an_agent_takes_its_bundle_out_of_the_environment(task: OpenedTask, environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CAPX_TOKEN", task.bundle.text)
    environ.setenv("CAPX_AUTHORITY_URL", "https://authority.internal:8411")
    environ.setenv("CAPX_ORIGINS", "crm=https://crm.internal, slides=https://slides.internal")
    with Agent.from_env() as agent:
        assert agent.bundle == task.bundle
        assert agent.origins == {"https://crm.internal": "crm", "https://slides.internal": "slides"}
        child = subprocess.run(
            [sys.executable, "-c", "import os; print([*os.environ])"], capture_output=True, text=True, check=True
        )
        assert "CAPX_TOKEN" not in child.stdout
        with pytest.raises(ConfigurationProblem, match="taken out of its environment before"):
            Agent.from_env()


@pytest.mark.parametrize(
    "wrong",
    [
        {"CAPX_ORIGINS": "nonsense"},
        {"CAPX_AUTHORITY_URL": "ftp://authority"},
        {"CAPX_TOKEN": "nonsense"},
        {"CAPX_TOKEN_FILE": "/nowhere/to/be/found"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_else_is_wrong_leaves_no_bundle_to_a_child(
    task: OpenedTask, environ: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    for name, value in ({"CAPX_TOKEN": task.bundle.text} | wrong).items():
        environ.setenv(name, value)
    with pytest.raises(ConfigurationProblem):
        Agent.from_env()
    assert os.environ.keys() & {"CAPX_TOKEN", "CAPX_TOKEN_FILE"} == set()


def test_a_token_file_is_read_if_nobody_else_may_read_it(
    task: OpenedTask, environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(task.bundle.text + "\n")
    path.chmod(0o644)
    environ.setenv("CAPX_TOKEN_FILE", str(path))
    environ.setenv("CAPX_TOKEN", "unread")
    with pytest.raises(ConfigurationProblem, match="chmod 600"):
        Agent.from_env()
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)
    path.chmod(0o600)
    environ.setenv("CAPX_TOKEN_FILE", str(path))
    assert Agent.from_env().bundle == task.bundle
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"CAPX_TOKEN": "capx1_x"}, "CAPX_TOKEN holds no bundle"),
        ({"CAPX_TOKEN": "ok", "CAPX_AUTHORITY_URL": "authority.internal"}, "CAPX_AUTHORITY_URL: .* is no origin"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "https://crm.internal"}, "CAPX_ORIGINS is a list like"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "crm=crm.internal"}, "CAPX_ORIGINS: .* is no origin"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "CRM=https://crm.internal"}, "is not an audience"),
        ({"CAPX_TOKEN": "ok", "CAPX_ORIGINS": "a=https://x,b=https://x"}, "gives https://x to a and to b"),
        ({"CAPX_TOKEN_FILE": "/nowhere/at/all"}, "cannot be read: No such file"),
    ],
)
def test_an_environment_that_cannot_be_used_says_why_and_holds_no_bundle_either(
    task: OpenedTask, environ: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    for name, value in variables.items():
        environ.setenv(name, task.bundle.text if value == "ok" else value)
    with pytest.raises(ConfigurationProblem, match=problem) as raised:
        Agent.from_env()
    assert "capx1_" not in str(raised.value) or variables.get("CAPX_TOKEN") == "capx1_x"
    assert not {"CAPX_TOKEN_FILE", "CAPX_TOKEN"} & set(os.environ)


def test_without_a_bundle_the_environment_is_told_what_is_missing(environ: pytest.MonkeyPatch) -> None:
    script = "from capx import Agent\ntry:\n    Agent.from_env()\nexcept Exception as error:\n    print(error)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "no bundle was given to this process: set CAPX_TOKEN_FILE or CAPX_TOKEN\n"


def test_an_agent_that_knows_no_origins_says_so(task: OpenedTask) -> None:
    with pytest.raises(ConfigurationProblem, match="CAPX_ORIGINS"):
        Agent(task.bundle).http()


@pytest.mark.parametrize("delegate", [Agent.delegate, Agent.delegated])
@pytest.mark.parametrize("wrong", [{"allowed": ["crm.tickets.read"]}, {"nonce": "AAAAAAAAAAA"}, {"now": 1}])
def test_a_keyword_that_narrows_nothing_is_refused_at_the_call(
    lab: Authority, task: OpenedTask, delegate: Callable[..., object], wrong: dict[str, object]
) -> None:
    with Agent(task.bundle, authority=lab) as agent, pytest.raises(TypeError, match="unexpected keyword argument"):
        delegate(agent, to="helper", **wrong)
