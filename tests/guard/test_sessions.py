"""Sessions of callers, and whose stream makes room for whose."""

from contextlib import AbstractContextManager, ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from capx.api.mcp_messages import bound_request
from capx.authority.authority import Authority
from capx.guard.asgi.slots import NoSlot
from capx.guard.mcp import sessions as module
from capx.guard.mcp.sessions import Sessions

if TYPE_CHECKING:
    from capx.verify.verifier import Authentic


def token_of(capability: bytes) -> "Authentic":
    return cast("Authentic", SimpleNamespace(frame=SimpleNamespace(identifier_bytes=capability)))


TOKEN, OTHER, ENDED = map(token_of, (b"one", b"other", b"ended"))


class Lab:
    """Sessions whose streams tell when they are ended."""

    def __init__(self, most: int) -> None:
        self.sessions = Sessions(most, lambda token: token is ENDED)
        self.ended: list[str] = []

    def stream(self, session: str | None, address: str = "a") -> AbstractContextManager[None]:
        return self.sessions.stream(session, address, lambda: self.ended.append(f"{session} of {address}"))

    def opens(self, session: str | None, address: str = "a") -> bool:
        try:
            with self.stream(session, address):
                return True
        except NoSlot:
            return False


@pytest.fixture
def held() -> Any:
    with ExitStack() as stack:
        yield stack


def test_a_session_is_a_callers_until_its_token_ends() -> None:
    lab = Lab(8)
    lab.sessions.note("s", TOKEN)
    lab.sessions.note(None, TOKEN)
    assert lab.sessions.is_of_caller("s")
    assert lab.sessions.caller_of("s") == b"one"
    assert lab.sessions.caller_of("other") is None
    assert not lab.sessions.is_of_caller("other")
    assert not lab.sessions.is_of_caller(None)
    lab.sessions.note("s", ENDED)
    assert not lab.sessions.is_of_caller("s")
    assert lab.sessions.caller_of("s") is None
    lab.sessions.note("s", TOKEN)
    lab.sessions.forget("s")
    lab.sessions.forget(None)
    assert not lab.sessions.is_of_caller("s")


def test_a_token_has_ended_with_its_task() -> None:
    authority = Authority.temporary()
    task = authority.open(tenant="Acme", allow=["files.read"])
    verifier = authority.verifier("files")
    call = bound_request("tools/call", {"name": "read"})
    token = verifier.authenticate(task.bundle.present("files", call).text)
    assert not verifier.has_ended(token)
    authority.complete(task.id)
    assert verifier.has_ended(token)


def test_strangers_get_half_of_the_streams_and_one_a_quarter(held: ExitStack) -> None:
    lab = Lab(8)
    for address in "aabb":
        assert lab.opens(None, address)
        held.enter_context(lab.stream(None, address))
    for address in "abc":
        with pytest.raises(NoSlot, match="too many streams"), lab.stream("unknown", address):
            pass
    lab.sessions.note("s", TOKEN)
    for _ in range(4):
        held.enter_context(lab.stream("s"))
    assert lab.ended == []


def test_a_caller_takes_the_place_of_a_stranger(held: ExitStack) -> None:
    lab = Lab(4)
    for address in "ab":
        held.enter_context(lab.stream(None, address))
    lab.sessions.note("s", TOKEN)
    for _ in range(2):
        held.enter_context(lab.stream("s"))
    assert lab.ended == []
    held.enter_context(lab.stream("s"))
    assert lab.ended == ["None of a"]
    held.enter_context(lab.stream("s"))
    assert lab.ended == ["None of a", "None of b"]
    assert not lab.opens("s")
    assert not lab.opens(None)


def test_a_stream_of_a_token_that_ends_is_a_strangers(held: ExitStack) -> None:
    lab = Lab(2)
    lab.sessions.note("old", TOKEN)
    for _ in range(2):
        held.enter_context(lab.stream("old"))
    assert not lab.opens("old")
    lab.sessions.note("old", ENDED)
    lab.sessions.note("new", TOKEN)
    assert not lab.opens(None, "b")
    held.enter_context(lab.stream("new"))
    assert lab.ended == ["old of a"]


def test_a_stream_becomes_a_callers_with_its_session(held: ExitStack) -> None:
    lab = Lab(4)
    held.enter_context(lab.stream("s"))
    assert not lab.opens(None)
    lab.sessions.note("s", TOKEN)
    assert lab.opens(None)


def test_the_oldest_session_is_forgotten_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 2)
    lab = Lab(8)
    for session in ("a", "b", "a", "c"):
        lab.sessions.note(session, TOKEN)
    assert [lab.sessions.is_of_caller(session) for session in "abc"] == [True, False, True]


def test_sessions_of_one_capability_cost_no_other_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 4)
    lab = Lab(8)
    lab.sessions.note("victim", OTHER)
    for nth in range(9):
        lab.sessions.note(str(nth), TOKEN)
    assert lab.sessions.caller_of("victim") == b"other"
    assert [nth for nth in range(9) if lab.sessions.is_of_caller(str(nth))] == [6, 7, 8]


def test_streams_of_one_capability_lock_out_no_other(held: ExitStack) -> None:
    lab = Lab(4)
    lab.sessions.note("first", TOKEN)
    lab.sessions.note("second", TOKEN)
    lab.sessions.note("victim", OTHER)
    for session in ("first", "second", "first", "first"):
        held.enter_context(lab.stream(session))
    assert not lab.opens("second")
    for _ in range(2):
        held.enter_context(lab.stream("victim"))
    assert lab.ended == ["first of a", "second of a"]
    # Each has as many as the other.
    assert not lab.opens("victim")
    assert not lab.opens("first")


def test_one_stream_is_enough_for_a_caller_or_a_stranger() -> None:
    lab = Lab(1)
    with lab.stream(None):
        assert not lab.opens(None)
    assert lab.opens(None)
    lab.sessions.note("s", TOKEN)
    assert lab.opens("s")
