"""The call that a request of MCP is: of a tool, a prompt, a resource, or a method that only the table knows.

Law: a request is one call, with arguments that have names, or it is not served. A completion is the call of what it
completes, so that nobody learns by it what a call would show.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from capx.api.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Object, object_or_none
from capx.api.mcp_messages import CALL
from capx.errors import CapxError
from capx.guard.call_facts import CallFacts
from capx.guard.mcp.table import Kind, ToolSpec, ToolTable
from capx_caveats import JSON, shown


class Unserved(CapxError):
    """A request that the gate does not serve, whoever sends it: `code` is that of JSON-RPC."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class RequestedCall(Struct, frozen=True):
    """The spec of the call, the name of the tool or the like, and the arguments."""

    spec: ToolSpec
    name: str
    arguments: Object

    @property
    def sent(self) -> Mapping[str, JSON]:
        """The arguments as caveats see them."""
        return self.spec.stated(self.arguments, {}).args

    def facts(self, defaults: Mapping[str, JSON]) -> CallFacts:
        """Return the facts of the call; `defaults` are those of the arguments that were left out."""
        spec, stated = self.spec, self.spec.stated(self.arguments, defaults)
        return CallFacts(
            spec.action,
            stated.args,
            tenant=spec.tenant,
            attributes=spec.attributes,
            cost=spec.cost,
            sent=True,
            defaults=stated.defaults,
        )


def requested_call(table: ToolTable, method: str, params: Object) -> RequestedCall:
    """Return the call that a request of this method is; Unserved if it is none that the table knows."""
    if method == CALL:
        return _named(table, "tool", _text(params, "name"), _arguments(params))
    if method == "prompts/get":
        return _named(table, "prompt", _text(params, "name"), _arguments(params))
    if method in ("resources/read", "resources/subscribe"):
        return _resource(table, params)
    if method == "completion/complete":
        return _completed(table, params)
    if (spec := table.spec("method", method)) is None:
        raise Unserved(f"the guard of this server does not know {method!r:.80}", METHOD_NOT_FOUND)
    return RequestedCall(spec, method, {name: value for name, value in params.items() if name != "_meta"})


def _completed(table: ToolTable, params: Object) -> RequestedCall:
    what = object_or_none(params.get("ref")) or {}
    if what.get("type") == "ref/resource":
        return _resource(table, what)
    argument = object_or_none(params.get("argument")) or {}
    # Beside it, the client sends the arguments that are known already.
    known = _arguments(object_or_none(params.get("context")) or {})
    if (name := _text(argument, "name")) in known:
        raise Unserved(f"the argument {shown(name)} is sent twice", INVALID_PARAMS)
    return _named(table, "prompt", _text(what, "name"), {**known, name: _text(argument, "value")})


def _resource(table: ToolTable, params: Object) -> RequestedCall:
    uri = _text(params, "uri")
    return RequestedCall(table.resource_spec(), uri, {"uri": uri})


def _named(table: ToolTable, kind: Kind, name: str, arguments: Object) -> RequestedCall:
    if (spec := table.spec(kind, name)) is None:
        # As a server says it: whoever may not know of a tool need not learn that there is one.
        raise Unserved(f"Unknown {kind}: {name!r:.80}", INVALID_PARAMS)
    return RequestedCall(spec, name, arguments)


def _text(params: Mapping[str, Any], name: str) -> str:
    if not isinstance(found := params.get(name), str):
        raise Unserved(f"`{name}` is missing, or is no text", INVALID_PARAMS)
    return found


def _arguments(params: Mapping[str, Any]) -> Object:
    if (found := params.get("arguments")) is None:
        return {}
    if (arguments := object_or_none(found)) is None:
        raise Unserved("`arguments` is an object", INVALID_PARAMS)
    return arguments
