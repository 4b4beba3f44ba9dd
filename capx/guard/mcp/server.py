"""The guard of an MCP server in its own process: MCPServer of mcp 2, or FastMCP 4. Needs mcp.

    import capx
    from capx.guard.mcp.server import GRANTED, MCPGuard
    from mcp.server import MCPServer

    authority, server = capx.Authority.temporary(), MCPServer("files")
    guard = MCPGuard(authority.verifier("files"))

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    async def read(path: str, limit: int = 100) -> str:
        return path[:limit]

    guard.protect(server)

It works in two places. A middleware of the low-level server, outside of all others, puts each request through the gate
(capx.guard.mcp.gate): it is admitted before anything of it is validated. A wrapper around each guarded function judges
the call with the values that the function gets. What a table names, and no guarded function is, is judged as it was
sent.

Laws:

- A server that the guard cannot see as a whole is not protected: `protect` raises ConfigurationProblem.
- A call that a guarded function is to judge runs that function, or none. The server finds no tool for it whose function
  `protect` has not seen.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, Self, TypeVar, cast

from capx.errors import ConfigurationProblem
from capx.guard.call_facts import GRANTED, CallSpec, Costs, Derived, Tenancy
from capx.guard.judged_function import parameter_names
from capx.guard.mcp.functions import GuardedFunction, awaits_function, guarded_function
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.parameters import faults, fields_of
from capx.guard.mcp.server_middleware import GateMiddleware
from capx.guard.mcp.server_seams import RegisteredTool, context_parameters, seams_of
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.guard.observer import LOGGER, OnDecision
from capx.resource.connection import Connection, connect_from_env
from capx.verify.verifier import Verifier
from capx_caveats import DEFAULT, Vocabulary

__all__ = ["GRANTED", "MCPGuard"]

_log = logging.getLogger(LOGGER)

P = ParamSpec("P")
R = TypeVar("R")


class MCPGuard:
    """Guards the server of one audience.

    `table` says what else than guarded functions there is: tools that are judged as they were sent, prompts, and
    methods of extensions. Without it, only guarded functions and resources are served. `on_decision` gets each
    decision. ConfigurationProblem if the verifier is for another audience than the table.
    """

    def __init__(
        self, verifier: Verifier, table: ToolTable | None = None, *, on_decision: OnDecision | None = None
    ) -> None:
        # A copy: two guards may be given one table, and each names its own functions.
        self._table = ToolTable(verifier.audience, tenant=GRANTED) if table is None else table.copy()
        # Code of this process can change its tools without a notification.
        self._gate = Gate(verifier, self._table, on_decision=on_decision, kept=0)
        self._functions: list[GuardedFunction] = []
        self._is_used = False
        self.connection: Connection | None = None
        """The connection of its verifier, if `from_env` made one: look at its health, and close it at the end."""

    @classmethod
    def from_env(
        cls,
        table: ToolTable | None = None,
        *,
        on_decision: OnDecision | None = None,
        vocabulary: Vocabulary = DEFAULT,
    ) -> Self:
        """Make the guard that the environment describes; `vocabulary` as for `Verifier`.

        CAPX_AUDIENCE names the audience and CAPX_KEY_FILE its key file. One of CAPX_STORE, CAPX_FEED and CAPX_SNAPSHOT
        names the place from which the service learns of revocations; the rest follows from it (capx.resource.connect).
        CAPX_MAX_STALENESS is in seconds. Raises ConfigurationProblem if a setting is missing or cannot be used.
        """
        connection = connect_from_env()
        guard = cls(connection.verifier(vocabulary=vocabulary), table, on_decision=on_decision)
        guard.connection = connection
        return guard

    def tool(
        self,
        action: str,
        *,
        tenant: Tenancy = None,
        attributes: Derived = None,
        cost: Costs = None,
        injected: Iterable[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Guard a plain or async function, which the server then registers: put it below the server's decorator.

        The facts are as for `ToolGuard.tool`. `injected` names parameters that the server fills in, such as those of
        its dependencies; parameters of the type Context need no mention. They are no arguments, and no caveat sees
        them. Inside the function, `capx.current_allowed()` returns the decision. Raises ConfigurationProblem for
        functions whose calls cannot be judged as a whole: generators, functions that take `*args` or `**kwargs`, and
        methods in the body of a class.
        """
        if self._is_used:
            raise ConfigurationProblem("this guard protects a server already: guard its tools first, then protect it")
        spec = CallSpec(action, tenant, attributes, cost)

        def guarded(function: Callable[P, R]) -> Callable[P, R]:
            names = {*parameter_names(injected), *context_parameters(function)}
            made = GuardedFunction(function, spec, names, owner=self)
            fields = fields_of(function, made.arguments)
            made.read_defaults({name: field.default for name, field in fields.items()})
            self._functions.append(made)
            return cast("Callable[P, R]", made.function)

        return guarded

    def protect(self, server: Any) -> None:
        """Put the guard in front of a server: an MCPServer, a FastMCP or a low-level Server. Call it last.

        Raises ConfigurationProblem if it finds no place for itself, if a tool is not what the guard takes it for, or if
        a guarded function is not a tool of this server.
        """
        if self._is_used:
            raise ConfigurationProblem("this guard protects a server already: make another one")
        self._is_used = True
        seams = seams_of(server)
        if any(isinstance(one, GateMiddleware) for one in seams.middleware):
            raise ConfigurationProblem("another guard protects this server")
        functions = self._named(seams.tools)
        if seams.finder is not None:
            self._warn_of_strays({tool.name for tool in seams.tools})
        for function in self._functions:
            function.refused = seams.refused
        seen = [tool.function for tool in seams.tools if tool.name in functions]
        seams.check_found(lambda tool: self._runnable(tool, seen))
        seams.middleware.insert(0, GateMiddleware(self, self._gate, functions))

    def _warn_of_strays(self, there: set[str]) -> None:
        if missing := sorted(self._table.tools().keys() - there):
            _log.warning("the table names %.500s, and the server has no such tool: call protect last", missing)
        if unjudged := sorted(name for name in there if self._table.spec("tool", name) is None):
            _log.warning("unknown to clients, because nobody judges them: %.500s: guard or name these tools", unjudged)

    def _runnable(self, tool: Any, seen: Sequence[Any]) -> Any:
        """Return a tool that the server has found, if it may run it now; else None, as for a tool that is not there."""
        if tool is None or not awaits_function(self):
            return tool
        # In a copy that only this call has, nobody can set another function.
        own = tool.model_copy()
        if any(getattr(own, "fn", None) is one for one in seen):
            return own
        _log.error("refused the tool %.80r: it was replaced after protect, so nobody judges its calls", tool.name)
        return None

    def _named(self, tools: Iterable[RegisteredTool]) -> dict[str, GuardedFunction]:
        """Name each tool in the table whose function is guarded, and return these functions by the tools' names."""
        functions: dict[str, GuardedFunction] = {}
        for tool in tools:
            if (function := guarded_function(tool.function)) in self._functions:
                _demand_arguments(tool, function)
                self._table.name(tool.name, ToolSpec(function.spec.action, judged_by_function=True))
                functions[tool.name] = function
        if lost := sorted({one.name for one in self._functions} - {one.name for one in functions.values()}):
            raise ConfigurationProblem(
                f"{', '.join(lost)} is guarded, and no tool of this server: put @guard.tool below the decorator of the "
                "server, and call protect last"
            )
        by_function = {name for name, spec in self._table.tools().items() if spec.judged_by_function}
        # There may be several tools of one name.
        others = {one.name for one in tools if guarded_function(one.function) is not functions.get(one.name)}
        if unguarded := sorted(by_function & others | by_function - functions.keys()):
            raise ConfigurationProblem(
                f"{', '.join(unguarded)} is to be judged by its function, and the server has another function for it"
            )
        return functions


def _demand_arguments(tool: RegisteredTool, function: GuardedFunction) -> None:
    if missing := sorted(function.arguments - tool.arguments):
        raise ConfigurationProblem(
            f"clients of the tool {tool.name!r:.80} send no {', '.join(missing)}: give the parameter no alias, or name "
            "it in `injected=` if the server fills it in"
        )
    if also := sorted(tool.arguments - function.arguments):
        raise ConfigurationProblem(
            f"clients of the tool {tool.name!r:.80} send {', '.join(also)}, which no caveat would see: take it out of "
            "`injected=`, or guard the function without a decorator that changes its arguments"
        )
    if fault := next(faults(fields_of(tool.function, function.arguments)), None):
        raise ConfigurationProblem(f"the tool {tool.name!r:.80} {fault}")
