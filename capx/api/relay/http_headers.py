"""The headers of HTTP that repeat what a message says, for those who look at it unread: of MCP, and of capx.

Law: they are written from the message that was read, and never passed on. A server that goes by a header does what the
message says.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from capx.api.jsonrpc import Message, Notification, Object, Request, Response, object_or_none
from capx.api.mcp_messages import CALL, HEADER, PRESENTATION, PROTOCOL_VERSION, meta_of, names_version

SESSION: Final = "mcp-session-id"
VERSION: Final = "mcp-protocol-version"
PRESENTED: Final = HEADER.lower()
_METHOD: Final = "mcp-method"
_NAME: Final = "mcp-name"
_PARAM: Final = "mcp-param-"
_NAMED_BY: Final = {CALL: "name", "prompts/get": "name", "resources/read": "uri"}
"""The member of the params that the name header repeats."""
_ENCODED: Final = "=?base64?"


def media_type(content_type: str) -> str:
    """Return the media type in a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def repeats_message(header: str) -> bool:
    """Whether a header, in lower case, repeats what a message says."""
    return header in (_METHOD, _NAME, PRESENTED) or header.startswith(_PARAM)


def message_headers(message: Message) -> dict[str, str]:
    """Return the headers that repeat a message; those of MCP only in the versions that have them."""
    if isinstance(message, Response):
        return {}
    shown = meta_of(message.params).get(PRESENTATION)
    presented = {PRESENTED: _value(shown)} if isinstance(shown, str) else {}
    return {**presented, **_of_mcp(message)} if names_version(message.params) else presented


def _of_mcp(message: Request | Notification) -> dict[str, str]:
    version = str(meta_of(message.params)[PROTOCOL_VERSION])
    headers = {VERSION: _value(version), _METHOD: _value(message.method)}
    named = _named(message.method, message.params or {}) if isinstance(message, Request) else None
    return headers if named is None else {**headers, _NAME: _value(named)}


def _named(method: str, params: Mapping[str, Any]) -> str | None:
    member = _NAMED_BY.get(method)
    found = None if member is None else params.get(member)
    return found if isinstance(found, str) else None


def _value(text: str) -> str:
    """Return text as the value of a header: in base64 unless it can stand as it is."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith(_ENCODED)
    return text if plain else f"{_ENCODED}{b64encode(text.encode()).decode()}?="


def negotiated_version(result: Any) -> str | None:
    """Return the version of MCP that the result of `initialize` names."""
    found: Object = object_or_none(result) or {}
    version = found.get("protocolVersion")
    return version if isinstance(version, str) and version.isascii() and version.isprintable() else None
