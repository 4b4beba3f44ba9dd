"""The operations of agents. An agent presents its authority capability, as at any resource.

Laws:

- The head is checked first, as in every guard: the MAC is verified before a byte of the body is read.
- The presentation covers the arguments of the call: the body or the query; of an ask, the tool call with the body as
  arguments. They are not interpreted, and nothing is done, before the call is allowed.
- An operation acts on the task and the node that the presentation proves, and on no other.
"""

from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from capx.api.messages.agents import AgentStatus, Answered, AskApproval, AskMore, RevokeBelow
from capx.api.messages.base import decode, decode_body
from capx.api.messages.outcomes import Ended, Revocation
from capx.api.operation import OperationTable
from capx.api.query_string import demand_short
from capx.authority.authority import Authority
from capx.authority.requests.inheritance import read_asker
from capx.errors import InvalidRequest
from capx.guard.asgi.messages import UnreadableHead, answer_denied, credential, http_request
from capx.guard.asgi.slots import capability_of
from capx.guard.call_facts import CallFacts
from capx.server.faces import asks
from capx.server.faces.redaction import redacted_denial
from capx.server.operation import (
    ROUTE,
    AnyOperation,
    answered,
    body_of,
    demand_json,
    perform,
    read_query,
    route_to,
    unless_gone,
)
from capx.server.service import Service
from capx.tokens.binding import HttpRequest, Received, ToolCall
from capx.tokens.grants import ASK, ASK_APPROVAL
from capx.verify.admitted import Admitted
from capx.verify.decision import Allowed, Denied
from capx.verify.verifier import Authentic

OPERATIONS: Final = OperationTable()
"""All operations of agents."""
operation = OPERATIONS.operation


class Own(Struct, frozen=True):
    """The proven caller."""

    authentic: Authentic
    admitted: Admitted
    allowed: Allowed


@operation("POST", "/agent/ask", action=ASK, answers=Answered)
def agent_ask(authority: Authority, own: Own, asked: AskMore) -> asks.AnsweredAsk:
    """Ask for more. The presentation is of the tool call `grant.request`. `Prefer: wait=SECONDS`: wait 25 s at most."""
    ask = asked.ask()
    return asks.answer(authority, read_asker(own.authentic, ask), ask)


@operation("POST", "/agent/approval", action=ASK_APPROVAL, answers=Answered)
def agent_approval(authority: Authority, own: Own, asked: AskApproval) -> asks.AnsweredAsk:
    """Ask people to approve one call. The presentation is of the tool call `approval.request`; `Prefer` as for asks."""
    ask = asked.ask()
    return asks.answer(authority, read_asker(own.authentic, ask), ask)


@operation("POST", "/agent/complete", action="task.complete", announced=True)
def agent_complete(authority: Authority, own: Own) -> Ended:
    """End the agent's own task because its work is done."""
    return authority.complete(own.allowed.task)


@operation("GET", "/agent/status", action="task.status")
def agent_status(authority: Authority, own: Own) -> AgentStatus:
    """The state of the agent's own task."""
    task = authority.task(own.allowed.task)
    return AgentStatus(task.id, task.state, task.opened, task.expires, task.tenant, task.purpose)


@operation("POST", "/agent/revoke", action="node.revoke", announced=True)
def agent_revoke(authority: Authority, own: Own, asked: RevokeBelow) -> Revocation:
    """Revoke the node that these hops lead to from the agent's own node, and everything below it."""
    return authority.revoke_below(own.allowed.task, own.admitted.path, asked.hops)


class AgentRoute:
    """The endpoint of an operation that needs a presentation, judged for the action of the operation."""

    def __init__(self, operation: AnyOperation, action: str, service: Service) -> None:
        self._operation = operation
        self._action = action
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope[ROUTE] = self._operation.path
        try:
            response = await self._answer(scope, receive)
        except Denied as denied:
            await answer_denied(scope, send, redacted_denial(denied))
        except UnreadableHead as head:
            await answer_denied(scope, send, self._service.verifier.denial(head.refusal))
        else:
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        request = Request(scope, receive)
        token = credential(scope)
        # Reading the caveats may take milliseconds: a caller who has its share already is refused before.
        if (caller := self._service.verifier.capability(token)) is not None:
            self._service.agents.demand_room(caller)
        authentic = self._service.verifier.authenticate(token)
        del token
        caller = capability_of(authentic)
        if self._operation.has_body:
            demand_json(request)
        async with body_of(caller, request, self._service.bodies_of_agents) as body:
            received = http_request(scope, body, "")
            # One thread does all the rest. The guard for applications looks revocations up on the event loop, and that
            # is right only for a SQLite file (decision 23).
            work = self._service.agents.run_for(caller, self._done, authentic, received, request)
            found = await unless_gone(request, work)
        if isinstance(found, asks.AnsweredAsk):
            return await asks.ask_response(self._service, self._operation, request, found)
        return answered(self._operation, found)

    def _done(self, authentic: Authentic, received: HttpRequest, request: Request) -> Any:
        """Check the call and carry it out. Runs in a thread, because each step may wait for the store."""
        operation, service = self._operation, self._service
        presented, args = _presented(operation, self._action, received, request)
        admitted = service.verifier.admit(authentic, presented)
        facts = CallFacts(self._action, args, tenant=admitted.tenant, sent=True)
        allowed = admitted.judge(facts.call(admitted), sent=True)
        own = Own(authentic, admitted, allowed)
        if operation.asks is None:
            if args:
                raise InvalidRequest("this operation takes no arguments: leave body and query empty")
            return perform(operation, service, service.authority, own)
        return perform(operation, service, service.authority, own, decode(received.body, operation.asks))


def _presented(
    operation: AnyOperation, action: str, received: HttpRequest, request: Request
) -> tuple[Received, dict[str, Any]]:
    """What the presentation covers, and the arguments of the call.

    An ask is presented as a tool call, not as an HTTP request. So a reader of the log can compute what the agent signed
    from the ask alone.
    """
    args = _arguments(operation, received, request)
    return (ToolCall(action, args) if action in {ASK, ASK_APPROVAL} else received), args


def _arguments(operation: AnyOperation, received: HttpRequest, request: Request) -> dict[str, Any]:
    """The arguments that the presentation covers. A query is refused where the body holds the arguments."""
    if not operation.has_body:
        demand_short(request.scope["query_string"])
        return dict(request.query_params.multi_items())
    read_query(request)
    return decode_body(received.body or b"{}", dict[str, Any])


def routes(service: Service) -> list[Route]:
    """The routes of all operations of agents."""
    return [route_to(one, AgentRoute(one, one.action, service)) for one in OPERATIONS if one.action is not None]
