"""The members of params that reach a server: a closed list for each method of MCP, and for `_meta`.

Laws: a server that goes by a member that nobody judged would do what nobody allowed. So a judged request with any other
member is refused; null counts as absent. Nobody judges an open request, so other members are taken out of it. Of
`_meta`, which no presentation covers, only what MCP names reaches a server. A method that only the table knows has no
list: all its members are arguments.
"""

from collections.abc import Mapping
from typing import Any, Final

from capx.api.jsonrpc import INVALID_PARAMS, Object, object_or_none
from capx.api.mcp_messages import CALL, INITIALIZE, LISTS, PROTOCOL_PREFIX, meta_of
from capx.guard.mcp.requested_call import Unserved, demand_only
from capx_caveats import SAFE_INTEGER

_OF_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    CALL: ("name", "arguments"),
    "prompts/get": ("name", "arguments"),
    "resources/read": ("uri",),
    "resources/subscribe": ("uri",),
    "resources/unsubscribe": ("uri",),
    "completion/complete": ("ref", "argument", "context"),
    **dict.fromkeys(LISTS, ("cursor",)),
    INITIALIZE: ("protocolVersion", "capabilities", "clientInfo"),
    "logging/setLevel": ("level",),
    "ping": (),
    "server/discover": (),
}
_MEMBERS: Final = {method: frozenset({*names, "_meta"}) for method, names in _OF_METHODS.items()}
_OF_CLIENT: Final = frozenset(
    PROTOCOL_PREFIX + name for name in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel")
)
"""What a request of a version of MCP without sessions says of its client in `_meta`."""
_PROGRESS: Final = "progressToken"
_PLAIN: Final = frozenset({_PROGRESS, "traceparent", "tracestate", "baggage"})
"""What MCP names in `_meta` beside that: progress and traces."""
_LONGEST: Final = 8192
"""The most characters of each of these: as long as W3C says that baggage must be able to be."""


def demand_judged(method: str, params: Object) -> None:
    """Raise Unserved if the params of a judged request have what nobody judges."""
    meta = meta_of(params)
    if (object_or_none(meta.get("fastmcp")) or {}).get("version") is not None:
        raise Unserved("the version of a tool cannot be presented, so it cannot be chosen", INVALID_PARAMS)
    demand_only(method, params, _MEMBERS.get(method, params.keys()))
    if method in LISTS and not isinstance(params.get("cursor"), str | None):
        raise Unserved("`cursor` is a text", INVALID_PARAMS)
    for name, value in meta.items():
        if name in _PLAIN and value is not None and not _is_plain(name, value):
            raise Unserved(f"`{name}` in `_meta` is too long or too large, or not of its type", INVALID_PARAMS)


def passing_params(method: str, params: Object | None) -> Object | None:
    """Return what the server gets of the params of a request."""
    if params is None:
        return None
    known = _MEMBERS.get(method, params.keys())
    passing = {name: value for name, value in params.items() if name in known}
    if (meta := passing.pop("_meta", None)) is None:
        return passing
    found = {name: value for name, value in meta.items() if name in _OF_CLIENT or _is_plain(name, value)}
    return {**passing, "_meta": found} if found else passing


def client_meta(params: Mapping[str, Any] | None) -> Object:
    """Return the params with which the guard itself lists for a request: what this says of its client, no more."""
    found = {name: value for name, value in meta_of(params).items() if name in _OF_CLIENT}
    return {"_meta": found} if found else {}


def _is_plain(name: str, value: Any) -> bool:
    """Whether this is a number or a text as MCP has it in a member of this name."""
    if isinstance(value, str):
        return name in _PLAIN and len(value) <= _LONGEST
    # Of exactly this type: true is no number.
    return name == _PROGRESS and type(value) is int and abs(value) <= SAFE_INTEGER
