"""What passes the gate in front of an answer, message by message, and what it raises in the code that answers."""

import asyncio
from typing import Any

import pytest

from capx.guard.asgi.messages import Message, Scope
from capx.guard.asgi.response_gate import PathRules, ResponseGate, Withheld, is_callers_error
from capx.guard.guarded_request import GuardedRequest
from capx.guard.observer import Observer
from capx.tokens.binding import ToolCall
from capx.verify.decision import Denied
from tests.labs.lab import Lab, minted

SCOPE: Scope = {"type": "http", "path": "/x"}
STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
EARLY = ("http.response.body", "http.response.push", "http.response.debug", "websocket.send", "http.response.trailers")


@pytest.fixture
def current() -> GuardedRequest:
    """A request that was admitted, and of which no call was judged."""
    lab = Lab()
    found = GuardedRequest(lab.verifier, Observer(), public=False)
    found.admitted = lab.verifier.admit(lab.present(minted()), ToolCall("a.read"))
    return found


class Gate:
    """A gate, and what passed it."""

    def __init__(self, current: GuardedRequest, rules: Any = None) -> None:
        self.passed: list[Message] = []
        self.gate = ResponseGate(SCOPE, self._send, current, rules or PathRules())

    async def _send(self, message: Message) -> None:
        self.passed.append(message)

    def send(self, **message: Any) -> None:
        asyncio.run(self.gate(message))


def test_a_new_gate_is_closed_and_withholds_nothing(current: GuardedRequest) -> None:
    gate = Gate(current).gate
    assert gate.open is False
    assert gate.withheld is None


@pytest.mark.parametrize("kind", STARTS)
def test_an_allowed_answer_leaves_with_its_decision(current: GuardedRequest, kind: str) -> None:
    allowed = current.judge("a.read", {})
    gate = Gate(current)
    gate.send(type=kind, status=200, headers=[(b"a", b"b")])
    gate.send(type="http.response.body", body=b"row")
    stamp = (b"capx-decision", allowed.decision.id.encode())
    assert gate.passed == [
        {"type": kind, "status": 200, "headers": [(b"a", b"b"), stamp]},
        {"type": "http.response.body", "body": b"row"},
    ]
    assert (gate.gate.open, gate.gate.withheld) == (True, None)


def test_a_start_without_headers_gets_the_decision(current: GuardedRequest) -> None:
    allowed = current.judge("a.read", {})
    gate = Gate(current)
    gate.send(type="websocket.accept")
    assert gate.passed[0]["headers"] == [(b"capx-decision", allowed.decision.id.encode())]


@pytest.mark.parametrize("kind", EARLY)
def test_what_comes_before_an_answer_is_dropped(current: GuardedRequest, kind: str) -> None:
    current.judge("a.read", {})
    gate = Gate(current)
    gate.send(type=kind, body=b"secret")
    assert not gate.passed
    # It ends nothing: the answer that follows still leaves.
    gate.send(type="http.response.start", status=200)
    assert [one["type"] for one in gate.passed] == ["http.response.start"]


def test_an_answer_after_a_denial_says_which_denial(current: GuardedRequest) -> None:
    with pytest.raises(Denied) as caught:
        current.judge("a.forbidden", {})
    gate = Gate(current)
    with pytest.raises(Withheld) as withheld:
        gate.send(type="http.response.start", status=404)
    assert str(withheld.value) == gate.gate.withheld
    assert gate.gate.withheld == f"the application caught a denial and answered anyway: {caught.value}"
    assert not gate.gate.open
    assert not gate.passed


def test_a_denial_beside_an_allowed_call_withholds(current: GuardedRequest) -> None:
    current.judge("a.read", {})
    with pytest.raises(Denied):
        current.judge("a.forbidden", {})
    gate = Gate(current)
    with pytest.raises(Withheld, match="caught a denial"):
        gate.send(type="http.response.start", status=200)


def test_each_message_of_a_withheld_answer_raises(current: GuardedRequest) -> None:
    gate = Gate(current)
    for message in ({"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": b"x"}):
        with pytest.raises(Withheld, match=r"^no call was judged$"):
            gate.send(**message)
    # A decision that comes too late opens nothing.
    current.judge("a.read", {})
    with pytest.raises(Withheld, match=r"^no call was judged$"):
        gate.send(type="http.response.start", status=200)
    assert not gate.passed


def test_a_denial_behind_the_start_closes_no_answer(current: GuardedRequest) -> None:
    current.judge("a.read", {})
    gate = Gate(current)
    gate.send(type="http.response.start", status=200)
    with pytest.raises(Denied):
        current.judge("a.forbidden", {})
    gate.send(type="http.response.body", body=b"x")
    assert [one["type"] for one in gate.passed] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("denied", [False, True])
@pytest.mark.parametrize("more", [{}, {"reason": "secret"}], ids=["no reason", "a reason"])
def test_a_refused_handshake_leaves_without_its_reason(
    current: GuardedRequest, more: dict[str, str], *, denied: bool
) -> None:
    if denied:
        with pytest.raises(Denied):
            current.judge("a.forbidden", {})
    gate = Gate(current)
    gate.send(type="websocket.close", code=1008, **more)
    assert gate.passed == [{"type": "websocket.close", "code": 1008}]
    assert gate.gate.open


def test_a_socket_that_was_accepted_closes_with_its_reason(current: GuardedRequest) -> None:
    current.judge("a.read", {})
    gate = Gate(current)
    gate.send(type="websocket.accept")
    gate.send(type="websocket.close", code=1000, reason="done")
    assert gate.passed[1] == {"type": "websocket.close", "code": 1000, "reason": "done"}


class Asked(PathRules):
    """Rules that note what they are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.about: list[tuple[Any, ...]] = []

    def withheld(self, scope: Scope, current: GuardedRequest, status: int) -> str | None:
        self.about.append((scope, current, status))
        return None


def test_rules_are_asked_of_the_very_request_and_status(current: GuardedRequest) -> None:
    rules = Asked()
    for message in ({"type": "http.response.start", "status": 404}, {"type": "websocket.accept"}):
        Gate(current, rules).send(**message)
    assert rules.about == [(SCOPE, current, 404), (SCOPE, current, 101)]
    # An answer that a decision allows is no affair of theirs.
    current.judge("a.read", {})
    Gate(current, rules).send(type="http.response.start", status=200)
    assert len(rules.about) == 2


def test_only_an_error_of_the_caller_leaves_unjudged(current: GuardedRequest) -> None:
    rules = PathRules()

    def leaves(status: int) -> bool:
        found = rules.withheld(SCOPE, current, status)
        assert found in {None, "no call was judged"}
        return found is None

    statuses = (101, 200, 399, 400, 404, 499, 500)
    assert [status for status in statuses if is_callers_error(status)] == [400, 404, 499]
    assert [status for status in statuses if leaves(status)] == [400, 404, 499]
    # Once the endpoint has begun, even its error may show a row.
    current.entered = True
    assert not any(map(leaves, statuses))
    current.public = True
    assert all(map(leaves, statuses))


def test_a_public_path_is_one_that_is_listed_exactly() -> None:
    rules = PathRules(["/open"])
    assert [rules.public({"path": path}) for path in ("/open", "/open/", "/Open", "/")] == [True, False, False, False]
    assert not PathRules().public({"path": "/"})


def test_public_paths_that_can_match_none_are_told_in_order() -> None:
    assert PathRules(["open", "/open", ""]).problems() == [
        "'' is not a path: it must begin with /",
        "'open' is not a path: it must begin with /",
    ]
    assert PathRules(["/open"]).problems() == []
