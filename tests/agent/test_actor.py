"""Whoever acts asks for what a guarded function is refused, and waits for a person."""

import asyncio
import contextvars
import functools
import pickle
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from capx.agent.actor import acting, acting_block, caller_scope, current_actor, why_nobody_acts
from capx.agent.agent import Agent
from capx.agent.unproven_grants import MAX_IN_VAIN
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import CapxError, InvalidRequest, StoreProblem, Unavailable
from capx.guard.tool import on_loop
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Ask, Granted, Pending
from capx.verify.decision import Denied
from capx_caveats import JSON, where
from tests.labs.asking_agent import Noting, Tools, consent, noting
from tests.labs.processes import in_a_child
from tests.labs.waiting import until, until_async

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


async def test_an_async_tool_does_too(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    accounts = agent.tool(tools.accounts_async)
    assert [await accounts("Acme"), await accounts("Initech")] == ["accounts Acme", "accounts Initech"]
    assert authority.asked == [("crm.accounts.read@crm", None)]


def test_a_refused_ask_is_noted_on_the_denial(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.export)()
    assert refused.value.code == "action_not_allowed"
    (note,) = refused.value.notes
    assert note.startswith("the agent asked for more and did not get it: ")
    assert "the policy offers" in note
    assert authority.asked == [("crm.export@crm", None)]
    assert not tools.ran


def test_what_a_tool_calls_asks_for_itself_and_runs_once(lab: Authority, task: OpenedTask, tools: Tools) -> None:
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


@pytest.fixture
def no_threads() -> Iterator[None]:
    """Where no thread can be started: none has room for so large a stack."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_to_ask_in_a_call_is_unavailable(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Unavailable, match="cannot start a thread"):
        agent.tool(tools.accounts)()
    with pytest.raises(Unavailable):
        agent.ask("crm.accounts.read")
    with pytest.raises(Unavailable):
        asyncio.run(agent.ask_async("crm.accounts.read"))
    assert not authority.asked


def test_an_authority_that_is_away_for_a_moment_is_waited_for(lab: Authority, task: OpenedTask) -> None:
    class Away(Noting):
        def answer(self, ask: Ask, wait: float) -> Answer:
            if len(self.asked) == 1:
                self.asked.append((ask.action, None))
                consent(lab, lab.requests(task=task.id, pending=True)[0].id)
                raise StoreProblem("away")
            return super().answer(ask, wait)

    authority = Away(lab, task.bundle)
    assert isinstance(
        Agent(task.bundle, authority=authority, wait=30).ask("crm.accounts.delete", args={"name": "Acme"}), Granted
    )
    assert len(authority.asked) == 3


def test_pending_is_raised_when_nobody_answers_in_time(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task)
    with pytest.raises(Pending) as pending:
        agent.tool(tools.delete)("Acme")
    assert str(pending.value) == (
        'crm.accounts.delete at crm, with name "Acme" needs the consent of a person ("finance"), who was asked: '
        f"request {pending.value.request}. Nothing was done. Go on with other work, and try the very same call again "
        f"later; nobody can answer after {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(pending.value.until))}."
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
    assert "did not get it" in refused.value.notes[0]


def test_without_an_authority_a_refusal_stays_as_it_is(task: OpenedTask, tools: Tools) -> None:
    with pytest.raises(Denied) as refused:
        Agent(task.bundle).tool(tools.accounts)()
    assert refused.value.ask is not None
    assert refused.value.notes == ()
    with pytest.raises(InvalidRequest, match="no authority to ask"):
        Agent(task.bundle).ask("crm.accounts.read")


def test_an_agent_that_may_ask_for_nothing_is_refused_as_it_is(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    child = task.bundle.delegate(to="helper", allow=["crm.tickets.read"])
    authority = Noting(lab, child)
    with pytest.raises(Denied) as refused, acting(Agent(child, authority=authority)):
        tools.accounts()
    assert not authority.asked
    assert refused.value.notes == ()


async def test_a_plain_tool_in_an_event_loop_waits_for_no_person(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, _ = noting(lab, task, wait=30)
    began = time.monotonic()
    with pytest.raises(Pending):
        agent.tool(tools.delete)("Acme")
    assert time.monotonic() - began < 10


# Runs that are cancelled while a person decides.


class Cancelled:
    """Calls in a thread of a run that is cancelled while a person decides; then the person agrees."""

    def __init__(self, lab: Authority, task: OpenedTask) -> None:
        self.lab = lab
        self.task = task
        self.outcomes: list[object] = []
        """What came of the calls in the thread."""

    def in_thread(self, *calls: Callable[[], object]) -> Coroutine[Any, Any, None]:
        """Make the calls one after another, as a framework does that shows each error to its model."""

        def work() -> None:
            for call in calls:
                try:
                    self.outcomes.append(call())
                except CapxError as error:
                    self.outcomes.append(error)

        return asyncio.to_thread(work)

    async def meet(self, run: Coroutine[Any, Any, object], *, calls: int, yes: bool = True) -> None:
        """Cancel the run while a person decides, let the person answer, and wait until the calls have ended."""
        running = asyncio.ensure_future(run)
        await until_async(lambda: self.lab.requests(task=self.task.id, pending=True))
        running.cancel()
        await asyncio.sleep(0.05)
        consent(self.lab, self.lab.requests(task=self.task.id, pending=True)[0].id, yes=yes)
        with pytest.raises(asyncio.CancelledError):
            await running
        await until_async(lambda: len(self.outcomes) == calls)


def test_a_run_cancelled_while_a_person_decides_runs_nothing(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    cancelled = Cancelled(lab, task)
    deleting, reading = functools.partial(tools.delete, "Acme"), agent.tool(tools.tickets)

    async def run() -> None:
        with acting(agent):
            await cancelled.in_thread(deleting, tools.tickets, reading)

    asyncio.run(cancelled.meet(run(), calls=3))
    assert not tools.ran
    waited, *later = cancelled.outcomes
    assert isinstance(waited, Denied)
    assert waited.code == "no_token"
    assert "has ended" in str(waited)
    assert all("has ended" in str(error) for error in later)


def test_a_cancelled_run_runs_no_tool_of_the_agent(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    cancelled = Cancelled(lab, task)
    delete, call_delete = agent.tool(tools.delete), agent.calling(tools.delete)

    async def run() -> None:
        with acting(agent):
            await cancelled.in_thread(lambda: delete("Acme"), lambda: call_delete("Acme"))

    asyncio.run(cancelled.meet(run(), calls=2))
    assert not tools.ran


def test_one_call_of_a_run_is_cancelled_by_a_block_of_its_own(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    cancelled = Cancelled(lab, task)

    async def call() -> None:
        with acting(agent):
            await cancelled.in_thread(lambda: tools.delete("Acme"))

    async def run() -> str:
        with acting(agent):
            await cancelled.meet(call(), calls=1)
            return tools.tickets()

    assert asyncio.run(run()) == "tickets"
    assert tools.ran == ["tickets"]


def test_a_call_made_in_a_block_does_not_run_after_it(task: OpenedTask, tools: Tools) -> None:
    helper = task.bundle.delegate(to="helper")
    with acting(task.bundle):
        call, call_async = helper.calling(tools.tickets), helper.calling(on_loop(tools.tickets))
        with ThreadPoolExecutor() as pool:
            assert pool.submit(call).result(30) == "tickets"
    with ThreadPoolExecutor() as pool, pytest.raises(InvalidRequest, match="has ended"):
        pool.submit(call).result(30)
    with pytest.raises(InvalidRequest, match="has ended"):
        asyncio.run(call_async())
    assert tools.ran == ["tickets"]
    assert helper.calling(tools.tickets)() == "tickets"


def test_a_call_made_in_a_block_does_not_run_in_a_forked_child(task: OpenedTask, tools: Tools) -> None:
    # Nobody tells the child that the block has ended.
    with acting(task.bundle):
        call = task.bundle.calling(tools.tickets)

        def holds() -> bool:
            with pytest.raises(InvalidRequest, match="has ended"):
                call()
            return True

        assert in_a_child(holds)


@pytest.mark.parametrize("yes", [True, False])
def test_cancelled_runs_do_not_silence_their_agent(
    lab: Authority, task: OpenedTask, tools: Tools, *, yes: bool
) -> None:
    agent, _ = noting(lab, task, wait=30)

    async def run(cancelled: Cancelled, name: str) -> None:
        with acting(agent):
            await cancelled.in_thread(lambda: tools.delete(name))

    for number in range(MAX_IN_VAIN):
        cancelled = Cancelled(lab, task)
        asyncio.run(cancelled.meet(run(cancelled, f"row {number}"), calls=1, yes=yes))
        (ended,) = cancelled.outcomes
        assert isinstance(ended, Denied)
        assert (ended.code, ended.notes) == ("no_token", ())
    assert agent.calling(tools.accounts)("Acme") == "accounts Acme False"


def test_a_call_denied_after_its_block_ended_has_not_failed(lab: Authority, task: OpenedTask) -> None:
    agent, authority = noting(lab, task)
    block = acting(agent)

    def ending() -> str:
        # The grant is held by now.
        with pytest.raises(InvalidRequest, match="in another task, thread or context"):
            contextvars.Context().run(block.__exit__, None, None, None)
        return "Globex"

    @lab.tool("crm.accounts.read", tenant=ending)
    def accounts() -> None: ...

    block.__enter__()
    with pytest.raises(Denied) as refused:
        accounts()
    assert (refused.value.code, refused.value.notes) == ("no_token", ())
    assert authority.asked == [("crm.accounts.read@crm", None)]


def test_a_run_that_waits_for_its_thread_needs_the_twin(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, _ = noting(lab, task, wait=30)
    cancelled = Cancelled(lab, task)
    delete = on_loop(tools.delete)

    async def run() -> None:
        with acting(agent):
            try:
                await delete("Acme")
            finally:
                cancelled.outcomes.append("ended")

    asyncio.run(cancelled.meet(run(), calls=1))
    assert not tools.ran
    asyncio.run(agent.calling(delete)("Acme"))
    assert tools.ran == ["delete Acme"]


def test_a_run_cancelled_while_its_call_is_judged_runs_nothing(lab: Authority, task: OpenedTask) -> None:
    judging, cancelled = threading.Event(), threading.Event()
    outcomes: list[object] = []
    regions = ["EU", "US"]

    def slow() -> dict[str, JSON]:
        judging.set()
        assert cancelled.wait(30)
        return {"region": regions.pop()}

    @lab.tool("crm.tickets.read", tenant="Acme", attributes=slow)
    def tickets() -> None:
        outcomes.append("ran")

    def work() -> None:
        with pytest.raises(Denied, match="has ended") as refused:
            tickets()
        outcomes.append(refused.value.code)

    async def run(bundle: Bundle) -> None:
        with acting(bundle):
            await asyncio.to_thread(work)

    async def act(bundle: Bundle) -> None:
        running = asyncio.ensure_future(run(bundle))
        await until_async(judging.is_set)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        before = len(outcomes)
        cancelled.set()
        await until_async(lambda: len(outcomes) > before)

    # The newest is denied for the region; the one before it, which would pass, is not presented any more.
    newest = lab.mint(task.id, allow=["crm.tickets.read"], caveats=[where("region", "EU")])
    asyncio.run(act(Bundle([*task.bundle, *newest])))
    assert outcomes == ["no_token"]
    assert regions == ["EU"]
    judging.clear()
    cancelled.clear()
    # This one is allowed, and its function does not run any more.
    asyncio.run(act(newest))
    assert outcomes == ["no_token", "no_token"]
    assert not regions


# The block of a caller, for adapters


def test_a_thread_whose_caller_has_left_does_not_run(lab: Authority) -> None:
    asked, answered = threading.Event(), threading.Event()

    @lab.tool("crm.export")
    def export() -> None:
        pytest.fail("it ran")

    def wait_and_run() -> None:
        asked.set()
        assert answered.wait(10)
        with pytest.raises(Denied, match="has ended"):
            export()
        with pytest.raises(InvalidRequest, match="has ended"), acting(bundle):
            pytest.fail("it acted")

    async def call() -> None:
        # As a framework that runs plain tools in threads, and is cancelled.
        with caller_scope():
            await asyncio.to_thread(wait_and_run)

    async def run() -> None:
        with acting(bundle):
            calling = asyncio.ensure_future(call())
            assert await asyncio.to_thread(asked.wait, 10)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            answered.set()
            # The run itself goes on.
            assert current_actor() is bundle

    bundle = lab.open(allow=["crm.export"]).bundle
    asyncio.run(run())


def test_in_the_block_of_a_caller_the_same_one_acts(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.export"]).bundle
    with acting(bundle), caller_scope(), caller_scope():
        assert current_actor() is bundle
        with acting(bundle.delegate(to="child")) as child:
            assert current_actor() is child
    with caller_scope():
        assert current_actor() is None
        assert "nobody acts here" in why_nobody_acts()
        # A function that has its own actor.
        with acting(bundle):
            assert current_actor() is bundle


def test_a_caller_may_have_a_block_after_that_around_it_ended(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.export"]).bundle
    seen: list[object] = []

    async def later() -> None:
        await ended.wait()
        with caller_scope():
            seen.append(current_actor())

    async def run() -> None:
        with acting(bundle):
            task = asyncio.ensure_future(later())
            await asyncio.sleep(0)
        ended.set()
        await task

    ended = asyncio.Event()
    asyncio.run(run())
    assert seen == [None]


def test_a_generator_cannot_enter_the_block_of_a_caller() -> None:
    def tool() -> Iterator[int]:
        with caller_scope():
            yield 1

    with pytest.raises(InvalidRequest, match="generator"):
        next(tool())


def test_the_block_that_acts_is_behind_those_of_callers(lab: Authority) -> None:
    bundle = lab.open(allow=["crm.export"]).bundle
    assert acting_block() is None
    with acting(bundle):
        block = acting_block()
        assert block is not None
        with caller_scope():
            assert acting_block() is block
        with acting(bundle):
            assert acting_block() is not block
