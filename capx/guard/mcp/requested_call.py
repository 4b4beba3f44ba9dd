"""The call that a request of MCP is: of a tool, a prompt, a resource, or a method that only the table knows.

Law: a request is one call, with arguments that have names, or it is not served. A completion is the call of what it
completes, so that nobody learns by it what a call would show; its parts have no members but those of MCP.
"""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from capx.api.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Object, object_or_none
from capx.api.mcp_messages import CALL
from capx.errors import CapxError
from capx.guard.call_facts import CallFacts
from capx.guard.mcp.resource_uri import uri_problem
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
        call = _resource(table, params)
        if (why := uri_problem(call.name)) is not None:
            raise Unserved(f"no resource is served by this URI: {why}", INVALID_PARAMS)
        return call
    if method == "completion/complete":
        return _completed(table, params)
    if (spec := table.spec("method", method)) is None:
        raise Unserved(f"the guard of this server does not know {method!r:.80}", METHOD_NOT_FOUND)
    return RequestedCall(spec, method, {name: value for name, value in params.items() if name != "_meta"})


def demand_only(where: str, holder: Object, names: Collection[str]) -> None:
    """Raise Unserved if an object has another member; null counts as absent."""
    for name, value in holder.items():
        if value is not None and name not in names:
            only = ", ".join(sorted(names))
            raise Unserved(
                f"nobody judges the member {shown(name)} of `{where}`, so it is not served: send only {only}",
                INVALID_PARAMS,
            )


def _completed(table: ToolTable, params: Object) -> RequestedCall:
    ref, argument = (object_or_none(params.get(name)) or {} for name in ("ref", "argument"))
    of_resource = ref.get("type") == "ref/resource"
    if not of_resource and ref.get("type") != "ref/prompt":
        raise Unserved("`ref` names neither a prompt nor a resource", INVALID_PARAMS)
    if (context := object_or_none({} if params.get("context") is None else params["context"])) is None:
        raise Unserved("`context` is an object", INVALID_PARAMS)
    # Beside it, the client sends the arguments that are known already.
    known = _arguments(context)
    if (name := _text(argument, "name")) in known:
        raise Unserved(f"the argument {shown(name)} is sent twice", INVALID_PARAMS)
    value = _text(argument, "value")
    demand_only("ref", ref, {"type", "uri" if of_resource else "name"})
    demand_only("argument", argument, {"name", "value"})
    demand_only("context", context, {"arguments"})
    if not of_resource:
        return _named(table, "prompt", _text(ref, "name"), {**known, name: value})
    if not all(isinstance(one, str) for one in known.values()):
        raise Unserved("`arguments` of a resource are texts", INVALID_PARAMS)
    return _resource(table, ref)


def _resource(table: ToolTable, params: Object) -> RequestedCall:
    uri = _text(params, "uri")
    return RequestedCall(table.resource_spec(), uri, {"uri": uri})


def _named(table: ToolTable, kind: Kind, name: str, arguments: Object) -> RequestedCall:
    if (spec := table.spec(kind, name)) is None:
        # As a server says it.
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
