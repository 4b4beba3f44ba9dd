"""Requests of an MCP client that knows nothing of capx, presented to a gate that is real and in this process."""

import asyncio
from typing import Any

from capx.agent.agent import Agent
from capx.agent.mcp_presenter import PresentHandler
from capx.api.jsonrpc import Notification, Object, Request, Response
from capx.api.mcp_messages import PROBLEM
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.guard.call_facts import GRANTED
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.proxy import GuardHandler
from capx.guard.mcp.table import ToolTable
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from tests.labs.asking_agent import consent, noting

NAMES = ("tickets.read", "accounts.read", "accounts.delete")


class Server:
    """A guarded server of an audience, and what it got behind its guard."""

    def __init__(self, lab: Authority, audience: str = "crm") -> None:
        table = ToolTable(audience, unnamed="default", tenant=GRANTED)
        self.warned: list[str] = []
        self._guard = GuardHandler(Gate(lab.verifier(audience), table), self.warned.append)
        self.asked: list[Request] = []
        self.ran: list[Any] = []

    async def ask(self, request: Request) -> Response:
        self.asked.append(request)
        return await self._guard.answer(request, 100, self._run)

    async def _run(self, request: Request) -> Response:
        if request.method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in (*NAMES, "send")]
            return Response(id=request.id, result={"tools": tools})
        self.ran.append(request.params)
        return Response(id=request.id, result={"content": []})


def answered(server: Server, actor: Agent | Bundle, request: Request, audience: str = "crm") -> Response:
    return asyncio.run(PresentHandler(actor, audience).answer(request, 100, server.ask))


def call(name: str, /, **arguments: Any) -> Request:
    return Request(7, "tools/call", {"name": name, "arguments": arguments})


def text(response: Response) -> str:
    assert response.result["isError"]
    found: str = response.result["content"][0]["text"]
    return found


def names(response: Response) -> list[str]:
    tools: list[Object] = response.result["tools"]
    return [tool["name"] for tool in tools]


def test_an_allowed_call_is_presented_once(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    assert answered(server, task.bundle, call("tickets.read")) == Response(id=7, result={"content": []})
    assert len(server.asked) == 1
    assert "capx1_" not in str(server.ran)


def test_a_denied_call_is_asked_for_and_sent_with_the_same_id(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, authority = noting(lab, task)
    assert answered(server, agent, call("accounts.read")).result == {"content": []}
    assert [request.id for request in server.asked] == [7, 7]
    assert authority.asked == [("crm.accounts.read@crm", None)]


def test_where_nothing_is_held_the_agent_asks_first(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab, "sms")
    agent, authority = noting(lab, task)
    assert text(answered(server, agent, call("send"), "sms")) == "no token was presented"
    assert (authority.asked, server.ran) == ([], [])
    agent.ask("sms.send")
    assert answered(server, agent, call("send"), "sms").result == {"content": []}


def test_a_call_that_stays_denied_says_why(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, _ = noting(lab, task)
    response = answered(server, agent, call("unknown"))
    assert "the agent asked" in text(response)
    assert response.result["_meta"]["dev.capx/problem"]["code"] == "action_not_allowed"
    assert server.ran == []


def test_a_call_that_waits_for_a_person_says_for_whom(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, _ = noting(lab, task)
    request = call("accounts.delete", name="Acme")
    response = answered(server, agent, request)
    assert "Go on with other work" in text(response)
    pending = response.result["_meta"]["dev.capx/pending"]
    assert set(pending) == {"request", "until", "approvers"}
    consent(lab, pending["request"])
    assert answered(server, agent, request).result == {"content": []}


async def test_a_cancelled_call_is_not_sent_after_a_late_yes(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, _ = noting(lab, task, wait=20.0)
    request = call("accounts.delete", name="late")
    calling = asyncio.create_task(PresentHandler(agent, "crm").answer(request, 100, server.ask))
    await asyncio.sleep(0.3)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    waiting = await agent.ask_async("crm.accounts.delete", args={"name": "late"}, wait=0)
    assert isinstance(waiting, Pending)
    consent(lab, waiting.request)
    await asyncio.sleep(0.5)
    assert server.ran == []


def test_what_passed_for_a_tool_is_presented_first(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, _ = noting(lab, task)
    handler = PresentHandler(agent, "crm")

    def attempts(name: str) -> int:
        before = len(server.asked)
        assert asyncio.run(handler.answer(call(name), 100, server.ask)).result == {"content": []}
        return len(server.asked) - before

    names = ("accounts.read", "tickets.read", "tickets.read", "accounts.read")
    assert [attempts(name) for name in names] == [2, 2, 1, 1]


def test_a_denial_of_what_is_no_call_is_asked_about(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    agent, authority = noting(lab, task)
    error = answered(server, agent, Request(1, "resources/read", {"uri": "file:///a"})).error
    assert error["code"] == 403  # type: ignore[index]
    assert "the agent asked" in error["message"]  # type: ignore[index]
    assert authority.asked == [("crm.resource.read@crm", None)]


async def test_only_a_tool_is_denied_by_a_result(task: OpenedTask) -> None:
    problem = {"type": "urn:capx:reason:action_not_allowed", "reasons": [{"code": "action_not_allowed"}]}
    result = {"isError": True, "_meta": {PROBLEM: problem}}

    async def ask(request: Request) -> Response:
        return Response(id=request.id, result=result)

    handler = PresentHandler(task.bundle, "crm")
    answer = await handler.answer(Request(1, "prompts/get", {"name": "a"}), 100, ask)
    assert answer == Response(id=1, result=result)


def test_lists_show_what_may_be_asked_for_to_who_can_ask(lab: Authority, task: OpenedTask) -> None:
    agent, _ = noting(lab, task)
    assert names(answered(Server(lab), agent, Request(1, "tools/list"))) == [*NAMES, "send"]
    for without in (task.bundle, Agent(task.bundle)):
        assert names(answered(Server(lab), without, Request(1, "tools/list"))) == ["tickets.read"]


def test_what_opens_a_session_is_not_presented(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    params = {"a": 1, "_meta": {"dev.capx/presentation": "mine"}}
    answered(server, task.bundle, Request(1, "initialize", params))
    assert server.asked == [Request(1, "initialize", {"a": 1, "_meta": {}})]
    answered(server, task.bundle, Request(2, "ping"))
    assert server.asked[1] == Request(2, "ping")


def test_what_cannot_be_presented_says_what_to_do(lab: Authority, task: OpenedTask) -> None:
    server = Server(lab)
    assert "this request cannot be presented" in text(answered(server, task.bundle, call("tickets.read", id=2**60)))
    response = answered(server, task.bundle, Request(1, "resources/read", {"uri": 2**60}))
    assert response.id == 1
    assert response.error["code"] == -32602  # type: ignore[index]
    assert "this request cannot be presented" in response.error["message"]  # type: ignore[index]
    nothing = answered(server, task.bundle, call("tickets.read"), "hr")
    assert "cannot be presented" in text(nothing)
    assert server.asked == []


def test_an_authority_that_is_away_is_no_refusal(lab: Authority, task: OpenedTask) -> None:
    with Agent(task.bundle, authority="http://127.0.0.1:1") as agent:
        response = answered(Server(lab), agent, call("accounts.read"))
    assert "Nothing was done" in text(response)
    assert "_meta" not in response.result


def test_notifications_pass(task: OpenedTask) -> None:
    handler = PresentHandler(task.bundle, "crm")
    notification = Notification("notifications/initialized")
    assert handler.passing(notification) is notification
    handler.noted(notification)
