"""What a service received, built from the members of a vector or of a model."""

from typing import Any

from capx.crypto.base64url import unb64u
from capx.tokens.binding import HttpRequest, McpRequest, Received, ToolCall


def as_received(received: dict[str, Any]) -> Received:
    """The call or the request with these members; `profile` says which kind it is."""
    if received["profile"] == "tool":
        return ToolCall(received["action"], received["args"])
    if received["profile"] == "mcp":
        return McpRequest(method=received["method"], params=received["params"])
    parts = {name: value for name, value in received.items() if name not in {"profile", "body"}}
    return HttpRequest(**parts, body=unb64u(received["body"]))
