"""An agent: what it asks for by hand, what it passes on, and how it ends."""

import asyncio
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess
from capx.authority.opening import OpenedTask
from capx.crypto.agent_key import AgentKey
from capx.errors import InvalidRequest
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from tests.labs.asking_agent import Tools, noting
from tests.labs.processes import in_a_child
from tests.labs.refunds import refund

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


# Delegation and the end.


def test_a_sub_agent_asks_within_what_it_may(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent = Agent(task.bundle, authority=lab)
    with agent.delegated(to="helper", may_ask=["crm.accounts.read"]) as helper:
        assert helper.bundle.hops == ("helper",)
        assert helper.tool(tools.accounts)() == "accounts Acme False"
        with pytest.raises(Denied) as refused:
            helper.tool(tools.compose)("hello")
        assert 'hop 1 ("helper")' in refused.value.notes[0]
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


async def test_async_code_ends_a_task_too(lab: Authority, task: OpenedTask) -> None:
    agent = Agent(task.bundle, authority=lab)
    assert (await agent.status_async()).state == "active"
    await agent.complete_async()
    assert lab.task(task.id).state == "completed"


def test_a_sub_agent_may_not_end_the_task_unless_it_was_said(lab: Authority, task: OpenedTask) -> None:
    helper = Agent(task.bundle, authority=lab).delegate(to="helper", may_ask=["crm.accounts.read"])
    with pytest.raises(Denied) as refused:
        helper.complete()
    assert refused.value.code == "action_not_allowed"
    assert lab.task(task.id).state == "active"


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


def test_in_one_process_nobody_needs_httpx_elsewhere_it_is_named() -> None:
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


@pytest.mark.parametrize("delegate", [Agent.delegate, Agent.delegated])
@pytest.mark.parametrize("wrong", [{"allowed": ["crm.tickets.read"]}, {"nonce": "AAAAAAAAAAA"}, {"now": 1}])
def test_a_keyword_that_narrows_nothing_is_refused_at_the_call(
    lab: Authority, task: OpenedTask, delegate: Callable[..., object], wrong: dict[str, object]
) -> None:
    with Agent(task.bundle, authority=lab) as agent, pytest.raises(TypeError, match="unexpected keyword argument"):
        delegate(agent, to="helper", **wrong)


def test_a_child_forked_while_a_grant_arrives_holds_its_own(lab: Authority, task: OpenedTask) -> None:
    (granted,) = lab.mint(task.id, allow=["crm.read"])

    class Granting(InProcess):
        def acting_for(self, bundle: Bundle, /) -> "Granting":
            return Granting(self._authority, bundle)

        def answer(self, ask: Ask, wait: float) -> Answer:
            return Granted(granted)

    def holds() -> bool:
        signal.alarm(20)
        return isinstance(agent.ask("crm.read"), Granted) and granted in agent.bundle

    agent = Agent(task.bundle, authority=Granting(lab, task.bundle))
    for lock in (agent._lock, agent._unproven._lock):
        # A thread of the parent could hold it at the fork.
        with lock:
            assert in_a_child(holds)
    assert granted not in agent.bundle


# The key of an agent.


@pytest.fixture
def planner() -> AgentKey:
    return AgentKey.generate("planner")


@pytest.fixture
def keyed(lab: Authority, planner: AgentKey) -> OpenedTask:
    """A task whose tokens only the planner can use."""
    return refund(lab, agent_key=planner.public)


def test_an_agent_signs_calls_asks_and_delegations(
    lab: Authority, keyed: OpenedTask, tools: Tools, planner: AgentKey
) -> None:
    helper = AgentKey.generate("helper")
    agent = Agent(keyed.bundle, key=planner, authority=lab, wait=0)
    # Denied, asked for, granted, and presented with what was granted.
    assert agent.tool(tools.accounts)() == "accounts Acme False"
    assert {one.key for one in agent.bundle} == {planner}
    granted = agent.ask("crm.notes.write")
    assert isinstance(granted, Granted)
    assert granted.capability.key is planner
    with agent.delegated(to="helper", to_key=helper, may_ask=["crm.accounts.read"]) as child:
        assert child.bundle.holder == helper.public
        assert child.tool(tools.accounts)() == "accounts Acme False"
    with pytest.raises(Denied) as dead:
        child.tool(tools.accounts)()
    assert dead.value.code == "revoked"
    assert agent.status().state == "active"
    agent.complete()


def test_a_bundle_of_another_key_makes_no_agent(task: OpenedTask, keyed: OpenedTask, planner: AgentKey) -> None:
    thief = AgentKey.generate("thief")
    with pytest.raises(InvalidRequest, match=rf"bound to {planner.public}, and this is the key {thief.public}"):
        Agent(keyed.bundle, key=thief)
    with pytest.raises(InvalidRequest, match="bound to no key"):
        Agent(task.bundle, key=planner)


def test_an_agent_without_its_key_says_which_is_missing(
    lab: Authority, keyed: OpenedTask, tools: Tools, planner: AgentKey
) -> None:
    agent = Agent(keyed.bundle, authority=lab)
    missing = rf"the key {planner.public}, which is not here. Make the agent with `key=`, or set CAPX_AGENT_KEY_FILE"
    acts: list[Callable[[], object]] = [
        agent.status,
        agent.complete,
        lambda: agent.ask("crm.accounts.read"),
        lambda: agent.http({}),
        lambda: agent.async_http({}),
        lambda: agent.delegate(to="helper", to_key=planner),
        lambda: agent.delegated(to="helper", to_key=planner),
    ]
    for act in acts:
        with pytest.raises(InvalidRequest, match=missing):
            act()
    with pytest.raises(InvalidRequest, match=f"only the holder of the key {planner.public} can present"):
        agent.tool(tools.tickets)()


def test_a_child_with_a_public_half_is_handed_over_sealed(
    lab: Authority, keyed: OpenedTask, tools: Tools, planner: AgentKey
) -> None:
    helper = AgentKey.generate("helper")
    agent = Agent(keyed.bundle, key=planner, authority=lab)
    child = agent.delegate(to="helper", to_key=helper.public, allow=["crm.tickets.read"])
    assert child.key is None
    with pytest.raises(InvalidRequest, match="can present this token"):
        child.tool(tools.tickets)()
    sent = Bundle.unseal(child.bundle.sealed(), helper, task=keyed.id)
    assert Agent(sent).tool(tools.tickets)() == "tickets"


def test_a_stolen_bundle_signed_by_the_thief_is_denied(keyed: OpenedTask, tools: Tools, planner: AgentKey) -> None:
    class Posing:
        """A key that says it is another one."""

        public = planner.public

        def sign(self, message: bytes) -> bytes:
            return AgentKey.generate("thief").sign(message)

    with pytest.raises(Denied) as denied:
        Agent(keyed.bundle, key=Posing()).tool(tools.tickets)()
    assert denied.value.code == "hop_signature"
