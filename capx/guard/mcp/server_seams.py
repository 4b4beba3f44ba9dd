"""What the guard has to know of a server of an SDK: its middleware, its tools, and how it takes a refusal. Needs mcp.

Law: what the guard does not find is an error. A guard that stands in the wrong place guards nothing.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, cast, get_args, get_type_hints

from msgspec import Struct

from capx.agent.library_version import demand_library
from capx.api.jsonrpc import object_or_none
from capx.background import without_loop
from capx.errors import ConfigurationProblem
from capx.verify.decision import Denied

demand_library("mcp", at_least=(2,), below=3, extra="mcp-guard")

from mcp.server.lowlevel import Server  # noqa: E402 # its version is checked first
from mcp.server.mcpserver import Context, MCPServer  # noqa: E402
from mcp.shared.exceptions import MCPError  # noqa: E402

Refused = Callable[[Denied], Exception]
"""Makes the error of a denial that the SDK knows: it logs other errors as crashes, with a traceback."""


class RegisteredTool(Struct, frozen=True):
    """A tool of a server, its function, and the names of the arguments that clients send."""

    name: str
    function: Any
    arguments: frozenset[str]


class ServerSeams(Struct, frozen=True):
    """The places of a server at which the guard stands."""

    middleware: list[Any]
    tools: tuple[RegisteredTool, ...]
    refused: Refused
    finder: Any
    """The object by whose `get_tool` the server finds the tool of a call; None if it knows no functions."""

    def check_found(self, checked: Callable[[Any], Any]) -> None:
        """Let the server run what `checked` makes of the tool that it has found."""
        if self.finder is None:
            return
        get_tool = getattr(self.finder, "get_tool", None)
        if get_tool is None:
            raise ConfigurationProblem("this version of the SDK hides from the guard how it finds its tools")

        def found(*args: Any, **kwargs: Any) -> Any:
            tool = get_tool(*args, **kwargs)
            return found_later(tool) if inspect.isawaitable(tool) else checked(tool)

        async def found_later(tool: Any) -> Any:
            return checked(await tool)

        self.finder.get_tool = found


def seams_of(server: Any) -> ServerSeams:
    """Return the seams of an MCPServer, a FastMCP or a low-level Server; ConfigurationProblem if one is not there."""
    if isinstance(server, MCPServer):
        # Private, because the SDK gives away only the descriptions of its tools, and not their functions.
        manager: Any = getattr(cast("Any", server), "_tool_manager", None)
        return _checked(server, lambda: manager.list_tools(), _mcp_error, manager)  # noqa: PLW0108 # it may not be there
    if isinstance(server, Server):
        return _checked(server, tuple, _mcp_error, None)
    if type(server).__module__.partition(".")[0] == "fastmcp":
        # By the module: its distribution has several names.
        demand_library("fastmcp", at_least=(4,), below=5, extra="fastmcp")
        # Private, too. Its `middleware` is another list, which does not see every message.
        low: Any = getattr(server, "_mcp_server", None)
        return _checked(low, lambda: without_loop(server.local_provider.list_tools()), _fastmcp_error, server)
    raise ConfigurationProblem(f"a {type(server).__name__} is no server that this guard knows")


def _checked(server: Any, tools: Callable[[], Iterable[Any]], refused: Refused, finder: Any) -> ServerSeams:
    middleware: Any = getattr(server, "middleware", None)
    if not _is_list(middleware):
        raise ConfigurationProblem("this version of the SDK has no list of middleware for the guard")
    try:
        found = tuple(map(_registered, tools()))
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ConfigurationProblem(f"this version of the SDK hides its tools from the guard: {error}") from None
    return ServerSeams(middleware, found, refused, finder)


def _is_list(found: object) -> bool:
    return isinstance(found, list)


def _registered(tool: Any) -> RegisteredTool:
    properties = object_or_none(tool.parameters.get("properties")) or {}
    # A tool that calls another server has no function.
    return RegisteredTool(tool.name, getattr(tool, "fn", None), frozenset(properties))


def context_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters into which an SDK injects its context."""
    kinds: tuple[type, ...] = (Context,)
    # Whoever has such a parameter has imported it.
    if "fastmcp" in sys.modules:
        from fastmcp.server.context import Context as FastMCPContext

        kinds = (Context, FastMCPContext)
    try:
        hints = get_type_hints(function)
    except Exception:  # noqa: BLE001 # of any annotation; then the SDK finds no context, either
        return []
    hints.pop("return", None)
    return [name for name, hint in hints.items() if any(_is_of(one, kinds) for one in (hint, *get_args(hint)))]


def _is_of(hint: Any, kinds: tuple[type, ...]) -> bool:
    # `Context[A, B]` is no class, and its origin is one.
    kind = getattr(hint, "__origin__", hint)
    return isinstance(kind, type) and issubclass(kind, kinds)


def _mcp_error(denied: Denied) -> Exception:
    return MCPError(denied.status, str(denied))


def _fastmcp_error(denied: Denied) -> Exception:
    from fastmcp.exceptions import ToolError

    # The guard has logged the denial.
    return ToolError(str(denied), log_level=logging.DEBUG)
