"""The request that a presentation binds a token to: one tool call, one HTTP request, or one request of MCP.

Law: the digest covers every part of the request that decides what happens, as it was sent. It is SHA-256 over canonical
JSON (RFC 8785).
"""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import ClassVar

from msgspec import Struct

from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.errors import InvalidRequest
from capx_caveats import JSON, demand_dict, demand_json, is_action

WINDOW_BEFORE = 5
"""Seconds by which the clock of the presenting agent may be ahead."""
WINDOW_AFTER = 60
"""Seconds for which a presentation is good after it was made."""
CLOCKS_APART = 10
"""Seconds between the clocks of two resource processes, at most: each is within 5 seconds of the true time."""
OPEN_WINDOWS = WINDOW_AFTER + WINDOW_BEFORE + CLOCKS_APART + 1
"""Seconds from now, by the clock of any of these processes, within which every window ends that is open at one of them.

The process whose clock is ahead takes presentations that were made WINDOW_BEFORE seconds after its own time. One second
more, because times are whole seconds.
"""


class ToolCall(Struct, frozen=True):
    """An action and its arguments as they were sent, without the defaults that the service fills in.

    `args` is a plain dict, or a read-only view of one. InvalidCaveat for arguments that are not JSON.
    """

    profile: ClassVar[str] = "tool"

    action: str
    args: Mapping[str, JSON] = MappingProxyType({})

    def __post_init__(self) -> None:
        if not is_action(self.action):
            raise InvalidRequest(f"{self.action!r:.80} is not an action: labels joined by dots")
        demand_dict(self.args)
        demand_json(dict(self.args))

    def digest(self) -> str:
        """The SHA-256 that the presentation carries, in base64url; InvalidCaveat for arguments that are not JSON."""
        # The action needs no JSON escapes, and the members are in canonical order already.
        members = b'{"action":"%b","args":%b}' % (self.action.encode(), canonical(dict(self.args)))
        return b64u(sha256(members).digest())


class HttpRequest(Struct, frozen=True, kw_only=True):
    """An HTTP request as it goes over the wire.

    `target` is the raw path as sent, then `?` and the query, if it is not empty, in ASCII. An absent header is None.
    A request that repeats one of these headers cannot be presented.
    """

    profile: ClassVar[str] = "http"

    method: str
    target: str
    content_type: str | None = None
    content_encoding: str | None = None
    body: bytes = b""

    def __post_init__(self) -> None:
        if not (self.target.isascii() and self.target.startswith("/")):
            raise InvalidRequest("a request's target is its raw path and query, in ASCII, and begins with /")

    def digest(self) -> str:
        """The SHA-256 that the presentation carries, in base64url."""
        return b64u(
            sha256(
                canonical(
                    {
                        "method": self.method,
                        "target": self.target,
                        "content_type": self.content_type,
                        "content_encoding": self.content_encoding,
                        "body_sha256": b64u(sha256(self.body).digest()),
                    }
                )
            ).digest()
        )


class McpRequest(Struct, frozen=True, kw_only=True):
    """A request of the Model Context Protocol: its method, and its params as they are sent, without `_meta`.

    `params` is a plain dict, or a read-only view of one. InvalidCaveat for params that are not JSON.
    """

    profile: ClassVar[str] = "mcp"

    method: str
    params: Mapping[str, JSON] = MappingProxyType({})

    def __post_init__(self) -> None:
        demand_dict(self.params)
        demand_json(dict(self.params))

    def digest(self) -> str:
        """The SHA-256 that the presentation carries, in base64url; InvalidCaveat for params that are not JSON."""
        return b64u(sha256(canonical({"method": self.method, "params": dict(self.params)})).digest())


Received = ToolCall | HttpRequest | McpRequest
"""The request that a resource received, or that an agent is about to send."""
