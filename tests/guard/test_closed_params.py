"""What of the params of a request reaches a server: nothing that nobody judged."""

from typing import Any

import pytest

from capx.api.mcp_messages import LISTS, OPEN
from capx.guard.mcp.closed_params import client_meta, demand_judged, passing_params
from capx.guard.mcp.requested_call import Unserved

KNOWN = {
    "tools/call": {"name", "arguments"},
    "prompts/get": {"name", "arguments"},
    "resources/read": {"uri"},
    "resources/subscribe": {"uri"},
    "resources/unsubscribe": {"uri"},
    "completion/complete": {"ref", "argument", "context"},
    "initialize": {"protocolVersion", "capabilities", "clientInfo"},
    "logging/setLevel": {"level"},
    "ping": set[str](),
    "server/discover": set[str](),
    **{method: {"cursor"} for method in LISTS},
}
OF_CLIENT = {
    f"io.modelcontextprotocol/{name}": {"a": 1}
    for name in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel")
}


def judged(method: str, params: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the server gets of a judged request."""
    demand_judged(method, params or {})
    return passing_params(method, params)


@pytest.mark.parametrize("method", KNOWN)
def test_each_method_has_the_members_of_mcp_and_no_others(method: str) -> None:
    known = dict.fromkeys(KNOWN[method], "x")
    assert judged(method, known) == passing_params(method, known) == known
    others = {name for names in KNOWN.values() for name in names} - KNOWN[method]
    for name in {*others, "requestState", "inputResponses", "task", "\ud800", "Cursor"}:
        assert passing_params(method, {**known, name: 1}) == known
        assert judged(method, {**known, name: None}) == known
        with pytest.raises(Unserved, match="nobody judges") as error:
            judged(method, {**known, name: 1})
        assert error.value.code == -32602


def test_a_refusal_names_the_member_and_what_may_be_sent() -> None:
    with pytest.raises(Unserved) as error:
        judged("tools/call", {"name": "read", "task": {"ttl": 1}})
    assert str(error.value) == (
        'nobody judges the member "task" of `tools/call`, so it is not served: send only _meta, arguments, name'
    )


@pytest.mark.parametrize("cursor", [5, True, {"path": "/secret"}, ["a"]])
def test_a_cursor_that_is_no_text_reaches_no_server(cursor: Any) -> None:
    for method in LISTS:
        with pytest.raises(Unserved, match="`cursor` is a text") as error:
            judged(method, {"cursor": cursor})
        assert error.value.code == -32602
        assert judged(method, {"cursor": None}) == {"cursor": None}
    assert judged("tasks/get", {"cursor": cursor}) == {"cursor": cursor}


def test_every_open_method_has_a_list() -> None:
    assert KNOWN.keys() >= OPEN


def test_a_method_that_only_the_table_knows_has_no_list() -> None:
    params: dict[str, Any] = {"taskId": "t1", "task": {}, "requestState": "s"}
    assert judged("tasks/get", params) == params
    assert judged("tasks/get", {**params, "_meta": {"other": 1}}) == params
    assert judged("tasks/get", None) is None


def test_of_meta_only_what_mcp_names_passes() -> None:
    plain: dict[str, Any] = {"progressToken": 2**53 - 1, "traceparent": "00-1", "tracestate": "a=1", "baggage": ""}
    for passing in (OF_CLIENT, plain, {"progressToken": "p" * 8192}, {"progressToken": 0}):
        sent: dict[str, Any] = {"_meta": {**passing, "openai/locale": "de", "io.modelcontextprotocol/related-task": {}}}
        assert judged("tools/call", sent) == passing_params("ping", sent) == {"_meta": passing}


@pytest.mark.parametrize("value", [True, False, 1.0, 2**53, -(2**53), {"a": 1}, [], "p" * 8193])
def test_a_progress_token_is_a_whole_number_or_a_text(value: Any) -> None:
    sent = {"_meta": {"progressToken": value}}
    assert passing_params("ping", sent) == {}
    with pytest.raises(Unserved, match="`progressToken` in `_meta`") as error:
        judged("tools/call", sent)
    assert error.value.code == -32602


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
@pytest.mark.parametrize("value", [0, True, {"a": 1}, ["00-1"], "b" * 8193])
def test_a_trace_is_a_text_of_a_bounded_length(name: str, value: Any) -> None:
    sent = {"_meta": {name: value}}
    assert passing_params("ping", sent) == {}
    with pytest.raises(Unserved, match=f"`{name}` in `_meta`"):
        judged("tools/call", sent)


def test_a_list_of_the_guard_says_of_its_client_no_more() -> None:
    params: dict[str, Any] = {"name": "read", "_meta": {**OF_CLIENT, "progressToken": 1, "traceparent": "00-1"}}
    assert client_meta(params) == {"_meta": OF_CLIENT}
    assert client_meta({"_meta": {"progressToken": 1}}) == client_meta(None) == {}


def test_a_version_that_nobody_presents_is_refused() -> None:
    with pytest.raises(Unserved, match="the version of a tool cannot be presented") as error:
        judged("tools/call", {"_meta": {"fastmcp": {"version": "1"}}})
    assert error.value.code == -32602
    assert passing_params("ping", {"_meta": {"fastmcp": {"version": "1"}}}) == {}


def test_null_in_meta_counts_as_absent() -> None:
    sent = {"_meta": dict.fromkeys(("progressToken", "traceparent", "tracestate", "baggage"))}
    assert judged("tools/call", sent) == passing_params("ping", sent) == {}
