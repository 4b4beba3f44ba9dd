"""MCP servers of real SDKs with the same guarded tools, and sessions of real clients at them."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar, cast

import fastmcp
import mcp_types as types
from fastmcp.server.context import Context as FastMCPContext
from mcp import Client, ClientSession, MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel, TypeAdapter

import capx
from capx.api.mcp_messages import PROBLEM, OwnMeta, bound_request, with_own
from capx.authority.authority import Authority
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.capability import Capability
from tests.labs.serving import served

F = TypeVar("F", bound=Callable[..., Any])

MODERN: Final = ("mcp", "mcp over HTTP", "mcp over events", "fastmcp", "fastmcp over HTTP")
"""Sessions of MCP 2026-07-28."""
KINDS: Final = (*MODERN, "mcp of 2025", "fastmcp of 2025")
"""All kinds of servers, transports and versions."""


class Size(BaseModel):
    """A result with an output schema."""

    bytes: int


class SomeServer(Protocol):
    """What MCPServer and FastMCP have in common."""

    def tool(self, name: str | None = None, **settings: Any) -> Callable[[F], F]: ...

    def resource(self, uri: str) -> Callable[[F], F]: ...

    def prompt(self) -> Callable[[F], F]: ...


def some_server(sdk: str) -> SomeServer:
    """A new server of this SDK."""
    server: Any = fastmcp.FastMCP("files") if sdk == "fastmcp" else MCPServer("files")
    return cast("SomeServer", server)


def as_sdk(server: object) -> Any:
    """The server with what only its own SDK has."""
    return server


def taking(context: type) -> Callable[[F], F]:
    """Annotate the parameter `ctx` with the context of an SDK."""

    def annotated(function: F) -> F:
        function.__annotations__["ctx"] = context
        return function

    return annotated


class MCPLab:
    """One server with a guard; `ran` has a line for each function that ran."""

    def __init__(self, authority: Authority, kind: str) -> None:
        self.ran: list[str] = []
        self.kind = kind
        table = ToolTable(
            "files",
            {"plain": ToolSpec("files.plain", GRANTED)},
            prompts={"summary": ToolSpec("files.prompt.summary", GRANTED)},
            tenant=GRANTED,
        )
        self.guard = MCPGuard(authority.verifier("files"), table)
        of_fastmcp = kind.startswith("fastmcp")
        self.server: SomeServer = some_server("fastmcp" if of_fastmcp else "mcp")
        self._add_tools(FastMCPContext if of_fastmcp else Context)
        self._add_others()
        self.guard.protect(self.server)

    def _add_tools(self, context: Any) -> None:  # one server, with many small tools
        server, guard, ran = self.server, self.guard, self.ran

        @server.tool()
        @guard.tool("files.read", tenant=GRANTED)
        @taking(context)
        async def read(path: str, ctx: Any, limit: int = 100) -> str:
            allowed = capx.current_allowed()
            assert allowed is not None
            ran.append(f"read {path} {limit}")
            return f"{path} {limit} for {allowed.tenant} {dict(ctx.request_context.meta or {})}"

        @server.tool(name="search")
        @guard.tool("files.find", tenant=GRANTED)
        def find(names: list[str] | str, limit: int = 100) -> str:
            ran.append(f"find {names} {limit}")
            return f"{names} {limit}"

        @server.tool()
        @guard.tool("files.remove", tenant=GRANTED)
        def remove(path: str) -> str:
            ran.append(f"remove {path}")
            return "removed"

        @server.tool()
        @guard.tool("files.tidy", tenant=GRANTED)
        async def tidy(path: str) -> str:
            try:
                return remove(path=path)
            except Exception:  # noqa: BLE001 # the very mistake
                return "secret"

        @server.tool()
        @guard.tool("files.crash", tenant=GRANTED)
        async def crash() -> str:
            raise ValueError("the inner text")

        @server.tool()
        @guard.tool("files.size", tenant=GRANTED)
        async def size(path: str) -> Size:
            ran.append(f"size {path}")
            return Size(bytes=len(path))

        @server.tool()
        @guard.tool("files.ask", tenant=GRANTED)
        @taking(context)
        async def ask(ctx: Any) -> str | types.InputRequiredResult:
            ran.append("ask")
            answers = ctx.input_responses
            if not answers:
                form = types.ElicitRequestFormParams(
                    message="May it remove /a?",
                    requested_schema={"type": "object", "properties": {"yes": {"type": "boolean"}}},
                )
                request = types.ElicitRequest(params=form)
                return types.InputRequiredResult(input_requests={"yes": request}, request_state="asked")
            return f"answered {sorted(answers)}"

        @server.tool()
        def plain(names: list[str] | str = "x", limit: int = 100) -> str:
            ran.append(f"plain {names} {limit}")
            return f"{names} {limit}"

        @server.tool()
        def unnamed() -> str:
            ran.append("unnamed")
            return "secret"

    def _add_others(self) -> None:
        server, ran = self.server, self.ran

        @server.resource("file:///a")
        def a() -> str:
            ran.append("file:///a")
            return "content of a"

        @server.prompt()
        def summary(of: str) -> str:
            ran.append(f"summary {of}")
            return f"Sum up {of}"

    @asynccontextmanager
    async def session(self, **settings: Any) -> AsyncGenerator[ClientSession]:
        """A session of a client at this server; `settings` are those of the client of mcp."""
        async with AsyncExitStack() as kept:
            yield (await kept.enter_async_context(self.client(**settings))).session

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncGenerator[Client]:
        """A client at this server."""
        mode = "legacy" if self.kind.endswith("of 2025") else "auto"
        async with AsyncExitStack() as kept:
            # Each way to a server is another one.
            server: Any = self.server
            at = server
            if self.kind in ("mcp over HTTP", "mcp over events"):
                app = server.streamable_http_app(json_response=self.kind == "mcp over HTTP")
                at = kept.enter_context(served(app)) + "/mcp"
            elif self.kind == "fastmcp over HTTP":
                at = kept.enter_context(served(server.http_app())) + "/mcp"
            elif self.kind.startswith("fastmcp"):
                await kept.enter_async_context(server._lifespan_manager())
                at = server._mcp_server
            yield await kept.enter_async_context(Client(at, mode=mode, **settings))


Raw = types.Request[dict[str, Any] | None, str]


async def send(session: ClientSession, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Send a request as it is; an error becomes `{"error": …}`."""
    request = Raw(method=method, params=None if params is None else dict(params))
    try:
        # The SDK reads a result by any adapter. It says that it must be one of a model.
        kind: Any = TypeAdapter(dict[str, Any])
        answer: dict[str, Any] = await session.send_request(request, kind)
    except MCPError as error:
        return {"error": error.error.model_dump(exclude_none=True)}
    return answer


async def send_presented(
    session: ClientSession, capability: Capability, method: str, params: Mapping[str, Any], *, asks: bool = False
) -> dict[str, Any]:
    """Send a request with a presentation of it."""
    own = OwnMeta(capability.present(bound_request(method, params)).text, asks)
    return await send(session, method, with_own(params, own))


def code_of(answer: dict[str, Any]) -> str:
    """The code of the denial that an answer holds."""
    if "error" in answer:
        return str(answer["error"]["data"]["code"])
    assert answer["isError"] is True, answer
    return str(answer["_meta"][PROBLEM]["code"])
