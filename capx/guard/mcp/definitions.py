"""What a server says of its tools: the schema of their arguments, and a digest by which an operator approves them.

Law: the digest covers the whole definition but `_meta`, so no description and no schema changes unseen. It is whole,
because a server that writes two definitions must not find two with one digest.
"""

from collections.abc import Awaitable, Callable
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from capx.api.jsonrpc import Object, list_or_empty, object_or_none
from capx.api.mcp_messages import LIST_TOOLS
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.guard.mcp.arguments import Schema
from capx_caveats import InvalidCaveat

Lister = Callable[[str, Object], Awaitable[Any]]
"""Sends a list request of the guard to the server itself, with its params, and returns the result."""

_MOST_PAGES: Final = 100
"""How many pages of a list the guard reads."""


class Definition:
    """One tool, as the server describes it."""

    def __init__(self, tool: Object) -> None:
        self._tool = tool
        self.schema = Schema(tool.get("inputSchema"))

    @cached_property
    def digest(self) -> str | None:
        """The digest of the definition; None if it has none."""
        return definition_digest(self._tool)


class Definitions:
    """The definitions that lists have shown."""

    def __init__(self) -> None:
        self._known: dict[str, Definition] = {}

    def learn(self, result: Any) -> None:
        """Note the tools of one page of a list."""
        _learn(self._known, result)

    def forget(self) -> None:
        """Read the list again before the next call: the server says that its tools have changed."""
        # A new dict: a list that is being read fills the old one.
        self._known = {}

    async def get(self, name: str, lister: Lister) -> Definition | None:
        """Return the definition of a tool, from the server's list if none has shown it; None if there is no such."""
        if name not in self._known:
            known = self._known
            for page in await listed(lister, LIST_TOOLS):
                _learn(known, page)
            return known.get(name)
        return self._known[name]


def _learn(known: dict[str, Definition], page: Any) -> None:
    for tool in tools_in(page):
        if isinstance(name := tool.get("name"), str):
            known[name] = Definition(tool)


async def listed(lister: Lister, method: str) -> list[Any]:
    """Return the pages of a whole list."""
    pages: list[Any] = []
    params: Object = {}
    for _ in range(_MOST_PAGES):
        page = await lister(method, params)
        pages.append(page)
        cursor = (object_or_none(page) or {}).get("nextCursor")
        if not isinstance(cursor, str):
            break
        params = {"cursor": cursor}
    return pages


def tools_in(result: Any) -> list[Object]:
    """Return the tools of one page of a list."""
    items = list_or_empty((object_or_none(result) or {}).get("tools"))
    return [tool for item in items if (tool := object_or_none(item)) is not None]


def definition_digest(tool: Object) -> str | None:
    """Return the digest of a tool's definition: SHA-256 over canonical JSON, in base64url; None if it has none."""
    try:
        return b64u(sha256(canonical({name: value for name, value in tool.items() if name != "_meta"})).digest())
    except InvalidCaveat:
        return None
