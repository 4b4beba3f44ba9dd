"""A client of MCP servers that presents each request to one audience. Needs mcp, 1.24 or later, or 2.

    import capx
    from capx.agent.mcp_client import present
    from mcp import Client

    async def read(agent, path):
        async with Client("https://files.internal/mcp") as client:
            present(client.session, "files")
            with capx.acting(agent):
                return await client.call_tool("read", {"path": path})

Laws: no token is sent, only presentations, each for one request. When a request is denied, an agent asks for what it
lacks, only at this audience, and sends the request again, as the HTTP client does. A tool call that stays denied has a
result that a model can read: that of the server, with what came of asking. So does a call that waits for a person, and
one that nobody can judge now. If nobody acts, the request is not sent, and InvalidRequest is raised.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from capx.agent.actor import Actor, bundle_of, current_actor, why_nobody_acts
from capx.agent.library_version import demand_library
from capx.agent.mcp_request import kind_of, own_meta
from capx.agent.presented_call import PassedCapabilities, PresentedCall, send_call
from capx.api.jsonrpc import Object, object_or_none
from capx.api.mcp_messages import (
    HEADER,
    LISTS,
    OPEN,
    PRESENTATION,
    OwnMeta,
    bound_request,
    denial_in_error,
    denial_in_result,
    meta_of,
    refusal,
    with_own,
)
from capx.errors import CapxError, ConfigurationProblem, InvalidCaveat, InvalidRequest, Unavailable
from capx.tokens.binding import McpRequest
from capx.tokens.capability import Presentation
from capx.verify.ask import Pending
from capx.verify.decision import Denied

demand_library("mcp", at_least=(1, 24), below=3, extra="mcp")

from mcp.shared import exceptions  # noqa: E402 # its version is checked first

if TYPE_CHECKING:
    from mcp import ClientSession

_Send = Callable[..., Coroutine[Any, Any, Any]]
"""`ClientSession.send_request`: a request, the type of its result, and settings of the SDK."""

# The name in 2, and that in 1.
_ServerError: type[Exception] = getattr(exceptions, "MCPError", None) or vars(exceptions)["McpError"]


def present(session: "ClientSession", audience: str, agent: Actor | None = None) -> None:
    """Have a session present each request to this audience, also those that the SDK sends by itself.

    It presents for `agent`; without one, for whoever acts around each request (`capx.acting`). Raises
    ConfigurationProblem if the session presents already, or is none.
    """
    send: Any = getattr(session, "send_request", None)
    if send is None:
        raise ConfigurationProblem(f"a {type(session).__name__} is no session: pass that of a client, client.session")
    if isinstance(getattr(send, "__self__", None), _Presenting):
        raise ConfigurationProblem("this session presents its requests already: open one session for each audience")
    # An attribute of this one session: all requests of the SDK leave by this method, in 1 and in 2.
    cast("Any", session).send_request = _Presenting(send, audience, agent).send
    # In 1, none: its transport takes no headers of one message.
    dispatcher: Any = getattr(session, "_dispatcher", None)
    if dispatcher is not None:
        dispatcher.send_raw_request = _repeating(dispatcher.send_raw_request)


def _repeating(send: _Send) -> _Send:
    """Have each presentation repeated in a header."""

    async def sent(method: str, params: Object | None, opts: Object | None = None, **more: Any) -> Any:
        shown = meta_of(params).get(PRESENTATION)
        if isinstance(shown, str):
            opts = {**(opts or {}), "headers": {**(opts or {}).get("headers", {}), HEADER: shown}}
        return await send(method, params, opts, **more)

    return sent


class _Presenting:
    """Sends the requests of one session."""

    def __init__(self, send: _Send, audience: str, agent: Actor | None) -> None:
        self._send = send
        self._audience = audience
        self._agent = agent
        self._passed = PassedCapabilities()

    async def send(self, request: Any, result_type: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a request until it passes, or is denied for good."""
        sent: Object = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        method: str = sent["method"]
        if method in OPEN:
            return await self._send(request, result_type, *args, **kwargs)
        actor = current_actor() if self._agent is None else self._agent
        if actor is None:
            raise InvalidRequest(why_nobody_acts())
        try:
            received = bound_request(method, sent.get("params"))
        except InvalidCaveat as error:
            return _answered(method, result_type, InvalidRequest(f"nothing was sent: {error}"))

        async def attempt(own: OwnMeta) -> Any:
            return await self._send(_with_own(request, sent, own), result_type, *args, **kwargs)

        if method in LISTS:
            return await attempt(own_meta(actor, method, self._of_list(actor, received)))
        attempts = _Attempts(self._audience, attempt)
        kind = kind_of(method, object_or_none(sent.get("params")))
        call = PresentedCall(received, self._audience, actor, self._passed, kind)
        try:
            return await send_call(call, attempts.send)
        except Denied as denied:
            return attempts.refused(denied, result_type)
        except (Pending, Unavailable) as error:
            return _answered(method, result_type, error)

    def _of_list(self, actor: Actor, received: McpRequest) -> Presentation | None:
        """Return the presentation of a list, which has one capability; None if the actor holds none for the server."""
        bundle = bundle_of(actor)
        if self._audience not in bundle.audiences:
            return None
        # Who can ask sees what other capabilities would allow, too.
        return bundle.candidates(self._audience)[0].present(received)


class _Attempts:
    """The attempts of one request, and what the server answered to each that it refused."""

    def __init__(self, audience: str, attempt: Callable[[OwnMeta], Coroutine[Any, Any, Any]]) -> None:
        self._audience = audience
        self._attempt = attempt
        self._refusals: list[tuple[Denied, Any]] = []

    async def send(self, presentation: Presentation | None) -> Any:
        """Send the request once; raises Denied if the server's guard refuses it."""
        try:
            answer = await self._attempt(OwnMeta(None if presentation is None else presentation.text))
        except _ServerError as error:
            answer, denied = error, denial_in_error(_wire(cast("Any", error).error), self._audience)
            if denied is None:
                raise
        else:
            denied = denial_in_result(_wire(answer), self._audience) if _is_error(answer) else None
            if denied is None:
                return answer
        # Out of the block: the denial does not carry the SDK's error.
        self._refusals.append((denied, answer))
        raise denied

    def refused(self, denied: Denied, result_type: Any) -> Any:
        """Return the server's result of the refused call, or raise its error, with what came of asking."""
        answer = next((answer for one, answer in self._refusals if one is denied), None)
        if answer is None:
            raise denied
        if isinstance(answer, _ServerError):
            found: Any = answer
            found.error = found.error.model_copy(update={"message": str(denied)})
            if isinstance(answer.args[0], str):
                answer.args = (str(denied),)
            raise answer
        result = {**_wire(answer), "content": [{"type": "text", "text": str(denied)}]}
        return _typed(result, result_type)


def _with_own(request: Any, sent: Object, own: OwnMeta) -> Any:
    """Return the request with these members of capx, and everything else as it would be sent."""
    # In 1, most requests are the root of a union.
    inner: Any = getattr(request, "root", request)
    params = with_own(object_or_none(sent.get("params")), own)
    kind: Any = inner.__class__
    made: Any = kind.model_validate({**sent, "params": params} if params else sent)
    return made if inner is request else type(request)(made)


def _answered(method: str, result_type: Any, error: CapxError) -> Any:
    """Return the result of a tool call that was not made; raise the error for any other request."""
    # The SDK itself adds what the version of the session demands.
    result = refusal(method, error, typed=False).result
    if result is None:
        raise error
    return _typed(result, result_type)


def _typed(result: Object, result_type: Any) -> Any:
    validate = getattr(result_type, "validate_python", None) or result_type.model_validate
    return validate(result)


def _is_error(answer: Any) -> bool:
    # Custom requests may have a dict.
    if (found := object_or_none(answer)) is not None:
        return found.get("isError") is True
    # The name in 2, and that in 1, which FastMCP keeps with a warning.
    is_error: Any = getattr(answer, "is_error", None)
    return is_error is True or (is_error is None and getattr(answer, "isError", None) is True)


def _wire(answer: Any) -> Object:
    return object_or_none(answer) or answer.model_dump(by_alias=True, mode="json", exclude_none=True)
