"""The middleware of guarded servers: what it does with requests, and with what servers make of them."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, ClientSession, MCPError
from mcp.server.lowlevel import Server as LowLevelServer

from capx.api.mcp_messages import PROBLEM
from capx.authority.authority import Authority
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx_caveats import action, between, not_in, one_of
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import KINDS, MCPLab, as_sdk, at, code_of, send_presented


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as authority:
        yield authority


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, lab: Authority) -> MCPLab:
    return MCPLab(lab, request.param)


@pytest.mark.parametrize("kind", ["fastmcp", "fastmcp of 2025"])
def test_nobody_chooses_another_version_of_a_tool(lab: Authority, kind: str) -> None:
    async def test(server: MCPLab, session: ClientSession) -> None:
        for tool in (call("plain"), call("read", path="/a")):
            params = {**tool, "_meta": {"fastmcp": {"version": "1"}}}
            answer = await send_presented(session, held(lab, "files.*"), "tools/call", params)
            assert "version" in answer["error"]["message"]
        assert server.ran == []

    at(MCPLab(lab, kind), test)


def test_a_tool_that_changes_is_judged_by_what_it_is_now(lab: Authority) -> None:
    server = MCPLab(lab, "mcp")
    mine = held(lab, action("files.plain", args={"limit": between(1, 100)}))

    async def test(server: MCPLab, session: ClientSession) -> None:
        assert (await send_presented(session, mine, "tools/call", call("plain")))["isError"] is False
        as_sdk(server.server).remove_tool("plain")

        def plain(limit: int = 1000) -> str:
            return f"{limit} secrets"

        as_sdk(server.server).add_tool(plain)
        assert code_of(await send_presented(session, mine, "tools/call", call("plain"))) == "argument_refused"

    at(server, test)


def test_a_low_level_server_is_guarded_by_its_table(lab: Authority) -> None:
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

    async def run() -> None:
        async with Client(as_sdk(server)) as client:
            mine = held(lab, action("files.read", args={"path": one_of("/a")}))
            for path, fails in (("/a", False), ("/b", True)):
                answer = await send_presented(client.session, mine, "tools/call", call("read", path=path))
                assert answer["isError"] is fails

    asyncio.run(run())
    assert ran == ["read"]


def test_a_denial_leaves_no_traceback_in_the_log(
    server: MCPLab, lab: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    careful = held(lab, action("files.read", args={"path": not_in("/secret")}))

    async def test(server: MCPLab, session: ClientSession) -> None:
        answer = await send_presented(session, careful, "tools/call", call("read", path="/secret"))
        assert code_of(answer) == "argument_refused"

    with caplog.at_level(logging.INFO):
        at(server, test)
    assert [record for record in caplog.records if record.exc_info] == []
    assert "capx1_" not in caplog.text
    assert "denied files.read: argument_refused" in caplog.text


@pytest.mark.parametrize("method", ["tasks/list", "subscriptions/listen", "completion/complete", "roots/list", "x/y"])
def test_methods_that_the_guard_does_not_know_are_refused(server: MCPLab, lab: Authority, method: str) -> None:
    async def test(server: MCPLab, session: ClientSession) -> None:
        answer = await send_presented(session, held(lab, "files.*"), method, {})
        assert answer["error"]["code"] in (-32601, -32602)

    at(server, test)


class Handlers:
    """A low-level server whose tool does what a test says."""

    def __init__(self, lab: Authority, answer: Callable[[], types.CallToolResult]) -> None:
        async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            return answer()

        async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
            return types.ListToolsResult(tools=[types.Tool(name="read", input_schema={"type": "object"})])

        self.server: Any = LowLevelServer("files", on_call_tool=call_tool, on_list_tools=list_tools)
        MCPGuard(lab.verifier("files"), ToolTable("files", {"read": ToolSpec("files.read", GRANTED)})).protect(
            self.server
        )
        self._reader = held(lab, "files.read")

    def answer(self) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            async with Client(self.server) as client:
                return await send_presented(client.session, self._reader, "tools/call", call())

        return asyncio.run(run())


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
        return types.CallToolResult(content=[types.TextContent(type="text", text="short")])

    handlers.server.middleware.append(short)
    assert handlers.answer()["content"] == [{"type": "text", "text": "short"}]
