"""What services whose denials are lies can make an agent do: a few requests for each call, and a few asks in all."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from capx.agent.agent import Agent
from capx.agent.httpx_client import MAX_ATTEMPTS, NOTES_EXTENSION
from capx.agent.unproven_grants import MAX_IN_VAIN, UnprovenGrants
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.guard.asgi.guard import ASGIGuard, passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.policy.file import read_policy
from capx.tokens.bundle import MAX_TOKENS, Bundle
from capx.tokens.capability import Capability
from capx.verify.ask import Ask, Granted
from capx.verify.decision import Denied
from capx_caveats import action, budget
from tests.labs.asking_agent import Noting, Tools, noting
from tests.labs.refunds import grant, policy, refund
from tests.labs.serving import served

CALLS = 201
ACTION = "crm.accounts.read"
Lie = Callable[["Hostile"], dict[str, Any]]


class Hostile:
    """A service that denies each presentation, and says something else each time."""

    def __init__(self, lie: Lie) -> None:
        self.lie = lie
        self.seen = 0
        self.of_call = 0
        self.last = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen += 1
        self.of_call = self.of_call + 1 if scope["path"] == self.last else 1
        self.last = scope["path"]
        body = json.dumps({"decision": "d", **self.lie(self)}).encode()
        headers = [(b"www-authenticate", b"Capx"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def denial(code: str, **ask: object) -> dict[str, Any]:
    reasons = [{"code": code, "sentence": "no"}]
    return {"reasons": reasons, "ask": {"audience": "crm", "action": ACTION, **ask}} if ask else {"reasons": reasons}


def other_arguments(hostile: Hostile) -> dict[str, Any]:
    return denial("argument_refused", args={"of": hostile.seen})


def action_then_arguments(hostile: Hostile) -> dict[str, Any]:
    code = "action_not_allowed" if hostile.of_call == 1 else "argument_refused"
    return denial(code, args={"of": hostile.seen})


def arguments_said_late(hostile: Hostile) -> dict[str, Any]:
    """Name nothing while there are capabilities left to try."""
    return other_arguments(hostile) if hostile.of_call >= MAX_ATTEMPTS else denial("argument_refused")


def arguments_in_turn(hostile: Hostile) -> dict[str, Any]:
    """Name arguments that some of the capabilities allow."""
    return denial("argument_refused", args={"of": hostile.seen // 2})


def one_action(hostile: Hostile) -> dict[str, Any]:
    return denial("action_not_allowed", action=ACTION)


def nothing_named(hostile: Hostile) -> dict[str, Any]:
    return denial("action_not_allowed")


LIES: list[Lie] = [other_arguments, action_then_arguments, arguments_said_late, arguments_in_turn]


@pytest.mark.parametrize("lie", LIES)
def test_a_hostile_service_gets_few_requests_and_fewer_asks(lab: Authority, task: OpenedTask, lie: Lie) -> None:
    agent, authority = noting(lab, task)
    hostile = Hostile(lie)
    with served(hostile, lifespan="off") as origin, agent.http({origin: "crm"}) as client:
        for number in range(CALLS):
            before, asked = hostile.seen, len(authority.asked)
            assert client.get(f"{origin}/{number}").status_code == 403
            assert hostile.seen - before <= MAX_ATTEMPTS + 2
            assert len(authority.asked) - asked <= 3
    assert hostile.seen <= CALLS * MAX_ATTEMPTS + 2 * MAX_IN_VAIN
    assert len(authority.asked) <= 2 * MAX_IN_VAIN
    assert len(lab.requests(task=task.id)) <= MAX_IN_VAIN + 1
    assert len(agent.bundle) <= len(task.bundle) + MAX_IN_VAIN + 1


def test_one_ask_that_a_service_repeats_is_sent_a_few_times(
    lab: Authority, task: OpenedTask, tools: Tools, origin: str
) -> None:
    agent, authority = noting(lab, task)
    hostile = Hostile(one_action)
    with served(hostile, lifespan="off") as hostile_origin, agent.http({hostile_origin: "crm"}) as client:
        for number in range(CALLS):
            assert client.get(f"{hostile_origin}/{number}").status_code == 403
        assert hostile.seen == CALLS + 1
        assert authority.asked == [(f"{ACTION}@crm", None)] * MAX_IN_VAIN
        assert len(lab.requests(task=task.id)) == 1
        # Another ask is still sent, and once a call has passed, this one is too.
        assert agent.tool(tools.sms)("+1") == "sms +1"
        assert agent.tool(tools.tickets)() == "tickets"
        client.get(f"{hostile_origin}/again")
    assert authority.asked[-1] == (f"{ACTION}@crm", None)


@pytest.fixture
def laden(lab: Authority, task: OpenedTask) -> Agent:
    """An agent with as many capabilities for one audience as a bundle can hold."""
    more = [one for row in range(MAX_TOKENS) for one in lab.mint(task.id, allow=[action("crm.row.read", row=row)])]
    return Agent(Bundle([*task.bundle, *more][: MAX_TOKENS - 1]), authority=lab, wait=0)


@pytest.mark.parametrize("lie", [*LIES, nothing_named])
def test_many_capabilities_get_a_hostile_service_no_more(laden: Agent, lie: Lie) -> None:
    hostile = Hostile(lie)
    with served(hostile, lifespan="off") as origin, laden.http({origin: "crm"}) as client:
        for number in range(10):
            before = hostile.seen
            client.get(f"{origin}/{number}")
            assert hostile.seen - before <= MAX_ATTEMPTS + 2


def test_the_capability_that_fits_is_found_among_many(lab: Authority, laden: Agent) -> None:
    async def rows(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(1)
        await guard(scope, receive, send)

    async def row(scope: Scope, receive: Receive, send: Send) -> None:
        current = passage(scope)
        current.judge("crm.row.read", {"row": int(scope["path"][1:])}, tenant="Acme", sent=True)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    guard, seen = ASGIGuard(row, lab.verifier("crm")), list[int]()
    with served(rows, lifespan="off") as origin, laden.http({origin: "crm"}) as client:
        for number in range(0, MAX_TOKENS - 6, 5):
            assert client.get(f"{origin}/{number}").text == "done"
            assert len(seen) <= 3
            seen.clear()


def test_the_oldest_capabilities_are_tried_before_all_newer_ones(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    assert isinstance(agent.ask(ACTION), Granted)
    for row in range(MAX_ATTEMPTS + 4):
        assert isinstance(agent.ask(ACTION, args={"row": row}), Granted)
    authority.asked.clear()
    # This service does not say which arguments it got, so nobody can tell which capability fits.
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/{ACTION}").text == "done"
    assert not authority.asked


def test_a_denial_says_how_many_capabilities_were_not_tried(laden: Agent) -> None:
    with (
        served(Hostile(lambda _: denial("revoked")), lifespan="off") as origin,
        laden.http({origin: "crm"}, raise_denied=True) as client,
        pytest.raises(Denied) as refused,
    ):
        client.get(f"{origin}/x")
    untried = len([one for one in laden.bundle if one.audience == "crm"]) - MAX_ATTEMPTS
    assert refused.value.notes == (f"{untried} more capabilities for crm were not tried",)


def test_a_grant_that_was_held_and_not_tried_is_presented(lab: Authority, task: OpenedTask) -> None:
    async def costly(scope: Scope, receive: Receive, send: Send) -> None:
        passage(scope).judge(ACTION, {}, tenant="Acme", cost={"eur": 1})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def poor(count: int) -> Iterator[Capability]:
        for _ in range(count):
            yield from lab.mint(task.id, allow=[ACTION], caveats=[budget("eur", 0)])

    agent, authority = noting(lab, task)
    older = Bundle([*task.bundle, *poor(MAX_ATTEMPTS)])
    granted = agent.ask(ACTION)
    assert isinstance(granted, Granted)
    rich = Agent(Bundle([*older, granted.capability, *poor(MAX_ATTEMPTS)]), authority=authority, wait=0)
    authority.asked.clear()
    guarded = ASGIGuard(costly, lab.verifier("crm"))
    with served(guarded, lifespan="off") as origin, rich.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/x").text == "done"
    assert authority.asked == [(f"{ACTION}@crm", None)]


# When the agent asks again.


def in_vain(agent: Agent, calls: int = MAX_IN_VAIN) -> tuple[str, ...]:
    """Make calls of a hostile service; return the notes of the last one."""
    with served(Hostile(other_arguments), lifespan="off") as origin, agent.http({origin: "crm"}) as client:
        notes: list[tuple[str, ...]] = [
            client.get(f"{origin}/{number}").extensions.get(NOTES_EXTENSION, ()) for number in range(calls)
        ]
    return notes[-1]


@pytest.fixture
def misled(lab: Authority, task: OpenedTask) -> tuple[Agent, Noting]:
    """An agent that has stopped asking for calls of crm."""
    agent, authority = noting(lab, task)
    (note,) = in_vain(agent, MAX_IN_VAIN + 1)
    assert note == (
        "the agent did not ask for more, because what was granted at crm before did not help: agent.ask still asks"
    )
    authority.asked.clear()
    return agent, authority


def test_who_was_misled_asks_nothing_more_at_that_audience(misled: tuple[Agent, Noting], tools: Tools) -> None:
    agent, authority = misled
    with pytest.raises(Denied) as refused:
        agent.tool(tools.compose)("hello")
    assert "did not ask for more" in refused.value.notes[0]
    assert not authority.asked
    # What the agent held before shows nothing about grants.
    assert agent.tool(tools.tickets)() == "tickets"
    with pytest.raises(Denied):
        agent.tool(tools.compose)("hello")
    assert not authority.asked
    assert agent.tool(tools.sms)("+1") == "sms +1"
    assert authority.asked == [("sms.send@sms", None)]


def test_a_grant_by_hand_that_helps_lets_it_ask_again(misled: tuple[Agent, Noting], tools: Tools) -> None:
    agent, authority = misled
    assert isinstance(agent.ask("crm.notes.write"), Granted)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.compose)("hello")
    # The note was written with what was asked for by hand, so this call asks again, and is refused.
    assert tools.ran == ["compose hello"]
    assert [what for what, _ in authority.asked] == ["crm.notes.write@crm", "crm.export@crm"]
    assert "did not get it" in refused.value.notes[0]


def test_grants_that_help_never_stop_an_agent(lab: Authority, task: OpenedTask, origin: str) -> None:
    agent, authority = noting(lab, task)
    in_vain(agent, MAX_IN_VAIN - 1)
    with agent.http({origin: "crm"}) as client:
        assert client.get(f"{origin}/crm.notes.write").text == "done"
    authority.asked.clear()
    in_vain(agent, MAX_IN_VAIN - 1)
    assert len(authority.asked) == MAX_IN_VAIN - 1


def test_tools_whose_grants_cannot_suffice_stop_asking_too() -> None:
    names = [f"billing.{name}" for name in ("a", "b", "c", "d", "e", "f")]
    costly = "".join(grant("on_request") + f'budget = {{ eur = 5 }}\nallow = ["{name}"]\n' for name in names)
    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), costly))) as lab:
        agent, authority = noting(lab, refund(lab))
        notes: list[tuple[str, ...]] = []
        for name in names:
            pay = lab.tool(name, tenant="Acme", cost={"eur": 10})(lambda: pytest.fail("it ran"))
            with pytest.raises(Denied) as refused:
                agent.tool(pay)()
            notes.append(refused.value.notes)
    assert [what for what, _ in authority.asked] == [f"{name}@billing" for name in names[:MAX_IN_VAIN]]
    assert ["did not ask" in note for (note,) in notes] == [False] * MAX_IN_VAIN + [True, True]


# The memory.


def ask(number: int = 0) -> Ask:
    return Ask.of("crm.read", args={"number": number})


def test_the_memory_is_bounded_and_keeps_what_was_in_vain(lab: Authority, task: OpenedTask) -> None:
    many = [one for _ in range(3 * MAX_TOKENS) for one in lab.mint(task.id, allow=["crm.read"])]
    memory = UnprovenGrants()
    for one in many[:MAX_IN_VAIN]:
        memory.add(one)
        memory.fail(ask(), one)
    for number, one in enumerate(many):
        memory.add(one)
        memory.fail(ask(number), many[0])
    assert len(memory._unproven["crm"]) == len(memory._unhelpful["crm"]) == MAX_TOKENS
    assert memory.forbids(ask(1))
    assert not memory.forbids(Ask.of("billing.read"))
    memory.prove(many[-1])
    assert not memory.forbids(ask(1))


def test_a_capability_that_is_no_grant_counts_for_nothing(lab: Authority, task: OpenedTask) -> None:
    memory = UnprovenGrants()
    many = [one for _ in range(MAX_IN_VAIN) for one in lab.mint(task.id, allow=["crm.read"])]
    for number, one in enumerate(many):
        memory.fail(ask(number), one)
    assert not memory.forbids(ask())
    for number, one in enumerate(many):
        memory.add(one)
        memory.fail(ask(number), one)
    (other,) = lab.mint(task.id, allow=["crm.read"])
    memory.prove(other)
    assert memory.forbids(ask())
