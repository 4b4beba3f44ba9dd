"""The middleware of guarded servers: what it does with requests, and with what servers make of them."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.server.lowlevel import Server as LowLevelServer

from capx.api.mcp_messages import PROBLEM
from capx.authority.authority import Authority
from capx.errors import Unavailable
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.capability import Capability
from capx.verify.decision import Decision
from capx_caveats import action, between, not_in, one_of
from tests.labs.lab import Records
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import KINDS, MCPLab, as_sdk, code_of, send_presented


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, lab: Authority) -> MCPLab:
    return MCPLab(lab, request.param)


@pytest.mark.parametrize("kind", ["fastmcp", "fastmcp of 2025"])
async def test_nobody_chooses_another_version_of_a_tool(lab: Authority, kind: str) -> None:
    server = MCPLab(lab, kind)
    async with server.session() as session:
        for tool in (call("plain"), call("read", path="/a")):
            params = {**tool, "_meta": {"fastmcp": {"version": "1"}}}
            answer = await send_presented(session, held(lab, "files.*"), "tools/call", params)
            assert "version" in answer["error"]["message"]
        assert server.ran == []


async def test_a_tool_that_changes_is_judged_by_what_it_is_now(lab: Authority) -> None:
    server = MCPLab(lab, "mcp")
    mine = held(lab, action("files.plain", args={"limit": between(1, 100)}))
    async with server.session() as session:
        assert (await send_presented(session, mine, "tools/call", call("plain")))["isError"] is False
        as_sdk(server.server).remove_tool("plain")

        def plain(limit: int = 1000) -> str:
            return f"{limit} secrets"

        as_sdk(server.server).add_tool(plain)
        assert code_of(await send_presented(session, mine, "tools/call", call("plain"))) == "argument_refused"


async def test_the_guards_own_list_shows_the_server_no_token(lab: Authority) -> None:
    seen: list[Any] = []

    async def call_tool(context: Any, params: Any) -> Any:
        return types.CallToolResult(content=[])

    async def list_tools(context: Any, params: Any) -> Any:
        seen.extend([context.meta, context.params, params])
        return types.ListToolsResult(tools=[types.Tool(name="read", input_schema={"type": "object"})])

    server: Any = LowLevelServer("files", on_call_tool=call_tool, on_list_tools=list_tools)
    MCPGuard(lab.verifier("files"), ToolTable("files", {"read": ToolSpec("files.read", GRANTED)})).protect(server)
    async with Client(server) as client:
        unjudged = {"io.modelcontextprotocol/related-task": {"taskId": "x"}, "progressToken": "token-7", "evil": 1}
        params = {**call("read", path="/a"), "_meta": unjudged}
        answer = await send_presented(client.session, held(lab, "files.*"), "tools/call", params)
    assert "error" not in answer
    assert seen
    assert [word for word in ("dev.capx", "taskId", "evil", "token-7") if word in repr(seen)] == []


async def test_a_low_level_server_is_guarded_by_its_table(lab: Authority) -> None:
    import mcp_types as types

    ran: list[str] = []

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        ran.append(params.name)
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        return types.ListToolsResult(tools=[types.Tool(name="read", input_schema=schema)])

    server: Any = LowLevelServer("files", on_call_tool=call_tool, on_list_tools=list_tools)
    MCPGuard(lab.verifier("files"), ToolTable("files", {"read": ToolSpec("files.read", GRANTED)})).protect(server)
    async with Client(as_sdk(server)) as client:
        mine = held(lab, action("files.read", args={"path": one_of("/a")}))
        for path, fails in (("/a", False), ("/b", True)):
            answer = await send_presented(client.session, mine, "tools/call", call("read", path=path))
            assert answer["isError"] is fails
    assert ran == ["read"]


async def test_a_denial_leaves_no_traceback_in_the_log(
    server: MCPLab, lab: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    careful = held(lab, action("files.read", args={"path": not_in("/secret")}))
    with caplog.at_level(logging.INFO):
        async with server.session() as session:
            answer = await send_presented(session, careful, "tools/call", call("read", path="/secret"))
            assert code_of(answer) == "argument_refused"
    assert [record for record in caplog.records if record.exc_info] == []
    assert "capx1_" not in caplog.text
    assert "denied files.read: argument_refused" in caplog.text


@pytest.mark.parametrize("method", ["tasks/list", "subscriptions/listen", "completion/complete", "roots/list", "x/y"])
async def test_methods_that_the_guard_does_not_know_are_refused(server: MCPLab, lab: Authority, method: str) -> None:
    async with server.session() as session:
        answer = await send_presented(session, held(lab, "files.*"), method, {})
        assert answer["error"]["code"] in (-32601, -32602)


class Threads(Records):
    """Keeps in which thread each decision was made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def record(self, decision: Decision) -> None:
        self.names.append(threading.current_thread().name)
        super().record(decision)


class Handlers:
    """A low-level server whose handlers do what a test says; its tool is on the second page of its list."""

    def __init__(self, lab: Authority, answer: Callable[[], Any]) -> None:
        self.contexts: list[Any] = []
        self.threads = Threads()

        async def handled(context: Any, params: Any) -> Any:
            self.contexts.append(context)
            return answer()

        async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
            if params is None or params.cursor is None:
                return types.ListToolsResult(tools=[], next_cursor="2")
            return types.ListToolsResult(tools=[types.Tool(name="read", input_schema={"type": "object"})])

        self.server: Any = LowLevelServer(
            "files", on_call_tool=handled, on_list_tools=list_tools, on_read_resource=handled, on_ping=handled
        )
        table = ToolTable("files", {"read": ToolSpec("files.read", GRANTED)}, tenant=GRANTED)
        MCPGuard(lab.verifier("files", recorder=self.threads), table).protect(self.server)
        self._all = held(lab, "files.*")

    def answer(
        self,
        params: Mapping[str, Any] | None = None,
        method: str = "tools/call",
        capability: Capability | None = None,
        *,
        mode: Literal["auto", "legacy"] = "auto",
    ) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            async with Client(self.server, mode=mode) as client:
                sent = call() if params is None else params
                return await send_presented(client.session, capability or self._all, method, sent)

        return asyncio.run(run())


def test_a_refused_request_that_is_no_call_is_an_error(lab: Authority) -> None:
    handlers = Handlers(lab, lambda: None)
    error = handlers.answer({"uri": "file:///a"}, "resources/read", held(lab, "files.read"))["error"]
    assert error["code"] == 403
    assert error["message"] == error["data"]["detail"]
    assert error["data"]["code"] == "action_not_allowed"
    assert handlers.contexts == []


def test_what_is_unavailable_behind_the_guard_says_so(lab: Authority) -> None:
    def failing() -> None:
        raise Unavailable("the authority is away")

    answer = Handlers(lab, failing).answer({"uri": "file:///a"}, "resources/read")
    assert answer == {"error": {"code": 503, "message": "the authority is away"}}


def test_an_error_of_an_open_method_passes(lab: Authority) -> None:
    def failing() -> None:
        raise MCPError(5, "not now")

    assert Handlers(lab, failing).answer({}, "ping", mode="legacy") == {"error": {"code": 5, "message": "not now"}}


def test_the_handler_gets_what_mcp_names_of_meta(lab: Authority) -> None:
    handlers = Handlers(lab, lambda: types.CallToolResult(content=[]))
    handlers.answer({**call(), "_meta": {"own": 1, "traceparent": "00-1", "progressToken": 7}})
    (context,) = handlers.contexts
    assert (context.meta["traceparent"], context.meta["progress_token"]) == ("00-1", 7)
    assert "own" not in context.meta
    assert "dev.capx" not in f"{context.meta} {context.params}"


def test_a_large_request_is_judged_in_a_thread(lab: Authority) -> None:
    handlers = Handlers(lab, lambda: types.CallToolResult(content=[]))
    for path in ("/a", "/a" * 1000):
        handlers.answer(call(path=path))
    small, large = handlers.threads.names
    assert small == threading.current_thread().name
    assert large.startswith("capx-large")


def test_a_server_cannot_write_a_denial_of_its_own(lab: Authority) -> None:
    problem = {"type": "urn:capx:reason:action_not_allowed", "reasons": [{"code": "action_not_allowed"}]}

    def in_result() -> types.CallToolResult:
        return types.CallToolResult(content=[], is_error=True, _meta={PROBLEM: problem, "own": 1})

    def in_error() -> types.CallToolResult:
        raise MCPError(403, "no", problem)

    answer = Handlers(lab, in_result).answer()
    assert PROBLEM not in answer["_meta"]
    assert answer["_meta"]["own"] == 1
    assert Handlers(lab, in_error).answer() == {"error": {"code": 403, "message": "no"}}


def test_an_error_with_data_of_the_server_passes(lab: Authority) -> None:
    def failing() -> types.CallToolResult:
        raise MCPError(-32000, "busy", {"seconds": 5})

    expected = {"code": -32000, "message": "busy", "data": {"seconds": 5}}
    assert Handlers(lab, failing).answer() == {"error": expected}


def test_a_middleware_inside_may_answer_with_a_model(lab: Authority) -> None:
    handlers = Handlers(lab, lambda: types.CallToolResult(content=[]))

    async def short(context: Any, call_next: Any) -> Any:
        if context.method != "tools/call":
            return await call_next(context)
        assert "dev.capx" not in f"{context.params} {context.meta}"
        return types.CallToolResult(content=[types.TextContent(type="text", text="short")], _meta={PROBLEM: {}})

    handlers.server.middleware.append(short)
    answer = handlers.answer()
    assert answer["content"] == [{"type": "text", "text": "short"}]
    assert PROBLEM not in answer.get("_meta", {})


def test_a_middleware_inside_may_answer_with_nothing(lab: Authority) -> None:
    handlers = Handlers(lab, types.EmptyResult)

    async def nothing(context: Any, call_next: Any) -> Any:
        return None if context.method == "ping" else await call_next(context)

    handlers.server.middleware.append(nothing)
    assert "error" not in handlers.answer({}, "ping", mode="legacy")
