"""The tools that an adapter is given: guarded functions that note when they run, with what, and for which task.

Law: the functions do nothing else, so what they note is all that an adapter let happen.
"""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from capx.authority.authority import Authority
from capx.guard.current import current_allowed

AUDIENCE: Final = "desk"
"""The audience of all tools: the action of the tool `search` is `desk.search`."""
TENANT: Final = "Acme"
"""The tenant that all tools state."""
_TAKES: Final = 0.005
"""Seconds that a search takes, so that calls that are made at once run at the same time."""


class ToolBroke(RuntimeError):
    """What the tool `fail` raises: an error that is none of capx."""


class Ran(Struct, frozen=True):
    """One run of a tool: its name, the arguments that the function got, and the task that the call was allowed for."""

    name: str
    args: dict[str, Any]
    task: str | None


class Tool(Struct, frozen=True):
    """A tool of a row. An adapter makes a tool of its framework of `guarded`, which is a plain or an async function.

    An adapter that guards in a way of its own takes `function`, which is not guarded, and its `action` and `tenant`,
    and gets its verifier from `authority`.
    """

    name: str
    guarded: Callable[..., Any]
    function: Callable[..., Any]
    action: str
    tenant: str
    authority: Authority


def noting_tools(authority: Authority, ran: list[Ran], *, is_async: bool) -> tuple[Tool, ...]:
    """Return the tools of a row, plain or async, which note in `ran` when they run."""

    def note_run(name: str, **args: Any) -> None:
        allowed = current_allowed()
        ran.append(Ran(name, args, None if allowed is None else allowed.task))

    # The annotations are built-in types only: a framework reads them to make a schema, wherever it looks names up.
    def search(query: str, limit: int = 1000) -> str:
        """Search the accounts of the desk."""
        note_run("search", query=query, limit=limit)
        time.sleep(0 if is_async else _TAKES)
        return f"found {query}"

    def read(account: int) -> str:
        """Read one account."""
        note_run("read", account=account)
        return f"account {account}"

    def note(text: str) -> str:
        """Write a note."""
        note_run("note", text=text)
        return f"noted {text}"

    def refund(amount: int) -> str:
        """Refund an amount."""
        note_run("refund", amount=amount)
        return f"refunded {amount}"

    def export(table: str) -> str:
        """Export a table."""
        note_run("export", table=table)
        return f"exported {table}"

    def fail(reason: str) -> str:
        """Fail."""
        note_run("fail", reason=reason)
        raise ToolBroke(reason)

    def finish(summary: str) -> str:
        """End the work."""
        note_run("finish", summary=summary)
        allowed = current_allowed()
        if allowed is not None:
            authority.complete(allowed.task)
        return f"finished {summary}"

    plain: tuple[Callable[..., str], ...] = (search, read, note, refund, export, fail, finish)
    return tuple(_tool(authority, _as_async(one) if is_async else one) for one in plain)


def _tool(authority: Authority, function: Callable[..., Any]) -> Tool:
    name = function.__name__
    action = f"{AUDIENCE}.{name}"
    guarded = authority.tool(action, tenant=TENANT)(function)
    return Tool(name, guarded, function, action, TENANT, authority)


def _as_async(function: Callable[..., str]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> str:
        await asyncio.sleep(_TAKES)
        return function(*args, **kwargs)

    return run
