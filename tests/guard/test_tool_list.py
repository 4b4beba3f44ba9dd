"""The tools of a server, read for an operator, from servers of both kinds and from those that do not answer."""

import asyncio
import json
from typing import Any

import pytest

from capx.api.jsonrpc import Message, Request, write_message
from capx.errors import ConfigurationProblem
from capx.guard.mcp.tool_list import tools_of


class Server:
    """Answers as `how` says, one message after the other."""

    def __init__(self, how: str = "session") -> None:
        self.how = how
        self.got: list[Any] = []
        self.says: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def receive(self) -> bytes | None:
        return await self.says.get()

    def say(self, **message: Any) -> None:
        self.says.put_nowait(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def send(self, message: Message) -> None:
        self.got.append(json.loads(write_message(message)))
        if not isinstance(message, Request):
            return
        if self.how == "leaves":
            self.says.put_nowait(None)
        elif self.how == "garbage":
            self.says.put_nowait(b"Starting up")
        elif self.how == "silent":
            return
        elif message.method == "initialize":
            answer: dict[str, Any] = (
                {"error": {"code": -32601, "message": "unknown"}} if self.how == "modern" else {"result": {}}
            )
            self.say(id="other", result={})
            self.say(id=7, method="roots/list")
            self.say(id=message.id, **answer)
        elif self.how == "refuses":
            self.say(id=message.id, error={"code": 1, "message": "not\x1b now"})
        elif self.how == "refuses without a word":
            self.say(id=message.id, error={"code": 1, "message": 5})
        else:
            at = int((message.params or {}).get("cursor", "0"))
            more = {"nextCursor": str(at + 1)} if at < 2 else {}
            self.say(id=message.id, result={"tools": [{"name": f"tool{at}"}], **more})

    async def close(self) -> None: ...

    def hurry(self) -> None: ...

    def ending(self) -> str:
        return "has left"


def listed(server: Server) -> list[str]:
    return [tool["name"] for tool in asyncio.run(tools_of(server, 0.5))]


def test_all_pages_are_read_after_a_handshake() -> None:
    server = Server()
    assert listed(server) == ["tool0", "tool1", "tool2"]
    began, refused, told, *lists = server.got
    offered = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "capx", "version": "1"}}
    assert (began["method"], began["params"]) == ("initialize", offered)
    assert (refused["id"], refused["error"]["code"]) == (7, -32601)
    assert "only lists tools" in refused["error"]["message"]
    assert told["method"] == "notifications/initialized"
    assert [one["params"] for one in lists] == [{}, {"cursor": "1"}, {"cursor": "2"}]
    assert len({one["id"] for one in (began, *lists)}) == 4


def test_a_server_without_sessions_is_told_the_version_each_time() -> None:
    server = Server("modern")
    assert listed(server) == ["tool0", "tool1", "tool2"]
    asked = [one["params"]["_meta"] for one in server.got if one.get("method") == "tools/list"]
    prefix = "io.modelcontextprotocol/"
    said = {
        f"{prefix}protocolVersion": "2026-07-28",
        f"{prefix}clientInfo": {"name": "capx", "version": "1"},
        f"{prefix}clientCapabilities": {},
    }
    assert asked == [said] * 3


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("leaves", "the server has left, before it has listed its tools"),
        ("garbage", "the server has sent what is no message"),
        ("silent", "has not listed its tools within 0.5 seconds"),
        ("refuses", r"does not list its tools: not\\x1b now"),
        ("refuses without a word", "does not list its tools: no reason"),
    ],
)
def test_a_server_that_lists_nothing_is_a_problem(how: str, says: str) -> None:
    with pytest.raises(ConfigurationProblem, match=says):
        listed(Server(how))
