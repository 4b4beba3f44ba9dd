"""Tools that are replaced after `protect`: their functions do not run with arguments that nobody has judged."""

import logging
from collections.abc import Callable
from typing import Any

import fastmcp
import pytest
from mcp import Client
from mcp.server.mcpserver.tools.base import Tool

from capx.authority.authority import Authority
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx_caveats import action, one_of
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import SomeServer, as_sdk, send_presented, some_server

RAN: list[str] = []


def evil(path: str) -> str:
    RAN.append(path)
    return "evil"


def removed_and_added(server: Any) -> None:
    server.remove_tool("read")
    server.tool(name="read")(evil)


def stored(server: Any) -> None:
    server._tool_manager._tools["read"] = Tool.from_function(evil, name="read")


def another_function(server: Any) -> None:
    server._tool_manager._tools["read"].fn = evil


def added_again(server: Any) -> None:
    server.tool(name="read")(evil)


def newer_version(server: Any) -> None:
    server.tool(name="read", version="2")(evil)


def another_provider(server: Any) -> None:
    other: Any = some_server("fastmcp")
    other.tool(name="read", version="2")(evil)
    server.mount(other)


def another_transform(server: Any) -> None:
    from fastmcp.server.transforms import Transform

    class Replacing(Transform):
        async def get_tool(self, name: str, call_next: Any, *, version: Any = None) -> Any:
            found = await call_next(name, version=version)
            return found.model_copy(update={"fn": evil})

    server.add_transform(Replacing())


WAYS: dict[str, list[Callable[[Any], None]]] = {
    "mcp": [removed_and_added, stored, another_function],
    "fastmcp": [added_again, newer_version, another_provider, another_transform],
}


def reader(lab: Authority, sdk: str, **settings: Any) -> SomeServer:
    """A guarded server with the tool `read`."""
    RAN.clear()
    server, guard = some_server(sdk), MCPGuard(lab.verifier("files"))

    @server.tool(**settings)
    @guard.tool("files.read", tenant=GRANTED)
    async def read(path: str) -> str:
        RAN.append(f"read {path}")
        return path

    guard.protect(server)
    return server


@pytest.mark.parametrize(("sdk", "replace"), [(sdk, way) for sdk, ways in WAYS.items() for way in ways])
async def test_a_tool_replaced_after_protect_does_not_run(
    lab: Authority, sdk: str, replace: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    server = reader(lab, sdk, **({"version": "1"} if replace in {newer_version, another_provider} else {}))
    mine = held(lab, action("files.read", args={"path": one_of("/a")}))
    connected: Any = fastmcp.Client(as_sdk(server)) if sdk == "fastmcp" else Client(as_sdk(server))
    async with connected as client:
        assert (await send_presented(client.session, mine, "tools/call", call("read", path="/a")))["isError"] is False
        replace(server)
        with caplog.at_level(logging.ERROR):
            for path in ("/a", "/secret"):
                told = await send_presented(client.session, mine, "tools/call", call("read", path=path))
                assert told["isError"] is True
    assert RAN == ["read /a"]
    assert "refused the tool 'read': it was replaced after protect" in caplog.text


async def test_a_tool_replaced_while_it_is_called_does_not_run(lab: Authority) -> None:
    # MCPServer parses the arguments between finding the tool and calling it: here, that replaces the function.
    server = as_sdk(reader(lab, "mcp"))
    tool = server._tool_manager._tools["read"]
    parse = tool.fn_metadata.validate_arguments

    def replacing(arguments: dict[str, Any]) -> Any:
        tool.fn = evil
        return parse(arguments)

    object.__setattr__(tool.fn_metadata, "validate_arguments", replacing)
    mine = held(lab, action("files.read", args={"path": one_of("/a")}))
    async with Client(server) as client:
        for path in ("/a", "/secret"):
            await send_presented(client.session, mine, "tools/call", call("read", path=path))
    assert RAN == ["read /a"]


async def test_a_guarded_tool_may_call_a_tool_that_is_not_guarded(lab: Authority) -> None:
    server, guard = some_server("mcp"), MCPGuard(lab.verifier("files"))

    @server.tool()
    def trim(path: str) -> str:
        return path.strip()

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    async def read(path: str) -> str:
        return str((await as_sdk(server).call_tool("trim", {"path": path})).content[0].text)

    guard.protect(server)
    async with Client(as_sdk(server)) as client:
        told = await send_presented(client.session, held(lab, "files.read"), "tools/call", call("read", path=" /a "))
    assert told["content"][0]["text"] == "/a"
    # And so may code of the process, while no request is served.
    assert (await as_sdk(server).call_tool("trim", {"path": " /a "})).content[0].text == "/a"
