"""One call to a resource that names its action itself: which capabilities are tried, what is asked for, how it ends."""

import asyncio
from collections.abc import Callable

import pytest

from capx.agent.agent import Agent
from capx.agent.presented_call import MAX_ATTEMPTS, PassedCapabilities, PresentedCall, send_call, send_call_async
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import InvalidRequest, Unavailable
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Presentation
from capx.verify.ask import Ask
from capx.verify.decision import NO_TOKEN, Denied
from capx_caveats import Call, Refusal, max_hops
from tests.labs.asking_agent import noting

REQUEST = ToolCall("mcp.tools.call", {"name": "accounts", "arguments": {}})
"""What is sent; the resource makes the call of it."""
Call_ = Callable[[PresentedCall, Callable[[Presentation | None], str]], str]


@pytest.fixture(params=["plain", "async"])
def sent(request: pytest.FixtureRequest) -> Call_:
    def in_loop(call: PresentedCall, send: Callable[[Presentation | None], str]) -> str:
        async def send_async(presentation: Presentation | None) -> str:
            return send(presentation)

        return asyncio.run(send_call_async(call, send_async))

    return send_call if request.param == "plain" else in_loop


class Resource:
    """Judges each request as one action, and notes how many presentations it got."""

    def __init__(self, lab: Authority, action: str, audience: str = "crm") -> None:
        self.verifier = lab.verifier(audience)
        self.action = action
        self.got: list[Presentation | None] = []

    def __call__(self, presentation: Presentation | None) -> str:
        self.got.append(presentation)
        if presentation is None:
            denied = self.verifier.denial(NO_TOKEN, self.action)
            raise Denied(denied.decision, Ask.of(self.action, self.verifier.audience, None, None))
        admitted = self.verifier.admit(presentation.text, REQUEST)
        admitted.judge(Call(self.action, {}, admitted.tenant), sent=True)
        return "done"


def presented(actor: Agent | Bundle, audience: str = "crm") -> PresentedCall:
    return PresentedCall(REQUEST, audience, actor, PassedCapabilities(), ("tools/call", "accounts"))


def test_an_allowed_call_is_presented_once(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    resource = Resource(lab, "crm.tickets.read")
    assert sent(presented(task.bundle), resource) == "done"
    assert len(resource.got) == 1


def test_what_the_resource_names_is_asked_for(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    agent, authority = noting(lab, task)
    resource = Resource(lab, "crm.accounts.read")
    assert sent(presented(agent), resource) == "done"
    assert authority.asked == [("crm.accounts.read@crm", None)]
    assert len(resource.got) == 2


def test_an_agent_that_holds_nothing_there_asks(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    agent, authority = noting(lab, task)
    resource = Resource(lab, "sms.send", "sms")
    assert sent(presented(agent, "sms"), resource) == "done"
    assert resource.got[0] is None
    assert authority.asked == [("sms.send@sms", None)]


def test_a_bundle_that_holds_nothing_there_sends_nothing(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    resource = Resource(lab, "sms.send", "sms")
    with pytest.raises(InvalidRequest, match="holds nothing for 'sms'"):
        sent(presented(task.bundle, "sms"), resource)
    assert resource.got == []


def test_a_denial_says_why_nothing_was_granted(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    agent, _ = noting(lab, task)
    with pytest.raises(Denied) as denied:
        sent(presented(agent), Resource(lab, "crm.export"))
    assert denied.value.code == "action_not_allowed"
    assert "did not get it" in denied.value.notes[0]


def test_401_ends_the_call_at_once(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    agent, authority = noting(lab, task)
    resource = Resource(lab, "crm.accounts.read")
    given: list[Presentation] = []

    def replaying(presentation: Presentation | None) -> str:
        assert presentation is not None
        given.append(presentation)
        resource.verifier.admit(presentation.text, REQUEST)
        return resource(presentation)

    with pytest.raises(Denied) as denied:
        sent(presented(agent), replaying)
    assert denied.value.code == "replayed"
    assert len(given) == 1
    assert authority.asked == []


def test_503_is_unavailable_and_no_refusal(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    verifier = lab.verifier("crm")

    def unable(presentation: Presentation | None) -> str:
        raise verifier.denial(Refusal("unavailable", "the disk is full", "try again"), "crm.tickets.read")

    with pytest.raises(Unavailable, match="the disk is full") as error:
        sent(presented(task.bundle), unable)
    assert isinstance(error.value.__cause__, Denied)


def test_so_many_capabilities_are_tried_and_no_more(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    (held,) = task.bundle.candidates("crm")
    others = [held.attenuate(max_hops(number + 1)) for number in range(MAX_ATTEMPTS + 2)]
    bundle = Bundle([held, *others])
    verifier, seen = lab.verifier("crm"), list[object]()

    def silent(presentation: Presentation | None) -> str:
        seen.append(presentation)
        raise verifier.denial(Refusal("wrong_tenant", "another tenant", "its own"))

    with pytest.raises(Denied) as denied:
        sent(presented(Agent(bundle)), silent)
    assert len(seen) == MAX_ATTEMPTS
    assert "more capabilities for crm were not tried" in denied.value.notes[0]
