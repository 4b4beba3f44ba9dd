"""What a request of MCP carries: a presentation, and whether its actor can ask for more."""

from capx.agent.agent import Agent
from capx.agent.mcp_request import kind_of, own_meta
from capx.api.mcp_messages import OwnMeta
from capx.authority.authority import Authority
from capx.authority.opening import OpenedTask
from capx.tokens.binding import McpRequest


def test_only_an_agent_with_an_authority_asks_for_lists(lab: Authority, task: OpenedTask) -> None:
    asking, alone = Agent(task.bundle, authority=lab), Agent(task.bundle)
    for actor, asks in ((asking, True), (alone, False), (task.bundle, False)):
        assert own_meta(actor, "tools/list", None) == OwnMeta(asks=asks)
    assert own_meta(asking, "tools/call", None) == OwnMeta()


def test_a_request_carries_its_presentation(task: OpenedTask) -> None:
    shown = task.bundle.present("crm", McpRequest(method="tools/call", params={"name": "read"}))
    assert own_meta(task.bundle, "tools/call", shown) == OwnMeta(shown.text)


def test_calls_of_one_tool_are_of_one_kind() -> None:
    assert kind_of("tools/call", {"name": "read", "arguments": {"path": "/a"}}) == ("tools/call", "read")
    assert kind_of("resources/read", None) == ("resources/read", "")
