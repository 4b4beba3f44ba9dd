"""A ledger is written by one process, survives its end, and goes on where it was."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from capx.errors import ConfigurationProblem, StoreProblem
from capx.ledger import ledger_file as module
from capx.ledger.ledger_check import MOST_UNSIGNED
from capx.ledger.ledger_file import LedgerFile, ledger_files
from capx.ledger.ledger_lines import Entry, read_line
from capx.ledger.note import Note
from capx.resource.recorder import StoreRecorder
from capx.store.records import DecisionRecord, Unwritable
from tests.labs.counts import repeated
from tests.labs.ledgers import KEY, NOW, OTHER_KEY, decisions, report, written
from tests.labs.waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crm.jsonl"


def entries(*files: Path) -> list[Entry]:
    lines = [read_line(line) for file in files for line in file.read_bytes().splitlines()]
    return [line for line in lines if isinstance(line, Entry)]


def bodies(*files: Path) -> list[bytes]:
    return [entry.body for entry in entries(*files) if entry.kind == "decision"]


def test_what_is_recorded_stands_in_the_file_at_once(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(3))
    assert bodies(path) == [one.body for one in decisions(3)]
    assert [entry.at for entry in entries(path)] == [NOW, NOW + 1, NOW + 2]
    found = report([path])
    assert (found.last, found.unsigned, found.faults) == (3, 3, ())
    note = ledger.note()
    assert note is not None
    assert Note.parse(note).signed_by([KEY.note_key])
    assert ledger.note() is None
    assert report([path]).unsigned == 0
    ledger.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_closed_ledger_is_signed_and_takes_no_more(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(3))
    ledger.close()
    ledger.close()
    assert (report([path]).unsigned, report([path]).notes) == (0, 1)
    with pytest.raises(StoreProblem, match="was closed"):
        ledger.record(decisions(1))


def test_a_ledger_goes_on_where_it_was(path: Path) -> None:
    written(path, 5)
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(5, 5))
    ledger.close()
    assert ledger_files(path) == [path]
    assert bodies(path) == [one.body for one in decisions(10)]
    assert report([path]).faults == ()


def test_a_note_stands_behind_each_thousand(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(2_500))
    found = report([path])
    assert (found.notes, found.unsigned) == (2, 500)
    ledger.record(decisions(501, 2_500))
    assert (report([path]).notes, report([path]).unsigned) == (3, 1)
    ledger.close()


def test_a_note_comes_after_a_minute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTE_AFTER", 0.05)
    ledger = LedgerFile(path, KEY)
    for nth in range(3):
        ledger.record(decisions(1, nth))
        until(lambda: report([path]).unsigned == 0)
    assert report([path]).notes == 3
    ledger.close()


def test_a_full_file_is_followed_by_the_next(path: Path) -> None:
    files = written(path, 1_000, rotate_at=20_000, batch=50)
    assert files[0] == path
    firsts = [int(file.name.split(".")[1]) for file in files[1:]]
    assert firsts == [entries(file)[0].number for file in files[1:] if entries(file)]
    assert bodies(*files) == [one.body for one in decisions(1_000)]
    assert report(files).faults == ()
    # The last file goes on, and the others are left alone.
    before = [file.read_bytes() for file in files[:-1]]
    ledger = LedgerFile(path, KEY, rotate_at=20_000)
    assert ledger.file == files[-1]
    ledger.record(decisions(1, 1_000))
    ledger.close()
    assert [file.read_bytes() for file in files[:-1]] == before
    assert report(files).last == 1_001


def test_old_files_may_be_moved_away(path: Path, tmp_path: Path) -> None:
    files = written(path, 1_000, rotate_at=20_000, batch=50)
    (tmp_path / "old").mkdir()
    moved = [file.rename(tmp_path / "old" / file.name) for file in files[:-1]]
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(1, 1_000))
    ledger.close()
    assert ledger_files(path) == [files[-1]]
    assert report([*moved, files[-1]]).last == 1_001
    assert report([*moved, files[-1]]).faults == ()


def test_a_second_writer_has_a_ledger_of_its_own(path: Path) -> None:
    first, second = LedgerFile(path, KEY), LedgerFile(path, KEY)
    first.record(decisions(2))
    second.record(decisions(3))
    assert (first.file, second.file.parent) == (path, path.parent)
    assert len({report([one.file]).origin for one in (first, second)}) == 2
    beside = second.file
    second.close()
    # Whoever comes next goes on with it.
    third = LedgerFile(path, KEY)
    assert third.file == beside
    third.record(decisions(1, 3))
    first.close()
    third.close()
    assert ledger_files(path) == [path, beside]
    assert [report([file]).last for file in ledger_files(path)] == [2, 4]


def _in_child(ledger: LedgerFile, done: Any) -> None:
    ledger.record(decisions(2, 100))
    ledger.close()
    done.put(str(module.ledger_files(Path())))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_ledger_of_its_own(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(2))
    context = multiprocessing.get_context("fork")
    done = context.Queue()
    child = context.Process(target=_in_child, args=(ledger, done))
    child.start()
    done.get(timeout=30)
    child.join(30)
    ledger.record(decisions(2, 2))
    ledger.close()
    first, second = ledger_files(path)
    assert bodies(first) == [one.body for one in decisions(4)]
    assert bodies(second) == [one.body for one in decisions(2, 100)]
    assert [report([file]).faults for file in (first, second)] == [(), ()]


def test_many_threads_write_one_history(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    with ThreadPoolExecutor(8) as pool:
        for written_ in [pool.submit(ledger.record, decisions(3, 3 * nth)) for nth in range(200)]:
            written_.result()
    ledger.close()
    assert sorted(bodies(path)) == sorted(one.body for one in decisions(600))
    assert report([path]).faults == ()


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_line_is_cut_and_told(path: Path, cut: int) -> None:
    written(path, 5)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n":6,"at":1800000005,"kind":"decision","hash":"'[:cut])
    ledger = LedgerFile(path, KEY, clock=lambda: NOW)
    ledger.record(decisions(1, 5))
    ledger.close()
    *_, resumed, last = entries(path)
    assert (resumed.number, resumed.kind, resumed.body, resumed.at) == (6, "resumed", b'{"cut":%d}' % cut, NOW)
    assert last.number == 7
    assert report([path]).faults == ()


def test_what_a_crash_left_unsigned_is_signed_first(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(MOST_UNSIGNED - 1))
    path.write_bytes(path.read_bytes() + b"{")
    # As if this process had gone: another one may write it.
    ledger._let_go()
    again = LedgerFile(path, KEY)
    again.close()
    found = report([path])
    assert (found.faults, found.last, found.unsigned) == ((), MOST_UNSIGNED, 0)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("s.replace(b'\"d3\"', b'\"d4\"')", "line 5, entry 4: its hash does not fit"),
        ("s + b'x\\n'", "is not spelled as a line of a ledger"),
        ("b''", "has no whole first line"),
        ("b'x'", "has no whole first line"),
        ("s[: s.index(b'\\n') // 2]", "has no whole first line"),
        ("s[s.index(b'\\n') + 1 :]", "is not the first line of a ledger"),
    ],
)
def test_a_broken_ledger_is_not_written_to(path: Path, damage: str, says: str) -> None:
    written(path, 5)
    damaged: bytes = eval(damage, {"s": path.read_bytes()})
    path.write_bytes(damaged)
    with pytest.raises(StoreProblem, match="move its files away") as caught:
        LedgerFile(path, KEY)
    assert says in str(caught.value)
    assert path.read_bytes() == damaged


def test_a_ledger_of_another_key_is_not_written_to(path: Path) -> None:
    written(path, 5)
    with pytest.raises(StoreProblem, match="no known key of this ledger has signed"):
        LedgerFile(path, OTHER_KEY)
    other = type(KEY)("capx-ledger/billing", KEY._signer)
    with pytest.raises(ConfigurationProblem, match="give its own key"):
        LedgerFile(path, other)


def test_a_file_that_others_may_change_is_refused(path: Path, tmp_path: Path) -> None:
    written(path, 5)
    path.chmod(0o620)
    with pytest.raises(ConfigurationProblem, match="may be changed by others"):
        LedgerFile(path, KEY)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreProblem, match="cannot write the ledger"):
        LedgerFile(path, KEY)
    with pytest.raises(StoreProblem, match="cannot write the ledger"):
        LedgerFile(tmp_path / "no" / "folder.jsonl", KEY)


def test_a_decision_that_no_line_can_hold_is_refused_alone(path: Path) -> None:
    ledger = LedgerFile(path, KEY)
    for body in (b'{"x":"%b"}' % (b"x" * (1 << 22)), b'{"x":\n1}', b"[]", b""):
        with pytest.raises(Unwritable):
            ledger.record([*decisions(2), DecisionRecord("huge", NOW, body)])
    ledger.record(decisions(1))
    ledger.close()
    assert bodies(path) == [one.body for one in decisions(1)]


def assert_all_is_kept_in_the_end(ledger: LedgerFile, path: Path) -> None:
    """The ledger had two decisions and could not write two more: now it does, and none is lost, doubled or wrong."""
    ledger.record(decisions(2, 2))
    ledger.close()
    assert bodies(path) == [one.body for one in decisions(4)]
    assert report([path]).faults == ()


def test_a_full_disk_loses_nothing_and_doubles_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(2))
    write = os.write
    # As a disk does that fills: a part is written, and then nothing more.
    room = [30]

    def full(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        done, room[0] = min(room[0], len(data)), 0
        return write(handle, data[:done])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreProblem, match="No space left"):
        ledger.record(decisions(2, 2))
    assert len(bodies(path)) == 2
    monkeypatch.setattr(os, "write", write)
    assert_all_is_kept_in_the_end(ledger, path)


def test_what_could_not_be_taken_back_is_cut_before_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(2))
    write, truncate = os.write, os.ftruncate

    def broken(handle: int, data: bytes) -> int:
        write(handle, data)
        raise OSError(5, "Input/output error")

    def no(*_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    monkeypatch.setattr(os, "ftruncate", no)
    with pytest.raises(StoreProblem, match="Input/output"):
        ledger.record(decisions(2, 2))
    assert len(bodies(path)) == 4
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", truncate)
    assert_all_is_kept_in_the_end(ledger, path)


def test_a_recorder_writes_to_a_ledger(path: Path) -> None:
    from tests.labs.ledgers import decision

    recorder = StoreRecorder(LedgerFile(path, KEY))
    for _ in range(20):
        recorder.reserve()
        recorder.record(decision())
    assert recorder.close()
    assert len(bodies(path)) == 20


AT_EXIT = """
import sys
from pathlib import Path
from capx.ledger.ledger_file import LedgerFile
from capx.resource.recorder import StoreRecorder
from tests.labs.ledgers import decision
from tests.labs.ledgers import KEY
recorder = StoreRecorder(LedgerFile(Path(sys.argv[1]), KEY), together=5)
for _ in range(7):
    recorder.reserve()
    recorder.record(decision())
"""


def test_the_end_of_the_process_writes_and_signs_all(path: Path) -> None:
    subprocess.run([sys.executable, "-c", AT_EXIT, str(path)], check=True, timeout=60)
    found = report([path])
    assert (found.last, found.unsigned, found.faults) == (7, 0, ())


KILLED = """
import sys
from pathlib import Path
from capx.ledger.ledger_file import LedgerFile
from tests.labs.ledgers import KEY, decisions
ledger = LedgerFile(Path(sys.argv[1]), KEY, rotate_at=40_000)
nth = int(sys.argv[2])
while True:
    ledger.record(decisions(7, nth))
    nth += 7
    print(nth, flush=True)
"""


@pytest.mark.timeout(900)  # two hundred processes at night
def test_a_killed_writer_loses_nothing_that_it_said_was_written(path: Path) -> None:
    said = 0
    for nth in range(repeated(200)):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(said)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep((nth * 5 % 17) / 1_000)
            os.kill(child.pid, signal.SIGKILL)
            lines += child.stdout.readlines()
        said = max(int(line) for line in lines if line.endswith("\n"))
        # It goes on, in the same ledger: nothing that was told is gone, and there is one history.
        LedgerFile(path, KEY).close()
        files = ledger_files(path)
        assert len({report([file]).origin for file in files}) == 1
        found = bodies(*files)
        assert set(found) >= {one.body for one in decisions(said)}
        assert report(files).faults == ()
        # What was written and not told any more may be there too: the next one begins behind it.
        said = max(int(body.split(b'"')[3][1:]) for body in found) + 1
        # Each round reads all of it: begin anew before that takes long.
        if said > 3_000:
            path, said = path.with_name(f"crm{nth}.jsonl"), 0


def test_a_thread_that_cannot_start_leaves_the_note_for_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", no)
    ledger = LedgerFile(path, KEY)
    ledger.record(decisions(3))
    ledger.close()
    assert report([path]).unsigned == 0
