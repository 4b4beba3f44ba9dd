"""The headers that repeat a message are those that the specification of MCP names, and only for its later versions."""

from functools import partial
from typing import Any

import pytest

from capx.api.jsonrpc import Notification, Request, Response
from capx.api.relay.http_headers import media_type, message_headers, negotiated_version, repeats_message

META = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "read"}, "read"),
        ("prompts/get", {"name": "review"}, "review"),
        ("resources/read", {"uri": "files://a"}, "files://a"),
        ("tools/call", {"name": "läsa"}, "=?base64?bMOkc2E=?="),
        ("tools/call", {"name": " a"}, "=?base64?IGE=?="),
        ("tools/call", {"name": "a\r\nx: y"}, "=?base64?YQ0KeDogeQ==?="),
        ("tools/call", {"name": "=?base64?YQ==?="}, "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ("tools/call", {"name": 7}, None),
        ("tools/list", {"name": "read", "": "read"}, None),
    ],
)
def test_a_request_is_repeated(method: str, params: dict[str, Any], name: str | None) -> None:
    headers = message_headers(Request(1, method, {**params, **META}))
    wanted = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    assert headers == (wanted if name is None else {**wanted, "mcp-name": name})


def test_earlier_versions_and_answers_have_no_such_headers() -> None:
    assert message_headers(Request(1, "tools/call", {"name": "read"})) == {}
    assert message_headers(Response(id=1, result={})) == {}
    assert "mcp-name" not in message_headers(Notification("tools/call", {"name": "read", **META}))


@pytest.mark.parametrize("kind", [partial(Request, 1), Notification])
@pytest.mark.parametrize(("shown", "headers"), [("capx1_A", {"capx-presentation": "capx1_A"}), (7, {}), (None, {})])
def test_a_presentation_is_repeated_in_every_version(kind: Any, shown: object, headers: dict[str, str]) -> None:
    meta = {"dev.capx/presentation": shown}
    assert message_headers(kind("tools/call", {"_meta": meta})) == headers
    later = message_headers(kind("tools/call", {"_meta": {**meta, **META["_meta"]}}))
    assert later.pop("mcp-protocol-version") == "2026-07-28"
    assert {name: value for name, value in later.items() if name.startswith("capx")} == headers


def test_all_of_them_are_known() -> None:
    assert all(map(repeats_message, ("mcp-method", "mcp-name", "mcp-param-path", "capx-presentation")))
    assert not any(map(repeats_message, ("mcp-session-id", "mcp-protocol-version", "authorization")))


@pytest.mark.parametrize(
    ("result", "version"),
    [({"protocolVersion": "2025-06-18"}, "2025-06-18"), ({"protocolVersion": "a\r\nb"}, None), ({}, None), (7, None)],
)
def test_the_negotiated_version_is_that_of_the_server(result: Any, version: str | None) -> None:
    assert negotiated_version(result) == version


@pytest.mark.parametrize(
    ("header", "kind"),
    [("application/json", "application/json"), (" Text/Event-Stream ; charset=utf-8", "text/event-stream"), ("", "")],
)
def test_a_media_type_is_named_without_its_parameters(header: str, kind: str) -> None:
    assert media_type(header) == kind
