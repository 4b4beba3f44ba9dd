"""Requests of MCP as an agent presents them, and a server that notes what reaches it."""

from collections.abc import Iterable, Mapping
from typing import Any

from capx.api.mcp_messages import OwnMeta, bound_request, with_own
from capx.authority.authority import Authority
from capx.guard.mcp.gate import Entered, Gate
from capx.tokens.capability import Capability
from capx.tokens.lineage import AUTHORITY
from capx_caveats import Entry

READ: dict[str, Any] = {
    "name": "read",
    "description": "Read a file.",
    "inputSchema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "limit": {"type": "integer", "default": 1000}},
    },
}
WRITE: dict[str, Any] = {"name": "write", "description": "Write a file.", "inputSchema": {"type": "object"}}


def held(lab: Authority, *allow: str | Entry, tenant: str | None = "Acme", **parts: Any) -> Capability:
    """The one capability of a new task that is for a service, and not for the authority itself."""
    bundle = lab.open(tenant=tenant, allow=list(allow), **parts).bundle
    (capability,) = (one for one in bundle if one.audience != AUTHORITY)
    return capability


def call(name: str = "read", **arguments: Any) -> dict[str, Any]:
    """The params of a tool call."""
    return {"name": name, "arguments": arguments}


def presented(
    capability: Capability, params: Mapping[str, Any] | None, method: str = "tools/call", *, asks: bool = False
) -> dict[str, Any]:
    """The params of a request, with a presentation of it."""
    return with_own(params, OwnMeta(capability.present(bound_request(method, params)).text, asks))


class Server:
    """Stands behind a gate: it answers lists, and notes every other request that reaches it."""

    def __init__(self, gate: Gate, tools: Iterable[dict[str, Any]] = (READ, WRITE)) -> None:
        self.gate = gate
        self.tools = [*tools]
        self.listed = 0
        self.ran: list[tuple[str, Any]] = []
        self.result: Any = {"content": [{"type": "text", "text": "done"}]}

    async def lists(self, method: str, params: Mapping[str, Any]) -> Any:
        """Answer a list of the guard."""
        self.listed += 1
        return self._list(method)

    def _list(self, method: str) -> Any:
        members: dict[str, Any] = {
            "tools/list": {"tools": self.tools},
            "prompts/list": {"prompts": [{"name": "summary"}, {"name": "other"}]},
            "resources/list": {"resources": [{"uri": "file:///a"}]},
            "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "file:///{a}"}]},
        }
        return members[method]

    async def serve(self, params: Mapping[str, Any] | None, method: str = "tools/call", **how: Any) -> Any:
        """Serve one request as a guarded server does."""
        entered: Entered = await self.gate.enter(method, params, self.lists, **how)
        if entered.result is not None:
            return entered.result
        if method.endswith("/list"):
            return entered.leaving(self._list(method))
        self.ran.append((entered.method, entered.params))
        return entered.leaving(self.result)
