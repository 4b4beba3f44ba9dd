"""A guard in a process of its own: it relays to a server that knows nothing of capx.

Laws: the server gets a request only after the gate has let it in, and no member of capx in it. The client gets nothing
that the gate withholds. No server can write a denial: what looks like one in an error of the server is taken out. A
notification that is none of MCP's does not pass, because a server might take it for a call.
"""

from typing import Any, Final

from msgspec import UNSET

from capx.api.jsonrpc import INTERNAL_ERROR, Notification, Object, Request, Response, failure, object_or_none
from capx.api.mcp_messages import without_own, without_own_in_error
from capx.api.relay.connection import Warn
from capx.api.relay.refusals import REFUSALS, refused
from capx.api.relay.relay import Ask, own_id
from capx.errors import InvalidRequest
from capx.guard.mcp.closed_params import client_meta
from capx.guard.mcp.definitions import Lister
from capx.guard.mcp.gate import Gate, Unserved
from capx.verify.verifier import Authentic, Verifier

_NOTIFICATIONS: Final = "notifications/"


class GuardHandler:
    """Answers the requests of a client through a gate."""

    def __init__(self, gate: Gate, warn: Warn) -> None:
        self._gate = gate
        self._warn = warn

    @property
    def verifier(self) -> Verifier:
        """The verifier of the server."""
        return self._gate.verifier

    async def answer(self, request: Request, size: int, ask: Ask, token: Authentic | None = None) -> Response:
        """Return the server's answer to a request that was let in, or the refusal.

        `token` is that of the request's presentation, if its MAC was checked already.
        """
        try:
            lister = _lister(request, ask)
            entered = await self._gate.enter(request.method, request.params, lister, size=size, token=token)
            if entered.result is not None:
                return Response(id=request.id, result=entered.result)
            response = await ask(Request(request.id, request.method, entered.params))
            if response.error is not UNSET:
                return Response(id=request.id, error=_without_own(object_or_none(response.error) or {}))
            return Response(id=request.id, result=entered.leaving(response.result))
        except Unserved as error:
            return failure(request.id, error.code, str(error))
        except REFUSALS as error:
            return refused(request, error)

    def passing(self, notification: Notification) -> Notification | None:
        """Return the notification without members of capx; None if it is none of MCP's."""
        if not notification.method.startswith(_NOTIFICATIONS):
            self._warn("a notification of the client was dropped: it has the name of a request")
            return None
        try:
            params, _ = without_own(notification.params)
        except InvalidRequest as error:
            self._warn(f"a notification of the client was dropped: {error}")
            return None
        return Notification(notification.method, params)

    def noted(self, notification: Notification) -> None:
        """Note that the server's tools have changed."""
        self._gate.noted(notification.method)


def _without_own(error: Object) -> Object:
    """Return an error of a server without problem details of capx."""
    data = without_own_in_error(error.get("data"))
    return error if data is not None else {name: value for name, value in error.items() if name != "data"}


def _lister(request: Request, ask: Ask) -> Lister:
    """Lists for the guard itself, in the version of MCP in which the client speaks."""

    async def listed(method: str, params: Object) -> Any:
        response = await ask(Request(own_id(), method, {**params, **client_meta(request.params)}))
        if response.error is not UNSET:
            raise Unserved("the server does not list its tools, so the guard cannot judge this call", INTERNAL_ERROR)
        return response.result

    return listed
