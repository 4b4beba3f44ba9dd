"""Presents the requests of an MCP client that knows nothing of capx, and asks for more when one is denied.

Laws: a request is presented at one audience, that of the server. A denial is asked about only at that audience. A
request that was denied is sent again, after its denial has come. A request that its client has
cancelled is not sent again, also if somebody approves it later. What opens a session is not presented: it shows
nothing.
"""

from msgspec import UNSET

from capx.agent.actor import Actor
from capx.agent.mcp_request import kind_of, own_meta
from capx.agent.presented_call import PassedCapabilities, PresentedCall, send_call
from capx.api.jsonrpc import INVALID_PARAMS, Notification, Request, Response, failure
from capx.api.mcp_messages import CALL, OPEN, OwnMeta, bound_request, denial_in_error, denial_in_result, with_own
from capx.api.relay.refusals import REFUSALS, refused
from capx.api.relay.relay import Ask
from capx.errors import InvalidCaveat, InvalidRequest
from capx.tokens.capability import Presentation


class PresentHandler:
    """Sends the requests of a client as an actor, to a server of this audience."""

    def __init__(self, actor: Actor, audience: str) -> None:
        self._actor = actor
        self._audience = audience
        self._passed = PassedCapabilities()

    async def answer(self, request: Request, size: int, ask: Ask) -> Response:  # noqa: ARG002 # a handler's signature
        """Return the server's answer, or why the request was not allowed, with what came of asking for it."""
        if request.method in OPEN:
            return await ask(Request(request.id, request.method, with_own(request.params, OwnMeta()) or None))
        try:
            received = bound_request(request.method, request.params)
            kind = kind_of(request.method, request.params)
            call = PresentedCall(received, self._audience, self._actor, self._passed, kind)
            return await send_call(call, lambda presentation: self._send(request, presentation, ask))
        except REFUSALS as error:
            return refused(request, error)
        except (InvalidRequest, InvalidCaveat) as error:
            why = f"this request cannot be presented: {error}. Nothing was done"
            return refused(request, error, why) if request.method == CALL else failure(request.id, INVALID_PARAMS, why)

    async def _send(self, request: Request, presentation: Presentation | None, ask: Ask) -> Response:
        own = own_meta(self._actor, request.method, presentation)
        response = await ask(Request(request.id, request.method, with_own(request.params, own)))
        if response.error is not UNSET:
            denied = denial_in_error(response.error, self._audience)
        else:
            denied = denial_in_result(response.result, self._audience) if request.method == CALL else None
        if denied is not None:
            raise denied
        return response

    def passing(self, notification: Notification) -> Notification | None:
        """Return the notification: nobody judges it."""
        return notification

    def noted(self, notification: Notification) -> None:
        """Nothing changes for the presenter."""
