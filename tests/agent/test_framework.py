"""What adapters share: what a model reads, and who acts for whom."""

import asyncio
import functools
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from capx.agent.actor import acting, bundle_of, caller_scope, current_actor
from capx.agent.agent import Agent
from capx.agent.framework import Roster, delegated_to, model_text
from capx.authority.opening import OpenedTask
from capx.errors import ConfigurationProblem, InvalidRequest, Unavailable
from capx.verify.ask import Pending
from capx.verify.decision import Denied
from tests.labs.asking_agent import Tools


def hops() -> tuple[str, ...]:
    actor = current_actor()
    if actor is None:
        return ("nobody",)
    return bundle_of(actor).hops


# What a model reads


def test_a_model_reads_why_and_what_came_of_asking(agent: Agent, tools: Tools) -> None:
    with acting(agent):
        with pytest.raises(Denied) as denied:
            tools.export()
        text = model_text(denied.value)
        assert text is not None
        assert "crm.export" in text
        assert "the agent asked for more and did not get it" in text
        with pytest.raises(Pending) as pending:
            tools.delete("Acme")
        assert model_text(pending.value) == str(pending.value)
        assert "needs the consent of a person" in str(pending.value)


def test_what_nobody_can_say_now_is_told_to_a_model(agent: Agent, tools: Tools) -> None:
    with acting(agent), pytest.raises(Denied) as denied:
        tools.export()
    now = Unavailable("the store is away")
    now.__cause__ = denied.value
    assert model_text(now) == "the store is away"
    # Its text may name what a model must not know.
    assert model_text(Unavailable("cannot open /home/ana/capx.db")) == (
        "an authority or a store gives no answer now: try the very same call later"
    )


def test_the_fault_of_the_program_is_not_for_a_model(tools: Tools) -> None:
    with pytest.raises(Denied) as nobody:
        tools.tickets()
    assert nobody.value.status == 401
    for error in (nobody.value, KeyError("x"), InvalidRequest("x"), ConfigurationProblem("x")):
        assert model_text(error) is None


# Sub-agents that are a function


def test_a_function_runs_as_a_child_that_ends_with_it(agent: Agent, tools: Tools) -> None:
    children: list[Any] = []

    @delegated_to(to="helper", allow=["crm.tickets.read"])
    def help_out(text: str) -> tuple[str, str, tuple[str, ...]]:
        """Help."""
        children.append(current_actor())
        return text, tools.tickets(), hops()

    @delegated_to(to="helper", may_ask=iter(["crm.accounts.read"]))
    async def help_async(name: str) -> tuple[str, tuple[str, ...]]:
        children.append(current_actor())
        return await tools.accounts_async(name), hops()

    assert (help_out.__name__, help_out.__doc__) == ("help_out", "Help.")
    with acting(agent):
        for _ in range(2):
            assert help_out("a") == ("a", "tickets", ("helper",))
            assert asyncio.run(help_async("Acme")) == ("accounts Acme", ("helper",))
        assert hops() == ()
    for child in children:
        with pytest.raises(Denied) as dead:
            child.tool(tools.tickets)()
        assert dead.value.code == "revoked"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_child_has_less_and_its_denial_names_its_hop(agent: Agent, tools: Tools, is_async: bool) -> None:
    @delegated_to(to="helper", allow=["crm.accounts.read"])
    def read() -> str:
        return tools.tickets()

    @delegated_to(to="helper", allow=["crm.accounts.read"])
    async def read_async() -> str:
        return tools.tickets()

    with acting(agent), pytest.raises(Denied, match=r"hop 1 .*helper"):
        asyncio.run(read_async()) if is_async else read()


def test_an_object_with_an_async_call_runs_as_the_child(agent: Agent) -> None:
    class Tool:
        async def __call__(self) -> tuple[str, ...]:
            await asyncio.sleep(0)
            return hops()

    run = delegated_to(to="helper", allow=["crm.tickets.read"])(functools.partial(Tool()))
    with acting(agent):
        assert asyncio.run(run()) == ("helper",)


def test_work_that_outlives_its_function_is_refused(agent: Agent) -> None:
    async def later() -> tuple[str, ...]:
        return hops()

    @delegated_to(to="helper", allow=["crm.tickets.read"])
    def start() -> Any:
        return later()

    with pytest.raises(ConfigurationProblem, match="is a generator"):

        @delegated_to(to="helper")
        def pages() -> Iterator[int]:
            yield 1

    with pytest.raises(ConfigurationProblem, match="is a generator"):

        @delegated_to(to="helper")
        async def more_pages() -> AsyncIterator[int]:
            yield 1

    with acting(agent), pytest.raises(ConfigurationProblem, match="still to be done"):
        start()


def test_only_an_agent_with_an_authority_can_delegate_a_run(task: OpenedTask) -> None:
    @delegated_to(to="helper")
    def run() -> None:
        pytest.fail("it ran")

    with pytest.raises(InvalidRequest, match="nobody acts here"):
        run()
    with acting(task.bundle), pytest.raises(InvalidRequest, match="a bundle acts"):
        run()
    with acting(Agent(task.bundle)), pytest.raises(InvalidRequest, match="no authority"):
        run()


# Agents of one run


SHARES: dict[str, Any] = {"writer": {"allow": ["crm.accounts.read"]}, "reader": {"allow": ["crm.tickets.read"]}}


def test_a_roster_says_who_acts(agent: Agent, tools: Tools) -> None:
    roster = Roster(SHARES, first="lead")
    with acting(agent):
        with roster.acting_as("lead"):
            assert (hops(), tools.tickets()) == ((), "tickets")
        with roster.acting_as("reader"):
            assert (hops(), tools.tickets()) == (("reader",), "tickets")
            first = current_actor()
        with roster.acting_as("writer"), pytest.raises(Denied, match=r"hop 1 .*writer"):
            tools.tickets()
        with caller_scope(), roster.acting_as("reader"):
            assert current_actor() is first


@pytest.mark.parametrize("name", ["editor", "", None, "Lead"])
def test_an_agent_that_is_not_named_may_do_nothing(agent: Agent, name: str | None) -> None:
    with acting(agent), pytest.raises(InvalidRequest, match=r"no agent of this run.*'lead', 'writer', 'reader'"):
        Roster(SHARES, first="lead").acting_as(name)


def test_where_nobody_acts_no_other_agent_does(task: OpenedTask) -> None:
    roster = Roster(SHARES, first="lead")
    with pytest.raises(InvalidRequest, match="nobody acts here"):
        roster.acting_as("writer")
    with roster.acting_as("lead"):
        assert hops() == ("nobody",)


def test_two_runs_share_no_agent(task: OpenedTask, agent: Agent) -> None:
    roster = Roster(SHARES, first="lead")
    nodes: set[bytes | None] = set()
    for actor in (agent, agent, task.bundle):
        with acting(actor), roster.acting_as("reader") as reader:
            assert reader is not None
            nodes.add(bundle_of(reader).node)
    assert len(nodes) == 3


def test_a_roster_keeps_no_agent_after_its_run(agent: Agent) -> None:
    roster = Roster(SHARES, first="lead")

    def run() -> weakref.ref[Agent]:
        with acting(agent), roster.acting_as("reader") as reader:
            assert isinstance(reader, Agent)
            return weakref.ref(reader)

    kept = run()
    gc.collect()
    assert kept() is None


def test_threads_of_a_run_get_one_agent(agent: Agent) -> None:
    roster = Roster(SHARES, first="lead")

    async def act() -> set[int]:
        def one() -> int:
            begin.wait()
            with roster.acting_as("reader") as reader:
                return id(reader)

        begin = threading.Barrier(4)
        return set(await asyncio.gather(*(asyncio.to_thread(one) for _ in range(4))))

    with acting(agent):
        assert len(asyncio.run(act())) == 1


@pytest.mark.parametrize(
    ("shares", "first"), [({"lead": {}}, "lead"), ({"": {}}, "lead"), ({}, ""), ({"a\0": {}}, "b")]
)
def test_a_roster_that_makes_no_sense_is_refused(shares: Any, first: str) -> None:
    with pytest.raises(ConfigurationProblem):
        Roster(shares, first=first)


# The versions of a framework
