"""What is asked for next: the action first, then its arguments, and never what was refused already."""

import asyncio
from collections.abc import Iterator

import pytest

from capx.agent.actor import acting
from capx.agent.agent import Agent
from capx.agent.next_asks import AskOutcome, DenialSummary, NextAsks, is_limited_grant, next_asks
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.policy.file import read_policy
from capx.tokens.binding import ToolCall
from capx.verify.admitted import Admitted
from capx.verify.ask import Ask, Granted, Pending, Refused
from capx.verify.decision import Denied
from capx.verify.verifier import Verifier
from capx_caveats import JSON, Refusal, action
from tests.labs.asking_agent import SPENT, Noting, Tools, consent, noting
from tests.labs.refunds import grant, policy, refund
from tests.labs.waiting import until_async


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
SHORT = "billing.refund at billing was granted, but is not enough for this call"


def test_a_first_call_asks_for_its_action_then_for_its_arguments(
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


async def test_a_first_call_passes_when_a_person_answers_in_time(
    lab: Authority, task: OpenedTask, tools: Tools
) -> None:
    agent, _ = noting(lab, task, wait=30)
    refunding = asyncio.create_task(agent.tool(tools.refund_async)(100))
    await until_async(lambda: lab.requests(task=task.id, pending=True))
    consent(lab, lab.requests(task=task.id, pending=True)[0].id)
    assert await refunding == "refund 100"
    assert tools.ran == ["refund 100"]
    assert len(agent.bundle) == len(task.bundle) + 2


def test_a_call_refused_after_a_grant_says_that_it_was_granted(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    with pytest.raises(Denied) as refused:
        agent.tool(tools.refund)(501)
    assert authority.asked == [REFUND, REFUND_501]
    assert refused.value.code == "argument_refused"
    granted, more = refused.value.notes
    assert granted == SHORT
    assert more.startswith("the agent asked for more and did not get it: the policy offers")


def test_what_is_granted_already_and_does_not_suffice_is_told() -> None:
    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), SPENT))) as lab:
        agent, authority = noting(lab, refund(lab))
        pay = agent.tool(Tools(lab).refund)
        assert pay(10) == "refund 10"
        with pytest.raises(Denied) as refused:
            pay(10)
    assert refused.value.code == "budget_exhausted"
    assert refused.value.notes == (SHORT,)
    assert authority.asked == [REFUND, REFUND]


def test_a_grant_that_was_held_before_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    actions: list[str] = []
    admit = Verifier.admit

    def noted(verifier: Verifier, token: str, call: ToolCall) -> Admitted:
        actions.append(call.action)
        return admit(verifier, token, call)

    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), SPENT))) as lab:
        agent, _ = noting(lab, refund(lab))
        pay = agent.tool(Tools(lab).refund)
        pay(10)
        monkeypatch.setattr(Verifier, "admit", noted)
        with pytest.raises(Denied):
            pay(10)
    assert actions == ["billing.refund", "grant.request"]


def test_a_grant_that_cannot_suffice_is_asked_for_once() -> None:
    costly = grant("on_request") + 'budget = { eur = 5 }\nallow = ["billing.refund"]\n'
    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), costly))) as lab:
        agent, authority = noting(lab, refund(lab))

        @lab.tool("billing.refund", tenant="Acme", cost={"eur": 10})
        def pay(amount: int) -> None: ...

        with pytest.raises(Denied) as refused:
            agent.tool(pay)(10)
    assert (refused.value.code, refused.value.notes) == ("budget_exhausted", (SHORT,))
    assert authority.asked == [REFUND]


def test_another_newer_capability_hides_no_refused_argument(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    agent, authority = noting(lab, task)
    assert isinstance(agent.ask("billing.refund"), Granted)
    assert isinstance(agent.ask("billing.rates.read"), Granted)
    with pytest.raises(Pending):
        agent.tool(tools.refund)(100)
    assert authority.asked[2:] == [REFUND_100]


def test_what_may_only_be_asked_with_arguments_is_pinned_to_them(
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
    assert 'hop 1 ("helper")' in refused.value.notes[0]


DELETE: tuple[str, dict[str, JSON] | None] = ("crm.accounts.delete@crm", None)
DELETE_ACME: tuple[str, dict[str, JSON] | None] = ("crm.accounts.delete@crm", {"name": "Acme"})


@pytest.mark.parametrize("in_loop", [False, True], ids=["plain", "async"])
def test_a_call_that_a_person_must_see_whole_is_asked_for_whole(
    lab: Authority, task: OpenedTask, tools: Tools, *, in_loop: bool
) -> None:
    agent, authority = noting(lab, task)

    def delete() -> str:
        return asyncio.run(agent.tool(tools.delete_async)("Acme")) if in_loop else agent.tool(tools.delete)("Acme")

    with pytest.raises(Pending) as pending:
        delete()
    # The authority answers `not_pinned` to the first.
    assert authority.asked == [DELETE, DELETE_ACME]
    consent(lab, pending.value.request)
    assert delete() == "delete Acme"
    assert authority.asked[2:] == [DELETE, DELETE_ACME]
    assert tools.ran == ["delete Acme"]


def test_the_agent_is_told_which_argument_cannot_be_pinned(lab: Authority, task: OpenedTask) -> None:
    agent, authority = noting(lab, task)

    @lab.tool("crm.accounts.delete", tenant="Acme")
    def delete(names: list[list[str]]) -> str:
        raise AssertionError(names)

    with pytest.raises(Denied) as denied:
        agent.tool(delete)([["Acme"]])
    assert [args for _, args in authority.asked] == [None, {"names": [["Acme"]]}]
    (note,) = denied.value.notes
    assert 'the argument "names" cannot be pinned' in note
    assert "pinned = [ … ]" in note


async def test_an_async_tool_asks_with_its_arguments_too(lab: Authority, task: OpenedTask, tools: Tools) -> None:
    child = task.bundle.delegate(
        to="helper", audiences=["crm", "authority"], may_ask=[action("crm.accounts.read", name="Acme")]
    )
    authority = Noting(lab, child)
    with acting(Agent(child, authority=authority)):
        assert await tools.accounts_async("Acme") == "accounts Acme"
        with pytest.raises(Denied) as refused:
            await tools.accounts_async("Initech")
        assert 'hop 1 ("helper")' in refused.value.notes[0]
    assert [args for _, args in authority.asked] == [None, {"name": "Acme"}, {"name": "Initech"}]


ONCE = grant("ask") + 'allow."billing.refund" = { amount = { range = [50, 500] } }\n'
SMALL = grant("on_request") + 'allow."billing.refund" = { amount = { range = [0.01, 50] } }\n'


@pytest.fixture
def once() -> Iterator[Authority]:
    with Authority.temporary(policy=read_policy(policy(grant("at_open", "crm.tickets.read"), SMALL, ONCE))) as lab:
        yield lab


def test_a_used_up_grant_is_asked_for_again_and_dropped(once: Authority) -> None:
    agent, authority = noting(once, refund(once))
    pay = agent.tool(Tools(once).refund)
    with pytest.raises(Pending) as pending:
        pay(100)
    consent(once, pending.value.request)
    assert pay(100) == "refund 100"
    held = agent.bundle
    with pytest.raises(Pending) as again:
        pay(100)
    assert again.value.request == pending.value.request
    # The very ask that was used up, and not the one for the action, which gives what is held.
    assert authority.asked[-1] == REFUND_100
    consent(once, again.value.request)
    assert pay(100) == "refund 100"
    assert len(agent.bundle) == len(held)
    with pytest.raises(Pending):
        pay(100)
    assert pay(20) == "refund 20"


def test_a_new_agent_asks_again_for_what_is_used_up(once: Authority) -> None:
    task = refund(once)
    first, _ = noting(once, task)
    with pytest.raises(Pending) as pending:
        first.tool(Tools(once).refund)(100)
    consent(once, pending.value.request)
    assert first.tool(Tools(once).refund)(100) == "refund 100"
    authority = Noting(once, first.bundle)
    second = Agent(first.bundle, authority=authority, wait=0)
    with pytest.raises(Pending) as again:
        second.tool(Tools(once).refund)(100)
    assert again.value.request == pending.value.request
    assert authority.asked == [REFUND_100]


def test_a_grant_of_another_ask_or_without_uses_is_kept(once: Authority) -> None:
    agent, _ = noting(once, refund(once))
    assert isinstance(agent.ask("billing.refund"), Granted)
    for amount in (100, 200):
        waiting = agent.ask("billing.refund", args={"amount": amount}, wait=0)
        assert isinstance(waiting, Pending)
        consent(once, waiting.request)
        assert isinstance(agent.ask("billing.refund", args={"amount": amount}), Granted)
    (unpinned, hundred, two_hundred) = [one for one in agent.bundle if one.audience == "billing"]
    asks = [Ask.of("billing.refund", args=args) for args in (None, {"amount": 100}, {"amount": 200}, {"*": 1})]
    assert [is_limited_grant(one, ask) for one in (unpinned, hundred, two_hundred) for ask in asks] == [
        *(False, False, False, False),
        *(False, True, False, False),
        *(False, False, True, False),
    ]
    assert not is_limited_grant(hundred, Ask.of("billing.refund", "crm", {"amount": 100}))


def test_a_used_up_grant_with_free_arguments_is_asked_for_again() -> None:
    listing = grant("ask") + 'pinned = ["to"]\nallow = ["mail.send"]\n'
    with Authority.temporary(policy=read_policy(policy(listing))) as lab:
        task = refund(lab)
        agent, authority = noting(lab, task)
        sent: list[str] = []

        @lab.tool("mail.send", tenant="Acme")
        def send(to: str, body: str) -> None:
            sent.append(f"{to} {body}")

        for body in ("one", "two"):
            with pytest.raises(Pending) as pending:
                agent.tool(send)("ben", body)
            consent(lab, pending.value.request)
            agent.tool(send)("ben", body)
            # The used-up grant was dropped.
            assert len(agent.bundle) == len(task.bundle) + 1
        assert sent == ["ben one", "ben two"]
        assert len(lab.requests(task=task.id)) == 1
        assert lab.requests(task=task.id)[0].round == 2
        assert all(args["to"] == "ben" for _, args in authority.asked if args is not None)


def test_a_used_up_grant_without_arguments_is_asked_for_again() -> None:
    unpinned = grant("ask") + 'pinned = false\nallow = ["mail.send"]\n'
    with Authority.temporary(policy=read_policy(policy(unpinned))) as lab:
        task = refund(lab)
        agent, authority = noting(lab, task)

        @lab.tool("mail.send", tenant="Acme")
        def send(to: str) -> None:
            del to

        for _ in range(2):
            with pytest.raises(Pending) as pending:
                agent.tool(send)("ben")
            consent(lab, pending.value.request)
            agent.tool(send)("ben")
            assert len(agent.bundle) == len(task.bundle) + 1
        assert {args is None for _, args in authority.asked} == {True}


def test_what_was_minted_with_the_task_is_no_limited_grant(task: OpenedTask) -> None:
    assert not any(is_limited_grant(one, Ask.of("crm.tickets.read")) for one in task.bundle)


def test_several_suggestions_are_asked_for_once() -> None:
    ask = Ask.of("crm.read", "crm", {"name": "Acme"})
    denials = [DenialSummary(ask, ("action_not_allowed",))] * 2
    assert next_asks("crm", denials) == NextAsks((Ask.of("crm.read", "crm"), ask))


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (None, "not_pinned", "(the service did not name them: perhaps they are not valid)"),
        (None, "not_offered", "None of it is offered."),
        ({"name": "Acme"}, "not_pinned", "None of it is offered."),
    ],
)
def test_an_agent_that_lacks_the_arguments_is_told_so(args: dict[str, JSON] | None, code: str, told: str) -> None:
    refused = Refused((Refusal(code, "None of it is offered."),))
    sentence = AskOutcome(Ask.of("crm.read", "crm", args), refused).sentence()
    assert sentence.startswith("the agent asked for more and did not get it: ")
    assert sentence.endswith(told)
