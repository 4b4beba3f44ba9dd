"""Guarded functions of a server: nothing but a request that the guard let in makes them run."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver import Context

from capx.api.mcp_messages import PROBLEM
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.mcp.functions import guarded_function
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.capability import Capability
from capx_caveats import action, budget, one_of
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import SomeServer, as_sdk, send_presented, some_server, taking


def guarded(lab: Authority, sdk: str = "mcp") -> tuple[SomeServer, MCPGuard]:
    return some_server(sdk), MCPGuard(lab.verifier("files"))


def test_a_guarded_function_outside_of_a_request_does_not_run(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read")
    def read(path: str) -> str:
        return path

    with pytest.raises(ConfigurationProblem, match=r"read was called past its guard"):
        read("/a")
    guard.protect(server)
    with pytest.raises(ConfigurationProblem, match="past its guard"):
        read("/a")
    # The server itself, called by other code of the process.
    with pytest.raises(Exception, match="read"):
        asyncio.run(as_sdk(server).call_tool("read", {"path": "/a"}))


async def test_a_task_that_outlives_its_request_is_not_judged_for_it(lab: Authority) -> None:
    server, guard = guarded(lab)
    waiting: list[asyncio.Task[str]] = []
    ended = asyncio.Event()

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    async def read(path: str) -> str:
        if path == "/later":
            return path

        async def later() -> str:
            await ended.wait()
            return await read("/later")

        waiting.append(asyncio.create_task(later()))
        return path

    guard.protect(server)
    async with Client(as_sdk(server)) as client:
        await send_presented(client.session, held(lab, "files.*"), "tools/call", call("read", path="/a"))
        ended.set()
        with pytest.raises(ConfigurationProblem, match="past its guard"):
            await waiting[0]


@pytest.mark.parametrize("what", ["generator", "variadic", "method"])
def test_functions_that_cannot_be_judged_as_a_whole_are_refused(lab: Authority, what: str) -> None:
    _, guard = guarded(lab)

    def generator(path: str) -> Iterator[str]:
        yield path

    def variadic(*paths: str) -> None: ...

    class Holder:
        def method(self, path: str) -> None: ...

    functions: dict[str, Any] = {"generator": generator, "variadic": variadic, "method": Holder.method}
    if what == "method":
        Holder.method.__qualname__ = "Holder.method"
    with pytest.raises(ConfigurationProblem):
        guard.tool("files.read")(functions[what])


def answered(server: SomeServer, capability: Capability, name: str = "read", **arguments: Any) -> dict[str, Any]:
    """What one presented call of a tool is answered."""

    async def run() -> dict[str, Any]:
        async with Client(as_sdk(server)) as client:
            return await send_presented(client.session, capability, "tools/call", call(name, **arguments))

    return asyncio.run(run())


def test_functions_that_call_each_other_are_each_judged(lab: Authority) -> None:
    server, guard = guarded(lab)
    ran: list[str] = []

    @server.tool()
    @guard.tool("files.remove", tenant=GRANTED)
    def remove(path: str, force: bool = False) -> str:
        ran.append(f"{path} {force}")
        return "removed"

    @server.tool()
    @guard.tool("files.tidy", tenant=GRANTED)
    async def tidy(path: str) -> str:
        return remove(path, force=True)

    @server.tool()
    @guard.tool("files.keep", tenant=GRANTED)
    async def keep(path: str) -> str:
        return remove(path, force=False)

    guard.protect(server)
    both = held(lab, "files.tidy", action("files.remove", args={"path": one_of("/a"), "force": one_of(True)}))
    assert answered(server, both, "tidy", path="/a")["isError"] is False
    assert answered(server, both, "tidy", path="/b")["isError"] is True
    assert answered(server, held(lab, "files.tidy"), "tidy", path="/a")["isError"] is True
    # What another function passes counts as sent, and not as a default.
    unforced = action("files.remove", args={"path": one_of("/a")})
    for name in ("tidy", "keep"):
        told = answered(server, held(lab, f"files.{name}", unforced), name, path="/a")
        assert told["_meta"][PROBLEM]["code"] == "argument_not_named"
    assert ran == ["/a True"]


def test_no_fact_of_an_action_is_derived_that_is_not_held(lab: Authority) -> None:
    server, guard = guarded(lab)
    derived: list[str] = []

    def tenant(path: str) -> str:
        derived.append(path)
        return "Acme"

    @server.tool()
    @guard.tool("files.remove", tenant=tenant)
    def remove(path: str, force: bool = False) -> str:
        return "removed"

    @server.tool()
    @guard.tool("files.tidy", tenant=GRANTED)
    def tidy(path: str) -> str:
        return remove(path)

    guard.protect(server)
    problem = answered(server, held(lab, "files.tidy"), "tidy", path="/a")["_meta"][PROBLEM]
    assert problem["code"] == "action_not_allowed"
    assert (problem["ask"]["action"], problem["ask"]["args"]) == ("files.remove", {"path": "/a", "force": False})
    assert derived == []
    assert answered(server, held(lab, "files.*"), "tidy", path="/a")["isError"] is False
    assert derived == ["/a"]


def test_what_the_client_left_out_is_a_default(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    @taking(Context)
    def read(path: str, ctx: Any, limit: int = 100) -> str:
        return path

    guard.protect(server)
    mine = held(lab, action("files.read", args={"path": one_of("/a")}))
    assert answered(server, mine, path="/a")["isError"] is False
    assert answered(server, mine, path="/a", limit=100)["_meta"][PROBLEM]["code"] == "argument_not_named"


def test_a_function_that_a_resource_calls_is_judged(lab: Authority) -> None:
    server = some_server("mcp")
    guard = MCPGuard(lab.verifier("files"), ToolTable("files", tenant=GRANTED))

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    def read(path: str) -> str:
        return f"content of {path}"

    @server.resource("file:///a")
    def a() -> str:
        return read("/a")

    guard.protect(server)

    async def content(*allow: str) -> str:
        async with Client(as_sdk(server)) as client:
            return str(await send_presented(client.session, held(lab, *allow), "resources/read", {"uri": "file:///a"}))

    assert "content of /a" in asyncio.run(content("files.resource.read", "files.read"))
    assert "action_not_allowed" in asyncio.run(content("files.resource.read"))


def test_a_request_pays_once_for_all_its_functions(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED, cost={"lines": 2})
    async def read(path: str) -> str:
        return path if path == "/b" else await read("/b")

    guard.protect(server)
    few = held(lab, "files.read", caveats=[budget("lines", 2)])
    assert answered(server, few, path="/a")["isError"] is False
    assert answered(server, few, path="/a")["_meta"][PROBLEM]["code"] == "budget_exhausted"


def test_a_request_of_one_guard_opens_no_function_of_another(lab: Authority) -> None:
    server, guard = guarded(lab)
    other_server, other = some_server("mcp"), MCPGuard(lab.verifier("mail"))
    ran: list[str] = []

    @other_server.tool()
    @other.tool("mail.send", tenant=GRANTED)
    def mail(to: str) -> str:
        ran.append(to)
        return to

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    def read(path: str) -> str:
        return mail(path)

    guard.protect(server)
    other.protect(other_server)
    assert answered(server, held(lab, "files.read"), path="/a")["isError"] is True
    assert ran == []


def test_facts_are_derived_from_what_the_function_gets(lab: Authority) -> None:
    server, guard = guarded(lab)

    def tenant(limit: int) -> str:
        return "Acme" if limit == 1 else "Other"

    def size(names: list[str] | str) -> dict[str, int]:
        return {"names": len(names)}

    @server.tool()
    @guard.tool("files.read", tenant=tenant, cost=size)
    def read(names: list[str] | str, limit: int = 1) -> str:
        return str(len(names))

    guard.protect(server)
    few = held(lab, "files.read", caveats=[budget("names", 3)])
    assert answered(server, few, names='["a", "b"]')["isError"] is False
    assert answered(server, few, names="a", limit=2)["_meta"][PROBLEM]["code"] == "wrong_tenant"
    assert answered(server, few, names=["a", "b"])["_meta"][PROBLEM]["code"] == "budget_exhausted"


def test_a_value_that_no_caveat_can_see_is_denied(lab: Authority, caplog: pytest.LogCaptureFixture) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    def read(since: datetime) -> str:
        return str(since)

    guard.protect(server)
    told = answered(server, held(lab, "files.read"), since="2026-12-03T12:00:00")
    assert told["_meta"][PROBLEM]["code"] == "argument_refused"
    assert "'since'" in told["content"][0]["text"]
    assert "denied files.read: argument_refused" in caplog.text


def test_work_that_would_go_on_after_the_decision_is_refused(lab: Authority) -> None:
    server, guard = guarded(lab)

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    def read(path: str) -> Any:
        return map(str, [path])

    guard.protect(server)
    assert answered(server, held(lab, "files.read"), path="/a")["isError"] is True


def test_a_tool_without_a_guard_cannot_swallow_a_denial(lab: Authority) -> None:
    server = some_server("mcp")
    guard = MCPGuard(lab.verifier("files"), ToolTable("files", {"tidy": ToolSpec("files.tidy", GRANTED)}))

    @server.tool()
    @guard.tool("files.remove", tenant=GRANTED)
    def remove(path: str) -> str:
        return "removed"

    @server.tool()
    def tidy(path: str) -> str:
        try:
            return remove(path)
        except Exception:  # noqa: BLE001 # the very mistake
            return "secret"

    guard.protect(server)
    told = answered(server, held(lab, "files.tidy"), "tidy", path="/a")
    assert told["_meta"][PROBLEM]["code"] == "action_not_allowed"
    assert answered(server, held(lab, "files.tidy", "files.remove"), "tidy", path="/a")["isError"] is False


def test_only_what_the_guard_has_made_is_guarded(lab: Authority) -> None:
    class Anything:
        def __getattr__(self, name: str) -> int:
            return 5

    def read(path: str) -> str:
        return path

    assert guarded_function(MCPGuard(lab.verifier("files")).tool("files.read")(read)) is not None
    assert guarded_function(Anything()) is None
    assert guarded_function(print) is None
