"""What both clients of MCP put into a request: the presentation, and whether its actor can ask for more.

Law: only an agent with an authority can ask. Nobody else is shown what a list offers to those who can.
"""

from collections.abc import Mapping
from typing import Any

from capx.agent.actor import Actor
from capx.agent.agent import Agent
from capx.api.mcp_messages import LISTS, OwnMeta
from capx.tokens.capability import Presentation


def kind_of(method: str, params: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the kind of a request, as `PassedCapabilities` counts them: its method, and what it names."""
    return method, str((params or {}).get("name", ""))


def own_meta(actor: Actor, method: str, presentation: Presentation | None) -> OwnMeta:
    """Return the members of capx for a request."""
    asks = method in LISTS and isinstance(actor, Agent) and actor.can_ask
    return OwnMeta(None if presentation is None else presentation.text, asks)
