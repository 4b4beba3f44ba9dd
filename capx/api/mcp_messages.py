"""What capx adds to messages of the Model Context Protocol, and how it answers with a refusal there.

A client puts a presentation into `_meta` of a request. It is bound to the method and to all params but `_meta`:

    request   {"method": "tools/call", "params": {"name": "read", "arguments": {"path": "/a"},
                                                  "_meta": {"dev.capx/presentation": "capx1_…"}}}
    bound to  McpRequest(method="tools/call", params={"name": "read", "arguments": {"path": "/a"}})

Over HTTP, the header `Capx-Presentation` repeats it.

Laws: a token never travels, only presentations, each worth one call. A refused tool call is answered with a result that
a model can read; any other refused request with an error. Members of capx are taken out of a request before a server
sees it, and no server can write one into an answer.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from capx.api.jsonrpc import Id, Message, Notification, Object, object_or_none
from capx.api.problems import OURS, from_denial
from capx.errors import CapxError, InvalidRequest, Unavailable
from capx.tokens.binding import McpRequest
from capx.verify.ask import Pending
from capx.verify.decision import Denied

_OWN: Final = "dev.capx/"
PRESENTATION: Final = "dev.capx/presentation"
"""The member of a request's `_meta` with the presentation."""
HEADER: Final = "Capx-Presentation"
"""The header of HTTP that repeats the presentation, so that a guard can look at it before it reads the message."""
ASKS: Final = "dev.capx/asks"
"""The member of a list request's `_meta` that is true if the client can ask for more."""
PROBLEM: Final = "dev.capx/problem"
"""The member of a result's `_meta` with the problem details of a denial."""
PENDING: Final = "dev.capx/pending"
"""The member of a result's `_meta` that says which person the call waits for."""

PROTOCOL_PREFIX: Final = "io.modelcontextprotocol/"
"""How the members of `_meta` begin that are MCP's own."""
PROTOCOL_VERSION: Final = f"{PROTOCOL_PREFIX}protocolVersion"
"""The member of a request's `_meta` that names the version of MCP."""
_WITH_RESULT_TYPE: Final = "2026-07-28"
"""The first version of MCP whose results have a type, and whose requests name their version."""

INITIALIZE: Final = "initialize"
INITIALIZED: Final = "notifications/initialized"
CANCELLED: Final = "notifications/cancelled"
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
"""The notification by which a server says that its tools have changed."""
OPEN: Final = frozenset({INITIALIZE, "ping", "server/discover", "logging/setLevel", "resources/unsubscribe"})
"""Methods that anybody may use: they show nothing of a server but its name and what it can do."""
LIST_TOOLS: Final = "tools/list"
LIST_PROMPTS: Final = "prompts/list"
LISTS: Final = {
    LIST_TOOLS: "tools",
    LIST_PROMPTS: "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
"""The methods that list something, and the member of the result that holds it."""
CALL: Final = "tools/call"
_WITH_ARGUMENTS: Final = frozenset({CALL, "prompts/get"})


class OwnMeta(Struct, frozen=True):
    """What a request says in the members of capx."""

    presentation: str | None = None
    asks: bool = False


def bound_request(method: str, params: Mapping[str, Any] | None) -> McpRequest:
    """What the presentation of a request is bound to; InvalidCaveat for what cannot be presented.

    For `tools/call` and `prompts/get`, arguments that are absent or null count as `{}`.
    """
    sent = {name: value for name, value in (params or {}).items() if name != "_meta"}
    if method in _WITH_ARGUMENTS:
        sent["arguments"] = {} if sent.get("arguments") is None else sent["arguments"]
    return McpRequest(method=method, params=sent)


def with_own(params: Mapping[str, Any] | None, own: OwnMeta) -> Object:
    """Return the params of a request with these members of capx, and no others."""
    clean, _ = without_own(params)
    added: Object = {} if own.presentation is None else {PRESENTATION: own.presentation}
    if own.asks:
        added[ASKS] = True
    if not added:
        return clean or {}
    params = clean or {}
    return {**params, "_meta": {**(params.get("_meta") or {}), **added}}


def without_own(params: Mapping[str, Any] | None) -> tuple[Object | None, OwnMeta]:
    """Return the params without the members of capx, and what those said; InvalidRequest if they are not valid."""
    if params is None:
        return None, OwnMeta()
    if (found := params.get("_meta")) is None:
        return dict(params), OwnMeta()
    if (meta := object_or_none(found)) is None:
        raise InvalidRequest("`_meta` of a request is an object")
    presentation, asks = meta.get(PRESENTATION), meta.get(ASKS, False)
    if not (presentation is None or isinstance(presentation, str)) or not isinstance(asks, bool):
        raise InvalidRequest(f"`{PRESENTATION}` is a text, and `{ASKS}` is true or false")
    return _without(params), OwnMeta(presentation, asks)


def without_own_in_result(result: Any) -> Any:
    """Return a result of a server without members of capx, which only a guard may write."""
    found = object_or_none(result)
    return result if found is None else _without(found)


def without_own_in_error(data: Any) -> Any:
    """Return the data of a server's error; None if they are problem details of capx, which only a guard may write."""
    kind = (object_or_none(data) or {}).get("type")
    return None if isinstance(kind, str) and kind.startswith(OURS) else data


def _without(holder: Mapping[str, Any]) -> Object:
    meta = object_or_none(holder.get("_meta"))
    if meta is None or not any(name.startswith(_OWN) for name in meta):
        return dict(holder)
    return {**holder, "_meta": {name: value for name, value in meta.items() if not name.startswith(_OWN)}}


def meta_of(params: Mapping[str, Any] | None) -> Object:
    """Return the `_meta` of params or of a result; {} if it has none, or one that is no object."""
    return object_or_none((params or {}).get("_meta")) or {}


def cancelled_id(message: Message) -> Id | None:
    """Return the id of the request that a message cancels; None if it cancels none."""
    if not isinstance(message, Notification) or message.method != CANCELLED:
        return None
    id = (message.params or {}).get("requestId")
    return id if isinstance(id, Id) and not isinstance(id, bool) else None


def names_version(params: Mapping[str, Any] | None) -> bool:
    """Whether a request is of a version of MCP whose results have a type."""
    named = meta_of(params).get(PROTOCOL_VERSION)
    # Versions are dates, so they are ordered as texts.
    return isinstance(named, str) and named >= _WITH_RESULT_TYPE


class Refusal(Struct, frozen=True):
    """How a refused request is answered: by a result, or by an error of this code."""

    result: Object | None = None
    code: int = 0
    message: str = ""
    data: Any = UNSET


def refusal(method: str, error: CapxError, *, typed: bool, text: str | None = None) -> Refusal:
    """The answer to a request that was refused: Denied, Pending or Unavailable.

    `typed` says that results have a type (`names_version`). `text` is what a model reads instead of the error's own.
    """
    said = str(error) if text is None else text
    facts: Object = {}
    if isinstance(error, Denied):
        facts = {PROBLEM: error.problem()}
    elif isinstance(error, Pending):
        facts = {PENDING: {"request": error.request, "until": error.until, "approvers": list(error.approvers)}}
    if method != CALL:
        code = error.status if isinstance(error, Denied) else 503 if isinstance(error, Pending | Unavailable) else 400
        return Refusal(code=code, message=said, data=next(iter(facts.values()), UNSET))
    result: Object = {"content": [{"type": "text", "text": said}], "isError": True}
    if facts:
        result["_meta"] = facts
    return Refusal({**result, "resultType": "complete"} if typed else result)


def denial_in_result(result: Any, audience: str) -> Denied | None:
    """Return the denial by this audience that a result of a tool call holds; None if it is the tool's own result."""
    found = object_or_none(result)
    if found is None or found.get("isError") is not True:
        return None
    return _denial(meta_of(found).get(PROBLEM), audience)


def denial_in_error(error: Any, audience: str) -> Denied | None:
    """Return the denial by this audience that the error of a response holds; None if it is another error."""
    return _denial((object_or_none(error) or {}).get("data"), audience)


def _denial(found: Any, audience: str) -> Denied | None:
    return from_denial(msgspec.json.encode(found), audience, only_ours=True)
