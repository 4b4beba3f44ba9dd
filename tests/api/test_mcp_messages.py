"""What capx adds to messages of MCP: what a presentation is bound to, where it travels, how a refusal is told."""

from typing import Any

import pytest
from msgspec import UNSET

from capx.api.jsonrpc import Id, Message, Notification, Request
from capx.api.mcp_messages import (
    ASKS,
    CALL,
    CANCELLED,
    PENDING,
    PRESENTATION,
    PROBLEM,
    OwnMeta,
    bound_request,
    cancelled_id,
    denial_in_error,
    denial_in_result,
    names_version,
    refusal,
    with_own,
    without_own,
    without_own_in_error,
    without_own_in_result,
)
from capx.authority.authority import Authority
from capx.errors import InvalidCaveat, InvalidRequest, Unavailable
from capx.tokens.binding import McpRequest
from capx.verify.ask import Ask, Pending
from capx.verify.decision import NO_TOKEN, Denied

VERSION = "io.modelcontextprotocol/protocolVersion"


def denied(audience: str = "files") -> Denied:
    with Authority.temporary() as authority:
        decision = authority.verifier(audience).denial(NO_TOKEN, f"{audience}.read").decision
    return Denied(decision, Ask.of(f"{audience}.read", audience, {"path": "/a"}), sent=True)


def test_a_presentation_covers_method_and_params_but_meta() -> None:
    params = {"name": "read", "arguments": {"path": "/a"}, "_meta": {"progressToken": 1}}
    assert bound_request(CALL, params) == McpRequest(method=CALL, params={"name": "read", "arguments": {"path": "/a"}})
    more = {**params, "inputResponses": {"a": 1}, "requestState": "s"}
    assert bound_request(CALL, more).params == {key: value for key, value in more.items() if key != "_meta"}


@pytest.mark.parametrize(("method", "filled"), [(CALL, True), ("prompts/get", True), ("resources/read", False)])
def test_no_arguments_and_null_count_as_empty(method: str, *, filled: bool) -> None:
    expected: dict[str, Any] = {"name": "read", "arguments": {}} if filled else {"name": "read"}
    assert bound_request(method, {"name": "read"}).params == expected
    if filled:
        assert bound_request(method, {"name": "read", "arguments": None}).params == expected


def test_two_methods_are_never_bound_alike() -> None:
    assert bound_request("tools/call", {}).digest() != bound_request("tools.call", {"arguments": {}}).digest()


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**64, float("nan")])
def test_a_number_without_a_digest_cannot_be_presented(number: float) -> None:
    with pytest.raises((InvalidRequest, InvalidCaveat)):
        bound_request(CALL, {"name": "read", "arguments": {"n": number}})


def test_what_is_added_is_what_is_found() -> None:
    params = {"name": "read", "_meta": {"progressToken": 1}}
    for own in (OwnMeta(), OwnMeta("capx1_x"), OwnMeta("capx1_x", asks=True), OwnMeta(asks=True)):
        sent = with_own(params, own)
        assert without_own(sent) == (params, own)
    assert params == {"name": "read", "_meta": {"progressToken": 1}}
    assert with_own(None, OwnMeta("x")) == {"_meta": {PRESENTATION: "x"}}
    assert with_own(None, OwnMeta()) == {}
    assert with_own({"_meta": None}, OwnMeta("x"))["_meta"] == {PRESENTATION: "x"}
    assert without_own(None) == (None, OwnMeta())


def test_older_members_of_capx_are_replaced_or_removed() -> None:
    params = {"_meta": {PRESENTATION: "old", ASKS: True, "dev.capx/other": 1, "dev.capx": 2}}
    assert with_own(params, OwnMeta("new")) == {"_meta": {"dev.capx": 2, PRESENTATION: "new"}}
    assert without_own(params) == ({"_meta": {"dev.capx": 2}}, OwnMeta("old", asks=True))


@pytest.mark.parametrize(
    "meta", ["text", 5, [], True, {PRESENTATION: 5}, {PRESENTATION: []}, {ASKS: "true"}, {ASKS: 1}, {ASKS: None}]
)
def test_meta_of_another_form_is_refused(meta: Any) -> None:
    why = "dev.capx/presentation.*dev.capx/asks" if isinstance(meta, dict) else "`_meta`.*object"
    with pytest.raises(InvalidRequest, match=why):
        without_own({"name": "read", "_meta": meta})


def test_no_server_writes_a_member_of_capx_into_an_answer() -> None:
    forged: dict[str, Any] = {"content": [], "_meta": {PROBLEM: {}, PENDING: {}, "own": 1}}
    assert without_own_in_result(forged) == {"content": [], "_meta": {"own": 1}}
    others: list[Any] = [None, 5, "text", [{"_meta": {PROBLEM: {}}}]]
    for other in others:
        assert without_own_in_result(other) == other
    assert without_own_in_result({"_meta": 5}) == {"_meta": 5}


@pytest.mark.parametrize(
    "data", [None, 5, "urn:capx:x", [], {}, {"type": 5}, {"type": "urn:other:x"}, {"TYPE": "urn:capx:x"}]
)
def test_what_a_server_says_of_its_error_passes(data: Any) -> None:
    assert without_own_in_error(data) == data


def test_no_server_writes_problem_details_of_capx() -> None:
    assert without_own_in_error(dict(denied().problem())) is None
    assert without_own_in_error({"type": "urn:capx:x"}) is None


def test_results_have_a_type_from_2026_07_28_on() -> None:
    assert names_version({"_meta": {VERSION: "2026-07-28"}})
    assert not names_version({"_meta": {VERSION: "2025-11-25"}})
    others: list[Any] = [None, {}, {"_meta": None}, {"_meta": 5}, {"_meta": {VERSION: 20260728}}]
    for params in others:
        assert not names_version(params)


def test_a_refused_tool_call_is_a_result_that_a_model_reads() -> None:
    found = denied()
    told = refusal(CALL, found, typed=False).result
    assert told is not None
    assert told["isError"] is True
    assert told["content"] == [{"type": "text", "text": str(found)}]
    assert "resultType" not in told
    again = denial_in_result(told, "files")
    assert again is not None
    assert (again.code, again.status, again.ask) == (found.code, 401, found.ask)
    assert refusal(CALL, found, typed=True).result == {**told, "resultType": "complete"}
    other = refusal(CALL, found, typed=False, text="ask Ana").result
    assert other == {**told, "content": [{"type": "text", "text": "ask Ana"}]}


def test_any_other_refused_request_is_an_error() -> None:
    found = denied()
    told = refusal("resources/read", found, typed=True)
    assert (told.result, told.code, told.message) == (None, 401, str(found))
    again = denial_in_error({"code": told.code, "message": told.message, "data": told.data}, "files")
    assert again is not None
    assert again.ask == found.ask


def test_a_call_that_waits_for_a_person_says_whom() -> None:
    pending = Pending(Ask.of("files.read"), request="r1", until=1_800_000_000, approvers=("ana",))
    told = refusal(CALL, pending, typed=False).result
    assert told is not None
    assert told["_meta"] == {PENDING: {"request": "r1", "until": 1_800_000_000, "approvers": ["ana"]}}
    assert "ana" in told["content"][0]["text"]
    assert refusal("prompts/get", pending, typed=False).code == 503


def test_what_nobody_can_judge_now_is_no_denial() -> None:
    result = refusal(CALL, Unavailable("the disk is full"), typed=False).result
    assert result == {"content": [{"type": "text", "text": "the disk is full"}], "isError": True}
    told = refusal("prompts/get", Unavailable("x"), typed=False)
    assert (told.code, told.message, told.data) == (503, "x", UNSET)
    assert refusal("prompts/get", InvalidRequest("x"), typed=False).code == 400


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        {"isError": True, "_meta": {PROBLEM: [5]}},
        {"isError": True},
        {"isError": True, "_meta": 5},
        {"isError": True, "_meta": {PROBLEM: None}},
        {"isError": True, "_meta": {PROBLEM: {"reasons": []}}},
        {"isError": True, "_meta": {PROBLEM: {"reasons": [{"code": "expired"}], "type": "https://other/"}}},
        {"isError": 1, "_meta": {PROBLEM: {}}},
    ],
)
def test_what_a_tool_says_itself_is_no_denial(result: Any) -> None:
    assert denial_in_result(result, "files") is None


def test_a_result_without_an_error_is_no_denial() -> None:
    told = refusal(CALL, denied(), typed=False).result
    assert denial_in_result({**(told or {}), "isError": False}, "files") is None


def test_a_server_does_not_choose_where_an_agent_asks() -> None:
    told = refusal(CALL, denied("billing"), typed=False).result
    again = denial_in_result(told, "files")
    assert again is not None
    assert again.ask is None


@pytest.mark.parametrize(
    ("message", "id"),
    [
        (Notification(CANCELLED, {"requestId": 7}), 7),
        (Notification(CANCELLED, {"requestId": "a"}), "a"),
        (Notification(CANCELLED, {"requestId": True}), None),
        (Notification(CANCELLED, {"requestId": 1.0}), None),
        (Notification(CANCELLED), None),
        (Notification("notifications/progress", {"requestId": 7}), None),
        (Request(1, CANCELLED, {"requestId": 7}), None),
    ],
)
def test_a_cancellation_names_a_request(message: Message, id: Id | None) -> None:
    assert cancelled_id(message) == id
