"""How decisions reach the log."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from capx.errors import StoreProblem, Unavailable
from capx.resource.recorder import StoreRecorder
from capx.store.log import check
from capx.store.records import DecisionRecord, Unwritable
from capx.store.sqlite.store import SQLiteStore
from capx.tokens.chain_text import ChainText
from capx.verify.decision import Decision
from capx.verify.evidence import Evidence
from capx.verify.protocols import NO_RECORDER
from capx_caveats import Refusal
from tests.labs.processes import in_a_child
from tests.labs.waiting import until

NOW = 1_800_000_000


def decision(number: int) -> Decision:
    return Decision(id=f"dec-{number}", at=NOW + number, allowed=False, audience="crm", action="crm.export")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore.create(tmp_path / "capx.db")
    yield made
    made.close()


@pytest.fixture
def recorder(store: SQLiteStore) -> Iterator[StoreRecorder]:
    made = StoreRecorder(store, capacity=200)
    yield made
    made.close()


def record(recorder: StoreRecorder, number: int) -> None:
    recorder.reserve()
    recorder.record(decision(number))


def recorded(store: SQLiteStore) -> list[str]:
    with store.read() as reading:
        events = list(reading.events())
        check(events, head=reading.head().place)
    assert {event.kind for event in events} <= {"decision"}
    return [event.facts()["id"] for event in events]


def test_decisions_are_in_the_log_in_their_order(store: SQLiteStore, recorder: StoreRecorder) -> None:
    for number in range(150):
        record(recorder, number)
    assert recorder.flush()
    assert recorded(store) == [f"dec-{number}" for number in range(150)]
    with store.read() as reading:
        event = reading.decision("dec-7")
    assert event is not None
    assert (event.at, event.facts()["outcome"]) == (NOW + 7, "denied")


def test_without_a_slot_nothing_may_be_decided(store: SQLiteStore) -> None:
    recorder = StoreRecorder(store, capacity=2)
    recorder.reserve()
    recorder.reserve()
    with pytest.raises(Unavailable, match="wait to be written"):
        recorder.reserve()
    recorder.record(decision(1))
    assert recorder.flush()
    recorder.reserve()
    recorder.close()


def test_recording_does_not_wait_for_a_store_that_is_held(store: SQLiteStore, recorder: StoreRecorder) -> None:
    with store.write():
        began = time.monotonic()
        for number in range(100):
            record(recorder, number)
        assert time.monotonic() - began < 0.5
        assert not recorder.flush(timeout=0)
    assert recorder.flush()
    assert len(recorded(store)) == 100


def test_decisions_wait_while_the_store_is_gone_then_are_written(store: SQLiteStore, recorder: StoreRecorder) -> None:
    away = store.path.with_name("away.db")
    store.path.rename(away)
    for number in range(200):
        record(recorder, number)
    with pytest.raises(Unavailable):
        recorder.reserve()
    assert not recorder.flush(timeout=0.1)
    assert "no store at" in str(recorder.problem)
    away.rename(store.path)
    assert recorder.flush()
    assert str(recorder.problem) == "None"
    assert recorded(store) == [f"dec-{number}" for number in range(200)]


def test_a_decision_whose_commit_was_in_doubt_is_in_the_log_once(store: SQLiteStore, recorder: StoreRecorder) -> None:
    for number in (1, 2, 1, 3, 2):
        record(recorder, number)
    assert recorder.flush()
    assert recorded(store) == ["dec-1", "dec-2", "dec-3"]


@pytest.mark.parametrize("given", [object(), {"key": {1j}}, "\ud800"], ids=["object", "set", "text"])
def test_a_value_that_cannot_be_written_is_left_out_of_the_log(
    store: SQLiteStore, recorder: StoreRecorder, given: Any
) -> None:
    refusal = Refusal("too_big", "takes less than this", "less", given, 1, "slides-agent")
    recorder.reserve()
    recorder.record(msgspec.structs.replace(decision(1), refusals=(refusal,)))
    record(recorder, 2)
    assert recorder.flush()
    assert recorded(store) == ["dec-1", "dec-2"]
    with store.read() as reading:
        event = reading.decision("dec-1")
    assert event is not None
    (reason,) = event.facts()["reasons"]
    assert (reason["code"], reason["wanted"], reason["hop"]) == ("too_big", "less", 1)
    assert "given" not in reason


class Strict:
    """An authority that refuses each decision whose body has this text."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.taken: list[DecisionRecord] = []

    def record(self, decisions: Sequence[DecisionRecord]) -> None:
        if any(self.text in one.body for one in decisions):
            raise Unwritable("the authority does not accept this request")
        self.taken += decisions


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        (b"a value", {"code", "hop", "hop_name", "sentence", "wanted"}),
        (b"is odd", None),
        (b"chain", {"code", "given", "hop", "hop_name", "sentence", "wanted"}),
        (b"shown_args", {"code", "given", "hop", "hop_name", "sentence", "wanted"}),
    ],
    ids=["a value", "a reason", "the evidence", "an argument"],
)
def test_what_an_authority_refuses_is_written_shorter(refused: bytes, left: set[str] | None) -> None:
    strict = Strict(refused)
    recorder = StoreRecorder(strict)
    refusal = Refusal("odd", "is odd", "even", ["a value"], 1, "slides-agent")
    evidence = Evidence(digest="A" * 43, chain=ChainText("A", ()))
    whole = {"refusals": (refusal,), "evidence": evidence, "shown_args": {"id": 7}}
    for number in range(20):
        recorder.reserve()
        recorder.record(msgspec.structs.replace(decision(number), **whole if number == 7 else {}))
    assert recorder.close()
    assert [one.id for one in strict.taken] == [f"dec-{number}" for number in range(20)]
    said = json.loads(strict.taken[7].body)
    assert (said["outcome"], set(said["reasons"][0]) if "reasons" in said else None) == ("denied", left)
    assert ("chain" in said, "shown_args" in said) == ((refused not in {b"chain", b"shown_args"},) * 2)


def test_a_sentence_that_cannot_be_written_leaves_the_verdict(store: SQLiteStore, recorder: StoreRecorder) -> None:
    recorder.reserve()
    recorder.record(msgspec.structs.replace(decision(1), refusals=(Refusal("odd", "says \ud800"),)))
    assert recorder.flush()
    with store.read() as reading:
        event = reading.decision("dec-1")
    assert event is not None
    assert (event.facts()["outcome"], "reasons" in event.facts()) == ("denied", False)


def test_a_value_changed_after_the_decision_changes_no_record(store: SQLiteStore, recorder: StoreRecorder) -> None:
    given = ["before"]
    recorder.reserve()
    with store.write():
        recorder.record(msgspec.structs.replace(decision(1), refusals=(Refusal("odd", "is odd", given=given),)))
        given.append("after")
    assert recorder.flush()
    with store.read() as reading:
        event = reading.decision("dec-1")
    assert event is not None
    assert event.facts()["reasons"][0]["given"] == ["before"]


def test_many_threads_record_and_lose_nothing(store: SQLiteStore) -> None:
    recorder = StoreRecorder(store)

    def work(first: int) -> None:
        for number in range(first, first + 50):
            record(recorder, number)

    threads = [threading.Thread(target=work, args=(50 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.close()
    assert sorted(recorded(store)) == sorted(f"dec-{number}" for number in range(400))


def test_after_close_nothing_is_decided_any_more(store: SQLiteStore, recorder: StoreRecorder) -> None:
    record(recorder, 1)
    assert recorder.close()
    assert recorded(store) == ["dec-1"]
    with pytest.raises(Unavailable, match="closed"):
        recorder.reserve()


WORKER = """
import sys
from capx.verify.decision import Decision
from capx.resource.recorder import StoreRecorder
from capx.store.sqlite.store import SQLiteStore
recorder = StoreRecorder(SQLiteStore(sys.argv[1]))
for number in range(20):
    recorder.reserve()
    recorder.record(Decision(id=f"dec-{number}", at=1, allowed=True, audience="crm"))
"""


def test_a_process_that_ends_writes_what_waits(store: SQLiteStore) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WORKER, str(store.path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert recorded(store) == [f"dec-{number}" for number in range(20)]


def test_a_forked_child_records_its_own_decisions_alone(store: SQLiteStore, recorder: StoreRecorder) -> None:
    record(recorder, 1)
    assert recorder.flush()

    def records() -> bool:
        record(recorder, 2)
        return recorder.flush()

    assert in_a_child(records)
    record(recorder, 3)
    assert recorder.flush()
    assert recorded(store) == ["dec-1", "dec-2", "dec-3"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_decided_nothing_waits_for_no_parent() -> None:
    class Held:
        def record(self, decisions: Sequence[DecisionRecord]) -> None:
            began.set()
            assert over.wait(20)

    began, over = threading.Event(), threading.Event()
    recorder = StoreRecorder(Held())
    record(recorder, 1)
    assert began.wait(5)
    assert in_a_child(lambda: recorder.unwritten == 0 and recorder.flush(timeout=0) and recorder.close())
    assert recorder.unwritten == 1
    over.set()
    assert recorder.close()


def test_without_a_record_everything_goes_through() -> None:
    NO_RECORDER.reserve()
    NO_RECORDER.record(decision(1))


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_thread_that_cannot_start_fails_no_decision(
    store: SQLiteStore, recorder: StoreRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for number in range(200):
            record(recorder, number)
        assert "new thread" in str(recorder.problem)
        assert not recorder.flush(timeout=0)
    with pytest.raises(Unavailable, match="wait to be written"):
        recorder.reserve()
    ends = time.monotonic() + 5
    while recorded(store) == [] and time.monotonic() < ends:
        time.sleep(0.01)
    assert recorder.flush()
    assert recorded(store) == [f"dec-{number}" for number in range(200)]


def test_an_error_of_any_kind_ends_no_writer(
    store: SQLiteStore, recorder: StoreRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(decisions: Sequence[DecisionRecord]) -> None:
        raise ZeroDivisionError("out of nowhere")

    with monkeypatch.context() as patch:
        patch.setattr(store, "record", broken)
        record(recorder, 1)
        assert not recorder.flush(timeout=0.1)
        assert "nowhere" in str(recorder.problem)
    assert recorder.flush()
    assert str(recorder.problem) == "None"
    assert recorded(store) == ["dec-1"]


def limit_length(store: SQLiteStore, length: int) -> None:
    """Make the store hold rows of up to `length` bytes; SQLite's own limit is a gigabyte."""
    pool = store._pool  # a gigabyte is more than a test can write
    with pool.connection() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, length)


@pytest.mark.parametrize("poison", ["\x01" * 5_000, "sentence"])
def test_a_decision_too_big_is_shortened_and_holds_up_no_other(
    store: SQLiteStore, recorder: StoreRecorder, monkeypatch: pytest.MonkeyPatch, poison: str
) -> None:
    limit_length(store, 4_000)
    refusal = (
        Refusal("odd", "is odd" * 5_000) if poison == "sentence" else Refusal("odd", "is odd", "even", given=poison)
    )
    # All wait when the writer begins, so that they are one batch.
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for number in range(20):
            recorder.reserve()
            recorder.record(
                msgspec.structs.replace(decision(number), refusals=(refusal if number == 7 else Refusal("b", "c"),))
            )
    assert recorder.flush()
    assert str(recorder.problem) == "None"
    assert recorded(store) == [f"dec-{number}" for number in range(20)]
    with store.read() as reading:
        reasons = [event.facts().get("reasons", []) for event in reading.events()]
    assert all(len(reasons[number]) == 1 for number in range(20) if number != 7)
    assert [reason["wanted"] for reason in reasons[7]] == ([] if poison == "sentence" else ["even"])
    assert all("given" not in reason for reason in reasons[7])


def test_decisions_that_are_lost_are_said_to_be(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = StoreRecorder(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "record", broken_by("the role does not record for this audience"))
        record(recorder, 1)
        record(recorder, 2)
        assert not recorder.close(timeout=0.2)
        # The thread goes on trying, over what may be closed by now: all was told.
        patch.setattr(store, "record", broken_by("the client has been closed"))
        until(lambda: "closed" in str(recorder.problem))
    assert "the client has been closed" not in caplog.text
    assert "decisions are not written: the role does not record for this audience" in caplog.text
    assert "2 decisions were not written and are lost with this process" in caplog.text
    assert recorder.flush()


def broken_by(why: str) -> Callable[[Sequence[DecisionRecord]], None]:
    def broken(decisions: Sequence[DecisionRecord]) -> None:
        raise StoreProblem(why)

    return broken
