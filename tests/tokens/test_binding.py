import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from capx.errors import InvalidRequest
from capx.resource.replay import Replay
from capx.tokens import wire
from capx.tokens.binding import HttpRequest, McpRequest, Received, ToolCall
from capx.tokens.bundle import Bundle
from capx_caveats import JSON, SAFE_INTEGER, Call, InvalidCaveat, Presented, encode_block, expires
from tests.labs.lab import NOW, Lab, appended, codes, minted, raw

CAPABILITY = minted()
READ = ToolCall("a.read", {"id": 1})
REQUEST = HttpRequest(method="POST", target="/accounts?limit=5", content_type="application/json", body=b"{}")


@pytest.mark.parametrize("action", ["", "a.*", "*", "a b", "a..b", ".a", "a" * 129, "ä"])
def test_a_tool_call_names_an_action(action: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an action"):
        ToolCall(action)


@pytest.mark.parametrize("target", ["", "accounts", "http://crm/accounts", "/konten/ä"])
def test_a_request_has_a_raw_target(target: str) -> None:
    with pytest.raises(InvalidRequest, match="raw path and query"):
        HttpRequest(method="GET", target=target)


def test_a_query_with_a_parameter_twice_is_no_arguments() -> None:
    query = QueryParams("id=1&id=2")
    for args in (query, MappingProxyType(query), MultiDict(id=[1, 2])):
        with pytest.raises(InvalidCaveat, match="pass a plain dict, in which a name that is repeated has a list"):
            ToolCall("a.read", args)
    view = MappingProxyType({"id": [1, 2]})
    assert ToolCall("a.read", view).digest() == ToolCall("a.read", {"id": [1, 2]}).digest()


class MultiDict(dict[str, Any]):
    """A dict that shows the first of several values, as that of werkzeug."""

    def items(self) -> Any:
        return [(name, values[0]) for name, values in super().items()]


# What it is for


def presented(received: Received, at: int = NOW) -> str:
    return CAPABILITY.present(received, now=at).text


OTHER_CALLS: dict[str, tuple[Received, Received]] = {
    "another action": (READ, ToolCall("a.write", {"id": 1})),
    "another argument": (READ, ToolCall("a.read", {"id": 2})),
    "another name": (READ, ToolCall("a.read", {"ID": 1})),
    "one argument more": (READ, ToolCall("a.read", {"id": 1, "x": None})),
    "one argument less": (READ, ToolCall("a.read")),
    "text for a number": (READ, ToolCall("a.read", {"id": "1"})),
    "true for 1": (READ, ToolCall("a.read", {"id": True})),
    "a list for its element": (READ, ToolCall("a.read", {"id": [1]})),
    "null for absent": (ToolCall("a.read"), ToolCall("a.read", {"id": None})),
    "composed for decomposed": (ToolCall("a.read", {"n": "\u00e9"}), ToolCall("a.read", {"n": "e\u0301"})),
    "another order in a list": (ToolCall("a.read", {"n": [1, 2]}), ToolCall("a.read", {"n": [2, 1]})),
    "another profile": (READ, REQUEST),
    "a tool call for a request": (REQUEST, READ),
}


CHANGES: dict[str, Mapping[str, Any]] = {
    "another method": {"method": "PUT"},
    "the method in lower case": {"method": "post"},
    "another path": {"target": "/account?limit=5"},
    "a path rewritten by a proxy": {"target": "/crm/accounts?limit=5"},
    "a trailing slash": {"target": "/accounts/?limit=5"},
    "dots": {"target": "/x/../accounts?limit=5"},
    "percent-encoding": {"target": "/%61ccounts?limit=5"},
    "another query": {"target": "/accounts?limit=50"},
    "no query": {"target": "/accounts"},
    "an empty query": {"target": "/accounts?"},
    "another body": {"body": b"{} "},
    "no body": {"body": b""},
    "another content type": {"content_type": "text/plain"},
    "another charset": {"content_type": "application/json; charset=utf-8"},
    "no content type": {"content_type": None},
    "an empty content type": {"content_type": ""},
    "a content encoding": {"content_encoding": "gzip"},
}


@pytest.mark.parametrize(("made_for", "received"), OTHER_CALLS.values(), ids=list(OTHER_CALLS))
def test_a_presentation_for_another_call_is_refused(made_for: Received, received: Received) -> None:
    lab = Lab()
    decision = lab.verifier.decide(presented(made_for), received, Call("a.read", {"id": 1}))
    assert codes(decision) == ("call_mismatch",)


def test_a_digest_under_another_profile_is_for_another_call() -> None:
    mcp = McpRequest(method="tools/call", params={"name": "a"})
    for profile, received in (("http", ToolCall("a.read")), ("tool", REQUEST), ("tool", mcp), ("mcp", REQUEST)):
        token = appended(CAPABILITY, encode_block((Presented(profile, received.digest(), NOW, "A" * 16),))).text
        assert codes(Lab().verifier.decide(token, received, Call("a.read"))) == ("call_mismatch",)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_presentation_for_another_request_is_refused(change: Mapping[str, Any]) -> None:
    fields: dict[str, Any] = {field: getattr(REQUEST, field) for field in REQUEST.__struct_fields__}
    received = HttpRequest(**{**fields, **change})
    lab = Lab()
    assert codes(lab.verifier.decide(presented(REQUEST), received, Call("a.read"))) == ("call_mismatch",)
    assert lab.verifier.decide(presented(REQUEST), HttpRequest(**fields), Call("a.read")).allowed


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ({"n": 1}, {"n": 1.0}),
        ({"n": -0.0}, {"n": 0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"n": [1]}, {"n": (1,)}),
    ],
)
def test_one_call_in_two_spellings_is_one_call(sent: Mapping[str, JSON], received: Mapping[str, JSON]) -> None:
    token = presented(ToolCall("a.read", sent))
    assert Lab().verifier.decide(token, ToolCall("a.read", received), Call("a.read")).allowed


def test_what_is_judged_is_what_is_executed_not_what_was_sent() -> None:
    lab = Lab()
    token = presented(ToolCall("a.read"))
    assert codes(lab.verifier.decide(token, ToolCall("a.read"), Call("a.export"))) == ("action_not_allowed",)


# When


@pytest.mark.parametrize("age", [-5, 0, 60])
def test_a_presentation_is_good_to_the_ends_of_its_window(age: int) -> None:
    assert codes(Lab().decide(presented(ToolCall("a.read"), NOW - age))) == ()


@pytest.mark.parametrize("age", [-1000, -6, 61, 1000])
def test_a_presentation_outside_its_window_is_refused(age: int) -> None:
    assert codes(Lab().decide(presented(ToolCall("a.read"), NOW - age))) == ("call_window",)


@pytest.mark.parametrize("at", [0, SAFE_INTEGER])
def test_a_presentation_of_no_time_at_all_is_refused(at: int) -> None:
    assert codes(Lab().decide(presented(ToolCall("a.read"), at))) == ("call_window",)


def test_a_clock_that_steps_back_brings_no_window_back() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    lab.clock.now = NOW + 61
    assert codes(lab.decide(token)) == ("call_window",)
    lab.clock.now = NOW
    assert codes(lab.decide(token)) == ("call_window",)


def test_a_clock_that_steps_back_lets_nothing_be_replayed() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    assert lab.decide(token).allowed
    lab.clock.now = NOW + 61
    lab.codes(CAPABILITY)
    lab.clock.now = NOW
    assert not lab.decide(token).allowed


# Once


def test_a_presentation_replayed_at_once_is_refused() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    assert codes(lab.decide(token)) == ()
    assert codes(lab.decide(token)) == ("replayed",)


def test_a_presentation_is_burnt_though_its_call_was_denied() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY, "a.export")
    assert codes(lab.decide(token, "a.export")) == ("action_not_allowed",)
    assert codes(lab.decide(token, "a.export")) == ("replayed",)


def test_a_presentation_of_a_dead_token_burns_nothing() -> None:
    lab = Lab(replay=Replay.process(1, clock=lambda: NOW - 1_000_000))
    lab.deaths.deaths["T1"] = "task_completed"
    for _ in range(3):
        assert codes(lab.decide(lab.present(CAPABILITY))) == ("task_completed",)
    lab.deaths.deaths.clear()
    assert lab.codes(CAPABILITY) == ()


def test_a_copied_presentation_for_another_call_burns_nothing() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    assert codes(lab.verifier.decide(token, ToolCall("a.write"), Call("a.write"))) == ("call_mismatch",)
    assert lab.decide(token).allowed


def test_of_a_hundred_racing_threads_one_is_allowed() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    barrier = threading.Barrier(100)

    def race(_: int) -> tuple[str, ...]:
        barrier.wait()
        return codes(lab.decide(token))

    with ThreadPoolExecutor(100) as pool:
        verdicts = list(pool.map(race, range(100)))
    assert sorted(verdicts) == [(), *[("replayed",)] * 99]


async def test_of_a_hundred_racing_coroutines_one_is_admitted() -> None:
    lab = Lab()
    token = lab.present(CAPABILITY)
    results = await asyncio.gather(
        *(lab.verifier.admit_async(token, ToolCall("a.read")) for _ in range(100)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1


def test_two_presentations_of_one_call_are_two_calls() -> None:
    lab = Lab()
    assert lab.present(CAPABILITY) != lab.present(CAPABILITY)
    assert lab.codes(CAPABILITY) == lab.codes(CAPABILITY) == ()


# One, last, and nothing else


def test_a_bare_token_is_refused_with_how_to_present_it() -> None:
    decision = Lab().decide(CAPABILITY.text)
    assert codes(decision) == ("bearer_refused",)
    assert "present" in decision.refusals[0].wanted


def test_a_verifier_can_opt_in_to_bare_tokens() -> None:
    lab = Lab(bearer=True)
    assert lab.decide(CAPABILITY.text).allowed
    assert lab.decide(CAPABILITY.text).allowed
    token = lab.present(CAPABILITY)
    assert lab.decide(token).allowed
    assert codes(lab.decide(token)) == ("replayed",)


@pytest.mark.parametrize("bearer", [False, True])
@pytest.mark.parametrize("more", [encode_block((expires(NOW + 1),)), b'[["allow",[["a.*"]]]]', b"junk"])  # type: ignore[arg-type] # an instant
def test_a_block_after_the_presentation_is_refused(more: bytes, bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    token = appended(CAPABILITY.attenuate(expires(NOW + 60)), mark(), more)
    assert codes(lab.decide(token.text)) == ("misplaced",)


@pytest.mark.parametrize("bearer", [False, True])
def test_two_presentations_in_one_token_are_refused(bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    assert codes(lab.decide(appended(CAPABILITY, mark(), mark()).text)) == ("misplaced",)


def mark(at: int = NOW, nonce: str = "A" * 16) -> bytes:
    return encode_block((Presented("tool", ToolCall("a.read").digest(), at, nonce),))


@pytest.mark.parametrize("bearer", [False, True])
def test_a_presentation_that_shares_its_block_is_refused(bearer: bool) -> None:
    lab = Lab(bearer=bearer)
    both = mark()[:-1] + b',["expires",%d]]' % (NOW + 60)
    twice = mark()[:-1] + b"," + mark()[1:]
    for block in (both, twice):
        assert codes(lab.decide(appended(CAPABILITY, block).text)) == ("misplaced",)


def test_a_presentation_within_the_authoritys_block_is_refused() -> None:
    token = minted(Presented("tool", ToolCall("a.read").digest(), NOW, "A" * 16))
    for lab in (Lab(), Lab(bearer=True)):
        assert codes(lab.decide(token.text)) == ("misplaced",)
        assert lab.codes(token) == ("misplaced",)


def test_a_presentation_and_nothing_else_has_no_authority() -> None:
    assert codes(Lab().decide(raw(mark()).text)) == ("incomplete_authority",)


def test_a_presentation_in_other_white_space_is_burnt_as_its_own() -> None:
    lab = Lab()
    assert lab.decide(appended(CAPABILITY, mark()).text).allowed
    assert lab.decide(appended(CAPABILITY, mark().replace(b",", b", ")).text).allowed
    assert codes(lab.decide(appended(CAPABILITY, mark()).text)) == ("replayed",)


def test_a_whole_bundle_sent_is_refused() -> None:
    bundle = Bundle([CAPABILITY, minted(audience="slides")])
    token = bundle.present("crm", ToolCall("a.read"), now=NOW).text
    lab = Lab()
    for sent in (bundle.text, f"{token},{bundle.text}", f"{CAPABILITY.text},{CAPABILITY.text}", f"{token},{token}"):
        assert codes(lab.decide(sent)) == ("malformed",)


@pytest.mark.parametrize("sent", ["Capx ", "Bearer x", "null", "capx1_"])
def test_other_texts_are_no_token(sent: str) -> None:
    assert codes(Lab().decide(sent)) in {("malformed",), ("truncated",)}


def test_no_token_is_no_token() -> None:
    assert codes(Lab().decide("")) == ("no_token",)


def test_a_presentation_is_small() -> None:
    longest = CAPABILITY.present(REQUEST, now=SAFE_INTEGER)
    assert len(longest.text) - len(CAPABILITY.text) < 200
    assert len(wire.decode(longest.text).blocks) == 2


@pytest.mark.parametrize("value", [2**53, float("nan"), "\ud800", {1: 1}, object(), [b"x"]])
def test_a_call_of_what_is_no_json_is_not_built(value: Any) -> None:
    with pytest.raises(InvalidCaveat):
        ToolCall("a.read", {"x": value})
