"""Ended tokens are denied at the head: they burn nothing, and fill neither the log nor the memory."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from capx.crypto.base64url import b64u
from capx.resource.replay import Replay
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.binding import WINDOW_AFTER, WINDOW_BEFORE, ToolCall
from capx.tokens.capability import Capability
from capx.verify.decision import Decision, Denied
from capx.verify.ended_tokens import MOST, EndedTokens
from capx.verify.evaluator import MAX_REPORTED
from capx_caveats import Call, Expires
from tests.labs.lab import NOW, Lab, codes, minted
from tests.labs.processes import in_a_child

READ = ToolCall("a.read")
MINUTE = NOW - NOW % 60


def revoked(lab: Lab, capability: Capability) -> str:
    lab.deaths.deaths[capability.ids[-1]] = "revoked"
    return lab.present(capability)


def expired(lab: Lab, capability: Capability) -> str:
    token = lab.present(capability)
    lab.clock.now = NOW + 3600
    return token


def old(lab: Lab, capability: Capability) -> str:
    token = lab.present(capability)
    lab.clock.now = NOW + WINDOW_AFTER + 1
    return token


DEAD = {"revoked": revoked, "expired": expired, "call_window": old}
Dead = Callable[[Lab, Capability], str]


def denied(lab: Lab, token: str) -> Decision:
    with pytest.raises(Denied) as caught:
        lab.verifier.authenticate(token)
    return caught.value.decision


@pytest.mark.parametrize(("code", "dead"), DEAD.items())
def test_a_dead_token_is_denied_at_the_head(code: str, dead: Dead) -> None:
    lab = Lab()
    token = dead(lab, minted())
    found = denied(lab, token)
    assert code in codes(found)
    assert found.task == "T1"
    assert lab.records.decisions == [found]


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
def test_a_dead_token_proves_itself_and_is_not_recorded(dead: Dead) -> None:
    lab = Lab()
    lab.verifier.prove(dead(lab, minted()))
    assert not lab.records.decisions


def test_a_presentation_is_dead_only_after_its_whole_minute() -> None:
    lab = Lab()
    token = lab.present(minted())
    lab.clock.now = NOW + WINDOW_AFTER
    assert lab.verifier.authenticate(token).frame.blocks


def test_a_token_lives_until_the_second_before_it_expires() -> None:
    lab = Lab()
    capability = minted(expires=NOW + 10)
    lab.clock.now = NOW + 9
    assert lab.verifier.authenticate(lab.present(capability)).frame.blocks
    token = lab.present(capability)
    lab.clock.now = NOW + 10
    assert codes(denied(lab, token)) == ("expired",)


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
@pytest.mark.parametrize("way", ["admit", "admit_async", "verify", "decide"])
def test_a_dead_token_burns_nothing_in_a_process(dead: Dead, way: str) -> None:
    # The memory has room for one presentation, and that is still there after all these.
    lab = Lab(replay=Replay.process(capacity=1, clock=lambda: NOW - 1_000_000))
    token = dead(lab, minted())
    deciding: dict[str, Callable[[], object]] = {
        "admit": lambda: lab.verifier.admit(token, READ),
        "admit_async": lambda: asyncio.run(lab.verifier.admit_async(token, READ)),
        "verify": lambda: lab.verifier.verify(token, READ, Call("a.read")),
    }
    for _ in range(3):
        if way == "decide":
            assert not lab.verifier.decide(token, READ, Call("a.read")).allowed
        else:
            with pytest.raises(Denied):
                deciding[way]()
    living = minted(expires=NOW + 7200, nonce="AgEBAQEBAQEBAQEBAQEBAQ")
    assert lab.verifier.admit(lab.present(living), READ).task == "T1"


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
def test_a_dead_token_burns_nothing_in_a_store(dead: Dead, store: SQLiteStore) -> None:
    lab = Lab(replay=Replay.store(store))
    token = dead(lab, minted())
    assert not lab.decide(token).allowed
    # Its presentation is as new to the store as before.
    presentation = lab.records.decisions[0].presented
    assert presentation is not None
    now = int(lab.clock.now)
    assert store.burn(presentation, until=now + 60, now=now, remembered=None).new


def test_a_presentation_for_the_future_is_denied_behind_the_body() -> None:
    lab = Lab()
    token = minted().present(READ, now=NOW + WINDOW_BEFORE + 1).text
    authentic = lab.verifier.authenticate(token)
    with pytest.raises(Denied) as caught:
        lab.verifier.admit(authentic, READ)
    assert codes(caught.value) == ("call_window",)
    # Anybody with it can send it endlessly, so it is not recorded.
    assert not lab.records.decisions


@pytest.mark.parametrize(("age", "code"), [(float("inf"), "unknown_liveness"), (31.0, "stale_liveness")])
def test_stale_news_deny_behind_the_burn(age: float, code: str) -> None:
    lab = Lab()
    lab.deaths.years = age
    token = lab.present(minted())
    authentic = lab.verifier.authenticate(token)
    for expected in (code, "replayed"):
        with pytest.raises(Denied) as caught:
            lab.verifier.admit(authentic, READ)
        assert codes(caught.value) == (expected,)


def test_a_death_while_the_body_came_is_found_after_the_burn() -> None:
    lab = Lab()
    capability = minted()
    authentic = lab.verifier.authenticate(lab.present(capability))
    lab.deaths.deaths[capability.ids[-1]] = "revoked"
    for expected in ("revoked", "replayed"):
        with pytest.raises(Denied) as caught:
            lab.verifier.admit(authentic, READ)
        assert codes(caught.value) == (expected,)


@pytest.mark.parametrize("code", ["revoked", "expired"])
def test_a_death_after_admission_is_found_at_judging(code: str) -> None:
    lab = Lab()
    capability = minted()
    admitted = lab.verifier.admit(lab.present(capability), READ)
    if code == "revoked":
        lab.deaths.deaths[capability.ids[-1]] = "revoked"
    else:
        lab.clock.now = NOW + 3600
    with pytest.raises(Denied) as caught:
        admitted.judge(Call("a.read"))
    assert codes(caught.value) == (code,)


# The record


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
def test_a_dead_token_is_recorded_once_a_minute(dead: Dead) -> None:
    lab = Lab()
    token = dead(lab, minted())
    lab.clock.now += 60 - lab.clock.now % 60
    first = denied(lab, token)
    lab.clock.now += 59
    again = [denied(lab, token) for _ in range(5)]
    # The bearer gets the id that is in the log.
    assert {one.id for one in again} == {first.id}
    assert [one.id for one in lab.records.decisions] == [first.id]
    lab.clock.now += 1
    later = denied(lab, token)
    assert later.id != first.id
    assert [one.id for one in lab.records.decisions] == [first.id, later.id]


def test_presentations_of_one_capability_are_recorded_once() -> None:
    lab = Lab()
    capability = minted()
    lab.deaths.deaths["T1"] = "task_completed"
    found = [denied(lab, lab.present(capability, "a.read", {"id": number})) for number in range(20)]
    assert len({one.presented for one in found}) == 20
    assert {one.id for one in found} == {lab.records.decisions[0].id}
    assert len(lab.records.decisions) == 1


def test_each_capability_that_was_minted_is_recorded() -> None:
    lab = Lab()
    lab.deaths.deaths["T1"] = "task_completed"
    held = [minted(nonce=f"AQEBAQEBAQEBAQEBAQEBA{letter}") for letter in "AQgw"]
    for capability in held * 2:
        denied(lab, lab.present(capability))
    assert [one.ids[-1] for one in lab.records.decisions] == [b64u(one.id) for one in held]


def test_decoys_of_one_capability_do_not_hide_another() -> None:
    lab = Lab()
    lab.deaths.deaths["T1"] = "task_completed"
    for at in range(MOST + 1):
        denied(lab, lab.present(minted().attenuate(Expires(NOW + at + 1))))
    other = minted(nonce="AQEBAQEBAQEBAQEBAQEBAA")
    found = denied(lab, lab.present(other))
    assert [one.id for one in lab.records.decisions[1:]] == [found.id]


def test_more_expiries_are_no_other_reasons() -> None:
    lab = Lab()
    capability = minted()
    for _ in range(20):
        capability = capability.attenuate(Expires(NOW))
        denied(lab, lab.present(capability))
    assert len(lab.records.decisions) == 1


def test_other_reasons_of_one_token_are_recorded_too() -> None:
    lab = Lab()
    capability = minted(Expires(NOW + 100))
    lab.clock.now = MINUTE + 60
    token = lab.present(capability)
    lab.deaths.deaths["T1"] = "task_completed"
    first = denied(lab, token)
    lab.deaths.deaths[capability.ids[-1]] = "revoked"
    second = denied(lab, token)
    assert (codes(first), codes(second)) == (("task_completed",), ("task_completed", "revoked"))
    assert denied(lab, token).id == second.id
    lab.deaths.deaths.pop(capability.ids[-1])
    assert denied(lab, token).id == first.id
    assert [one.id for one in lab.records.decisions] == [first.id, second.id]


def test_a_denial_at_the_head_reports_no_more_than_others() -> None:
    lab = Lab()
    capability = minted()
    for _ in range(MAX_REPORTED + 1):
        capability = capability.attenuate(Expires(NOW + 1))
    token = lab.present(capability)
    lab.clock.now = NOW + 1
    assert len(denied(lab, token).refusals) == MAX_REPORTED


def test_a_denial_at_the_head_has_the_time_of_its_look() -> None:
    ticks = count(NOW + 100)
    lab = Lab(clock=lambda: next(ticks))
    found = denied(lab, minted().present(READ, now=NOW).text)
    (refusal,) = found.refusals
    assert f"{found.at - NOW} s old" in refusal.sentence


def test_the_action_of_a_tool_call_is_in_the_record() -> None:
    lab = Lab()
    token = revoked(lab, minted())
    assert lab.verifier.decide(token, READ, Call("a.read")).action == "a.read"
    assert [one.action for one in lab.records.decisions] == ["a.read"]


def test_a_recorder_without_room_records_it_when_it_has() -> None:
    lab = Lab()
    lab.clock.now = MINUTE
    token = revoked(lab, minted())
    lab.records.full = True
    unrecorded = {denied(lab, token).id for _ in range(3)}
    assert not lab.records.decisions
    lab.records.full = False
    found = denied(lab, token)
    assert found.id not in unrecorded
    assert [one.id for one in lab.records.decisions] == [found.id] == [denied(lab, token).id]
    assert lab.records.slots == 0


def test_a_denial_beyond_the_most_keeps_an_id_of_its_own() -> None:
    lab = Lab()
    lab.clock.now = MINUTE
    token = revoked(lab, minted())
    memory = lab.verifier._evaluator._ended_tokens
    for one in range(MOST):
        memory.id_to_record(one.to_bytes(16), ("revoked",), f"decision-{one}", MINUTE)
    found = {denied(lab, token).id for _ in range(3)}
    assert {len(one) for one in found} == {24}
    assert len(found) == 3
    assert not lab.records.decisions


def test_a_flood_from_many_threads_is_recorded_once() -> None:
    lab = Lab()
    token = revoked(lab, minted())
    barrier = threading.Barrier(16)

    def flood(_: int) -> set[str]:
        barrier.wait(20)
        return {denied(lab, token).id for _ in range(50)}

    with ThreadPoolExecutor(16) as pool:
        found = set[str]().union(*pool.map(flood, range(16)))
    assert [one.id for one in lab.records.decisions] == [*found]


# The memory


class Told:
    """A memory of recorded denials, and a clock of minutes for it."""

    def __init__(self) -> None:
        self.memory = EndedTokens()
        self._ids = count()

    def recorded(self, capability: int, minute: int = 0, codes: tuple[str, ...] = ("revoked",)) -> bool | None:
        """Whether this denial is the one to record; None if none is."""
        new = f"decision-{next(self._ids)}"
        found = self.memory.id_to_record(capability.to_bytes(16), codes, new, 60 * minute + 59)
        return None if found is None else found == new


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    # The same sentence is written at most once a minute.
    monkeypatch.setattr("capx.diagnostics._said", dict[str, float]())
    told: list[str] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # An object of an earlier test can still log while Python frees it.
            if "ended or unsigned" in record.getMessage():
                told.append(record.getMessage())

    handler = Noting()
    logging.getLogger("capx").addHandler(handler)
    yield told
    logging.getLogger("capx").removeHandler(handler)


def test_no_more_than_1024_are_recorded_in_a_minute(warned: list[str]) -> None:
    assert MOST == 1024
    told = Told()
    assert [told.recorded(one) for one in range(MOST + 10)] == [True] * MOST + [None] * 10
    # Those that were recorded are known still.
    assert told.recorded(0) is False
    assert told.recorded(MOST) is None
    assert not warned
    assert told.recorded(0, 1) is True
    assert warned == ["11 denials of ended or unsigned tokens were not recorded: too many in a minute"]
    # Only once, and the count begins anew.
    assert told.recorded(0, 2) is True
    assert len(warned) == 1


def test_the_memory_of_recorded_denials_has_a_bound() -> None:
    told = Told()
    for minute in range(3):
        for one in range(2 * MOST):
            told.recorded(one, minute)
        assert len(told.memory._recorded) == MOST


def test_a_thread_that_is_late_begins_no_minute_anew() -> None:
    told = Told()
    assert told.recorded(1, 5) is True
    assert told.recorded(2, 4) is True
    assert [told.recorded(one, minute) for one in (1, 2) for minute in (4, 5)] == [False] * 4


def test_what_was_not_recorded_is_forgotten_by_its_id() -> None:
    memory = EndedTokens()
    assert memory.id_to_record(b"capability", ("revoked",), "first", 0) == "first"
    memory.forget(b"capability", ("revoked",), "another")
    memory.forget(b"capability", ("expired",), "first")
    assert memory.id_to_record(b"capability", ("revoked",), "second", 0) == "first"
    memory.forget(b"capability", ("revoked",), "first")
    memory.forget(b"capability", ("revoked",), "first")
    assert memory.id_to_record(b"capability", ("revoked",), "second", 0) == "second"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_with_what_was_recorded(warned: list[str]) -> None:
    told = Told()
    for one in range(MOST + 5):
        told.recorded(one)

    def goes_on() -> bool:
        # A lock that a thread of the parent held would block it for ever. The parent tells its own count.
        known = told.recorded(0) is False and told.recorded(MOST) is None
        return known and told.recorded(0, 1) is True and warned == [sentence(1)]

    def sentence(number: int) -> str:
        return f"{number} denials of ended or unsigned tokens were not recorded: too many in a minute"

    with told.memory._lock:
        assert in_a_child(goes_on)
    assert told.recorded(0, 1) is True
    assert warned == [sentence(5)]


def test_16_threads_record_each_denial_once() -> None:
    told = Told()
    barrier = threading.Barrier(16)

    def record(_: int) -> list[bool | None]:
        barrier.wait(20)
        return [told.recorded(one) for one in range(200)]

    with ThreadPoolExecutor(16) as pool:
        found = [*pool.map(record, range(16))]
    assert [sum(1 for one in row if one) for row in zip(*found, strict=True)] == [1] * 200


def test_nothing_is_remembered_of_a_token_that_lives() -> None:
    lab = Lab()
    for number in range(5):
        assert lab.decide(lab.present(minted(), "a.read", {"id": number}), "a.read", {"id": number}).allowed
    assert not lab.verifier._evaluator._ended_tokens._recorded
