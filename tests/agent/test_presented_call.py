"""One call to a resource that names its action itself: which capabilities are tried, what is asked for, how it ends."""

import asyncio
from collections.abc import Callable

import pytest

from capx.agent.agent import Agent
from capx.agent.presented_call import MAX_ATTEMPTS, PassedCapabilities, PresentedCall, send_call
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.errors import InvalidRequest, Unavailable
from capx.tokens.binding import ToolCall
from capx.tokens.bundle import Bundle
from capx.tokens.capability import Presentation
from capx.verify.ask import Ask
from capx.verify.decision import NO_TOKEN, Denied
from capx_caveats import Call, Refusal, action, max_hops, one_of
from tests.labs.asking_agent import noting

REQUEST = ToolCall("mcp.tools.call", {"name": "accounts", "arguments": {}})
"""What is sent; the resource makes the call of it."""
Call_ = Callable[[PresentedCall, Callable[[Presentation | None], str]], str]


@pytest.fixture(params=["plain", "async"])
def sent(request: pytest.FixtureRequest) -> Call_:
    def in_loop(call: PresentedCall, send: Callable[[Presentation | None], str]) -> str:
        async def send_async(presentation: Presentation | None) -> str:
            return send(presentation)

        return asyncio.run(send_call(call, send_async))

    return in_loop


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


@pytest.mark.parametrize(
    ("more", "tried"),
    [(MAX_ATTEMPTS - 1, [0, 1, 2, 3, 4, 5, 6, 7]), (MAX_ATTEMPTS + 2, [0, 1, 2, 3, 10, 9, 8, 7])],
)
def test_so_many_capabilities_are_tried_and_no_more(
    lab: Authority, task: OpenedTask, sent: Call_, more: int, tried: list[int]
) -> None:
    (held,) = task.bundle.candidates("crm")
    bundle = Bundle([held, *(held.attenuate(max_hops(number + 1)) for number in range(more))])
    newest_first = [one.caveats for one in bundle.candidates("crm")]
    verifier, seen = lab.verifier("crm"), list[int]()

    def silent(presentation: Presentation | None) -> str:
        assert presentation is not None
        seen.append(newest_first.index(presentation.caveats[:-1]))
        raise verifier.denial(Refusal("wrong_tenant", "another tenant", "its own"))

    with pytest.raises(Denied) as denied:
        sent(presented(Agent(bundle)), silent)
    assert seen == tried
    left = "3 more capabilities for crm were not tried"
    assert (left in " ".join(denied.value.notes)) is (more >= MAX_ATTEMPTS)


def test_what_the_arguments_rule_out_is_not_tried(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    only = [lab.mint(task.id, allow=[action("crm.tickets.read", args={"of": one_of(of)})]) for of in "abc"]
    verifier, seen = lab.verifier("crm"), list[object]()

    def of_a(presentation: Presentation | None) -> str:
        assert presentation is not None
        seen.append(presentation)
        admitted = verifier.admit(presentation.text, REQUEST)
        admitted.judge(Call("crm.tickets.read", {"of": "a"}, admitted.tenant), sent=True)
        return "done"

    assert sent(presented(Bundle([one for bundle in only for one in bundle])), of_a) == "done"
    assert len(seen) == 2


WRONG_TENANT = Refusal("wrong_tenant", "another tenant", "its own")
NOT_ALLOWED = Refusal("action_not_allowed", "not allowed", "another action")


@pytest.mark.parametrize(
    ("refusals", "reported"),
    [
        ([NOT_ALLOWED, WRONG_TENANT], 1),
        ([WRONG_TENANT, NOT_ALLOWED], 0),
        ([WRONG_TENANT, WRONG_TENANT], 0),
        ([NOT_ALLOWED, NOT_ALLOWED], 0),
    ],
)
def test_the_first_denial_that_says_most_is_raised(
    lab: Authority, task: OpenedTask, sent: Call_, refusals: list[Refusal], reported: int
) -> None:
    (held,) = task.bundle.candidates("crm")
    verifier = lab.verifier("crm")
    denials = [verifier.denial(refusal) for refusal in refusals]
    left = iter(denials)

    def refusing(presentation: Presentation | None) -> str:
        raise next(left)

    with pytest.raises(Denied) as denied:
        sent(presented(Bundle([held, held.attenuate(max_hops(5))])), refusing)
    assert denied.value is denials[reported]


def test_a_denial_after_a_grant_replaces_the_one_before(lab: Authority, task: OpenedTask, sent: Call_) -> None:
    agent, _ = noting(lab, task)
    verifier = lab.verifier("crm")
    needed = Ask.of("crm.accounts.read", "crm", None)
    first = Denied(verifier.denial(WRONG_TENANT).decision, needed)
    second = verifier.denial(Refusal("argument_refused", "too large", "less"))
    left = iter([first, second])

    def refusing(presentation: Presentation | None) -> str:
        raise next(left)

    with pytest.raises(Denied) as denied:
        sent(presented(agent), refusing)
    assert denied.value is second
