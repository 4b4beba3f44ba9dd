"""What a guard finds at a server, and servers that it does not protect because it would guard only half of them."""

from typing import Any

import fastmcp
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx_caveats import action, one_of
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import SomeServer, as_sdk, send_presented, some_server


def guarded(lab: Authority, sdk: str = "mcp") -> tuple[SomeServer, MCPGuard]:
    return some_server(sdk), MCPGuard(lab.verifier("files"))


def test_protect_refuses_decorators_in_the_wrong_order(lab: Authority) -> None:
    server, guard = guarded(lab)

    @guard.tool("files.read")
    @server.tool()
    def read(path: str) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match="read is guarded, and no tool of this server"):
        guard.protect(server)


@pytest.mark.parametrize("kind", ["mcp", "fastmcp"])
def test_protect_refuses_a_spec_without_its_function(lab: Authority, kind: str) -> None:
    table = ToolTable("files", {"read": ToolSpec("files.read", judged_by_function=True)})
    guard = MCPGuard(lab.verifier("files"), table)
    server = some_server(kind)

    @server.tool()
    def read(path: str) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match="read is to be judged by its function"):
        guard.protect(server)


def test_protect_refuses_two_versions_of_which_one_is_guarded(lab: Authority) -> None:
    server, guard = guarded(lab, "fastmcp")

    @server.tool(version="1")
    def read(path: str) -> str:
        return path

    @server.tool(name="read", version="2")
    @guard.tool("files.read")
    def read_anew(path: str) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match="another function for it"):
        guard.protect(server)


def test_protect_refuses_arguments_that_no_caveat_would_see(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read", injected=["path"])
    def read(path: str) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match="send path, which no caveat would see"):
        guard.protect(server)


def test_protect_refuses_a_parameter_that_is_filled_in_silently(lab: Authority) -> None:
    from fastmcp.dependencies import Depends

    def secret() -> str:
        return "secret"

    server, guard = guarded(lab, "fastmcp")

    @server.tool()
    @guard.tool("files.read")
    def read(path: str, key: str = Depends(secret)) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match="send no key"):
        guard.protect(server)


async def test_a_dependency_that_is_named_is_injected(lab: Authority) -> None:
    from fastmcp.dependencies import Depends

    def secret() -> str:
        return "secret"

    server, guard = guarded(lab, "fastmcp")

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED, injected=["key"])
    def read(path: str, key: str = Depends(secret)) -> str:
        return f"{path} {key}"

    guard.protect(server)
    pinned = held(lab, action("files.read", args={"path": one_of("/a")}))
    async with fastmcp.Client(as_sdk(server)) as client:
        answer = await send_presented(client.session, pinned, "tools/call", call("read", path="/a"))
    assert answer["content"][0]["text"] == "/a secret"


def test_one_text_is_no_list_of_injected_names(lab: Authority) -> None:
    _, guard = guarded(lab, "mcp")
    key: Any = "key"
    with pytest.raises(ConfigurationProblem, match="is one text: name the parameters in a tuple"):

        @guard.tool("files.read", injected=key)
        def read(path: str, key: str) -> str:
            return path


def test_a_server_has_one_guard_and_a_guard_one_server(lab: Authority) -> None:
    server, guard = guarded(lab)
    guard.protect(server)
    with pytest.raises(ConfigurationProblem, match="another guard protects"):
        MCPGuard(lab.verifier("files")).protect(server)
    with pytest.raises(ConfigurationProblem, match="protects a server already"):
        guard.protect(MCPServer("other"))


def test_protect_refuses_what_it_does_not_know(lab: Authority) -> None:
    class Other:
        """It looks like a server."""

        middleware: list[Any] = []  # noqa: RUF012 # as an SDK may have it

    with pytest.raises(ConfigurationProblem, match="is no server that this guard knows"):
        MCPGuard(lab.verifier("files")).protect(Other())


@pytest.mark.parametrize("missing", ["_tool_manager", "middleware"])
def test_protect_refuses_a_server_without_its_seam(lab: Authority, missing: str) -> None:
    class Later(MCPServer):
        """A version of the SDK that has moved things."""

        def __getattribute__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return super().__getattribute__(name)

    later = object.__new__(Later)
    with pytest.raises(ConfigurationProblem, match="this version of the SDK"):
        MCPGuard(lab.verifier("files")).protect(later)


def test_protect_refuses_a_server_that_finds_tools_unseen(lab: Authority) -> None:
    class Manager:
        """A manager of a version that has renamed `get_tool`."""

        def list_tools(self) -> list[Any]:
            return []

    server = as_sdk(MCPServer("files"))
    server._tool_manager = Manager()
    with pytest.raises(ConfigurationProblem, match="hides from the guard how it finds"):
        MCPGuard(lab.verifier("files")).protect(server)


def test_contexts_are_found_in_any_annotation(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read")
    def read(path: str, one: "Context | None" = None) -> str:
        return path

    @server.tool()
    @guard.tool("files.write")
    def write(path: str, other: Context[Any, Any]) -> str:
        return path

    guard.protect(server)
