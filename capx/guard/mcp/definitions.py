"""What a server says of its tools: the schema of their arguments, and a digest by which an operator approves them.

Laws:

- The digest covers the whole definition but `_meta`, so no description and no schema changes unseen. It is whole,
  because a server that writes two definitions must not find two with one digest.
- Only definitions that are wanted are kept, and one page of a list at a time: a server can list without end.
- A definition that was read before the tools changed is never used after it. A server need not say that they changed:
  so a definition is used for some seconds at most.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from capx.api.jsonrpc import INTERNAL_ERROR, Object, list_or_empty, object_or_none
from capx.api.mcp_messages import LIST_TOOLS
from capx.crypto.base64url import b64u
from capx.crypto.canonical_json import canonical
from capx.guard.mcp.arguments import Schema
from capx.guard.mcp.requested_call import Unserved
from capx_caveats import InvalidCaveat

Lister = Callable[[str, Object], Awaitable[Any]]
"""Sends a list request of the guard to the server itself, with its params, and returns the result."""

KEPT: Final = 5.0
"""Seconds for which a definition is used after it was read."""
_MOST_READINGS: Final = 3
"""How often the list is read for one call, if the tools change while it is read."""
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


class Reading:
    """What lists show that are asked for from one time on, until the tools change."""

    def __init__(self, since: float, wanted: Callable[[str], bool]) -> None:
        self.since = since
        self._wanted = wanted
        self.is_stale = False
        """Whether the server says that its tools have changed since."""
        self.known: dict[str, Definition] = {}

    def learn(self, page: Any) -> None:
        """Note the tools of one page of a list that was asked for in this reading."""
        for tool in tools_in(page):
            if isinstance(name := tool.get("name"), str) and self._wanted(name):
                self.known[name] = Definition(tool)


class Definitions:
    """The definitions that lists have shown, each used for `kept` seconds. `clock` is in seconds, and monotonic.

    `wanted` says of the name of a tool whether its definition is.
    """

    def __init__(
        self,
        wanted: Callable[[str], bool],
        kept: float = KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = wanted
        self._kept = kept
        self._clock = clock
        self._reading = Reading(clock(), wanted)

    def reading(self) -> Reading:
        """Return the reading to which a list belongs that is asked for now."""
        now = self._clock()
        if now - self._reading.since >= self._kept:
            self._reading = Reading(now, self._wanted)
        return self._reading

    def forget(self) -> None:
        """Read the list again before the next call: the server says that its tools have changed."""
        self._reading.is_stale = True
        self._reading = Reading(self._clock(), self._wanted)

    async def get(self, name: str, lister: Lister) -> Definition | None:
        """Return the definition of a tool, from the server's list if none has shown it; None if there is no such.

        Raises Unserved if the tools change again and again while they are read.
        """
        for _ in range(_MOST_READINGS):
            reading = self.reading()
            if name in reading.known:
                return reading.known[name]
            async for page in pages(lister, LIST_TOOLS):
                reading.learn(page)
            if not reading.is_stale:
                return reading.known.get(name)
        raise Unserved("the tools of this server change all the time: call again later", INTERNAL_ERROR)


async def pages(lister: Lister, method: str) -> AsyncGenerator[Any]:
    """Yield the pages of a whole list."""
    params: Object = {}
    for _ in range(_MOST_PAGES):
        page = await lister(method, params)
        yield page
        cursor = (object_or_none(page) or {}).get("nextCursor")
        if not isinstance(cursor, str):
            return
        params = {"cursor": cursor}


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
