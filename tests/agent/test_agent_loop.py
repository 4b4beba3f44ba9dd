"""An agent's loop of 50 calls with 5 needs that nobody foresaw, against real processes: authority, services, approver.

It runs unattended where the policy grants on request, and stops only where the policy names a person.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest

from capx.agent import httpx_client
from capx.agent.agent import Agent
from capx.agent.authority_client import AuthorityClient
from capx.agent.httpx_client import ASK_EXTENSION
from capx.authority.home import create_home
from capx.authority.opening import OpenedTask
from capx.authority.remote.client import RemoteAuthority
from capx.policy.file import FILE
from capx.tokens.grants import ASK
from capx.verify.ask import Granted, Pending
from tests.labs.commands import plain_environment, run_command, warm_python
from tests.labs.refunds import BEN, grant, policy, refund
from tests.labs.waiting import until
from tests.server.conftest import Served, serving

CRM = ("crm.tickets.read", "crm.accounts.read", "crm.notes.write", "crm.export")
BILLING = ("billing.rates.read", "billing.invoices.read", "billing.credits.issue", "billing.refund")
AT_OPEN = grant("at_open", CRM[0], BILLING[0])
UNATTENDED = policy(AT_OPEN, grant("on_request", *CRM[1:3], *BILLING[1:]))
ATTENDED = policy(AT_OPEN, grant("on_request", *CRM[1:3], BILLING[1]), grant("ask", *BILLING[2:]))
ONCE_FOR_ALL = policy(
    AT_OPEN,
    grant("on_request", *CRM[1:3], BILLING[1]),
    grant("ask", *BILLING[2:]) + 'uses = "task"\npinned = false\n',
)
NEEDS = (CRM[1], CRM[2], BILLING[1], BILLING[2], BILLING[3])
"""What the task turns out to need."""
NAMED = frozenset(BILLING[2:])
"""What a person has to consent to, where the policy says so."""
FORESEEN = (CRM[0], BILLING[0])
STEPS = [(FORESEEN[step % 2] if step % 3 == 0 else NEEDS[step % 5], step) for step in range(50)]
"""The calls, by their actions and arguments."""


class World:
    """An authority that is served, and two services on its feed."""

    def __init__(self, authority: Served, services: dict[str, str], folder: Path) -> None:
        self.authority = authority
        self.services = services
        self.key_file = folder / "ben.key"
        BEN.save(self.key_file)
        self.operators = RemoteAuthority(authority.place)

    @property
    def origins(self) -> dict[str, str]:
        return {origin: audience for audience, origin in self.services.items()}

    def url(self, action: str, number: int) -> str:
        return f"{self.services[action.partition('.')[0]]}/{action}?id={number}"

    def agent(self, task: OpenedTask, wait: float) -> Agent:
        with AuthorityClient(self.authority.url, task.bundle, trust_env=False) as client:
            return Agent(task.bundle, authority=client, wait=wait, origins=self.origins)

    def until_ready(self) -> None:
        """Wait until the services can tell what was presented to them before they started."""
        bundle = self.operators.open(allow=FORESEEN, tenant="Acme").bundle
        with httpx_client.client(self.origins, bundle, trust_env=False) as client:
            until(lambda: all(client.post(self.url(action, 1)).status_code == 200 for action in FORESEEN))

    def rule(self, text: str) -> None:
        """Put a policy in the place of the one that there is."""
        draft = self.authority.home / "draft"
        draft.write_text(text)
        draft.chmod(0o600)
        draft.replace(self.authority.home / FILE)

    def asked(self, task: OpenedTask) -> list[str]:
        """The actions of all that was asked for in a task."""
        return [request.action for request in self.operators.requests(task=task.id)]

    def waiting(self, task: OpenedTask) -> list[str]:
        """The requests of a task that wait for a person."""
        return [request.id for request in self.operators.requests(task=task.id, pending=True)]

    def presented_asks(self, task: OpenedTask) -> int:
        """How often the task's agents came to ask, as the log has it."""
        decisions = [event.facts() for event in self.operators.log() if event.kind == "decision"]
        return sum((body.get("task"), body.get("action")) == (task.id, ASK) for body in decisions)

    def approve(self, request: str) -> None:
        """Let Ben consent, in a process of his own."""
        done = run_command(
            *("requests", "approve", request, "--as", BEN.name, "--key-file", str(self.key_file), "--yes"),
            env={**plain_environment(), "CAPX_AUTHORITY": self.authority.place},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def service(authority: Served, audience: str, folder: Path, *actions: str) -> Generator[str]:
    """A service of an audience in a process of its own; gives its origin."""
    keys = folder / f"{audience}.keys"
    authority.keys(audience).save(keys)
    process = subprocess.Popen(
        (warm_python(), "-m", "tests.labs.loop_service", *actions),
        env={**plain_environment(), "CAPX_AUDIENCE": audience, "CAPX_KEY_FILE": str(keys), "CAPX_FEED": authority.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise AssertionError(process.communicate(timeout=30)[1])
        yield f"http://127.0.0.1:{port}"
    finally:
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("loop")
    with (
        serving(create_home(folder / "home")) as authority,
        service(authority, "crm", folder, *CRM) as crm,
        service(authority, "billing", folder, *BILLING) as billing,
    ):
        world = World(authority, {"crm": crm, "billing": billing}, folder)
        world.until_ready()
        yield world


@pytest.fixture
def unattended(world: World) -> World:
    world.rule(UNATTENDED)
    return world


@pytest.fixture
def attended(world: World) -> World:
    world.rule(ATTENDED)
    return world


def work(world: World, client: httpx.Client, steps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Do the steps; those for which a person was not there."""
    left: list[tuple[str, int]] = []
    for action, number in steps:
        try:
            answer = client.post(world.url(action, number))
        except Pending as pending:
            left.append((pending.ask.action, number))
        else:
            assert (answer.status_code, answer.json()) == (200, number), answer.text
    return left


def test_a_loop_runs_unattended_where_grants_are_on_request(unattended: World) -> None:
    task = refund(unattended.operators)
    with unattended.agent(task, wait=0) as agent, agent.http(trust_env=False, timeout=30) as client:
        assert not work(unattended, client, STEPS)
        assert sorted(unattended.asked(task)) == sorted(NEEDS)
        assert unattended.presented_asks(task) == 5
        assert len(agent.bundle) == len(task.bundle) + 5
        agent.complete()
        until(lambda: client.post(unattended.url(CRM[0], 1)).status_code == 403)
        assert client.post(unattended.url(CRM[0], 1)).json()["code"] == "task_completed"
        assert unattended.presented_asks(task) == 5


def test_a_loop_stops_only_where_the_policy_names_a_person(attended: World) -> None:
    attended.rule(ONCE_FOR_ALL)
    task = refund(attended.operators)
    named = [step for step in STEPS if step[0] in NAMED]
    assert named
    with attended.agent(task, wait=0) as agent, agent.http(trust_env=False, timeout=30) as client:
        left = work(attended, client, STEPS)
        assert left == named
        assert sorted(attended.asked(task)) == sorted(NEEDS)
        waiting = attended.waiting(task)
        assert len(waiting) == len(NAMED)
        for request in waiting:
            attended.approve(request)
        assert not work(attended, client, left)
        assert sorted(attended.asked(task)) == sorted(NEEDS)


def test_a_loop_that_waits_goes_on_when_its_approver_answers(attended: World) -> None:
    task = refund(attended.operators)
    done = threading.Event()
    approved: list[str] = []

    def approve() -> None:
        while not done.wait(0.05):
            for request in attended.waiting(task):
                attended.approve(request)
                approved.append(request)

    approver = threading.Thread(target=approve)
    approver.start()
    try:
        with attended.agent(task, wait=60) as agent, agent.http(trust_env=False, timeout=30) as client:
            assert not work(attended, client, STEPS)
    finally:
        done.set()
        approver.join()
    # Each call that the policy names needs a consent of its own, and is pinned to its argument.
    named = [step for step in STEPS if step[0] in NAMED]
    assert len(approved) == len(named)
    requests = attended.operators.requests(task=task.id)
    assert [(one.action, one.args) for one in requests if one.action in NAMED] == [
        (action, f'{{"id":{number}}}') for action, number in named
    ]
    assert sorted({one.action for one in requests}) == sorted(NEEDS)


async def test_calls_at_once_ask_once_for_each_need(unattended: World) -> None:
    task = refund(unattended.operators)
    async with unattended.agent(task, wait=0) as agent, agent.async_http(trust_env=False, timeout=30) as client:
        for first in range(0, len(STEPS), 10):
            steps = STEPS[first : first + 10]
            answers = await asyncio.gather(*(client.post(unattended.url(*step)) for step in steps))
            assert [answer.json() for answer in answers] == [number for _, number in steps]
        assert len(agent.bundle) == len(task.bundle) + 5
    assert sorted(unattended.asked(task)) == sorted(NEEDS)


async def test_a_waiting_call_that_is_cancelled_loses_nothing(attended: World) -> None:
    task = refund(attended.operators)
    async with attended.agent(task, wait=60) as agent, agent.async_http(trust_env=False, timeout=30) as client:
        refunding = asyncio.create_task(client.post(attended.url("billing.refund", 1)))
        (request,) = await asyncio.to_thread(until, lambda: attended.waiting(task))
        began = time.monotonic()
        refunding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await refunding
        assert time.monotonic() - began < 1
        # The client is as good as it was, and so is the agent.
        assert (await client.post(attended.url(CRM[1], 2))).json() == 2
        await asyncio.to_thread(attended.approve, request)
        await asyncio.to_thread(until, lambda: len(agent.bundle) == len(task.bundle) + 2)
        assert (await client.post(attended.url("billing.refund", 1))).json() == 1
    assert sorted(attended.asked(task)) == sorted(("billing.refund", CRM[1]))


def test_what_the_policy_does_not_offer_stays_refused(unattended: World) -> None:
    task = refund(unattended.operators)
    with unattended.agent(task, wait=30) as agent, agent.http(trust_env=False, timeout=30) as client:
        refused = client.post(unattended.url("crm.export", 1))
    assert (refused.status_code, refused.json()["code"]) == (403, "action_not_allowed")
    assert [reason.code for reason in refused.extensions[ASK_EXTENSION].reasons] == ["not_offered"]


def test_a_sub_agent_in_its_own_process_asks_within_its_limits(unattended: World) -> None:
    task = refund(unattended.operators)
    script = """
import os, subprocess, sys
from capx import Agent
with Agent.from_env(trust_env=False) as agent, agent.http(trust_env=False, timeout=30) as client:
    assert "CAPX_TOKEN" not in subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    for action in sys.argv[1:]:
        print(client.post(f"{os.environ['CRM']}/{action}?id=1").status_code)
"""
    with unattended.agent(task, wait=0) as agent:
        helper = agent.delegate(to="helper", may_ask=["crm.accounts.read"])
        done = subprocess.run(
            (sys.executable, "-c", script, "crm.accounts.read", "crm.notes.write"),
            env={
                **os.environ,
                "CAPX_TOKEN": helper.bundle.text,
                "CAPX_AUTHORITY_URL": unattended.authority.url,
                "CAPX_ORIGINS": ",".join(f"{audience}={origin}" for audience, origin in unattended.services.items()),
                "CRM": unattended.services["crm"],
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.split() == ["200", "403"], done.stderr
    assert unattended.asked(task) == ["crm.accounts.read"]


async def test_an_ask_by_hand_is_held_by_everyone_who_waits(attended: World) -> None:
    task = refund(attended.operators)
    async with attended.agent(task, wait=60) as agent:
        waiting = [asyncio.create_task(agent.ask_async("billing.refund", args={"id": 7})) for _ in range(5)]
        (request,) = await asyncio.to_thread(until, lambda: attended.waiting(task))
        await asyncio.to_thread(attended.approve, request)
        answers = await asyncio.gather(*waiting)
        assert all(isinstance(answer, Granted) for answer in answers)
        assert len(agent.bundle) == len(task.bundle) + 1
        async with agent.async_http(trust_env=False, timeout=30) as client:
            assert (await client.post(attended.url("billing.refund", 7))).json() == 7
            agent.wait = 0
            with pytest.raises(Pending):
                await client.post(attended.url("billing.refund", 8))
