"""Guarded servers of real SDKs, attacked over real transports: MCPServer and FastMCP, both versions of the protocol."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from capx.api.mcp_messages import PRESENTATION, PROBLEM, OwnMeta, bound_request, with_own
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx_caveats import action, anything, between, not_in, one_of
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import KINDS, MODERN, MCPLab, SomeServer, as_sdk, code_of, send, send_presented, some_server


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, lab: Authority) -> MCPLab:
    return MCPLab(lab, request.param)


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["content"][0]["text"])


async def test_an_allowed_call_runs_with_its_defaults(server: MCPLab, lab: Authority) -> None:
    reader = held(lab, action("files.read", args={"path": anything(), "limit": between(1, 100)}), "files.find")
    async with server.session() as session:
        answer = await send_presented(session, reader, "tools/call", call("read", path="/a"))
        assert "/a 100 for Acme" in text_of(answer)
        assert "dev.capx" not in text_of(answer)
        answer = await send_presented(session, reader, "tools/call", call("search", names=["x"], limit=7))
        assert "7" in text_of(answer)
        assert server.ran == ["read /a 100", "find ['x'] 7"]


async def test_defaults_of_the_function_are_not_the_callers(server: MCPLab, lab: Authority) -> None:
    # The grant names one argument. If the caller sent another one, it would have to be named, too.
    pinned = held(lab, action("files.read", args={"path": one_of("/a")}))
    async with server.session() as session:
        answer = await send_presented(session, pinned, "tools/call", call("read", path="/a"))
        assert answer["isError"] is False
        answer = await send_presented(session, pinned, "tools/call", call("read", path="/a", limit=100))
        assert code_of(answer) == "argument_not_named"


async def test_a_function_is_judged_with_what_its_server_parsed(server: MCPLab, lab: Authority) -> None:
    careful = held(lab, action("files.find", args={"names": not_in("secret", ["secret"]), "limit": between(1, 100)}))
    async with server.session() as session:
        answer = await send_presented(session, careful, "tools/call", call("search", names='["secret"]'))
        # MCPServer makes an array of this text, FastMCP does not.
        assert answer["isError"] is not server.kind.startswith("fastmcp")
        assert server.ran == (['find ["secret"] 100'] if server.kind.startswith("fastmcp") else [])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read", {"path": "/secret"}),
        ("read", {"path": "/a", "limit": 1000}),
        ("search", {"names": "secret"}),
        ("search", {"names": ["secret"]}),
        ("plain", {"names": '["secret"]'}),
        ("plain", {"names": ["a"], "limit": True}),
        ("plain", {"names": ["a"], "limit": "5"}),
        ("remove", {"path": "/a"}),
    ],
)
async def test_what_a_caveat_denies_does_not_run(
    server: MCPLab, lab: Authority, tool: str, arguments: dict[str, Any]
) -> None:
    few = {"limit": between(1, 100)}
    capability = held(
        lab,
        action("files.read", args={"path": not_in("/secret"), **few}),
        action("files.find", args={"names": not_in("secret", ["secret"]), **few}),
        action("files.plain", args={"names": not_in("secret", ["secret"]), **few}),
    )
    async with server.session() as session:
        answer = await send_presented(session, capability, "tools/call", call(tool, **arguments))
        assert answer["isError"] is True
        assert "structuredContent" not in answer
        assert server.ran == []


async def test_no_other_call_than_was_presented_runs(server: MCPLab, lab: Authority) -> None:
    everything = held(lab, "files.*")
    async with server.session() as session:
        text = everything.present(bound_request("tools/call", call("read", path="/a"))).text
        others = [call("read", path="/b"), call("remove", path="/a"), call("read", path="/a", limit=5), call("plain")]
        for other in others:
            assert code_of(await send(session, "tools/call", with_own(other, OwnMeta(text)))) == "call_mismatch"
        uri = {"uri": "file:///a"}
        assert code_of(await send(session, "resources/read", with_own(uri, OwnMeta(text)))) == "call_mismatch"
        assert server.ran == []
        assert (await send(session, "tools/call", with_own(call("read", path="/a"), OwnMeta(text))))["isError"] is False


async def test_of_twenty_replays_at_once_one_call_runs(server: MCPLab, lab: Authority) -> None:
    reader = held(lab, "files.*")
    async with server.session() as session:
        for tool in (call("read", path="/a"), call("search", names="a"), call("plain")):
            server.ran.clear()
            params = with_own(tool, OwnMeta(reader.present(bound_request("tools/call", tool)).text))
            answers = await asyncio.gather(*(send(session, "tools/call", params) for _ in range(20)))
            assert sorted(one["isError"] for one in answers) == [False, *[True] * 19]
            assert {code_of(one) for one in answers if one["isError"]} == {"replayed"}
            assert len(server.ran) == 1


async def test_tokens_bundles_and_garbage_open_nothing(server: MCPLab, lab: Authority) -> None:
    task = lab.open(tenant="Acme", allow=["files.*"])
    async with server.session() as session:
        bare = next(one.text for one in task.bundle if one.audience == "files")
        for text in (bare, task.bundle.text, "capx1_AAAA", "", "Capx " + bare):
            answer = await send(session, "tools/call", {**call("read", path="/a"), "_meta": {PRESENTATION: text}})
            assert answer["_meta"][PROBLEM]["status"] == 401
            assert bare not in str(answer)
        answer = await send(session, "tools/call", {**call("read", path="/a"), "_meta": {PRESENTATION: 5}})
        assert answer["error"]["code"] == -32602
        assert server.ran == []


async def test_a_stranger_learns_nothing_of_what_a_server_has(server: MCPLab) -> None:
    async with server.session() as session:
        for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
            answer = await send(session, method, {})
            assert [value for value in answer.values() if isinstance(value, list)] == [[]]
        called = [await send(session, "tools/call", call(name, path="/a")) for name in ("read", "plain", "unknown")]
        problems = [one["_meta"][PROBLEM] for one in called]
        assert {text_of(one) for one in called} == {"no token was presented"}
        others = [
            await send(session, method, params)
            for method, params in (
                ("resources/read", {"uri": "file:///a"}),
                ("resources/read", {"uri": "file:///unknown"}),
                ("prompts/get", {"name": "summary", "arguments": {"of": "x"}}),
                ("prompts/get", {"name": "unknown"}),
            )
        ]
        assert {(one["error"]["code"], one["error"]["message"]) for one in others} == {(401, "no token was presented")}
        problems += [one["error"]["data"] for one in others]
        told = [{name: value for name, value in one.items() if name != "decision"} for one in problems]
        assert told == [told[0]] * len(told)
        assert "ask" not in told[0]
        assert server.ran == []


async def test_lists_show_what_the_bearer_may_use(server: MCPLab, lab: Authority) -> None:
    async with server.session() as session:
        reader = held(lab, "files.read", "files.prompt.summary")
        answer = await send_presented(session, reader, "tools/list", {})
        assert [tool["name"] for tool in answer["tools"]] == ["read"]
        answer = await send_presented(session, reader, "tools/list", {}, asks=True)
        assert {tool["name"] for tool in answer["tools"]} >= {"read", "search", "plain"}
        assert "unnamed" not in str(answer)
        if server.kind in MODERN:
            assert (answer["ttlMs"], answer["cacheScope"]) == (0, "private")
        answer = await send_presented(session, reader, "prompts/list", {})
        assert [prompt["name"] for prompt in answer["prompts"]] == ["summary"]
        assert (await send_presented(session, reader, "resources/list", {}))["resources"] == []


async def test_a_tool_that_nobody_named_is_unknown(server: MCPLab, lab: Authority) -> None:
    everything = held(lab, "files.*")
    async with server.session() as session:
        for name in ("unnamed", "find", "nothing"):
            answer = await send_presented(session, everything, "tools/call", call(name))
            assert (answer["error"]["code"], answer["error"]["message"]) == (-32602, f"Unknown tool: {name!r}")
        assert server.ran == []


async def test_resources_and_prompts_are_judged(server: MCPLab, lab: Authority) -> None:
    mine = held(
        lab,
        action("files.resource.read", args={"uri": one_of("file:///a")}),
        action("files.prompt.summary", args={"of": one_of("x")}),
    )
    async with server.session() as session:
        answer = await send_presented(session, mine, "resources/read", {"uri": "file:///a"})
        assert answer["contents"][0]["text"] == "content of a"
        assert (
            code_of(await send_presented(session, mine, "resources/read", {"uri": "file:///b"})) == "argument_refused"
        )
        prompt = {"name": "summary", "arguments": {"of": "x"}}
        assert "Sum up x" in str(await send_presented(session, mine, "prompts/get", prompt))
        prompt["arguments"] = {"of": "y"}
        answer = await send_presented(session, mine, "prompts/get", prompt)
        assert (answer["error"]["code"], code_of(answer)) == (403, "argument_refused")
        assert server.ran == ["file:///a", "summary x"]


async def test_a_denial_that_a_tool_swallows_sticks(server: MCPLab, lab: Authority) -> None:
    tidy = held(lab, "files.tidy")
    async with server.session() as session:
        answer = await send_presented(session, tidy, "tools/call", call("tidy", path="/a"))
        assert code_of(answer) == "action_not_allowed"
        assert "secret" not in str(answer)
        assert server.ran == []
        both = held(lab, "files.tidy", "files.remove")
        assert (await send_presented(session, both, "tools/call", call("tidy", path="/a")))["isError"] is False


async def test_errors_of_the_server_stay_readable(
    server: MCPLab, lab: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    everything = held(lab, "files.*")
    async with server.session() as session:
        answer = await send_presented(session, everything, "tools/call", call("crash"))
        assert answer["isError"] is True
        assert "crash" in text_of(answer)
        answer = await send_presented(session, everything, "tools/call", call("read", path=5))
        assert "path" in text_of(answer)
        # Nobody learns from an error of validation about a tool that it may not call.
        answer = await send_presented(session, held(lab, "files.find"), "tools/call", call("read", path=5))
        assert code_of(answer) == "action_not_allowed"
        assert server.ran == []


async def test_a_result_with_a_schema_and_its_denial_both_pass(server: MCPLab, lab: Authority) -> None:
    careful = held(lab, action("files.size", args={"path": not_in("/secret")}))
    async with server.session() as session:
        answer = await send_presented(session, careful, "tools/call", call("size", path="/a"))
        assert answer["structuredContent"] == {"bytes": 2}
        answer = await send_presented(session, careful, "tools/call", call("size", path="/secret"))
        assert code_of(answer) == "argument_refused"


@pytest.mark.parametrize("number", [2**53, 2**63, -(2**60)])
async def test_a_number_that_no_digest_covers_is_refused(server: MCPLab, lab: Authority, number: int) -> None:
    reader = held(lab, "files.*")
    async with server.session() as session:
        text = reader.present(bound_request("tools/call", call("read", path="/a"))).text
        params = with_own(call("read", path="/a", limit=number), OwnMeta(text))
        answer = await send(session, "tools/call", params)
        assert answer["error"]["code"] == -32602
        assert "cannot be presented" in answer["error"]["message"]
        assert server.ran == []


@pytest.mark.parametrize("kind", MODERN)
async def test_answers_and_states_that_nobody_judges_reach_no_tool(lab: Authority, kind: str) -> None:
    server = MCPLab(lab, kind)
    mine = held(lab, "files.*")
    async with server.session() as session:
        first = await send_presented(session, mine, "tools/call", call("ask"))
        assert first["resultType"] == "input_required"
        answers = {"yes": {"action": "accept", "content": {"yes": True}}}
        for more in ({"inputResponses": answers}, {"requestState": "made up"}, {"task": {"ttl": 1}}):
            answer = await send_presented(session, mine, "tools/call", {**call("ask"), **more})
            assert answer["error"]["code"] == -32602
            assert "nobody judges" in answer["error"]["message"]
        assert server.ran == ["ask"]


def protect_a_reader(server: SomeServer, guard: MCPGuard) -> None:
    """Give a server one tool, which answers with the path that it is called with, and guard it."""

    @server.tool()
    @guard.tool("files.read", tenant=GRANTED)
    def read(path: str) -> str:
        return path

    guard.protect(server)


async def test_every_decision_is_reported(lab: Authority) -> None:
    reported: list[Any] = []
    server = some_server("mcp")
    guard = MCPGuard(lab.verifier("files"), on_decision=reported.append)
    protect_a_reader(server, guard)
    async with Client(as_sdk(server)) as client:
        mine = held(lab, action("files.read", args={"path": one_of("/a")}))
        for path in ("/a", "/b"):
            await send_presented(client.session, mine, "tools/call", call("read", path=path))
        await send(client.session, "tools/call", call("read", path="/a"))
    assert [(one.action, one.code) for one in reported] == [
        ("files.read", ""),
        ("files.read", "argument_refused"),
        (None, "no_token"),
    ]


def test_a_guard_is_made_from_the_environment(lab: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with pytest.raises(ConfigurationProblem, match="CAPX_"):
        MCPGuard.from_env()


async def test_the_environment_describes_a_guard(
    lab: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.export_keys("files").save(tmp_path / "files.keys")
    monkeypatch.setenv("CAPX_AUDIENCE", "files")
    monkeypatch.setenv("CAPX_KEY_FILE", str(tmp_path / "files.keys"))
    with pytest.raises(ConfigurationProblem, match="exactly one of CAPX_STORE, CAPX_FEED, CAPX_SNAPSHOT: none"):
        MCPGuard.from_env()
    monkeypatch.setenv("CAPX_STORE", lab.store.place)
    server, guard = some_server("mcp"), MCPGuard.from_env()
    protect_a_reader(server, guard)
    async with Client(as_sdk(server)) as client:
        answer = await send_presented(client.session, held(lab, "files.read"), "tools/call", call("read", path="/a"))
        assert text_of(answer) == "/a"
    assert guard.connection is not None
    guard.connection.close()


def unguarded(table: ToolTable | None = None, *, lab: Authority, named: str = "search") -> MCPGuard:
    """A guard of a server with one tool, which no guarded function is."""
    guard, server = MCPGuard(lab.verifier("files"), table), some_server("mcp")

    @server.tool(name=named)
    def one(path: str) -> str:
        return path

    guard.protect(server)
    return guard


def test_a_misspelt_and_a_forgotten_tool_are_named_in_the_log(lab: Authority, caplog: pytest.LogCaptureFixture) -> None:
    unguarded(ToolTable("files", {"serch": ToolSpec("files.search", tenant=GRANTED)}), lab=lab)
    assert "the table names ['serch'], and the server has no such tool" in caplog.text
    assert "unknown to clients, because nobody judges them: ['search']" in caplog.text
    caplog.clear()
    unguarded(ToolTable("files", {"search": ToolSpec("files.search", tenant=GRANTED)}), lab=lab)
    unguarded(ToolTable("files", unnamed="default", tenant=GRANTED), lab=lab)
    assert caplog.text == ""


def test_a_tool_that_is_guarded_after_protect_is_refused(lab: Authority) -> None:
    """It would be unknown to clients, and nothing would say so."""
    guard = unguarded(lab=lab)
    with pytest.raises(ConfigurationProblem, match="guard its tools first, then protect it"):
        guard.tool("files.read", tenant=GRANTED)


def test_two_guards_may_be_given_one_table(lab: Authority) -> None:
    table = ToolTable("files", tenant=GRANTED)
    for _ in range(2):
        server, guard = some_server("mcp"), MCPGuard(lab.verifier("files"), table)

        @server.tool()
        @guard.tool("files.read", tenant=GRANTED)
        def read(path: str) -> str:
            return path

        guard.protect(server)
    assert table.tools() == {}
